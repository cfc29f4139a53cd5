"""What a plan says of the work against the work itself: bytes, passes over the weights, products."""

import re
from pathlib import Path

import pytest
import torch
from checkpoints import SHAPES, llama_config, write_checkpoint
from torch.utils.flop_counter import FlopCounterMode

from audit.checkpoint import open_checkpoint
from audit.cost import EIGENVECTORS, Rates, Work, computing, measured_rates
from audit.linear_map import Dense
from audit.options import AuditOptions
from audit.pipeline import Pipeline
from audit.plan import AuditPlan, Visit, make_plan
from audit.svd import factorise
from registry import ExpertSlots, LayerLayout, Projection, Slot

CPU = torch.device("cpu")


def plan_of(folder: Path, **options: object) -> AuditPlan:
    return make_plan(open_checkpoint(str(folder)), AuditOptions(**options))  # type: ignore[arg-type]


def write_wide(folder: Path, hidden: int, ffn: int, dtype: torch.dtype = torch.float32) -> Path:
    """One layer whose singular values fall off as slowly as those of trained weights."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in SHAPES.items():
        out, in_ = ({24: ffn, 16: hidden, 8: hidden // 2}[side] for side in shape)
        short = min(out, in_)
        u, v = (torch.linalg.qr(torch.randn(side, short, generator=generator)).Q for side in (out, in_))
        weight = (u * (torch.arange(short) + 1.0) ** -0.2) @ v.T
        tensors[f"model.layers.0.{name}.weight"] = weight.to(dtype)
    return write_checkpoint(folder, tensors, llama_config(1, hidden_size=hidden, intermediate_size=ffn))


def write_experts(folder: Path, count: int) -> Path:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"model.layers.0.mlp.experts.{expert}.{name}.weight": torch.randn(*shape, generator=generator)
        for expert in range(count)
        for name, shape in (("gate_proj", (24, 16)), ("up_proj", (24, 16)), ("down_proj", (16, 24)))
    }
    return write_checkpoint(folder, tensors, llama_config(1, model_type="deepseek_v3", v_head_dim=4))


@pytest.mark.parametrize("full", [False, True])
def test_bytes_are_those_that_are_read(llama, full):
    plan = plan_of(llama, full=full)
    pipeline = Pipeline(plan, CPU)
    list(pipeline.measure(plan.tasks, {}))
    assert sum(plan.work(visit).read for visit in plan.visits) == plan.bytes_to_read == pipeline.bytes_read


def test_experts_are_read_three_times_with_full(tmp_path):
    plan = plan_of(write_experts(tmp_path / "m", 5), full=True, only="gate,down")
    pipeline = Pipeline(plan, CPU)
    list(pipeline.measure(plan.tasks, {}))
    assert plan.bytes_to_read == pipeline.bytes_read == 3 * 5 * 2 * 4 * 24 * 16


def test_passes_are_about_those_that_are_made(tmp_path, monkeypatch):
    plan = plan_of(write_wide(tmp_path / "m", hidden=512, ffn=2560), only="q,k,o,gate,up,down")
    passed = 0
    gram = Dense.gram

    def counted(self: Dense, rows: torch.Tensor) -> object:
        nonlocal passed
        passed += self.weight.numel()
        return gram(self, rows)

    monkeypatch.setattr(Dense, "gram", counted)
    list(Pipeline(plan, CPU, workers=1).measure(plan.tasks, {}))
    stated = sum(plan.work(visit).passed for visit in plan.visits)
    assert 0.5 < stated / passed < 2


@pytest.mark.parametrize("shape", [(2560, 512), (512, 2560), (1100, 1100)])
def test_products_of_the_exact_path_are_about_those_that_are_made(shape):
    layer = LayerLayout(0, {Projection.Q: Slot("w", shape, "out_in")}, {})
    stated = computing(layer, Projection.Q, full=True).single - EIGENVECTORS * min(shape) ** 3
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        factorise(Dense(weight))
    assert stated == pytest.approx(counter.get_total_flops() / 2, rel=0.1)


def test_products_with_an_expert_stack_are_those_of_its_gram_matrix():
    slots = tuple(Slot(str(i), (24, 16), "out_in") for i in range(5))
    layer = LayerLayout(0, {Projection.UP: ExpertSlots((5 * 24, 16), slots)}, {})
    stated = computing(layer, Projection.UP, full=True).double - EIGENVECTORS * 16**3
    assert stated == 5 * 24 * 16**2


def test_more_work_costs_more(tmp_path):
    plan = plan_of(write_wide(tmp_path / "m", hidden=64, ffn=256), full=True)
    cost = {visit.projections[0].value: plan.cost(visit) for visit in plan.visits}
    assert cost["K"] < cost["Q"] < cost["Down"]
    leading = plan_of(tmp_path / "m")
    [visit] = leading.visits
    parts = [leading.cost(Visit(None, visit.layer, (one,))) for one in visit.projections]
    assert max(parts) < leading.cost(visit) <= sum(parts)


@pytest.mark.parametrize("full", [False, True])
def test_each_expert_costs_its_share(tmp_path, full):
    few, many = (plan_of(write_experts(tmp_path / str(n), n), full=full) for n in (4, 16))
    costs = [sum(map(plan.cost, plan.visits)) for plan in (few, many)]
    assert 2 < costs[1] / costs[0] <= 4.01
    assert many.multiply_adds > 3 * few.multiply_adds > 0


def test_a_plan_of_experts_does_not_take_no_time(cli, tmp_path):
    """Each expert is iterated on by itself, which takes its milliseconds however small it is."""
    text = cli("plan", write_experts(tmp_path / "m", 64), "--only", "gate").stdout
    told = re.search(r"^compute   about (\d+\.\d) s on this machine's CPU, 1 worker at a time$", text, re.M)
    assert told, text
    assert float(told[1]) >= 0.5


@pytest.mark.parametrize("workers", [1, 2])
def test_rates_are_measured(workers):
    rates = measured_rates(torch.bfloat16, workers)
    assert rates.passed > 1e7
    assert rates.single > 1e8
    assert rates.double > 1e8
    assert rates.single > rates.double / 2


def test_seconds_are_work_over_rate():
    rates = Rates(read=2, passed=4, single=8, double=16, matrices=32)
    assert rates.computing(Work(read=99, passed=4, single=16, double=48, matrices=128)) == 1 + 2 + 3 + 4
    assert rates.seconds(Work(read=99, passed=4)) == 49.5 + 1
    assert Work(1, 2, 3, 4, 5) + Work(10, 20, 30, 40, 50) == Work(11, 22, 33, 44, 55)
