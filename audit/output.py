"""The output folder: report.md, audit.json and vectors.safetensors, written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from audit.audit import Audit
from audit.checkpoint import local_path
from audit.errors import OutputError
from reports.document import to_json
from reports.markdown import to_markdown

DEFAULT_ROOT = "gcont-reports"

WRITTEN = ("audit.json", "report.md", "vectors.safetensors", "figures")
"""All that a report's folder holds; one with anything else in it is left alone."""


def default_folder(model: str) -> Path:
    """gcont-reports/org--name for a Hub id, gcont-reports/name for a local path."""
    path = local_path(model)
    if path is None:
        return Path(DEFAULT_ROOT) / model.replace("/", "--")
    path = path.resolve()
    name = path.name if path.is_dir() or path.stem != "model" else path.parent.name
    return Path(DEFAULT_ROOT) / (name.removesuffix(".safetensors") or "model")


def check_folder(folder: Path) -> None:
    """Make sure, before any work, that the report can be written; raises OutputError.

    An existing folder is replaced only if it is empty or holds a report.
    """
    with _writing(folder):
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


def write_folder(audit: Audit, folder: Path) -> None:
    """Write the report beside its place, then move it there in one step; raises OutputError."""
    with _writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            fresh.chmod(0o755)
            (fresh / "audit.json").write_text(to_json(audit.report), encoding="utf-8")
            (fresh / "report.md").write_text(to_markdown(audit.report), encoding="utf-8")
            save_file(_vectors(audit), fresh / "vectors.safetensors", metadata=_metadata(audit))
            (fresh / "vectors.safetensors").chmod(0o644)
            _replace(folder, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _replace(folder: Path, fresh: Path) -> None:
    if not folder.exists():
        fresh.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
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
    if any(entry.name not in WRITTEN for entry in folder.iterdir()):
        return False
    try:
        text = (folder / "audit.json").read_text(encoding="utf-8")
        return str(json.loads(text).get("schema", "")).startswith("gcont-audit/")
    except (OSError, ValueError, AttributeError):
        return False


def _vectors(audit: Audit) -> dict[str, Tensor]:
    """`Q.0.v` [k, in], `Q.0.u` [k, out], `Q.0.sigma` [k], and with --full `Q.0.spectrum` [r]."""
    tensors: dict[str, Tensor] = {}
    for projection, series in audit.series.items():
        for one in series:
            place = f"{projection}.{one.layer}"
            if one.triplets is not None:
                tensors[f"{place}.v"] = one.triplets.v.contiguous()
                tensors[f"{place}.u"] = one.triplets.u.contiguous()
                tensors[f"{place}.sigma"] = one.triplets.sigma.contiguous()
            if one.spectrum is not None:
                tensors[f"{place}.spectrum"] = one.spectrum.sigma.contiguous()
    return tensors


def _metadata(audit: Audit) -> dict[str, str]:
    model = audit.report.model
    return {"schema": audit.report.schema, "model": model.id, "revision": model.revision or ""}


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OutputError(
            f"{folder} cannot be written: {reason}", "name another folder with --out"
        ) from error
