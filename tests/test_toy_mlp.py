"""The stacked MLP and its training, against torch.nn modules trained one by one, and numpy."""

from dataclasses import replace
from itertools import pairwise
from math import exp, tanh

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import CPU, THIN, images, named

from audit.train.ablations import ABLATIONS, BLIND, Ablation, Activation, NormPlace
from audit.train.loop import Batch, Run
from audit.train.measure import emergence, factorise_all, geometry, leaders_alignment, movement
from audit.train.mlp import ACTIVATIONS, Size, StackedMLP, initial
from audit.train.settings import Settings
from audit.train.trainer import config_of
from reports.training.pictures.threshold import predicted

SIZE = Size(inputs=9, width=12, depth=4, classes=3)
BY_NAME = {one.name: one for one in ABLATIONS}


class Radial(nn.Module):
    """As the notes write it."""

    def forward(self, x: Tensor) -> Tensor:
        norm = x.pow(2).sum(-1, keepdim=True).sqrt()
        return x * norm / (1 + norm)


class Partial(nn.Module):
    """ReLU on so many of the coordinates."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.arange(x.shape[-1]) < self.count
        return torch.where(mask, x.clamp(min=0), x)


class Plain(nn.Module):
    """The network of the paper, written with torch.nn alone."""

    MODULES = {  # noqa: RUF012 - never changed
        "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "none": nn.Identity,
        "radial": Radial,
    }  # fmt: skip

    def __init__(self, name: str, size: Size) -> None:
        super().__init__()
        self.residual = name.startswith(("res", "adam", "nonadaptive"))
        what = name.split("-")[1] if name.startswith(("res-", "nores-")) else "relu"
        partial = what == "partial"
        count = int(float(name.split("-")[2]) * size.width + 0.5) if partial else 0
        self.activation = Partial(count) if partial else self.MODULES[what]()
        self.embedding = nn.Linear(size.inputs, size.width)
        self.layers = nn.ModuleList(nn.Linear(size.width, size.width, bias=False) for _ in range(size.depth))
        self.norms = nn.ModuleList(nn.LayerNorm(size.width) for _ in self.layers) if "ln" in name else None
        self.head = nn.Linear(size.width, size.classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        for i, layer in enumerate(self.layers):
            branch = self.activation(layer(h))
            h = h + branch if self.residual else branch
            if self.norms is not None:
                h = self.norms[i](h)
        return self.head(h)

    def named(self) -> dict[str, nn.Parameter]:
        """Parameters by the names of a checkpoint."""
        return {
            name.replace("norms.", "layers.")
            .replace(".weight", ".norm.weight")
            .replace(".bias", ".norm.bias")
            if name.startswith("norms.")
            else name: one
            for name, one in self.named_parameters()
        }


def plain(name: str, parameters: dict[str, Tensor], size: Size = SIZE) -> Plain:
    net = Plain(name, size)
    own = net.named()
    assert own.keys() == parameters.keys()
    with torch.no_grad():
        for key, value in parameters.items():
            own[key].copy_(value)
    return net


@pytest.mark.parametrize("name", BY_NAME)
def test_logits_and_gradients_are_those_of_a_net_written_with_torch_nn(name: str) -> None:
    runs = [initial(BY_NAME[name], SIZE, seed) for seed in (0, 1, 2)]
    stacked = StackedMLP(BY_NAME[name], SIZE, runs)
    x = torch.randn(3, 5, SIZE.inputs, generator=torch.Generator().manual_seed(0))
    logits = stacked.logits(x)
    found = torch.autograd.grad(logits.square().sum(), tuple(stacked.parameters.values()))
    for r, parameters in enumerate(runs):
        net = plain(name, parameters)
        expected = net(x[r])
        assert torch.allclose(logits[r], expected, rtol=1e-4, atol=1e-6)
        expected.square().sum().backward()
        own = net.named()
        for key, gradient in zip(stacked.parameters, found, strict=True):
            wanted = own[key].grad
            assert wanted is not None
            given = gradient[r].T if wanted.dim() == 2 else gradient[r]
            assert torch.allclose(given, wanted, rtol=1e-3, atol=1e-6 * float(wanted.abs().max()) + 1e-30), (
                key
            )


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_partial_breaker_leaves_the_other_coordinates_free_to_rotate(share: float) -> None:
    """As an activation it commutes with rotations of what it passes by, and with no other."""
    ablation = replace(BY_NAME["res-relu"], share=share)
    size = Size(inputs=3, width=20, depth=1, classes=2)
    net = StackedMLP(ablation, size, [initial(ablation, size, 0)])
    count = round(share * 20)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 6, 20, generator=generator)
    free, whole = (
        torch.linalg.qr(torch.randn(side, side, generator=generator)).Q for side in (20 - count, 20)
    )
    turn = torch.block_diag(torch.eye(count), free)
    assert torch.allclose(net._activated(x @ turn), net._activated(x) @ turn, atol=1e-5)
    assert not torch.allclose(net._activated(x @ whole), net._activated(x) @ whole, atol=0.1)


def test_runs_from_before_there_were_shares_are_known_again() -> None:
    """config.json of a run that breaks all coordinates says nothing of shares, as it did before."""
    told = config_of(Run(BY_NAME["res-relu"], 0), images(), THIN)["ablation"]
    assert told.keys() == {"name", "residual", "activation", "norm", "eps", "init_std"}
    assert config_of(Run(BY_NAME["res-partial-0.25"], 0), images(), THIN)["ablation"]["share"] == 0.25


def rows_and_rotation(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    return torch.randn(5, 8, generator=generator, dtype=torch.float64), rotation


RADIAL = tuple(name for name in BLIND if name != "none")


@pytest.mark.parametrize("name", RADIAL)
@given(seed=st.integers(0, 1000), size=st.floats(1e-3, 1e3))
def test_radial_turns_with_its_input(name: Activation, seed: int, size: float) -> None:
    radial = ACTIVATIONS[name]
    x, rotation = rows_and_rotation(seed)
    x *= size
    assert torch.allclose(radial(x @ rotation.T), radial(x) @ rotation.T, rtol=1e-9, atol=1e-12 * size)


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("radial", 5 * 5 / 6),
        ("radial-sigmoid", 5 / (1 + exp(-5))),
        ("radial-tanh", 5 * tanh(5)),
        ("radial-unit", tanh(5)),
    ],
)
def test_a_radial_activation_changes_the_length_and_nothing_else(name: Activation, length: float) -> None:
    found = ACTIVATIONS[name](torch.tensor([[3.0, 4.0]]))
    assert found.tolist()[0] == pytest.approx([3 * length / 5, 4 * length / 5])
    assert ACTIVATIONS[name](torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "tanh"])
def test_the_other_activations_do_not(name: Activation) -> None:
    x, rotation = rows_and_rotation(0)
    apart = ACTIVATIONS[name](x @ rotation.T) - ACTIVATIONS[name](x) @ rotation.T
    assert float(apart.norm() / x.norm()) > 0.05


def test_weights_start_as_torch_starts_a_linear_layer() -> None:
    size = Size(784, 256, 2, 10)
    drawn = initial(BY_NAME["res-relu"], size, 0)
    torch.manual_seed(0)
    for name, layer in {
        "embedding": nn.Linear(784, 256), "layers.0": nn.Linear(256, 256), "head": nn.Linear(256, 10)
    }.items():  # fmt: skip
        for kind in ("weight", "bias"):
            ours, theirs = drawn.get(f"{name}.{kind}"), getattr(layer, kind).detach()
            if ours is None:
                continue
            assert ours.shape == theirs.shape
            assert float(ours.abs().max()) <= layer.in_features**-0.5
            assert float(ours.std()) == pytest.approx(
                float(theirs.std()), rel=0.5 if len(ours) == 10 else 0.1
            )


def test_an_initial_deviation_holds_for_every_matrix() -> None:
    size = Size(784, 256, 2, 10)
    drawn = initial(BY_NAME["nonadaptive-init-0.001"], size, 0)
    matrices = [one for one in drawn.values() if one.dim() == 2]
    assert len(matrices) == 4
    assert [float(one.std()) for one in matrices] == pytest.approx([0.001] * 4, rel=0.05)


def test_an_initial_deviation_may_be_the_hidden_layers_alone() -> None:
    size = Size(784, 256, 2, 10)
    ablation = replace(BY_NAME["nonadaptive-init-0.001"], init_of="hidden")
    drawn = initial(ablation, size, 0)
    usual = 1 / np.sqrt(3)  # of U(-1, 1)
    wanted = {
        "embedding.weight": usual / 28, "head.weight": usual / 16, "layers.0.weight": 0.001,
        "layers.1.weight": 0.001,
    }  # fmt: skip
    for name, deviation in wanted.items():
        assert float(drawn[name].std()) == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("place", ["plain", "input", "inner", "branch", "head"])
def test_layernorm_stands_where_it_is_read_to(place: NormPlace, activation: Activation) -> None:
    """Against the formulas of the readings, written out with means and deviations."""
    ablation = Ablation("some", "", activation=activation, norm=True, norm_place=place)
    generator = torch.Generator().manual_seed(3)
    parameters = {
        name: one + 0.1 * torch.randn(one.shape, generator=generator)
        for name, one in initial(ablation, SIZE, 0).items()
    }
    act = torch.relu if activation == "relu" else torch.clone

    def norm(h: Tensor, name: str) -> Tensor:
        centred = h - h.mean(-1, keepdim=True)
        h = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        gain, bias = parameters.get(f"{name}.weight"), parameters.get(f"{name}.bias")
        return h if gain is None or bias is None else h * gain + bias

    x = torch.randn(1, 5, SIZE.inputs, generator=generator)
    h = x[0] @ parameters["embedding.weight"].T + parameters["embedding.bias"]
    for layer in range(SIZE.depth):
        w, name = parameters[f"layers.{layer}.weight"].T, f"layers.{layer}.norm"
        h = {
            "plain": lambda h, w, n: norm(h + act(h @ w), n),
            "input": lambda h, w, n: h + act(norm(h, n) @ w),
            "inner": lambda h, w, n: h + act(norm(h @ w, n)),
            "branch": lambda h, w, n: h + norm(act(h @ w), n),
            "head": lambda h, w, _: h + act(h @ w),
        }[place](h, w, name)
    if place == "head":
        h = norm(h, "head.norm")
    wanted = h @ parameters["head.weight"].T + parameters["head.bias"]
    found = StackedMLP(ablation, SIZE, [parameters]).logits(x)[0]
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    gains = [name for name in parameters if name.endswith("norm.weight")]
    assert len(gains) == {"plain": 0, "head": 1}.get(place, SIZE.depth)


def test_seeds_differ_and_each_is_the_same_again() -> None:
    first, again, other = (initial(BY_NAME["res-none-ln"], SIZE, seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


OTHER_DECAYS = replace(BY_NAME["res-relu"], beta1=0.5, beta2=0.9)


@pytest.mark.parametrize("ablation", [*ABLATIONS, OTHER_DECAYS], ids=[*BY_NAME, "other decays"])
def test_training_is_that_of_a_plain_loop(ablation: Ablation) -> None:
    """One epoch against torch.nn and torch.optim.Adam, with the sums of gradients written out."""
    name = ablation.name
    data, run = images(), Run(ablation, 1)
    batch = Batch([Run(ablation, 0), run], data, THIN, CPU)
    order = batch._order(0)[1]
    net = plain(name, initial(ablation, SIZE, 1))
    optimiser = torch.optim.Adam(
        net.parameters(),
        lr=THIN.lr,
        betas=(ablation.beta1, ablation.beta2),
        eps=1.0 if "nonadaptive" in name else 1e-8,
    )
    x, y = data.train(CPU)
    total, average, losses = 0.0, 0.0, []
    for step in range(len(x) // THIN.batch_size):
        rows = order[step * THIN.batch_size : (step + 1) * THIN.batch_size]
        loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        gradient = net.layers[2].weight.grad.clone()
        total, average = total + gradient, 0.9 * average + 0.1 * gradient
        losses.append(float(loss.detach()))
    found = batch.train_epoch()
    assert found is not None
    assert found[1]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    state, network = batch.states()[1], batch.networks()[1]
    scale = {key: float(one.detach().abs().max()) for key, one in net.named().items()}
    for key, wanted in net.named().items():
        assert torch.allclose(network[key], wanted, rtol=1e-2, atol=2e-3 * scale[key]), key
    for key, wanted in {"gradient.2": gradient, "sum.2": total, "average.0.9.2": average}.items():
        assert torch.allclose(state[key].T, wanted, rtol=1e-2, atol=1e-3 * float(wanted.abs().max())), key
    right = (net(data.test(CPU)[0]).argmax(-1) == data.test(CPU)[1]).float().mean()
    assert found[1]["acc"] == pytest.approx(float(right), abs=0.05)


def test_each_epoch_and_each_seed_has_its_own_order() -> None:
    batch = Batch([Run(BY_NAME["res-relu"], seed) for seed in (0, 1)], images(), THIN, CPU)
    first, second = batch._order(0), batch._order(1)
    rows = [*first, *second]
    assert all(torch.equal(row.sort().values, torch.arange(100)) for row in rows)
    assert len({tuple(row.tolist()) for row in rows}) == 4
    assert torch.equal(batch._order(1), second)


@pytest.mark.parametrize("name", ["res-relu", "res-none-ln", "nores-gelu", "res-radial"])
def test_a_batch_gives_each_run_what_it_has_alone(name: str) -> None:
    seeds = (0, 1, 2)
    together = Batch([Run(BY_NAME[name], seed) for seed in seeds], images(), THIN, CPU)
    found = together.train_epoch()
    assert found is not None
    for seed, values in zip(seeds, found, strict=True):
        alone = Batch([Run(BY_NAME[name], seed)], images(), THIN, CPU)
        expected = alone.train_epoch()
        assert expected is not None
        assert values["loss"] == pytest.approx(expected[0]["loss"], rel=1e-4)
        assert values["W_v1"] == pytest.approx(expected[0]["W_v1"], abs=2e-3)
        for key, parameter in alone.networks()[0].items():
            apart = float((together.networks()[seed][key] - parameter).abs().max())
            assert apart <= 2e-3 * float(parameter.abs().max()), key


def test_runs_that_start_otherwise_share_a_batch() -> None:
    ablations = named("adam-nonadaptive", "nonadaptive-init-0.005")
    batch = Batch([Run(one, 0) for one in ablations], images(), THIN, CPU)
    start = batch.networks()
    assert float(start[0]["layers.0.weight"].std()) > 10 * float(start[1]["layers.0.weight"].std())


def test_other_architectures_do_not() -> None:
    with pytest.raises(ValueError, match="one architecture"):
        Batch([Run(one, 0) for one in named("res-relu", "res-none")], images(), THIN, CPU)


@pytest.mark.parametrize("name", ["res-relu", "res-tanh", "res-none", "nores-relu"])
def test_one_batch_of_images_is_learnt_by_heart(name: str) -> None:
    few = replace(THIN, batch_size=16, lr=1e-2, width=24)
    batch = Batch([Run(BY_NAME[name], 0)], images(count=16), few, CPU)
    loss = [float(batch._step(batch._order(0))) for _ in range(150)]
    assert loss[0] > 0.5
    assert min(loss) < 0.05


def test_a_run_that_diverges_is_told_and_spares_the_others() -> None:
    wild = Ablation("wild", "", eps=1e-8, init_std=1e25)
    tame = Batch([Run(BY_NAME["res-relu"], 0)], images(), THIN, CPU).train_epoch()
    both = Batch([Run(wild, 0), Run(BY_NAME["res-relu"], 0)], images(), THIN, CPU).train_epoch()
    assert tame is not None
    assert both is not None
    assert both[0]["loss"] is None
    assert both[0]["W_v1"] is None
    assert both[1]["loss"] == pytest.approx(tame[0]["loss"], rel=1e-4)


def test_before_the_first_update_the_weights_are_random_and_the_gradient_is_not() -> None:
    settings = Settings(width=64, depth=8, batch_size=64)
    first = Batch([Run(BY_NAME["res-relu"], 0)], images(400, 64), settings, CPU).first_backward()[0]
    assert first["epoch"] == 0
    assert first["dW_ratio"] == 0
    assert first["W_v1"] is not None
    assert first["G_v1"] is not None
    assert first["W_v1"] < 0.3 < 0.7 < first["G_v1"]


# ------------------------------------------------------------------------------------------------- measures


def reference(layers: list[np.ndarray]) -> dict[str, float]:
    """Continuity by float64 LAPACK, formulas written out."""
    found: dict[str, float] = {}
    parts = [np.linalg.svd(one.astype(np.float64)) for one in layers]
    for space, side in (("v", [p[2] for p in parts]), ("u", [p[0].T for p in parts])):
        for i in (0, 1):
            found[f"{space}{i + 1}"] = float(np.mean([abs(a[i] @ b[i]) for a, b in pairwise(side)]))
        weighted = [
            float((p[1] ** 2 / (p[1] ** 2).sum()) @ np.abs((a * b).sum(1)))
            for p, (a, b) in zip(parts, pairwise(side), strict=False)
        ]
        found[f"wa_{space}"] = float(np.mean(weighted))
    shares = [p[1] ** 2 / (p[1] ** 2).sum() for p in parts]
    found["erank"] = float(np.mean([np.exp(-(s[s > 0] * np.log(s[s > 0])).sum()) for s in shares]))
    return found


@pytest.mark.parametrize("width", [16, 400])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e15])
def test_geometry_is_what_lapack_says(width: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(width, width, generator=generator)
    layers = [(common + torch.randn(width, width, generator=generator)) * scale for _ in range(3)]
    found = geometry(factorise_all(layers), "W")
    assert found == pytest.approx(
        {f"W_{key}": value for key, value in reference([one.numpy() for one in layers]).items()},
        abs=1e-4,
        rel=1e-5,
    )


def test_a_gradient_of_rank_one_has_no_second_direction() -> None:
    layers = [torch.outer(torch.arange(1.0, 5.0), torch.ones(4)) for _ in range(3)]
    found = geometry(factorise_all(layers), "G")
    assert found["G_v1"] == pytest.approx(1)
    assert found["G_v2"] is None
    assert found["G_erank"] == pytest.approx(1)


@pytest.mark.parametrize("bad", [torch.zeros(4, 4), torch.full((4, 4), float("nan"))])
def test_what_cannot_be_factorised_has_no_geometry(bad: Tensor) -> None:
    found = geometry(factorise_all([torch.eye(4) + torch.ones(4, 4), bad]), "G")
    assert set(found.values()) == {None}
    assert found.keys() == geometry(factorise_all([torch.randn(4, 4)] * 2), "G").keys()


def test_leaders_of_two_matrices_of_a_layer_are_compared() -> None:
    first = [torch.diag(torch.tensor([3.0, 1.0]))] * 2
    other = [torch.diag(torch.tensor([5.0, 2.0])), torch.diag(torch.tensor([2.0, 5.0]))]
    found = leaders_alignment(factorise_all(first), factorise_all(other), "ema_0")
    assert found == pytest.approx({"ema_0_v1": 0.5, "ema_0_u1": 0.5})


def test_movement_is_relative_to_the_start() -> None:
    start = [torch.eye(4), torch.eye(4) * 2]
    assert movement([one * 1.5 for one in start], start) == pytest.approx({"dW_ratio": 0.5})


def test_an_update_is_measured_against_the_noise_that_it_is_added_to() -> None:
    """Strength, overlap and continuity by float64 LAPACK."""
    generator = torch.Generator().manual_seed(5)
    start = [torch.randn(30, 20, generator=generator) * 0.1 for _ in range(3)]
    common = torch.outer(torch.randn(30, generator=generator), torch.randn(20, generator=generator)) / 40
    updates = [common + torch.randn(30, 20, generator=generator) * 0.01 for _ in start]
    now = [w0 + update for w0, update in zip(start, updates, strict=True)]
    found = emergence(factorise_all(now), now, start)
    whole, moved = (
        [np.linalg.svd(one.numpy().astype(np.float64)) for one in matrices] for matrices in (now, updates)
    )
    strength = [
        svd[1][0] / (np.sqrt((w0.numpy().astype(np.float64) ** 2).mean()) * (30 * 20) ** 0.25)
        for svd, w0 in zip(moved, start, strict=True)
    ]
    assert found["spike"] == pytest.approx(float(np.mean(strength)), rel=1e-5)
    for vector, of in (("v1", lambda svd: svd[2][0]), ("u1", lambda svd: svd[0][:, 0])):
        kept = [abs(of(a) @ of(b)) for a, b in zip(whole, moved, strict=True)]
        along = [abs(of(a) @ of(b)) for a, b in pairwise(moved)]
        assert found[f"kept_{vector}"] == pytest.approx(float(np.mean(kept)), abs=1e-5)
        assert found[f"dW_{vector}"] == pytest.approx(float(np.mean(along)), abs=1e-5)


def test_weights_that_have_not_moved_show_no_update() -> None:
    start = [torch.randn(4, 4, generator=torch.Generator().manual_seed(1))] * 2
    found = emergence(factorise_all(start), start, start)
    assert set(found.values()) == {None}
    assert {"spike", "kept_v1", "kept_u1", "dW_v1", "dW_wa_u"} <= found.keys()


@pytest.mark.parametrize("strength", [0.5, 1.5, 3.0])
def test_a_spike_is_seen_as_random_matrix_theory_says(strength: float) -> None:
    """Of rank one, planted in noise: not below a strength of 1, above it by sqrt(1 - 1 / strength^2)."""
    side, deviation = 800, 0.3
    generator = torch.Generator().manual_seed(11)
    unit = [torch.nn.functional.normalize(torch.randn(side, generator=generator), dim=0) for _ in range(2)]
    update = torch.outer(unit[0], unit[1]) * strength * deviation * side**0.5
    start = [torch.randn(side, side, generator=generator) * deviation for _ in range(2)]
    now = [w0 + update for w0 in start]
    found = emergence(factorise_all(now), now, start)
    assert found["spike"] == pytest.approx(strength, rel=0.01)
    assert found["kept_v1"] == pytest.approx(predicted(strength), abs=0.15 if strength < 1 else 0.05)
