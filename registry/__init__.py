"""What models look like: families as data, models known by name, and matching a checkpoint to a family."""

from registry.family import Family, FamilyFileError, families, read_family
from registry.layout import Contradiction, Heads, LayerLayout, Layout, Miss, NormSlot, Rows, Slot
from registry.match import match
from registry.models import KnownModel, Published, models, published_for
from registry.projection import STORED, Facing, Projection, Space

__all__ = [
    "STORED",
    "Contradiction",
    "Facing",
    "Family",
    "FamilyFileError",
    "Heads",
    "KnownModel",
    "LayerLayout",
    "Layout",
    "Miss",
    "NormSlot",
    "Projection",
    "Published",
    "Rows",
    "Slot",
    "Space",
    "families",
    "match",
    "models",
    "published_for",
    "read_family",
]
