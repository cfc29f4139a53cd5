"""An audit of Llama-3.1-8B's shapes beside the bare read, the naive loop, truncated SVDs and WeightWatcher.

Run: .venv/bin/python tests/benchmarks/llama_speed.py [--layers N] [--runs N] [--quick] [--leading-only]
     [--profile] [--weightwatcher PYTHON]

Generates 6 layers in bfloat16 (llama_shapes.py; .44 GB each, in a temporary folder) or N, reads them from a
warm page cache, and prints tables of medians and ratios of this one run. Six deal each kind of spectrum twice
to each projection, leave no core without work at the end, and are above the size up to which an audit hashes
the files. The naive SVDs take minutes: each distinct shape is measured once, and multiplied by how often a
layer has it. WeightWatcher is that of another environment's Python, on one layer. `--quick` takes a model a
quarter as wide, to see that the program works.
"""

import argparse
import cProfile
import os
import pstats
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, thread_time

import torch
from contestants import (
    Stored,
    drop_from_cache,
    matrices,
    naive_v1,
    randomised_v1,
    read,
    read_floor,
    read_floor_side_by_side,
    sine,
    svds_v1,
    weight_watcher,
)
from llama_shapes import LLAMA_8B, SMALL, write_llama
from passes import traffic
from stopwatch import in_turn, seconds, table, told
from torch import Tensor

from audit import AuditOptions, audit_model
from audit.audit import run
from audit.checkpoint import open_checkpoint
from audit.plan import make_plan
from registry import Projection

DEPTH = 32
"""Layers of the real model."""

NAIVE, OURS = "torch.linalg.svd", "ours, leading"
METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    NAIVE: naive_v1,
    "svds(k=2)": svds_v1,
    "randomized_svd(2)": randomised_v1,
}
"""A matrix in memory to its v1."""

SEVEN = "q,k,v,o,gate,up,down"
"""What the naive loop measures; an audit measures the OV composite besides."""


@dataclass(frozen=True)
class Ours:
    """Times of the audit, for the ratios to follow: a layer's, leading and with all singular values."""

    leading: float
    full: float


def leading_beside_the_floor(folder: Path, layers: int, runs: int) -> float:
    """Seconds of a leading audit; prints it beside the read floor, warm and cold, and the bytes it moves."""
    stored = matrices(folder)
    nbytes = sum(one.nbytes for one in stored)
    contestants: dict[str, Callable[[], object]] = {
        "read floor: read and upcast, one by one": lambda: read_floor(stored),
        "the same, a thread a core": lambda: read_floor_side_by_side(stored),
        "ours, leading": lambda: audit_model(str(folder)),
    }
    times = in_turn(contestants, runs)
    floor, fastest, ours = times.values()
    rows = [
        [name, told(t), f"{nbytes / t / 1e9:.2f} GB/s", f"{t / floor:.2f}", f"{t / fastest:.2f}",
         told(t * DEPTH / layers)]
        for name, t in times.items()
    ]  # fmt: skip
    print(f"leading, {layers} layers, {nbytes / 1e9:.2f} GB in bfloat16; medians of {runs} runs")
    table(["", "time", "stored bytes", "of the floor", "of the 2nd", f"{DEPTH} layers"], rows)
    with traffic() as counted:
        audit_model(str(folder))
    parts = ", ".join(f"{name} {moved / nbytes:.1f}" for name, moved in counted.moved.most_common())
    print(f"passes over the weights, each counted in stored bytes: {counted.total / nbytes:.1f} ({parts});")
    print(f"moved: {counted.total / 1e9:.1f} GB at {counted.total / ours / 1e9:.1f} GB/s\n")
    return ours / layers


def from_a_cold_disk(folder: Path) -> None:
    """Print one reading and one leading audit after the kernel was asked to forget the files."""
    stored = matrices(folder)
    nbytes = sum(one.nbytes for one in stored)
    for name, work in (
        ("read floor", lambda: read_floor(stored)),
        ("ours, leading", lambda: audit_model(str(folder))),
    ):
        drop_from_cache(folder)
        taken = seconds(work)
        print(f"cold (pages dropped), once: {name} {told(taken)}, {nbytes / taken / 1e9:.2f} GB/s")
    print()


def profile_of(folder: Path, layers: int, rows: int = 12) -> None:
    """Print where the time of a leading audit goes, one task at a time on one core, by cProfile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    profile = cProfile.Profile(thread_time)
    profile.runcall(audit_model, str(folder))
    torch.set_num_threads(threads)
    stats = pstats.Stats(profile)
    total = stats.total_tt
    by_own_time = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:rows]
    print(
        f"where a leading audit's time goes, one core, {layers} layers, {told(total)}: own time of functions"
    )
    table(
        ["", "calls", "time", "share"],
        [
            [_place(*where), f"{calls}", told(own), f"{own / total:.0%}"]
            for where, (_, calls, own, _, _) in by_own_time
        ],
    )


def _place(file: str, line: int, function: str) -> str:
    """A function as `module.function`, one of C as cProfile names it."""
    return function.strip("<>") if file == "~" else f"{Path(file).stem}.{function}"


def full_of_a_layer(folder: Path) -> float:
    """Seconds of --full for a layer's seven projections, out of two layers; prints the OV composite's too."""
    seven, composite = (
        seconds(lambda only=only: audit_model(str(folder), AuditOptions(full=True, layers="0:2", only=only)))
        / 2
        for only in (SEVEN, "ov")
    )
    print(f"--full, once, a layer out of two: seven projections {told(seven)}, OV {told(composite)} more\n")
    return seven


def beside_other_svds(folder: Path, ours: Ours) -> None:
    """Print the naive loop's time for one layer beside truncated SVDs and ours, with the error of v1."""
    layer = matrices(folder, "model.layers.0.")
    count = Counter(one.shape for one in layer)
    certified = _certified(folder, layer)
    rows = []
    total, worst = Counter[str](), dict.fromkeys([*METHODS, OURS], 0.0)
    for one in {one.shape: one for one in layer}.values():
        times, found = _race(read(one))
        found[OURS] = certified[one.name]
        errors = {name: sine(vector, found[NAIVE]) for name, vector in found.items()}
        total.update({name: taken * count[one.shape] for name, taken in times.items()})
        worst = {name: max(worst[name], error) for name, error in errors.items()}
        shown = (f"{error:.0e}" for name, error in errors.items() if name != NAIVE)
        shape = f"{one.shape[0]} x {one.shape[1]}, {count[one.shape]} a layer"
        rows.append([shape, *map(told, times.values()), *shown])
    print("one matrix of each shape, once, in float32 in memory, and the sine of v1's angle to LAPACK's")
    table(["", *METHODS, "error: svds", "randomized_svd", "ours"], rows)
    total.update({OURS: ours.leading, "ours, --full": ours.full})
    summary = [
        [
            name,
            told(taken),
            f"{taken / ours.leading:.1f}",
            f"{taken / ours.full:.1f}",
            told(taken * DEPTH),
            f"{worst[name]:.0e}" if name in worst and name != NAIVE else "",
        ]
        for name, taken in total.items()
    ]
    print("a layer's seven projections (ours reads them first, and leading takes the OV composite too)")
    table(["", "a layer", "over leading", "over --full", f"{DEPTH} layers", "worst v1"], summary)


def _race(weight: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Each method's time, and its v1."""
    times, found = {}, {}
    for name, method in METHODS.items():
        started = perf_counter()
        found[name] = method(weight)
        times[name] = perf_counter() - started
    return times, found


def _certified(folder: Path, layer: list[Stored]) -> dict[str, Tensor]:
    """V1 of the audit's own, by the name of the tensor in layer 0."""
    series = run(make_plan(open_checkpoint(str(folder)), AuditOptions(layers="0:1")), "benchmark").series
    names = {one.name.split(".")[-2].removesuffix("_proj"): one.name for one in layer}
    return {
        names[name.value.lower()]: measured[0].triplets.v[0]
        for (_, name), measured in series.items()
        if name is not Projection.OV
    }


def beside_weight_watcher(python: str, place: Path, quick: bool, ours: Ours) -> None:
    """Print WeightWatcher's time for one layer over ours."""
    folder = write_llama(place / "watched", 1, SMALL if quick else LLAMA_8B)
    taken = weight_watcher(python, folder)
    print(f"WeightWatcher's analyze() on one layer, once: {told(taken)}, {taken / ours.leading:.1f} of ours,")
    print(f"leading, {taken / ours.full:.1f} of ours, --full; it finds no singular vector\n")


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a quarter as wide")
    parser.add_argument("--leading-only", action="store_true", help="no full factorisations, ours or others'")
    parser.add_argument("--profile", action="store_true", help="where the leading audit's time goes, too")
    parser.add_argument("--weightwatcher", metavar="PYTHON", help="a Python that has WeightWatcher")
    asked = parser.parse_args()
    size = SMALL if asked.quick else LLAMA_8B
    print(
        f"hidden {size.hidden}, FFN {size.ffn}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"load before the start: {os.getloadavg()[0]:.2f}\n")
    with tempfile.TemporaryDirectory() as place:
        folder = write_llama(Path(place) / "llama", asked.layers, size)
        leading = leading_beside_the_floor(folder, asked.layers, asked.runs)
        from_a_cold_disk(folder)
        if asked.profile:
            profile_of(folder, asked.layers)
        if asked.leading_only:
            return
        ours = Ours(leading, full_of_a_layer(folder))
        beside_other_svds(folder, ours)
        if asked.weightwatcher:
            beside_weight_watcher(asked.weightwatcher, Path(place), asked.quick, ours)


if __name__ == "__main__":
    main()
