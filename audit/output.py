"""The output folder: report.md, figures, audit.json, vectors.safetensors; written whole or not at all."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from audit.audit import Audit
from audit.checkpoint import is_url, local_path, without_secrets
from audit.disk import DRAFT, sync, write_file, writing
from audit.errors import OutputError, PathNotFoundError, ReportError
from reports.comparison import Audited, Entry
from reports.document import DocumentError, from_json, to_json
from reports.figures import draw, draw_models, files, illustrations
from reports.index import MARK, PAGE, PICTURE
from reports.index import to_markdown as to_page
from reports.markdown import to_markdown
from reports.model import Report

DEFAULT_ROOT = "gcont-reports"

VECTORS = "vectors.safetensors"
WRITTEN = ("audit.json", "report.md", VECTORS, "figures")
"""All that a report's folder holds; one with anything else in it is left alone."""

LAYOUT = "layout"
"""The key in the vectors' metadata of what identifies the layout they were taken by."""


def default_folder(model: str) -> Path:
    """gcont-reports/org--name for a Hub id, gcont-reports/name for a local path or what a URL ends in."""
    path = local_path(model)
    if path is None and is_url(model):
        place = without_secrets(model).split("://", 1)[1].strip("/").removesuffix("/model.safetensors")
        name = re.sub(r"[^\w.-]+", "--", place.removesuffix(".safetensors")).strip(".-")
        return Path(DEFAULT_ROOT) / (name or "model")
    if path is None:
        return Path(DEFAULT_ROOT) / model.replace("/", "--")
    path = path.resolve()
    name = path.name if path.is_dir() or path.stem != "model" else path.parent.name
    return Path(DEFAULT_ROOT) / (name.removesuffix(".safetensors") or "model")


def read_report(file: Path) -> Report:
    """The report in an audit.json; raises PathNotFoundError and ReportError."""
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PathNotFoundError(f"there is no file {file}", "name an audit.json or its folder") from error
    except OSError as error:
        raise ReportError(f"{file} cannot be read", error.strerror or "") from error
    except (DocumentError, UnicodeDecodeError) as error:
        raise ReportError(f"{file} holds no report: {error}", "audit the model again") from error


def check_page(root: Path) -> None:
    """Make sure, before any work, that a batch's page can be written here; raises OutputError."""
    page = root / PAGE
    with writing(root):
        if root.exists() and not root.is_dir():
            raise OutputError(f"{root} is a file", "name a folder with --out")
        if (root / "audit.json").exists():
            raise OutputError(f"{root} is a single model's report", "name a folder for several with --out")
        marked = page.exists() and page.read_bytes()[: len(MARK)] == MARK.encode()
        for file in (page, root / PICTURE):
            if file.exists() and not marked:
                raise OutputError(f"{file} is not a batch's page", "name another folder with --out")
        above = next(parent for parent in (root / PAGE).absolute().parents if parent.exists())
        os.rmdir(tempfile.mkdtemp(prefix=".batch.", dir=above))


def write_page(entries: Sequence[Entry], root: Path) -> None:
    """Write the page over all models of a batch, and its figure; raises OutputError."""
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        if audited := [entry for entry in entries if isinstance(entry, Audited)]:
            write_file(root / PICTURE, draw_models(audited))
        write_file(root / PAGE, to_page(entries).encode())


def check_folder(folder: Path) -> None:
    """Make sure, before any work, that the report can be written; raises OutputError.

    An existing folder is replaced only if it is empty or holds a report.
    """
    with writing(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file", "name a folder with --out")
        if Path.cwd().is_relative_to(folder.resolve()):
            raise OutputError(f"{folder} is the working folder or above it", "name another with --out")
        if folder.is_dir() and any(folder.iterdir()) and not _is_report(folder):
            raise OutputError(
                f"{folder} holds something other than a report", "name another folder with --out"
            )
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        os.rmdir(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=above))


def write_audit(audit: Audit, folder: Path, workshop: Path | None = None) -> None:
    """Write an audit's report beside its place, then move it there in one step; raises OutputError.

    `workshop` is a folder on the same disk to write it in, None for the one that `folder` is in.
    """
    with _fresh(folder, workshop) as fresh:
        _render(audit.report, fresh)
        save_file(_vectors(audit), fresh / VECTORS, metadata=_metadata(audit))
        (fresh / VECTORS).chmod(0o644)


def write_again(report: Report, source: Path, folder: Path) -> None:
    """Write a report that was read from the folder `source`, with that folder's vectors if it has them.

    As write_audit; raises OutputError.
    """
    with _fresh(folder) as fresh:
        _render(report, fresh)
        if (source / VECTORS).is_file():
            shutil.copyfile(source / VECTORS, fresh / VECTORS)


def _render(report: Report, folder: Path) -> None:
    (folder / "audit.json").write_text(to_json(report), encoding="utf-8")
    (folder / "report.md").write_text(to_markdown(report), encoding="utf-8")
    for illustration in illustrations(report):
        (folder / illustration.file).parent.mkdir(exist_ok=True)
        (folder / illustration.file).write_bytes(draw(report, illustration))


@contextmanager
def _fresh(folder: Path, workshop: Path | None = None) -> Iterator[Path]:
    """A new folder to write into, in `workshop` or beside `folder`; it takes its place when all went well."""
    folder = folder.resolve()  # a link to a folder stays one
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        workshop = (workshop or folder.parent).resolve()
        fresh = Path(tempfile.mkdtemp(prefix=DRAFT, dir=workshop))
        try:
            fresh.chmod(0o755)
            yield fresh
            sync(fresh)
            _replace(folder, fresh, workshop)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _replace(folder: Path, fresh: Path, workshop: Path) -> None:
    if not folder.exists():
        fresh.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=DRAFT, dir=workshop))
    try:
        folder.rename(old / "old")
        try:
            fresh.rename(folder)
        except BaseException:
            (old / "old").rename(folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _is_report(folder: Path) -> bool:
    try:
        written = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
        is_ours = str(written.get("schema", "")).startswith("gcont-audit/")
        ours = {*WRITTEN, *files(written.get("stacks") or ())}
    except (OSError, ValueError, AttributeError, TypeError):
        return False
    return is_ours and all(path.relative_to(folder).as_posix() in ours for path in folder.rglob("*"))


def _vectors(audit: Audit) -> dict[str, Tensor]:
    """`Q.0.v` [k, in], `Q.0.u` [k, out], `Q.0.sigma` [k], and with --full `Q.0.spectrum` [r].

    Those of another stack than the main one stand behind its name, as `vision/Q.0.v`.
    """
    tensors: dict[str, Tensor] = {}
    for (stack, projection), series in audit.series.items():
        for one in series:
            place = f"{stack}/{projection}.{one.layer}" if stack else f"{projection}.{one.layer}"
            if one.triplets is not None:
                found = {"v": one.triplets.v, "u": one.triplets.u, "sigma": one.triplets.sigma}
                tensors |= {
                    f"{place}.{key}": value.contiguous() for key, value in found.items() if value is not None
                }
            if one.spectrum is not None:
                tensors[f"{place}.spectrum"] = one.spectrum.sigma.contiguous()
    return tensors


def _metadata(audit: Audit) -> dict[str, str]:
    model = audit.report.model
    return {
        "schema": audit.report.schema,
        "model": model.id.encode(errors="replace").decode(),  # a path need not be text
        "revision": model.revision or "",
        LAYOUT: audit.layout,
    }
