"""Data sets of a Hugging Face Hub on the loopback, for `datasets` itself as the client.

    with DatasetServer() as hub:
        hub.folders["org/name"] = folder    # HF_ENDPOINT=hub.url

It knows what `datasets` asks for: what a repo is, which files it has, and the files.
"""

import hashlib
import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "5" * 40


class DatasetServer:
    """The server, the folder of each repo, and the paths that were asked for; `status` is answered to all."""

    def __init__(self) -> None:
        """Listening from here on."""
        self.folders: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.status: int | None = None
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """The server itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: DatasetServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Answer what is asked of a repo or of one of its files."""
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        url = urlsplit(self.path)
        self.server.hub.asked.append(f"{self.command} {unquote(url.path)}")
        if self.server.hub.status is not None:
            self._send(self.server.hub.status, {})
            return
        parts = unquote(url.path).strip("/").split("/")
        parts = parts[1:] if parts[0] == "api" else parts
        folder = self.server.hub.folders.get("/".join(parts[1:3]))
        if parts[0] != "datasets" or folder is None:
            self._refuse(401, "RepoNotFound")
        elif "/".join(parts[1:3]) in self.server.hub.gated and "resolve" in parts:
            self._refuse(403, "GatedRepo")
        else:
            self._answer(folder, parts[3:], parse_qs(sent))

    do_HEAD = do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the log is `DatasetServer.asked`."""

    def _answer(self, folder: Path, parts: list[str], form: dict[str, list[str]]) -> None:
        match parts:
            case [] | ["revision", _]:
                said = {"id": "org/name", "sha": COMMIT, "private": False, "gated": False}
                self._json(said | {"siblings": [{"rfilename": name} for name in _names(folder)]})
            case ["tree", _, *below]:
                self._json(list(_listed(folder, folder / "/".join(below))))
            case ["paths-info", _]:
                self._json(
                    [_entry(folder, folder / name) for name in form["paths"] if (folder / name).exists()]
                )
            case ["resolve", _, *name] if (folder / "/".join(name)).is_file():
                content = (folder / "/".join(name)).read_bytes()
                told = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
                self._send(200, told, content)
            case _:
                self._refuse(404, "EntryNotFound")

    def _json(self, said: Any) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(said).encode())

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _names(folder: Path) -> Iterable[str]:
    return (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())


def _listed(folder: Path, below: Path) -> Iterable[dict[str, Any]]:
    return (_entry(folder, path) for path in sorted(below.rglob("*")))


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    content = path.read_bytes()
    return {"type": "file", "path": name, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
