"""The exact path by both routes, float32 and float64: WA, effective rank, and bounds that rest on no chance.

Truth is float64 LAPACK's. Small maps go by float64; with SINGLE at 0 they start in float32 as large ones do,
and which route is taken in the end is the code's own choice.
"""

from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statements import Truth, broken, truth
from strategies import KINDS, Sample, next_layer, sample, samples, with_spectrum

import audit.measure
import audit.svd.exact
from audit.continuity import effective_rank, sigma_weighted_alignment
from audit.linear_map import Dense, LinearMap
from audit.measure import Measurer, Spectrum
from audit.plan import Place
from audit.svd import Factorisation, Triplets, factorise, leading_of, values_and_leading
from registry import Projection

UNTIED = 1e-9
"""What LAPACK's own error may do to WA; where it may do more, values are all but tied."""


def in_float32(wanted: bool) -> AbstractContextManager[object]:
    return patch.object(audit.svd.exact, "SINGLE", 0 if wanted else audit.svd.exact.SINGLE)


@settings(max_examples=300)
@given(samples(), st.integers(1, 3), st.booleans())
def test_no_statement_rests_on_chance_and_none_is_wrong(drawn: Sample, k: int, single: bool) -> None:
    with in_float32(single):
        found = leading_of(factorise(drawn.linear_map), drawn.linear_map, k)
    assert found.chance == 0
    assert broken(found, truth(drawn.matrix), k) == []


@pytest.mark.parametrize("part", range(4))
def test_among_a_thousand_maps_no_statement_is_wrong(part: int) -> None:
    wrong = {}
    for seed in range(250 * part, 250 * (part + 1)):
        drawn, k = sample(seed), 1 + seed % 3
        with in_float32(seed % 2 == 1):
            found = leading_of(factorise(drawn.linear_map), drawn.linear_map, k)
        if false := broken(found, truth(drawn.matrix), k):
            wrong[drawn] = false
    assert wrong == {}


@pytest.mark.parametrize("part", range(2))
def test_lanczos_vectors_with_bounds_from_the_whole_spectrum_need_no_chance_either(part: int) -> None:
    for seed in range(250 * part, 250 * (part + 1)):
        drawn, k = sample(seed), 1 + seed % 3
        values, found = values_and_leading(drawn.linear_map, k, f"seed {seed}")
        known = truth(drawn.matrix)
        assert found.chance == 0
        assert broken(found, known, k) == [], drawn
        assert effective_rank(values) == pytest.approx(_effective_rank(known), rel=1e-8), drawn


def test_wa_and_effective_rank_are_lapacks_on_either_route() -> None:
    taken: Counter[str] = Counter()
    for seed in range(600):
        first = sample(seed, kind=KINDS[seed % len(KINDS)], smallest=3)
        second = next_layer(first)
        with in_float32(seed % 4 != 0):
            found = in_a_row(first, second)
        known = truth(first.matrix), truth(second.matrix)
        for spectrum, one, precise in zip(found.spectra, known, found.precise, strict=True):
            rank = effective_rank(spectrum.sigma)
            assert rank == pytest.approx(_effective_rank(one), rel=1e-8 if precise else 1e-5), first
        if found.spectra[1].wa_v is None or _doubt(*known) > UNTIED:
            taken["tied"] += 1
            continue
        taken["float64" if found.wa_precise else "float32"] += 1
        for side in ("v", "u"):
            wa = getattr(found.spectra[1], f"wa_{side}")
            assert wa == pytest.approx(_true_wa(known, side), abs=1e-8 if found.wa_precise else 1e-4), first
    assert taken["tied"] < 400
    assert min(taken["float32"], taken["float64"]) > 50


@dataclass(frozen=True, eq=False)
class Row:
    """What is measured of two layers, and what of it is from float64: each one's spectrum, and their WA."""

    spectra: tuple[Spectrum, Spectrum]
    triplets: tuple[Triplets, Triplets]
    precise: tuple[bool, bool]
    wa_precise: bool


def in_a_row(first: Sample, second: Sample) -> Row:
    """Two maps measured as one projection of two layers is, whole."""
    made: list[Factorisation] = []

    def factorising(linear_map: LinearMap) -> Factorisation:
        made.append(factorise(linear_map))
        return made[-1]

    measurer = Measurer(2, full=True, dtype=torch.float64)
    with patch.object(audit.measure, "factorise", factorising):
        measured = [
            measurer.measure(Place(None, Projection.Q, layer), one.linear_map)
            for layer, one in enumerate((first, second))
        ]
    assert [one.problem for one in measured] == [None, None], first
    precise = [found.eps < 1e-12 for found in made]  # what leaves a doubt about WA is made again at the end
    return Row(
        (measured[0].spectrum, measured[1].spectrum),
        (measured[0].triplets, measured[1].triplets),
        (precise[0], precise[1]),
        all(precise[-2:]),
    )


def _true_wa(known: tuple[Truth, Truth], side: str) -> float:
    first, second = (getattr(one, side) for one in known)
    return float((_shares(known[0]) * np.abs((first * second).sum(axis=1))).sum())


def _shares(known: Truth) -> np.ndarray:
    energy = (known.sigma / known.sigma[0]) ** 2
    return energy / energy.sum()


def _effective_rank(known: Truth) -> float:
    share = _shares(known)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _doubt(first: Truth, second: Truth) -> float:
    """What LAPACK's own error may do to WA of a pair: that of each vector, weighted as WA weighs them."""
    doubt = 0.0
    for i, share in enumerate(_shares(first)):
        for known in (first, second):
            gap = known.distance(i, float(known.sigma[i]))
            doubt += share * (min(1.0, known.rounding / gap) if gap > 0 else 1.0)
    return float(doubt)


DEEP = {
    "graded over 12 orders": 10.0 ** -np.linspace(0, 12, 60),
    "a large sigma1": np.append(100, np.linspace(1, 0.5, 59)),
    "a huge sigma1": np.append(300, np.linspace(1, 0.5, 59)),
    "near ties that hold the energy": 1 - 1e-6 * np.arange(60),
    "near ties far below": np.append(10, 1 - 1e-4 * np.arange(59)),
}


def deep(name: str) -> tuple[Sample, Sample]:
    matrix = with_spectrum(80, 60, DEEP[name], np.random.default_rng(3)).astype(np.float32)
    first = Sample(Dense(torch.from_numpy(matrix)), name, 3)
    return first, next_layer(first, turned=True)


@pytest.mark.parametrize("name", DEEP)
def test_where_float32_would_not_do_the_answer_is_as_good_all_the_same(name: str) -> None:
    pair = deep(name)
    known = truth(pair[0].matrix), truth(pair[1].matrix)
    assert _doubt(*known) < 1e-6
    with in_float32(True):
        found = in_a_row(*pair)
    assert effective_rank(found.spectra[0].sigma) == pytest.approx(_effective_rank(known[0]), rel=1e-5)
    assert found.spectra[1].wa_v == pytest.approx(_true_wa(known, "v"), abs=1e-4)
    assert found.spectra[1].wa_u == pytest.approx(_true_wa(known, "u"), abs=1e-4)
    for triplets, one in zip(found.triplets, known, strict=True):
        assert broken(triplets, one, 2) == []


def test_float32_throughout_misses_the_same_tolerance() -> None:
    """The control: what LAPACK makes in float32 of both Gram matrices, taken as it is."""
    pair = deep("near ties that hold the energy")
    known = truth(pair[0].matrix), truth(pair[1].matrix)
    grams = [one.matrix.T.astype(np.float32) @ one.matrix.astype(np.float32) for one in pair]
    (values, first), (_, second) = (np.linalg.eigh(gram) for gram in grams)
    sigma = torch.from_numpy(np.sqrt(values[::-1]).astype(np.float64))
    v, after = (torch.from_numpy(vectors.T[::-1].astype(np.float64)) for vectors in (first, second))
    assert abs(sigma_weighted_alignment(sigma, v, after) - _true_wa(known, "v")) > 1e-4
