"""How fast `gcont-audit train` trains: against the loop that one would write with torch.nn.

Run: .venv/bin/python tests/benchmarks/train_speed.py [--steps N] [--runs N] [--device cuda]

Three seeds of the baseline at the paper's size, on random images of MNIST's shape, a number of steps each;
medians and ratios of this one run, with all cores. The plain loop trains a torch.nn.Module with
torch.optim.Adam, one seed after the other; its second row also keeps the sum and the three averages of
gradients that the experiments need, as ours always does. Measuring (once an epoch) is told apart.
"""

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

import numpy as np
import torch
from stopwatch import in_turn, seconds, table, told
from torch import nn

from audit.threads import threads
from audit.train.ablations import ablation
from audit.train.images import Images
from audit.train.loop import Batch, Run
from audit.train.settings import Settings
from registry.experiments import published_tables

SEEDS = 3
STEPS_IN_ALL = 468 * 20
TURN = 10


class Plain(nn.Module):
    """Res+ReLU as one would write it."""

    def __init__(self, settings: Settings) -> None:
        """Initialised by PyTorch's defaults."""
        super().__init__()
        self.embedding = nn.Linear(784, settings.width)
        self.layers = nn.ModuleList(
            nn.Linear(settings.width, settings.width, bias=False) for _ in range(settings.depth)
        )
        self.head = nn.Linear(settings.width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 784] to logits [B, 10]."""
        h = self.embedding(x)
        for layer in self.layers:
            h = h + torch.relu(layer(h))
        return self.head(h)


def plain_loop(
    data: Images, settings: Settings, device: torch.device, steps: int, *, sums: bool
) -> Callable[[], None]:
    """Trains the seeds one after the other."""
    x, y = data.train(device)

    def train() -> None:
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            net = Plain(settings).to(device)
            optimiser = torch.optim.Adam(net.parameters(), lr=settings.lr)
            total = [torch.zeros_like(layer.weight) for layer in net.layers]
            averages = {beta: [torch.zeros_like(one) for one in total] for beta in settings.betas}
            order = torch.randperm(len(x))
            for step in range(steps):
                rows = order[step * settings.batch_size : (step + 1) * settings.batch_size].to(device)
                loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if sums:
                    with torch.no_grad():
                        for i, layer in enumerate(net.layers):
                            total[i] += layer.weight.grad
                            for beta, average in averages.items():
                                average[i].mul_(beta).add_(layer.weight.grad, alpha=1 - beta)
        _wait(device)

    return train


def products_alone(settings: Settings, steps: int) -> Callable[[], None]:
    """The matrix products of as many steps and nothing else, on operands that stay in the cache."""
    rows, width, cores = settings.batch_size, settings.width, torch.get_num_threads()
    x, h = torch.randn(rows, 784), torch.randn(rows, width)
    embedding, weight = torch.randn(784, width), torch.randn(width, width)

    def work() -> None:
        torch.set_num_threads(1)
        for _ in range(steps * SEEDS // cores):
            torch.mm(x, embedding), torch.mm(x.T, h)
            for _ in range(settings.depth):
                torch.mm(h, weight), torch.mm(h, weight.T), torch.mm(h.T, h)

    return lambda: _on_every_core(work)


def batched(data: Images, settings: Settings, device: torch.device, steps: int) -> Callable[[], None]:
    """Trains the seeds together."""

    def train() -> None:
        batch = Batch([Run(ablation("res-relu"), seed) for seed in range(SEEDS)], data, settings, device)
        order = batch._order(0)
        for step in range(steps):
            batch._advance(order[:, step * settings.batch_size : (step + 1) * settings.batch_size])
        _wait(device)

    return train


def side_by_side(data: Images, settings: Settings, device: torch.device, steps: int) -> Callable[[], None]:
    """Trains each seed as a batch of its own, a core each, in turns, as the trainer does on a CPU."""

    def train() -> None:
        turns: SimpleQueue[tuple[Batch, torch.Tensor, int]] = SimpleQueue()
        for seed in range(SEEDS):
            batch = Batch([Run(ablation("res-relu"), seed)], data, settings, device)
            turns.put((batch, batch._order(0), 0))

        def work() -> None:
            torch.set_num_threads(1)
            with suppress(Empty):
                while True:
                    batch, order, done = turns.get_nowait()
                    for step in range(done, done + TURN):
                        batch._advance(
                            order[:, step * settings.batch_size : (step + 1) * settings.batch_size]
                        )
                    if done + TURN < steps:
                        turns.put((batch, order, done + TURN))

        _on_every_core(work)

    return train


def _on_every_core(work: Callable[[], None]) -> None:
    cores = torch.get_num_threads()
    crew = [Thread(target=work) for _ in range(cores)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    torch.set_num_threads(cores)


def measuring(data: Images, settings: Settings, device: torch.device) -> float:
    """Seconds that it takes to measure one run after an epoch, on one core."""
    batch = Batch([Run(ablation("res-relu"), 0)], data, settings, device)
    batch._advance(batch._order(0)[:, : settings.batch_size])
    with threads(1):
        return min(seconds(lambda: batch._measure(0, batch._gradient, batch._sum)) for _ in range(3))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    device, settings = torch.device(asked.device), Settings()
    generator = np.random.default_rng(0)
    rows = asked.steps * settings.batch_size
    data = Images(
        "random",
        generator.integers(0, 256, (rows, 784), dtype=np.uint8),
        generator.integers(0, 10, rows),
        generator.integers(0, 256, (1000, 784), dtype=np.uint8),
        generator.integers(0, 10, 1000),
    )
    common = (data, settings, device, asked.steps)
    times = in_turn(
        {
            "plain loop, nothing summed": plain_loop(*common, sums=False),
            "plain loop": plain_loop(*common, sums=True),
            "ours, three seeds in a batch": batched(*common),
            "ours, three seeds side by side": side_by_side(*common),
            "the matrix products alone, a core each": products_alone(settings, asked.steps),
        },
        asked.runs,
    )
    print(f"load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads, {device}\n")
    each = {name: t / (asked.steps * SEEDS) for name, t in times.items()}
    plain = each["plain loop"]
    table(
        ["", "ms a step of a run", "a run of 20 epochs", "the plain loop takes"],
        [
            [name, f"{1000 * t:.1f}", told(t * STEPS_IN_ALL), f"{plain / t:.2f} times as long"]
            for name, t in each.items()
        ],
    )
    cores = torch.get_num_threads()
    training = each["ours, three seeds side by side"] * STEPS_IN_ALL
    taken = 21 * measuring(data, settings, device) / cores
    print(f"\nmeasuring a run 21 times, a core each: {told(taken)}, {taken / training:.0%} of its training")
    runs = SEEDS * len(next(one for one in published_tables() if one.number == 1).rows)
    print(f"Table 1, {runs} runs, trained and measured: {told(runs * (training + taken))}")


if __name__ == "__main__":
    main()
