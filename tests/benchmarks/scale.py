"""What an audit of 8B to 671B parameters would take: time, memory and bytes, from rates measured here.

Run: .venv/bin/python tests/benchmarks/scale.py [--quick]

The work is what `gcont-audit plan` counts from headers (audit/cost.py); the models' shapes are typed by hand
from their config.json. Rates of this machine are measured first, a minute or two; with `--quick` those that
docs/scale.md was made with are taken. Rates of GPUs are nominal ones from data sheets, not measured. Prints
the tables of docs/scale.md.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from statistics import median

import torch
from contestants import drop_from_cache, matrices, read_side_by_side, side_by_side
from llama_shapes import LLAMA_8B, Size, write_llama
from stopwatch import seconds, table

from audit import AuditOptions, audit_model
from audit.checkpoint import Checkpoint, open_checkpoint
from audit.checkpoint.header import TensorEntry
from audit.checkpoint.model import ShardFile, StoredTensor
from audit.cost import EIGENVECTORS, Work, factors, measured_rates
from audit.plan import AuditPlan, make_plan
from registry import ExpertSlots, LayerLayout, Projection

NARROW = Size(64, 224, 2, 1)
"""So small that a matrix takes nothing but its start."""

EIGEN_SIZE = 4096
"""Of the matrix that eigenvectors are timed on: the width of Llama-3.1-8B."""


@dataclass(frozen=True)
class Machine:
    """What a machine does in a second, all its devices together.

    Bytes off the disk, and over the link to the device (on a CPU: out of the page cache); weights that passes
    go over, here as an audit of Llama-3.1-8B's shapes does all in all; multiply-adds of products in float32
    and float64, and of eigenvectors; matrices, each with its own start of Python and kernels.
    """

    name: str
    disk: float
    link: float
    passed: float
    single: float
    double: float
    eigen: float
    matrices: float
    overlaps: bool
    """Whether reading costs the computing nothing; on a CPU the same cores copy and compute."""

    def parts(self, work: Work, eigen: int) -> dict[str, float]:
        """Seconds by what they are spent on."""
        return {
            "disk": work.read / self.disk,
            "link" if self.overlaps else "copying": work.read / self.link,
            "passes": work.passed / self.passed,
            "products": work.single / self.single + work.double / self.double,
            "eigenvectors": eigen / self.eigen,
            "matrix by matrix": work.matrices / self.matrices,
        }

    def takes(self, work: Work, eigen: int) -> tuple[float, str]:
        """Seconds, and what the limit is: reading and computing go on at the same time."""
        parts = self.parts(work, eigen)
        reading = ["disk", "link"] if self.overlaps else ["disk"]
        computing = {name: taken for name, taken in parts.items() if name not in reading}
        longest = max((parts[name], name) for name in reading)
        return max((sum(computing.values()), max(computing, key=computing.__getitem__)), longest)


RECORDED = Machine(
    "2 cores",
    disk=1e9,
    link=2e9,
    passed=1e9,
    single=3e10,
    double=1.5e10,
    eigen=2e10,
    matrices=100,
    overlaps=False,
)
"""This machine, as docs/scale.md has it."""

H100 = Machine(
    "one H100",
    disk=7e9,  # a PCIe 4 drive
    link=64e9,  # PCIe 5, 16 lanes
    passed=3.35e12 / 4 / 2,  # HBM3, in float32, written once and read twice a pass
    single=67e12 / 2,
    double=34e12 / 2,
    eigen=1e12 / 2,  # of cuSOLVER's syevd, which is far from the peak
    matrices=100,
    overlaps=True,
)
"""NVIDIA's data sheet of the H100 SXM; disk, eigenvectors and matrices a second are guesses."""

EIGHT = replace(
    H100,
    name="8 H100",
    disk=25e9,  # a node's striped drives
    **{part: 8 * getattr(H100, part) for part in ("link", "passed", "single", "double", "eigen", "matrices")},
)


@dataclass(frozen=True)
class Model:
    """A model by the shapes of one layer of each kind, and how many layers are of it."""

    name: str
    config: Mapping[str, object]
    layers: tuple[tuple[int, Mapping[str, tuple[int, ...]]], ...]

    def checkpoint(self) -> Checkpoint:
        """As if its headers had been read: one shard, bfloat16."""
        return _as_read(self.name, self.config, dict(self._tensors()))

    def _tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        first = 0
        for count, shapes in self.layers:
            for layer in range(first, first + count):
                for name, shape in shapes.items():
                    yield f"model.layers.{layer}.{name}.weight", shape
            first += count


def _as_read(name: str, config: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]) -> Checkpoint:
    shard = ShardFile("model.safetensors", 2 * sum(map(prod, shapes.values())), None)
    tensors, start = {}, 0
    for tensor, shape in shapes.items():
        stop = start + 2 * prod(shape)
        tensors[tensor] = StoredTensor(shard, TensorEntry("BF16", shape, start, stop))
        start = stop
    return Checkpoint(name, "local", None, config, (shard,), tensors)


def _llama(name: str, size: Size, layers: int) -> Model:
    norms = dict.fromkeys(("input_layernorm", "post_attention_layernorm"), (size.hidden,))
    config = {
        "model_type": "llama",
        "hidden_size": size.hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
    }
    return Model(name, config, ((layers, size.shapes | norms),))


def _deepseek_v3() -> Model:
    """DeepSeek-V3 in bfloat16; the Hub's copy is in fp8, which is not read."""
    hidden, heads, nope, rope, value, inner = 7168, 128, 128, 64, 128, 2048
    attention: dict[str, tuple[int, ...]] = {
        "self_attn.q_a_proj": (1536, hidden),
        "self_attn.q_a_layernorm": (1536,),
        "self_attn.q_b_proj": (heads * (nope + rope), 1536),
        "self_attn.kv_a_proj_with_mqa": (512 + rope, hidden),
        "self_attn.kv_a_layernorm": (512,),
        "self_attn.kv_b_proj": (heads * (nope + value), 512),
        "self_attn.o_proj": (hidden, heads * value),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }

    def ffn(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
        shapes = {"gate_proj": (width, hidden), "up_proj": (width, hidden), "down_proj": (hidden, width)}
        return {f"mlp.{prefix}{name}": shape for name, shape in shapes.items()}

    experts = {
        name: shape for one in range(256) for name, shape in ffn(f"experts.{one}.", inner).items()
    } | ffn("shared_experts.", inner)
    config = {
        "model_type": "deepseek_v3",
        "hidden_size": hidden,
        "num_hidden_layers": 61,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "n_routed_experts": 256,
        "first_k_dense_replace": 3,
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "v_head_dim": value,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
    }
    layers = ((3, attention | ffn("", 18432)), (58, attention | experts | {"mlp.gate": (256, hidden)}))
    return Model("DeepSeek-V3 671B", config, layers)


MODELS = (
    _llama("Llama-3.1-8B", LLAMA_8B, 32),
    _llama("Llama-3.1-70B", Size(8192, 28672, 64, 8), 80),
    _llama("Llama-3.1-405B", Size(16384, 53248, 128, 8), 126),
    _deepseek_v3(),
)


def work_of(plan: AuditPlan) -> tuple[Work, int]:
    """All that a plan counts, and apart from its products the multiply-adds of eigenvectors."""
    total, eigen = Work(), 0
    for visit in plan.visits:
        work = plan.work(visit)
        own = sum(_eigenvectors(visit.layer, name) for name in visit.projections) if plan.options.full else 0
        experts = isinstance(visit.layer.slots.get(visit.projections[0]), ExpertSlots)
        total += (
            replace(work, double=work.double - own) if experts else replace(work, single=work.single - own)
        )
        eigen += own
    return total, eigen


def _eigenvectors(layer: LayerLayout, projection: Projection) -> int:
    place = layer.slots.get(projection)
    if isinstance(place, ExpertSlots):
        return EIGENVECTORS * (place.shape[0] if projection.facing == "u" else place.shape[1]) ** 3
    shapes = factors(layer, projection)
    return EIGENVECTORS * min(shapes[0][0], shapes[-1][1], shapes[0][1]) ** 3


def measured() -> Machine:
    """This machine's rates, all its cores together, one task a core."""
    cores = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as place:
        narrow = write_llama(Path(place) / "narrow", 32, NARROW)
        starts = median(_taken(narrow) for _ in range(3)) / (32 * 8)
        folder = write_llama(Path(place) / "wide", 4)
        stored = matrices(folder)
        nbytes = sum(one.nbytes for one in stored)
        warm = min(seconds(lambda: read_side_by_side(stored)) for _ in range(3))
        work = work_of(make_plan(open_checkpoint(str(folder)), AuditOptions()))[0]
        leading = median(_taken(folder) for _ in range(3)) - warm - work.matrices * starts
        drop_from_cache(folder)
        cold = seconds(lambda: read_side_by_side(stored))
    rates = measured_rates(torch.bfloat16, cores)
    return Machine(
        f"this machine, {cores} cores",
        disk=nbytes / cold,
        link=nbytes / warm,
        passed=work.passed / leading,
        single=rates.single,
        double=rates.double,
        eigen=EIGENVECTORS * EIGEN_SIZE**3 * cores / _eigenvectors_side_by_side(cores),
        matrices=1 / starts,
        overlaps=False,
    )


def _taken(folder: Path) -> float:
    return seconds(lambda: audit_model(str(folder)))


def _eigenvectors_side_by_side(cores: int) -> float:
    """Seconds in which each core takes the eigenvectors of a matrix of its own."""
    symmetric = torch.randn(EIGEN_SIZE, EIGEN_SIZE)
    symmetric = symmetric + symmetric.T
    return seconds(lambda: side_by_side(torch.linalg.eigh, [symmetric] * cores))


def print_rates(machines: Sequence[Machine]) -> None:
    """What is assumed of each machine."""
    parts = {
        "disk": ("disk, GB/s", 1e9),
        "link": ("page cache or link, GB/s", 1e9),
        "passed": ("passes, G weights/s", 1e9),
        "single": ("products in float32, TFLOP/s", 5e11),
        "double": ("products in float64, TFLOP/s", 5e11),
        "eigen": ("eigenvectors, TFLOP/s", 5e11),
        "matrices": ("matrices started", 1),
    }
    rows = [
        [said, *(f"{getattr(machine, name) / unit:,.3g}" for machine in machines)]
        for name, (said, unit) in parts.items()
    ]
    table(["a second of", *(machine.name for machine in machines)], rows)


def print_times(machines: Sequence[Machine]) -> None:
    """What each model takes to read, compute and hold."""
    sizes, times = [], []
    for model in MODELS:
        row = [model.name]
        for full in (False, True):
            plan = make_plan(model.checkpoint(), AuditOptions(full=full))
            work, eigen = work_of(plan)
            flops = 12 * work.passed + 2 * (work.single + work.double + eigen)
            sizes.append(
                [
                    f"{model.name}, {'--full' if full else 'leading'}",
                    f"{work.read / 1e9:,.0f} GB",
                    f"{work.passed / 1e9:,.0f} G",
                    f"{flops / 1e12:,.0f}",
                    f"{plan.memory_bytes(2) / 1e9:.1f} GB",
                ]
            )
            for machine in machines:
                taken, limit = machine.takes(work, eigen)
                row.append(f"{about(taken)} ({limit})")
        times.append(row)
    table(["", "to read", "weights passed", "TFLOP in all", "memory, 2 workers"], sizes)
    for word, start in (("leading", 1), ("--full", 1 + len(machines))):
        rows = [[row[0], *row[start : start + len(machines)]] for row in times]
        table([f"{word}: time (limit)", *(machine.name for machine in machines)], rows)


def about(taken: float) -> str:
    """Seconds with the two digits that a sum like this has."""
    for unit, size in (("s", 1), ("min", 60), ("h", 3600), ("days", 86400)):
        count = taken / size
        if count < 99.5 or unit == "days":
            break
    return f"{count:.2g} {unit}" if count < 10 else f"{count:.0f} {unit}"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="take the rates that docs/scale.md has")
    machine = RECORDED if parser.parse_args().quick else measured()
    print_rates((machine, H100, EIGHT))
    print_times((machine, H100, EIGHT))


if __name__ == "__main__":
    main()
