"""The labelled images that the experiments train on: known by name, from files on disk or from the Hub."""

from audit.train.datasets.known import DATASETS, as_published
from audit.train.datasets.sources import load

__all__ = ["DATASETS", "as_published", "load"]
