"""What measuring takes of a machine's time, told from headers alone: bytes to read, passes, products.

The arithmetic is that of audit/svd: passes over the stored weights for leading triplets, products of whole
matrices and eigenvectors for the exact path.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from math import prod
from threading import Thread

import torch

from audit.experts import PASSES
from audit.linear_map import Dense
from registry import ExpertSlots, LayerLayout, LowRankSlot, Place, Projection, Slot

STEPS = 16
"""Passes over a matrix until its leading triplets stand, the certificate's among them."""

ROWS = 4
"""Vectors that each of these passes multiplies."""

WIDE_STEPS, WIDE_ROWS = PASSES - 1, 32
"""The same for passes over an expert stack, of which the first looks at each expert by itself."""

SMALL = 2**20
"""Entries up to which a matrix is factorised in float64."""

EIGENVECTORS = 5
"""What the eigenvectors of an n x n matrix cost, in products of two such matrices."""


@dataclass(frozen=True)
class Work:
    """What is to be done: bytes to read; weights that passes of a few vectors go over; multiply-adds of whole
    matrices in float32 and in float64; and matrices that are iterated on, each with its own milliseconds."""

    read: int = 0
    passed: int = 0
    single: int = 0
    double: int = 0
    matrices: int = 0

    def __add__(self, other: "Work") -> "Work":
        """Both."""
        return Work(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def multiply_adds(self) -> int:
        """All of them."""
        return 2 * ROWS * self.passed + self.single + self.double


@dataclass(frozen=True)
class Rates:
    """How much of each kind of Work a machine does in a second."""

    read: float = 1e9
    passed: float = 6e8
    single: float = 1.6e10
    double: float = 8e9
    matrices: float = 60.0

    def seconds(self, work: Work) -> float:
        """Reading and computing, one after the other."""
        return work.read / self.read + self.computing(work)

    def computing(self, work: Work) -> float:
        """Computing alone."""
        kinds = ("passed", "single", "double", "matrices")
        return sum(float(getattr(work, kind) / getattr(self, kind)) for kind in kinds)


NOMINAL = Rates()
"""A core of a machine of 2024, with a disk."""


def factors(layer: LayerLayout, projection: Projection) -> tuple[tuple[int, int], ...]:
    """The shapes of the matrices that a projection is the product of, as they are computed with.

    Of experts, each one's; there is no product.
    """
    place = layer.slots.get(projection)
    if place is not None:
        return _factors_of(place)
    output, value = layer.slots[Projection.O], factors(layer, Projection.V)
    if len(value) > 1:
        return (output.shape[0], value[0][1]), value[1]
    return (output.shape[0], value[0][0]), *value


def _factors_of(place: Place) -> tuple[tuple[int, int], ...]:
    match place:
        case Slot():
            return (place.shape,)
        case LowRankSlot():
            rank = place.down.shape[0] + (place.shared_key.shape[0] if place.shared_key else 0)
            return (place.shape[0], rank), (rank, place.shape[1])
        case ExpertSlots():
            return tuple(slot.shape for slot in place.experts)


def computing(layer: LayerLayout, projection: Projection, *, full: bool) -> Work:
    """What computing one projection takes, reading apart."""
    shapes = factors(layer, projection)
    entries = sum(map(prod, shapes))
    place = layer.slots.get(projection)
    if isinstance(place, ExpertSlots):
        own = Work(passed=STEPS * entries, matrices=len(shapes))
        hidden = hidden_of(place, projection)
        if full:
            return own + Work(double=entries * hidden + EIGENVECTORS * hidden**3)
        return own + Work(passed=WIDE_STEPS * entries, single=2 * WIDE_STEPS * WIDE_ROWS * entries)
    if not full:
        return Work(passed=STEPS * entries, matrices=1)
    sides = {shapes[0][0], shapes[-1][1], shapes[0][1]}
    short = min(sides)
    long = max(sides) if len(shapes) == 1 else short
    # half the Gram matrix and a little more, its eigenvectors, and the long side's vectors
    products = 13 * long * short**2 // 8 + EIGENVECTORS * short**3
    if len(shapes) > 1:
        products += 5 * sum(prod(shape) * min(shape) for shape in shapes)
    if long * short <= SMALL:
        return Work(double=products)
    return Work(single=products, passed=STEPS // 4 * entries)


def hidden_of(place: ExpertSlots, projection: Projection) -> int:
    """The width of the residual stream that experts face."""
    return place.shape[0] if projection.facing == "u" else place.shape[1]


def measured_rates(stored: torch.dtype, workers: int) -> Rates:
    """What this machine's CPU does now with `workers` at a time, on work of each kind."""
    weights = [Dense(torch.ones(2048, 4096, dtype=stored)) for _ in range(workers)]
    rows = torch.ones(ROWS, 4096, dtype=weights[0].dtype)
    single = torch.ones(768, 768)
    double = single.double()
    return Rates(
        passed=workers * 2048 * 4096 / _seconds([partial(one.gram, rows) for one in weights]),
        single=workers * 768**3 / _seconds([partial(torch.mm, single, single)] * workers),
        double=workers * 768**3 / _seconds([partial(torch.mm, double, double)] * workers),
    )


def _seconds(products: Sequence[Callable[[], object]], trials: int = 3) -> float:
    """The shortest time that all take side by side, each on a thread of its own with one core."""

    def work(product: Callable[[], object]) -> None:
        torch.set_num_threads(1)
        product()

    best = float("inf")
    for _ in range(trials):
        threads = [Thread(target=work, args=(product,)) for product in products]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = min(best, time.perf_counter() - started)
    return best
