"""A checkpoint streamed from a Hub on the loopback, beside the same one audited from the disk.

Run: .venv/bin/python tests/benchmarks/streaming.py [--layers N] [--rounds N] [--delay SECONDS]

Bytes asked for beside what `plan` says, what is left on the disk, peak memory and wall time of both, as
processes of their own in turn. Writes N layers of Llama-3.1-8B's shapes (436 MB each; 5 make 2.2 GB) to a
temporary folder. `--delay` is what a server far away would take to answer each request. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from hub_server import Fault, HubServer
from llama_shapes import write_llama
from memory_by_depth import AUDIT, peak_anonymous
from stopwatch import table

REPO = "org/large"


def audited(model: str, out: Path, *options: str) -> tuple[float, int, dict[str, Any]]:
    """Seconds, peak of anonymous memory, and the report of one audit from the start."""
    started = time.perf_counter()
    peak = peak_anonymous([*AUDIT, model, "--quiet", "--fresh", "--out", str(out), *options])
    return time.perf_counter() - started, peak, json.loads((out / "audit.json").read_text())


def plan_of(*options: str) -> dict[str, Any]:
    """What `plan` says of streaming it."""
    command = [*AUDIT, "plan", REPO, "--stream", "--json", *options]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return told


def weights_asked(hub: HubServer) -> tuple[int, int]:
    """Requests for weights, and the bytes they asked for: those that begin a file are for its header."""
    ranges = [one.range for one in hub.requests if one.storage and one.range]
    ends = [text.removeprefix("bytes=").split("-") for text in ranges if not text.startswith("bytes=0-")]
    return len(ends), sum(int(last) + 1 - int(first) for first, last in ends)


def row(hub: HubServer, place: Path, rounds: int, options: tuple[str, ...]) -> list[str]:
    """One row: local and streamed in turn."""
    taken: dict[str, list[float]] = {"local": [], "streamed": []}
    peaks: dict[str, int] = {}
    plan = plan_of(*options)
    for _ in range(rounds):
        for name, model, more in (("local", str(place / "model"), ()), ("streamed", REPO, ("--stream",))):
            hub.requests.clear()
            seconds, peak, report = audited(model, place / name, *options, *more)
            taken[name].append(seconds)
            peaks[name] = max(peak, peaks.get(name, 0))
    requests, asked = weights_asked(hub)
    local = json.loads((place / "local/audit.json").read_text())
    same = local["projections"] == report["projections"]
    ratio = median(taken["streamed"]) / median(taken["local"])
    return [
        " ".join(options) or "all",
        f"{asked:,}",
        "equal" if asked == plan["bytes_to_read"] else f"{plan['bytes_to_read']:,}",
        f"{requests} ({plan['requests']})",
        "equal" if same else "DIFFERENT",
        f"{median(taken['local']):.1f} s",
        f"{median(taken['streamed']):.1f} s",
        f"{ratio:.2f}",
        f"{peaks['local'] / 1e6:.0f} MB",
        f"{peaks['streamed'] / 1e6:.0f} MB",
        f"{plan['memory_bytes'] / 1e6:.0f} MB",
    ]


def main() -> None:
    """Print the table, and what streaming left in the Hub's cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, HubServer() as hub:
        place = Path(name)
        hub.add(REPO, write_llama(place / "model", asked.layers))
        hub.faults = [Fault("/storage/", stall=asked.delay)] if asked.delay else []
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(place / "home"), "no_proxy": "127.0.0.1"}
        rows = [row(hub, place, asked.rounds, options) for options in ((), ("--only", "q,k,v,o"))]
        left = sum(path.stat().st_size for path in (place / "home").rglob("*") if path.is_file())
        whole = sum(path.stat().st_size for path in (place / "model").iterdir())
    head = ["", "bytes asked for", "plan", "requests (plan)", "numbers", "local", "streamed", "ratio"]
    table([*head, "peak local", "peak streamed", "stated"], rows)
    print(f"checkpoint {whole:,} bytes; left in the Hub's cache {left:,} bytes")


if __name__ == "__main__":
    main()
