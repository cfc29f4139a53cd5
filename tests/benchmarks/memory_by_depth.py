"""Peak memory of an audit of 4 and of 80 layers of the same shape, beside what `plan` states of them.

Run: .venv/bin/python tests/benchmarks/memory_by_depth.py [--quick] [--wide]

It must not grow with depth. Linux only: it watches RssAnon in /proc, which leaves out the page cache. Writes
bf16 Llamas a quarter as wide as Llama-3.1-8B to a temporary folder (2.2 GB at 80 layers); `--wide` adds four
layers of the real width (1.7 GB), of which `--full` takes Down alone, two layers of it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llama_shapes import LLAMA_8B, SMALL, Size, write_llama
from stopwatch import table

AUDIT = [sys.executable, "-m", "audit"]

ALLOWED = 2.5, 800e6
"""The ceiling aimed at, leading: so many times the largest projection in float32, and so many bytes."""


def peak_anonymous(command: list[str]) -> int:
    """The most anonymous memory the command's process had, looked at every 5 ms, in bytes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        for line in status.read_text().splitlines() if status.exists() else ():
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return peak


def stated(folder: Path, *options: str) -> int:
    """What `plan` says that the audit will take, in bytes."""
    plan = subprocess.run(
        [*AUDIT, "plan", str(folder), "--json", *options], check=True, capture_output=True, text=True
    )
    return int(json.loads(plan.stdout)["memory_bytes"])


def measured(folder: Path, size: Size, what: str, options: tuple[str, ...]) -> list[str]:
    """One row: the peak, what plan states, and for a leading audit the ceiling."""
    with tempfile.TemporaryDirectory() as out:
        peak = peak_anonymous([*AUDIT, str(folder), "--quiet", "--out", f"{out}/report", *options])
    said = stated(folder, *options)
    ceiling = ALLOWED[0] * size.largest + ALLOWED[1]
    aimed = "" if "--full" in options else f"{ceiling / 1e6:.0f} MB"
    return [what, f"{peak / 1e6:.0f} MB", f"{said / 1e6:.0f} MB", f"{peak / said:.2f}", aimed]


def main() -> None:
    """Print peaks for both depths, leading and --full, beside that of importing torch alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 and 16 layers")
    parser.add_argument("--wide", action="store_true", help="four layers of Llama-3.1-8B's width, too")
    asked = parser.parse_args()
    depths = (4, 16) if asked.quick else (4, 80)
    idle = peak_anonymous([sys.executable, "-c", "import torch; torch.ones(8, 8) @ torch.ones(8, 8)"])
    print(f"torch alone: {idle / 1e6:.0f} MB; largest projection in float32: {SMALL.largest / 1e6:.0f} MB")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for layers in depths:
            folder = write_llama(Path(place) / f"{layers}", layers, SMALL)
            rows.append(measured(folder, SMALL, f"{layers} layers, leading", ()))
            only = ("--full", "--only", "k,ov,down")
            rows.append(measured(folder, SMALL, f"{layers} layers, {' '.join(only)}", only))
    if asked.wide:
        print(f"and of Llama-3.1-8B: {LLAMA_8B.largest / 1e6:.0f} MB")
        with tempfile.TemporaryDirectory() as place:
            folder = write_llama(Path(place) / "wide", 4)
            rows.append(measured(folder, LLAMA_8B, "4 layers of Llama-3.1-8B, leading", ()))
            only = ("--full", "--layers", "0:2", "--only", "down")
            rows.append(measured(folder, LLAMA_8B, f"of them, {' '.join(only)}", only))
    table(["", "peak", "stated", "peak/stated", "aimed at"], sorted(rows, key=_order))


def _order(row: list[str]) -> tuple[bool, bool]:
    return "Llama" in row[0] or "of them" in row[0], "--full" in row[0]


if __name__ == "__main__":
    main()
