"""The texts that the transformer trains on, as token ids in memory-mapped files: start at `load`."""

from audit.train.text.known import DATASETS
from audit.train.text.sources import load
from audit.train.text.tokens import Progress, Silent, Tokens

__all__ = ["DATASETS", "Progress", "Silent", "Tokens", "load"]
