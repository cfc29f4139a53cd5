"""Whether a checkpoint's files are whole and agree with one another, and what in them is no number."""

from audit.integrity.checking import check_model

__all__ = ["check_model"]
