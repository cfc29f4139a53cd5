"""The figures of the toy MLP's experiments that have a claim each: which there are, and their numbers."""

from reports.training.pictures.phases import PHASES
from reports.training.pictures.picture import Finding, Picture, Row, column
from reports.training.pictures.precedence import PRECEDENCE
from reports.training.pictures.rank import RANK
from reports.training.pictures.shares import SHARES
from reports.training.pictures.summary import SUMMARY
from reports.training.pictures.threshold import THRESHOLD

__all__ = [
    "PHASES", "PICTURES", "PRECEDENCE", "RANK", "SHARES", "SUMMARY", "THRESHOLD", "Finding", "Picture", "Row",
    "column",
]  # fmt: skip

PICTURES = (SUMMARY, PHASES, PRECEDENCE, RANK, SHARES, THRESHOLD)
"""In reading order: those of the paper, then those beyond it."""
