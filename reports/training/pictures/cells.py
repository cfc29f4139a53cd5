"""What a figure's numbers come to, as a table for people: in words, and as the paper prints numbers."""

from reports.markdown import escape
from reports.training.measured import Measured
from reports.training.notation import decimal, heading, spread
from reports.training.pictures.picture import Cell
from reports.view import MISSING

PLAIN = ("share", "ablation", "group", "metric")
"""Columns whose cells say what they are."""


def words(column: str) -> str:
    """A column's name: `W_v1 at the end` is `W v1 at the end`."""
    metric, _, rest = column.partition(" ")
    if column in PLAIN:
        return "" if column != "share" else column
    return f"{heading(metric)} {rest}".rstrip()


def cell(column: str, value: Cell) -> str:
    """A cell as it is read."""
    match value:
        case None:
            return MISSING
        case Measured():
            return spread(value)
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case float():
            return f"{value:.0%}" if column == "share" else decimal(value)
        case _:
            return escape(heading(value) if column == "metric" else value)
