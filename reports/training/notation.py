"""How metrics are named, ordered and written: `W WA(v)`, `.959 ± .001`."""

from collections.abc import Iterable

from reports.training.measured import Measured
from reports.training.model import PublishedCell
from reports.view import MISSING

LARGE = 1000
"""From here on a number is written with three digits and a power of ten."""

SYMBOLS = {"W": "W", "G": "G", "Gcum": "Gcum", "dW": "ΔW"}
"""Whose geometry a metric is about: the weights, a single minibatch's gradient, the sum of all gradients, and
the update W - W0."""

_GEOMETRY = ("v1", "v2", "wa_v", "u1", "u2", "wa_u", "erank")
_GENERAL = {
    "acc": "accuracy", "ppl": "PPL", "loss": "loss", "valid_loss": "validation loss",
    "test_loss": "test loss", "lr": "learning rate",
}  # fmt: skip
_PROJECTIONS = {
    f"{projection}_{vector}": f"{projection} {vector}"
    for projection in ("Q", "K", "Gate", "Up", "O", "Down", "V", "OV")
    for vector in ("v1", "u1", "v2", "u2")
}
_MOVEMENT = {
    "delta": "Δ", "dW_ratio": "‖ΔW‖ / ‖W₀‖", "spike": "θ", "kept_v1": "kept v1", "kept_u1": "kept u1",
    "predicted_kept_v1": "kept v1, predicted", "predicted_W_v1": "W v1, predicted",
}  # fmt: skip
_HEADINGS = {
    **_GENERAL,
    **_PROJECTIONS,
    **_MOVEMENT,
    **{
        f"{symbol}_{name}": f"{letter} {name.replace('wa_v', 'WA(v)').replace('wa_u', 'WA(u)')}"
        for symbol, letter in SYMBOLS.items()
        for name in _GEOMETRY
    },
}
_ORDER = {
    name: place
    for place, name in enumerate(
        (
            *_GENERAL,
            *_PROJECTIONS,
            *(f"{symbol}_{name}" for symbol in SYMBOLS for name in _GEOMETRY),
            *_MOVEMENT,
        )
    )
}


def geometry(symbol: str) -> tuple[str, ...]:
    """The metrics of a weight or gradient, in reading order."""
    return tuple(f"{symbol}_{name}" for name in _GEOMETRY)


def heading(metric: str) -> str:
    """A metric's name as tables have it; a name that is not known stands as it is."""
    if metric.startswith("ema_"):
        _, beta, vector = metric.split("_")
        return f"{vector}, β {beta}"
    return _HEADINGS.get(metric, metric)


def in_order(metrics: Iterable[str]) -> tuple[str, ...]:
    """Metrics in reading order: general ones, projections, weights, gradients, their sums, and the rest."""
    return tuple(sorted(set(metrics) - {"epoch", "step"}, key=_place))


def _place(metric: str) -> tuple[int, float, str]:
    if not metric.startswith("ema_"):
        return _ORDER.get(metric, len(_ORDER) + 1), 0.0, metric
    _, beta, vector = metric.split("_")
    return len(_ORDER), float(beta), "v" if vector.startswith("v") else "z"


def decimal(value: float | None) -> str:
    """A number in three decimals without the zero in front, as the paper prints it: `.959`."""
    if value is None:
        return MISSING
    if abs(value) >= LARGE:
        return f"{value:.2e}".replace("-", "−")
    text = f"{abs(value):.3f}" if abs(value) < 10 else f"{abs(value):.1f}"
    sign = "−" if value < 0 and float(text) != 0 else ""
    return sign + text.removeprefix("0")


def signed(value: float) -> str:
    """A difference with its sign: `+.002`, `−.011`."""
    text = decimal(value)
    return text if text.startswith("−") else f"+{text}"


def spread(cell: Measured | PublishedCell) -> str:
    """A mean with its standard deviation, where there is one: `.959 ± .001`."""
    return decimal(cell.mean) + (f" ± {decimal(cell.std)}" if cell.std is not None else "")
