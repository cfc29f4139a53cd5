"""How the numbers came to be: versions, device, files and what identifies them, time and memory."""

import hashlib
import json
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from audit.checkpoint import Checkpoint, ShardFile
from audit.memory import Use
from audit.partial import Spent
from audit.peak import resident_peak
from reports.model import Provenance, SourceFile

HASHED_BYTES = 2**30
"""Local checkpoints up to this size are hashed whole; of larger ones the headers are."""


def describe(
    checkpoint: Checkpoint, device: torch.device, command: str, spent: Spent, use: Use
) -> Provenance:
    """The provenance of an audit that ends now."""
    return Provenance(
        tool_version=version(),
        torch_version=torch.__version__,
        python_version=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device_name=device_name(device),
        command=command,
        started=spent.started,
        wall_seconds=spent.seconds,
        peak_memory_bytes=resident_peak(),
        bytes_read=spent.bytes_read,
        files=source_files(checkpoint),
        config_sha256=config_digest(checkpoint),
        peak_anonymous_bytes=use.peak,
        planned_memory_bytes=use.planned,
        max_memory_bytes=use.ceiling,
        workers=use.workers,
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


def device_name(device: torch.device) -> str:
    """What a report calls a device."""
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
    modified = file.path.stat().st_mtime_ns
    return SourceFile(file.name, file.size, header_sha256=header_digest(file.path), modified=modified)


def header_digest(path: Path) -> str:
    """The hash of a safetensors file's header."""
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        return hashlib.sha256(opened.read(length)).hexdigest()
