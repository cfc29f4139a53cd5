"""A report typed by hand: three projections of a three-layer model, one of everything a renderer shows."""

from reports.model import (
    Continuity,
    Coverage,
    Finding,
    LayerSpaces,
    ModelInfo,
    Pair,
    ProjectionReport,
    Provenance,
    PublishedComparison,
    PublishedValue,
    Report,
    Settings,
    SourceFile,
    Spaces,
    Subspaces,
    TopCoordinates,
)


def pair(first: int, v1: float | None, u1: float | None, degenerate: bool = False) -> Pair:
    """Layers first and first + 1."""
    return Pair(
        layers=(first, first + 1),
        gap=1,
        v1=v1,
        u1=u1,
        v2=None if v1 is None else 0.25,
        u2=None if u1 is None else 0.125,
        bound_v1=None if v1 is None else 1e-6,
        bound_u1=None if u1 is None else 2e-5,
        bound_v2=None if v1 is None else 1e-6,
        bound_u2=None if u1 is None else 1e-6,
        degenerate=degenerate,
        wa=Spaces(0.5, 0.25),
        subspace=Subspaces((1.0, 0.5), (0.75, 0.25), (0.125, 0.25), (0.5, 0.0625)) if degenerate else None,
    )


def projection(facing: str, pairs: tuple[Pair, Pair], v1: float | None, u1: float | None) -> ProjectionReport:
    """Three layers of a 100 x 100 matrix."""
    return ProjectionReport(
        shape=(100, 100),
        layers=(0, 1, 2),
        facing=facing,  # type: ignore[arg-type]
        continuity=Continuity(v1, u1, 0.25, 0.125),
        continuity_bound=Continuity(1e-6, 2e-5, 1e-6, 1e-6),
        null=Spaces(0.08, 0.08),
        evr3=Spaces(0.9, None),
        evr3_null=Spaces(0.55, None),
        wa=Spaces(0.5, 0.25),
        effective_rank=(10.0, 20.0, None),
        stable_rank=(2.0, 3.0, None),
        participation=LayerSpaces((50.0, 60.0, None), (1.5, 2.5, None)),
        top=TopCoordinates((((7, 0.5),), ((7, -0.25),), ()), (((3, 1.0),), ((4, 1.0),), ())),
        lag=LayerSpaces((0.75, 0.5), (0.25, None)),
        signal_flow=0.1,
        sigma=((6.0, 3.0), (5.0, 2.0), None),
        residual=((1e-7, 1e-7), (1e-7, 1e-7), None),
        angle_bound=((1e-6, 1e-5), (1e-6, 1e-5), None),
        spectrum=(((1, 6.0), (2, 3.0)), ((1, 5.0), (2, 2.0)), None),
        pairs=pairs,
        unmeasured={"layer 2": "NaN", "evr3": "3 layers"},
    )


def sample_report() -> Report:
    """The whole of it."""
    return Report(
        model=ModelInfo("org/na*me\x1b[2J", "hub", "abc123", "llama", "llama", 3, 100, ("BF16",)),
        settings=Settings(True, False, "0:3", ("Q", "V", "O"), 2, "cpu", "float32"),
        projections={
            "Q": projection("v", (pair(0, 0.75, 0.0625), pair(1, None, None)), 0.75, 0.0625),
            "V": projection("v", (pair(0, 0.5, 0.0625, degenerate=True), pair(1, None, None)), 0.5, 0.0625),
            "O": projection("u", (pair(0, 0.0625, 0.875), pair(1, None, None)), 0.0625, 0.875),
        },
        findings=(
            Finding("nan", "error", "Q", 2, "Q of layer 2 holds NaN: not measured"),
            *(
                Finding("noise-like", "warning", "V", layer, f"V of layer {layer} is noise")
                for layer in (0, 1, 2)
            ),
            *(
                Finding("unknown-tensor", "warning", None, None, f"odd|{i} [2, 2] matches no rule")
                for i in range(7)
            ),
        ),
        coverage=Coverage(9, {"biases": 4, "norms and scales": 6}, ("odd|one",)),
        provenance=Provenance(
            tool_version="0.1.0",
            torch_version="2.13.0",
            python_version="3.11.7",
            platform="Linux x86_64",
            device_name="CPU (2 threads)",
            command="gcont-audit org/name",
            started="2026-11-23T08:00:00+00:00",
            wall_seconds=65.2,
            peak_memory_bytes=1_500_000_000,
            bytes_read=16_060_000_000,
            files=(
                SourceFile("model-00001-of-00002.safetensors", 8_000_000_000, etag="e7a9"),
                SourceFile("model-00002-of-00002.safetensors", 999, sha256="5ad1"),
            ),
            peak_anonymous_bytes=1_100_000_000,
            planned_memory_bytes=1_400_000_000,
            max_memory_bytes=8_000_000_000,
            workers=2,
        ),
        published=PublishedComparison(
            "a paper",
            (
                PublishedValue("Q", "continuity", "v", 0.7, 0.75, 0.05),
                PublishedValue("O", "evr3", "u", 0.76, None, None),
            ),
        ),
    )
