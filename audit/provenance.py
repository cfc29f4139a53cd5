"""How the numbers came to be: versions, device, files and what identifies them, time and memory."""

import hashlib
import json
import platform
import resource
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from audit.checkpoint import Checkpoint, ShardFile
from reports.model import Provenance, SourceFile

HASHED_BYTES = 2**30
"""Local checkpoints up to this size are hashed whole; of larger ones the headers are."""


def describe(
    checkpoint: Checkpoint, device: torch.device, command: str, started: str, seconds: float, bytes_read: int
) -> Provenance:
    """The provenance of an audit that ends now."""
    return Provenance(
        tool_version=version(),
        torch_version=torch.__version__,
        python_version=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device_name=_device_name(device),
        command=command,
        started=started,
        wall_seconds=seconds,
        peak_memory_bytes=peak_memory(),
        bytes_read=bytes_read,
        files=source_files(checkpoint),
        config_sha256=config_digest(checkpoint),
    )


def config_digest(checkpoint: Checkpoint) -> str | None:
    """What identifies the content of config.json, whatever its spacing; None where there is none."""
    if checkpoint.config is None:
        return None
    return hashlib.sha256(json.dumps(checkpoint.config, sort_keys=True).encode()).hexdigest()


def source_files(checkpoint: Checkpoint) -> tuple[SourceFile, ...]:
    """The checkpoint's files, each with what identifies its content."""
    whole = sum(file.size for file in checkpoint.files) <= HASHED_BYTES
    return tuple(_identify(file, whole) for file in checkpoint.files)


def version() -> str:
    """This tool's version, as installed."""
    return metadata.version("gcont-audit")


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def peak_memory() -> int:
    """The most resident memory this process ever had, in bytes, mapped library files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return f"CPU ({threads} thread{'s' if threads != 1 else ''})"


def _identify(file: ShardFile, whole: bool) -> SourceFile:
    if file.etag is not None or file.path is None:
        return SourceFile(file.name, file.size, etag=file.etag)
    if whole:
        with file.path.open("rb") as opened:
            return SourceFile(file.name, file.size, sha256=hashlib.file_digest(opened, "sha256").hexdigest())
    return SourceFile(file.name, file.size, header_sha256=_header_digest(file.path))


def _header_digest(path: Path) -> str:
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        return hashlib.sha256(opened.read(length)).hexdigest()
