"""What models look like: families as data, models known by name, and matching a checkpoint to a family."""

from registry.draft import draft
from registry.family import Family, FamilyFileError, declaration, families, read_family
from registry.layout import (
    Claim,
    Contradiction,
    ExpertSlots,
    Heads,
    Lack,
    LayerLayout,
    Layout,
    LowRankSlot,
    Miss,
    NormSlot,
    Place,
    Read,
    Rows,
    Slab,
    Slot,
    StackLayout,
)
from registry.match import match
from registry.models import KnownModel, Published, models, published_for
from registry.projection import STORED, Facing, Projection, Space

__all__ = [
    "STORED",
    "Claim",
    "Contradiction",
    "ExpertSlots",
    "Facing",
    "Family",
    "FamilyFileError",
    "Heads",
    "KnownModel",
    "Lack",
    "LayerLayout",
    "Layout",
    "LowRankSlot",
    "Miss",
    "NormSlot",
    "Place",
    "Projection",
    "Published",
    "Read",
    "Rows",
    "Slab",
    "Slot",
    "Space",
    "StackLayout",
    "declaration",
    "draft",
    "families",
    "match",
    "models",
    "published_for",
    "read_family",
]
