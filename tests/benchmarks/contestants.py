"""What the audit is measured against: the bare read, full and truncated SVDs, WeightWatcher.

No benchmark itself.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.sparse.linalg import svds
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}

WATCH = """
import json, logging, sys, time
logging.disable(logging.CRITICAL)
import weightwatcher
watcher = weightwatcher.WeightWatcher(model=sys.argv[1])
started = time.perf_counter()
details = watcher.analyze()
print(json.dumps([time.perf_counter() - started, len(details)]))
"""


@dataclass(frozen=True)
class Stored:
    """A matrix in a shard: where its bytes lie."""

    name: str
    shard: Path
    start: int
    shape: tuple[int, int]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


def matrices(folder: Path, prefix: str = "") -> list[Stored]:
    """Every 2-D tensor of the folder's shards whose name starts so, by the shards' own headers."""
    return [one for shard in sorted(folder.glob("*.safetensors")) for one in _entries(shard, prefix)]


def _entries(shard: Path, prefix: str) -> Iterator[Stored]:
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    for name, entry in header.items():
        if name.startswith(prefix) and len(entry.get("shape", ())) == 2:
            start = 8 + length + entry["data_offsets"][0]
            yield Stored(name, shard, start, tuple(entry["shape"]), DTYPES[entry["dtype"]])


def bytes_of(stored: Stored) -> Tensor:
    """The matrix as stored, by plain reads into a fresh tensor."""
    tensor = torch.empty(stored.shape, dtype=stored.dtype)
    buffer = memoryview(tensor.view(torch.uint8).view(-1).numpy())
    with stored.shard.open("rb", buffering=0) as file:
        file.seek(stored.start)
        filled = 0
        while filled < len(buffer):
            count = file.readinto(buffer[filled:])
            if not count:
                raise SystemExit(f"{stored.shard} is too short")
            filled += count
    return tensor


def read(stored: Stored) -> Tensor:
    """The matrix, upcast to float32."""
    return bytes_of(stored).float()


def read_floor(stored: Sequence[Stored]) -> None:
    """Read and upcast each, one after the other, and nothing else."""
    for one in stored:
        read(one)


def read_floor_side_by_side(stored: Sequence[Stored]) -> None:
    """The same with a thread a core."""
    side_by_side(read, stored)


def read_side_by_side(stored: Sequence[Stored]) -> None:
    """Reading alone, with a thread a core."""
    side_by_side(bytes_of, stored)


def side_by_side(work: Callable[[Any], object], subjects: Sequence[Any]) -> None:
    """Do the work on each, as many at a time as there are cores, each with one core; results are dropped."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(lambda one: work(one) is None, subjects):
            pass
    torch.set_num_threads(threads)


def drop_from_cache(folder: Path) -> None:
    """Ask the kernel to forget the folder's pages, so that the next read comes from the disk."""
    for shard in folder.glob("*.safetensors"):
        descriptor = os.open(shard, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def naive_v1(weight: Tensor) -> Tensor:
    """The leading right singular vector out of a full SVD, as a loop over a checkpoint would take it."""
    return torch.linalg.svd(weight, full_matrices=False).Vh[0]


def svds_v1(weight: Tensor) -> Tensor:
    """SciPy's ARPACK, two triplets."""
    _, _, vh = svds(weight.numpy(), k=2, rng=0)
    return torch.from_numpy(vh[-1].copy())


def randomised_v1(weight: Tensor) -> Tensor:
    """scikit-learn's randomised SVD, two triplets, its own number of iterations."""
    _, _, vh = randomized_svd(weight.numpy(), n_components=2, random_state=0)
    return torch.from_numpy(vh[0].copy())


def sine(first: Tensor, second: Tensor) -> float:
    """The sine of the angle between two vectors."""
    one, other = (vector.double() / vector.double().norm() for vector in (first, second))
    return float((other - (one @ other) * one).norm())


def weight_watcher(python: str, folder: Path) -> float:
    """Seconds of WeightWatcher's analyze() on the folder, by a Python that has it; imports not counted."""
    command = [python, "-c", WATCH, str(folder)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    taken, layers = json.loads(told.stdout.splitlines()[-1])
    if not layers:
        raise SystemExit(f"WeightWatcher found nothing in {folder}")
    return float(taken)
