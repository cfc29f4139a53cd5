"""A Hugging Face Hub on the loopback, serving folders, with huggingface_hub itself as its client.

    with HubServer() as hub:
        hub.add("org/name", folder)         # HF_ENDPOINT=hub.url
        hub.requests                        # what was asked for, and what was sent

As on the real Hub, large files are redirected to a second origin with a signature in the URL, a gated repo
shows its metadata to everyone, and what a private repo holds cannot be told from what is not there.
"""

import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

TOKEN = "hf_atokenofthetests"
SIGNATURE = "asignatureofthetests"
AGENTS = "/api/agent-harnesses"
"""What huggingface_hub asks for once in a process, about no repo: answered, and not logged."""

LARGE = (".safetensors", ".bin")
"""What a Hub repo keeps in large file storage."""


@contextmanager
def client_of(hub: "HubServer", folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point this process's huggingface_hub at the server, with a fresh cache and no token below `folder`."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@dataclass
class Request:
    """A request as it came in; `sent` becomes the bytes of a body that went out in answer."""

    method: str
    path: str
    range: str | None
    authorized: bool
    storage: bool
    sent: int = 0


@dataclass
class Repo:
    """A folder for each commit, and what branches and tags point to."""

    commits: dict[str, Path] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag, a commit or the start of one names."""
        commits = [commit for commit in self.commits if len(revision) >= 7 and commit.startswith(revision)]
        return self.refs.get(revision) or next(iter(commits), None)


@dataclass
class Fault:
    """What goes wrong, `times` over, with requests for paths that hold `where`.

    `status` is answered in place of the truth, with `headers` and `body`. `cut` ends the connection after so
    many bytes of a body, rudely with `reset`. `stall` says nothing for so many seconds. `alter` replaces
    headers of the true answer, `short` leaves so many bytes at the end of its body away, lengths agreeing.
    With `after`, so many requests pass before the first one fails.
    """

    where: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    reset: bool = False
    stall: float = 0
    alter: Mapping[str, str] = field(default_factory=dict)
    short: int = 0
    after: int = 0
    times: int = 1_000_000


class HubServer:
    """The server, its repos, its faults and its log.

    `tells_sizes` and `knows_ranges` are what some mirrors lack. With `xet`, large files claim to lie in Xet
    storage, of which there is nothing but the way there. A signed URL serves `signature_serves` requests.
    """

    def __init__(self) -> None:
        """Listening from here on, on two ports: the Hub's own and its storage's."""
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.tells_sizes = True
        self.knows_ranges = True
        self.xet = False
        self.signature_serves = sys.maxsize
        self.signatures: dict[str, int] = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self._hub, self._storage = _Server(self, storage=False), _Server(self, storage=True)
        self.url, self.storage_url = self._hub.url, self._storage.url
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            for server in (self._hub, self._storage)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, repo: str, folder: Path, *names: str, private: bool = False, gated: bool = False) -> str:
        """Serve `folder` as a commit of `repo` that the branches and tags `names` (`main`) point to."""
        commit = hashlib.sha1(str(folder).encode()).hexdigest()
        stored = self.repos.setdefault(repo, Repo())
        stored.private, stored.gated = private, gated
        stored.commits[commit] = folder
        stored.refs |= dict.fromkeys(names or ("main",), commit)
        return commit

    def asked(self, text: str) -> list[Request]:
        """The requests whose path holds `text`."""
        return [request for request in self.requests if text in request.path]

    def close(self) -> None:
        """Refuse connections from here on."""
        self.stopping.set()
        for server in (self._hub, self._storage):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        """The server itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        if not self.stopping.is_set():
            self.close()


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: HubServer, *, storage: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.storage = storage
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Enter the request in the log, and answer."""
        if urlsplit(self.path).path == AGENTS:
            self._send(404, {}, b"")
            return
        request = Request(
            self.command,
            unquote(self.path),
            self.headers.get("Range"),
            "Authorization" in self.headers,
            self.server.storage,
        )
        with self.server.hub.lock:
            self.server.hub.requests.append(request)
        request.sent = self._answer(self._next_fault())

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the log is `HubServer.requests`."""

    def _next_fault(self) -> Fault:
        with self.server.hub.lock:
            for fault in self.server.hub.faults:
                if fault.times and fault.where in unquote(self.path):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    return fault
        return Fault()

    def _answer(self, fault: Fault) -> int:
        if fault.stall:
            self.server.hub.stopping.wait(fault.stall)
        if fault.status is not None:
            return self._send(fault.status, fault.headers, fault.body)
        url = urlsplit(self.path)
        match unquote(url.path).split("/")[1:]:
            case ["api", "models", org, name]:
                return self._info(f"{org}/{name}", "main", "blobs" in parse_qs(url.query))
            case ["api", "models", org, name, "revision", *revision]:
                return self._info(f"{org}/{name}", "/".join(revision), "blobs" in parse_qs(url.query))
            case [org, name, "resolve", *_]:
                # the revision may hold slashes, which are quoted in the path and the file's are not
                revision, file = url.path.split("/resolve/")[1].split("/", 1)
                return self._resolve(f"{org}/{name}", unquote(revision), unquote(file), fault)
            case ["api", "xet-read-token"]:
                return self._send(200, self._xet_access(), b"")
            case ["storage", org, name, commit, *file] if self.server.storage:
                if self._has_lapsed(parse_qs(url.query).get("Signature", [""])[0]):
                    return self._send(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
                path = self.server.hub.repos[f"{org}/{name}"].commits[commit] / "/".join(file)
                if not path.is_file():
                    return self._send(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")
                return self._send_file(path, {"ETag": f'"{_sha256(path)[:32]}"'}, fault)
        return self._send(404, {}, b"Not Found")

    def _has_lapsed(self, signature: str) -> bool:
        hub = self.server.hub
        with hub.lock:
            hub.signatures[signature] = hub.signatures.get(signature, 0) + 1
            return hub.signatures[signature] > hub.signature_serves

    def _sign(self) -> str:
        """A signature, another one where they run out."""
        hub = self.server.hub
        with hub.lock:
            worn = [one for one, served in hub.signatures.items() if served >= hub.signature_serves]
        return f"{SIGNATURE}{len(worn)}"

    def _find(self, repo: str, revision: str) -> tuple[Repo, str] | int:
        """The repo and the commit, or the length of the refusal that was sent in their place."""
        found = self.server.hub.repos.get(repo)
        authorization = self.headers.get("Authorization")
        if authorization not in (None, f"Bearer {TOKEN}"):
            return self._refuse(401, None, "Invalid credentials in Authorization header")
        if found is None or (found.private and authorization is None):
            return self._refuse(404 if authorization else 401, "RepoNotFound", "Repository not found")
        commit = found.resolve(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found, commit

    def _info(self, name: str, revision: str, blobs: bool) -> int:
        found = self._find(name, revision)
        if isinstance(found, int):
            return found
        repo, commit = found
        folder = repo.commits[commit]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        info = {
            "_id": commit[:24],
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "siblings": [
                _sibling(path, path.relative_to(folder).as_posix(), blobs and self.server.hub.tells_sizes)
                for path in files
            ],
        }
        return self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _resolve(self, name: str, revision: str, file: str, fault: Fault) -> int:
        found = self._find(name, revision)
        if isinstance(found, int):
            return found
        repo, commit = found
        if repo.gated and "Authorization" not in self.headers:
            return self._refuse(401, "GatedRepo", f"Access to model {name} is restricted.")
        path = repo.commits[commit] / file
        told = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not path.is_file():
            return self._refuse(404, "EntryNotFound", "Entry not found", told)
        told["ETag"] = f'"{_blob_id(path)}"'
        if not file.endswith(LARGE):
            return self._send_file(path, told, fault)
        if self.server.hub.xet:
            told |= {
                "X-Xet-Hash": _sha256(path),
                "X-Xet-Refresh-Route": f"{self.server.hub.url}/api/xet-read-token",
            }
        told |= {"X-Linked-ETag": f'"{_sha256(path)}"', "X-Linked-Size": str(path.stat().st_size)}
        address = quote(f"/storage/{name}/{commit}/{file}")
        told["Location"] = f"{self.server.hub.storage_url}{address}?Signature={self._sign()}"
        return self._send(302, told, b"")

    def _xet_access(self) -> dict[str, str]:
        expiry = str(int(time.time()) + 3600)
        return {
            "X-Xet-Cas-Url": self.server.hub.storage_url,
            "X-Xet-Access-Token": "a-token-for-storage",
            "X-Xet-Token-Expiration": expiry,
        }

    def _refuse(
        self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None
    ) -> int:
        said = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        return self._send(status, said, json.dumps({"error": message}).encode())

    def _send_file(self, path: Path, headers: dict[str, str], fault: Fault) -> int:
        size, status = path.stat().st_size, 200
        start, stop = 0, size
        wanted = self.headers.get("Range")
        if wanted is not None and self.server.hub.knows_ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else size, size)
            if start >= size:
                return self._send(416, {"Content-Range": f"bytes */{size}"}, b"")
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            status = 206
        with path.open("rb") as file:
            file.seek(start)
            body = file.read(stop - start - fault.short)
        return self._send(status, {"Accept-Ranges": "bytes", **headers, **fault.alter}, body, fault)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, fault: Fault | None = None) -> int:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return 0
        if fault is not None and fault.cut is not None:
            body = body[: fault.cut]
        self.wfile.write(body)
        if fault is not None and fault.cut is not None:
            self._hang_up(fault.reset)
        return len(body)

    def _hang_up(self, reset: bool) -> None:
        self.wfile.flush()
        if reset:
            linger = struct.pack("ii", 1, 0)  # on, for no time at all: closing resets the connection
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        self.close_connection = True


def _sibling(path: Path, name: str, blobs: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"rfilename": name}
    if blobs:
        size = path.stat().st_size
        said |= {"blobId": _blob_id(path), "size": size}
        if name.endswith(LARGE):
            said["lfs"] = {"sha256": _sha256(path), "size": size, "pointerSize": 134}
    return said


def _blob_id(path: Path) -> str:
    """What git calls a file's content."""
    return _hashed(path, "sha1", path.stat().st_mtime_ns)


def _sha256(path: Path) -> str:
    return _hashed(path, "sha256", path.stat().st_mtime_ns)


@cache
def _hashed(path: Path, algorithm: str, modified: int) -> str:
    digest = hashlib.new(algorithm)
    if algorithm == "sha1":
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def names(requests: Iterable[Request]) -> set[str]:
    """The last part of each path, without its query."""
    return {request.path.split("?")[0].rsplit("/", 1)[1] for request in requests}
