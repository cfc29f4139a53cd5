"""Train a batch of runs, all of one architecture, in one program, and measure each as it goes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from audit.train.ablations import Ablation
from audit.train.graph import Graphed
from audit.train.images import Images
from audit.train.measure import (
    emergence,
    factorise_all,
    geometry,
    leaders_alignment,
    movement,
    transfer,
)
from audit.train.mlp import Size, StackedMLP, hidden, initial, turned
from audit.train.settings import Settings
from audit.train.values import State, Values

TEST_ROWS = 1000
"""Test images that go through the networks at a time."""


@dataclass(frozen=True)
class Run:
    """One network to train: an ablation and a seed."""

    ablation: Ablation
    seed: int

    @property
    def name(self) -> str:
        """`res-relu-0`: the name of its folder."""
        return f"{self.ablation.name}-{self.seed}"


class Batch:
    """Runs of one architecture, trained together; each one's numbers are those it has alone.

    They agree to float tolerance; the same batch on the same CPU gives the same bits.
    """

    def __init__(self, runs: Sequence[Run], data: Images, settings: Settings, device: torch.device) -> None:
        """Raises ValueError for runs of more than one architecture or optimiser."""
        if len({run.ablation.program for run in runs}) != 1:
            raise ValueError("a batch has one architecture and one optimiser")
        self.runs = tuple(runs)
        self.epoch = 0
        self._settings = settings
        self._device = device
        self._x, self._y = data.train(device)
        self._test = data.test(device)
        self._size = Size(data.inputs, settings.width, settings.depth, data.classes)
        self._start = [initial(run.ablation, self._size, run.seed) for run in runs]
        ablation = runs[0].ablation
        moved = [{name: one.to(device) for name, one in start.items()} for start in self._start]
        self.mlp = StackedMLP(ablation, self._size, moved)
        self._optimiser = torch.optim.Adam(
            self.mlp.parameters.values(),
            lr=settings.lr,
            betas=(ablation.beta1, ablation.beta2),
            eps=ablation.eps,
            fused=device.type != "mps",
            capturable=device.type == "cuda",
        )
        self._advance = Graphed(self._step) if device.type == "cuda" else self._step
        shape = (len(runs), settings.width, settings.width)
        layers = range(settings.depth)
        self._gradient = [torch.zeros(shape, device=device) for _ in layers]
        self._sum = [torch.zeros(shape, device=device) for _ in layers]
        self._average = {beta: [torch.zeros(shape, device=device) for _ in layers] for beta in settings.betas}

    @property
    def steps(self) -> int:
        """Minibatches an epoch; what is left of the images and fills none is left out of that epoch."""
        return len(self._x) // self._settings.batch_size

    def first_backward(self) -> list[Values]:
        """Each run measured before any update: its weights, and the gradient of its first minibatch."""
        order = self._order(0)
        _, gradients = self._backward(order[:, : self._settings.batch_size])
        found = [gradients[hidden(layer)] for layer in range(self._size.depth)]
        return [self._measure(r, found, None) | {"epoch": 0} for r in range(len(self.runs))]

    def train_epoch(self, on_step: Callable[[], bool] = lambda: True) -> list[Values] | None:
        """Go once through the training images; what is measured of each run at the end.

        A run whose loss is no longer finite has None for all that cannot be measured. `on_step` is called
        after every step; where it says no, the epoch is given up, and None comes back.
        """
        order = self._order(self.epoch)
        total = torch.zeros(len(self.runs), device=self._device)
        for step in range(self.steps):
            start = step * self._settings.batch_size
            total += self._advance(order[:, start : start + self._settings.batch_size])
            if not on_step():
                return None
        self.epoch += 1
        accuracy, test_loss = self._tested()
        return [
            {
                "epoch": self.epoch,
                "acc": float(accuracy[r]),
                "loss": _finite(total[r] / self.steps),
                "test_loss": _finite(test_loss[r]),
            }
            | self._measure(r, self._gradient, self._sum)
            for r in range(len(self.runs))
        ]

    def states(self) -> list[State]:
        """Each run's state, on the CPU: parameters, Adam's moments, sums and averages of gradients."""
        return [
            {name: tensor[r].detach().cpu().clone() for name, tensor in self._stacks()}
            for r in range(len(self.runs))
        ]

    def restore(self, states: Sequence[Mapping[str, Tensor]], epoch: int) -> None:
        """Go on from the states after an epoch."""
        for parameter in self.mlp.parameters.values():
            self._optimiser.state[parameter] = {
                "step": torch.tensor(float(epoch * self.steps), device=_step_device(self._device)),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        with torch.no_grad():
            for name, tensor in self._stacks():
                tensor.copy_(torch.stack([state[name] for state in states]))
        self.epoch = epoch

    def networks(self) -> list[State]:
        """Each run's parameters, as its checkpoint has them."""
        return [
            {name: turned(stack[r].detach().cpu()).clone() for name, stack in self.mlp.parameters.items()}
            for r in range(len(self.runs))
        ]

    def _stacks(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.mlp.parameters.items():
            yield name, parameter
            for moment in ("exp_avg", "exp_avg_sq"):
                yield f"{moment}.{name}", self._optimiser.state[parameter][moment]
        kept = {"gradient": self._gradient, "sum": self._sum}
        kept |= {f"average.{beta}": averages for beta, averages in self._average.items()}
        for name, layers in kept.items():
            for layer, tensor in enumerate(layers):
                yield f"{name}.{layer}", tensor

    def _order(self, epoch: int) -> Tensor:
        """The order in which each run sees the images in an epoch, [R, N]: from its seed and the epoch."""
        rows = []
        for run in self.runs:
            generator = torch.Generator().manual_seed(run.seed * 1_000_003 + epoch + 1)
            rows.append(torch.randperm(len(self._x), generator=generator))
        return torch.stack(rows).to(self._device)

    def _backward(self, chosen: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of each run over its minibatch [R], and the gradient of each parameter."""
        runs, rows = chosen.shape
        logits = self.mlp.logits(self._x[chosen])
        losses = F.cross_entropy(logits.flatten(0, 1), self._y[chosen].flatten(), reduction="none")
        loss = losses.view(runs, rows).mean(dim=1)
        gradients = torch.autograd.grad(loss.sum(), tuple(self.mlp.parameters.values()))
        return loss.detach(), dict(zip(self.mlp.parameters, gradients, strict=True))

    def _step(self, chosen: Tensor) -> Tensor:
        loss, gradients = self._backward(chosen)
        for name, parameter in self.mlp.parameters.items():
            parameter.grad = gradients[name]
        self._optimiser.step()
        for layer in range(self._size.depth):
            gradient = self._gradient[layer] = gradients[hidden(layer)]
            self._sum[layer].add_(gradient)
            for beta, average in self._average.items():
                average[layer].lerp_(gradient, 1 - beta)
        return loss

    def _tested(self) -> tuple[Tensor, Tensor]:
        """Accuracy and mean loss of each run on the test images, [R] each."""
        x, y = self._test
        right = torch.zeros(len(self.runs), device=self._device)
        loss = torch.zeros(len(self.runs), device=self._device)
        with torch.no_grad():
            for rows, labels in zip(torch.split(x, TEST_ROWS), torch.split(y, TEST_ROWS), strict=True):
                logits = self.mlp.logits(rows.expand(len(self.runs), -1, -1))
                right += (logits.argmax(dim=-1) == labels).sum(dim=-1)
                wanted = labels.expand(len(self.runs), -1)
                losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
                loss += losses.view(len(self.runs), -1).sum(dim=1)
        return right / len(y), loss / len(y)

    def _measure(self, r: int, gradient: Sequence[Tensor], total: Sequence[Tensor] | None) -> Values:
        def of(stacks: Sequence[Tensor]) -> list[Tensor]:
            return [turned(stack[r].detach().cpu()) for stack in stacks]

        now = of(self.mlp.weights)
        weights = factorise_all(now)
        single = factorise_all(of(gradient))
        values = geometry(weights, "W") | geometry(single, "G")
        start = [self._start[r][hidden(layer)] for layer in range(self._size.depth)]
        values |= movement(now, start) | emergence(weights, now, start)
        values |= leaders_alignment(weights, single, "ema_0")
        if total is not None:
            summed = factorise_all(of(total))
            values |= geometry(summed, "Gcum") | leaders_alignment(weights, summed, "ema_1")
            values |= transfer(values)
            for beta, average in self._average.items():
                values |= leaders_alignment(weights, factorise_all(of(average)), f"ema_{beta}")
        return values


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(torch.isfinite(value)) else None


def _step_device(device: torch.device) -> torch.device:
    return device if device.type == "cuda" else torch.device("cpu")
