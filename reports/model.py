"""What an audit says: the typed model that audit fills in, JSON carries, and renderers only read.

Everything is frozen, made of tuples and numbers, and holds no tensor. `v` is a projection's input space, `u`
its output space. A number that could not be measured is None, and `unmeasured` of its projection says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SCHEMA = "gcont-audit/1"

Space = Literal["v", "u"]
SPACES: Mapping[Space, str] = {"v": "input", "u": "output"}
Facing = Literal["v", "u", "both"]
Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class ModelInfo:
    """Which model: where it came from, the family it was read by, its size.

    `stack` is what its main stack is called where there are others beside it.
    """

    id: str
    source: Literal["local", "hub", "url"]
    revision: str | None
    family: str
    model_type: str | None
    layers: int
    hidden_size: int | None
    stored_dtypes: tuple[str, ...]
    stack: str | None = None


@dataclass(frozen=True)
class Settings:
    """What was asked: a report with other settings is another report."""

    full: bool
    fold_norm: bool
    layers: str | None
    only: tuple[str, ...] | None
    k: int
    device: str
    compute_dtype: str


@dataclass(frozen=True)
class Continuity:
    """Means over adjacent pairs of |cos| between leading (1) and second (2) singular vectors."""

    v1: float | None
    u1: float | None
    v2: float | None
    u2: float | None


@dataclass(frozen=True)
class Spaces:
    """One number for each space."""

    v: float | None
    u: float | None


@dataclass(frozen=True)
class LayerSpaces:
    """One number per layer for each space."""

    v: tuple[float | None, ...]
    u: tuple[float | None, ...]


@dataclass(frozen=True)
class TopCoordinates:
    """Per layer the largest coordinates of v1 and u1, as (index, value)."""

    v: tuple[tuple[tuple[int, float], ...], ...]
    u: tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True)
class Subspaces:
    """Cosines of the principal angles between the leading k-dimensional subspaces of two layers.

    Largest first, each with the bound on its error.
    """

    v: tuple[float, ...]
    u: tuple[float, ...]
    bound_v: tuple[float, ...] = ()
    bound_u: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two adjacent layers that have the projection; each cosine with the bound on its error.

    `degenerate`: sigma2/sigma1 above 0.98 in either layer; then `subspace` compares the leading planes.
    """

    layers: tuple[int, int]
    gap: int
    v1: float | None
    u1: float | None
    v2: float | None
    u2: float | None
    bound_v1: float | None
    bound_u1: float | None
    bound_v2: float | None
    bound_u2: float | None
    degenerate: bool
    wa: Spaces | None = None
    subspace: Subspaces | None = None


@dataclass(frozen=True)
class Trajectory:
    """A leading direction's path through depth in its first three principal components.

    `points` has one (x, y, z) a layer, in units of the unit vectors the path is made of, None where the layer
    was not measured; `shares` is the share of variance along each component, largest first.
    """

    points: tuple[tuple[float, float, float] | None, ...]
    shares: tuple[float, float, float]


@dataclass(frozen=True)
class Trajectories:
    """The paths of v1 and u1; None where there are too few layers, or their dimension differs."""

    v: Trajectory | None = None
    u: Trajectory | None = None


@dataclass(frozen=True)
class ExpertSummary:
    """The routed experts of one layer, beside the stack that they make.

    Per expert its sigma1, and in the space that faces the residual stream |cos| of its leading direction with
    the stack's; None where it could not be measured. `between` is the mean |cos| over all pairs of experts.
    """

    sigma1: tuple[float | None, ...]
    with_stack: tuple[float | None, ...]
    between: float | None


@dataclass(frozen=True)
class ProjectionReport:
    """One projection through all its layers.

    Per layer: sigma, residual and gap (in sigma's unit; gap is a lower estimate of the distance to every
    other singular value, 0 where that is unknown) and angle_bound (sine) of the k leading triplets, and
    `chance`, the probability over the iteration's random start that gaps and bounds do not hold, 0 with
    --full. `spectrum` thins each layer's singular values to at most 64 (rank, sigma) points; all are in
    vectors.safetensors. `continuity_bound` is the bound on each mean in `continuity`; `null` is E|cos| of
    random directions. `experts` has one entry a layer where Gate, Up and Down are stacked experts, None for
    dense layers.
    """

    shape: tuple[int, int]
    layers: tuple[int, ...]
    facing: Facing
    continuity: Continuity
    continuity_bound: Continuity
    null: Spaces
    evr3: Spaces
    evr3_null: Spaces
    wa: Spaces | None
    effective_rank: tuple[float | None, ...] | None
    stable_rank: tuple[float | None, ...]
    participation: LayerSpaces
    top: TopCoordinates
    lag: LayerSpaces
    signal_flow: float | None
    sigma: tuple[tuple[float, ...] | None, ...]
    residual: tuple[tuple[float, ...] | None, ...]
    angle_bound: tuple[tuple[float, ...] | None, ...]
    spectrum: tuple[tuple[tuple[int, float], ...] | None, ...] | None
    pairs: tuple[Pair, ...]
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    trajectory: Trajectories = Trajectories()
    experts: tuple[ExpertSummary | None, ...] | None = None
    gap: tuple[tuple[float, ...] | None, ...] | None = None
    chance: tuple[float | None, ...] | None = None

    @property
    def faced(self) -> tuple[Space, ...]:
        """The spaces shared with the residual stream."""
        return ("v", "u") if self.facing == "both" else (self.facing,)

    def dimension(self, space: Space) -> int:
        """How many coordinates a vector of that space has."""
        return self.shape[1] if space == "v" else self.shape[0]


@dataclass(frozen=True)
class Stack:
    """A stack of layers: the main one, or one beside it, such as a vision tower or an encoder.

    `cross`: cross-attention, whose K and V read the output of another stack.
    """

    projections: Mapping[str, ProjectionReport]
    family: str
    layers: int
    hidden_size: int | None
    cross: bool = False


@dataclass(frozen=True)
class Finding:
    """Something a reader should know about one place in the weights; `stack` is None for the main one."""

    code: str
    severity: Severity
    projection: str | None
    layer: int | None
    message: str
    stack: str | None = None


@dataclass(frozen=True)
class Coverage:
    """Every tensor accounted for: audited, ignored by a named rule, or unknown.

    `unknown_in_layers` are those of the unknown ones that lie in a stack's layers.
    """

    audited: int
    ignored: Mapping[str, int]
    unknown: tuple[str, ...]
    unknown_in_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceFile:
    """A file that was read, and what identifies its content.

    etag: the Hub's content hash. sha256: of the whole file, for local checkpoints up to 1 GiB.
    header_sha256: of the safetensors header alone, where the files are larger than that together; with it
    comes `modified`, when the file was last written, in nanoseconds since 1970.
    """

    name: str
    size: int
    etag: str | None = None
    sha256: str | None = None
    header_sha256: str | None = None
    modified: int | None = None


@dataclass(frozen=True)
class Provenance:
    """How the numbers came to be; `config_sha256` is of config.json's content, keys in order.

    peak_memory_bytes: the most resident memory, mapped library files included.
    peak_anonymous_bytes: the most memory apart from pages of files; planned_memory_bytes is what the plan
    said of it for so many workers, max_memory_bytes the ceiling that was asked for.
    processes: how many shared the work; of peaks of memory, the largest that one of them had.
    """

    tool_version: str
    torch_version: str
    python_version: str
    platform: str
    device_name: str
    command: str
    started: str
    wall_seconds: float
    peak_memory_bytes: int | None
    bytes_read: int
    files: tuple[SourceFile, ...]
    config_sha256: str | None = None
    peak_anonymous_bytes: int | None = None
    planned_memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    workers: int | None = None
    processes: int = 1


@dataclass(frozen=True)
class PublishedValue:
    """A published number beside ours."""

    projection: str
    metric: Literal["continuity", "evr3"]
    space: Space
    published: float
    ours: float | None
    difference: float | None


@dataclass(frozen=True)
class PublishedComparison:
    """Everything published about this model, beside what was measured."""

    source: str
    values: tuple[PublishedValue, ...]


@dataclass(frozen=True)
class Report:
    """All that one audit found."""

    model: ModelInfo
    settings: Settings
    projections: Mapping[str, ProjectionReport]
    findings: tuple[Finding, ...]
    coverage: Coverage
    provenance: Provenance
    published: PublishedComparison | None = None
    stacks: Mapping[str, Stack] = field(default_factory=dict)
    schema: str = SCHEMA

    @property
    def main(self) -> Stack:
        """The main stack, like those beside it."""
        return Stack(self.projections, self.model.family, self.model.layers, self.model.hidden_size)

    @property
    def every_stack(self) -> Mapping[str | None, Stack]:
        """The main stack under None, then those beside it."""
        main: dict[str | None, Stack] = {None: self.main}
        return main | {**self.stacks}
