"""The certificate of the leading triplets: over thousands of maps no statement is wrong, and why none can be.

Truth is float64 LAPACK's, at rounding level mpmath's. The clause about chance is tested where it can be seen
to fail: with starts that are not random, and with a declared rate high enough to be met.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statements import ROUNDING, broken, truth, uncertified
from strategies import KINDS, Sample, sample, samples, with_spectrum

import audit.svd
import audit.svd.chance
import audit.svd.lanczos
import audit.svd.triplets
from audit.linear_map import Dense, LinearMap
from audit.svd import DECLARED, Triplets, leading
from audit.svd.chance import WINDOW, Run, Statement, missed
from audit.svd.lanczos import Basis


def in_float32(wanted: bool) -> AbstractContextManager[object]:
    """Small maps start in float64; with this they start in float32, as large ones do."""
    return patch.object(audit.svd, "SMALL", 0 if wanted else audit.svd.SMALL)


def dense(matrix: np.ndarray) -> Dense:
    return Dense(torch.from_numpy(np.ascontiguousarray(matrix)))


@settings(max_examples=300)
@given(samples(), st.integers(1, 3), st.booleans())
def test_no_statement_about_a_map_of_any_kind_is_wrong(drawn: Sample, k: int, single: bool) -> None:
    with in_float32(single):
        found = leading(drawn.linear_map, k, f"seed {drawn.seed}")
    assert broken(found, truth(drawn.matrix), k) == []


@pytest.mark.parametrize("part", range(8))
def test_among_two_thousand_maps_no_statement_is_wrong(part: int) -> None:
    wrong = {}
    for seed in range(250 * part, 250 * (part + 1)):
        drawn, k = sample(seed), 1 + seed % 3
        with in_float32(seed % 2 == 1):
            found = leading(drawn.linear_map, k, f"seed {seed}")
        if false := broken(found, truth(drawn.matrix), k):
            wrong[drawn] = false
    assert wrong == {}


@pytest.mark.parametrize("kind", KINDS)
def test_among_larger_maps_no_statement_is_wrong(kind: str) -> None:
    for seed in range(2):
        drawn = sample(seed, 300, kind, smallest=60)
        with in_float32(seed == 0):
            found = leading(drawn.linear_map, 2, f"seed {seed}")
        assert broken(found, truth(drawn.matrix), 2) == [], drawn


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("copies", range(2, 10))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_exact_ties_have_the_vacuous_bound_be_there_more_than_the_block_holds(
    k: int, copies: int, single: bool
) -> None:
    """One block `copies` times along the diagonal: every singular value as often, to the last bit."""
    rng = np.random.default_rng(copies)
    matrix = np.kron(np.eye(copies), rng.standard_normal((9, 7)).astype(np.float32).astype(np.float64))
    matrix = matrix[rng.permutation(len(matrix))][:, rng.permutation(matrix.shape[1])]
    with in_float32(single):
        found = leading(Dense(torch.from_numpy(matrix).float()), k, "copies")
    known = truth(matrix)
    assert found.sigma.numpy() == pytest.approx(known.sigma[:k], rel=1e-6)
    assert found.bound.tolist() == [1.0] * k
    if k % copies:  # the k-th and the next are copies of one another
        assert found.plane_bound == 1
    assert broken(found, known, k) == []


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("digits", range(2, 16))
def test_near_ties_are_resolved_or_said_not_to_be(digits: int, single: bool) -> None:
    """Two to six leaders 10^-digits apart, in every place among the first ones."""
    rng = np.random.default_rng(digits)
    for count in range(2, 7):
        for before in range(2):
            leaders = [7.0] * before + [5 * (1 - 10.0**-digits * i) for i in range(count)]
            sigma = np.append(leaders, np.linspace(1, 0.1, 50))
            matrix = with_spectrum(70, 60, sigma[:60], rng)
            with in_float32(single):
                found = leading(dense(matrix), 2, f"{count} {before}")
            assert broken(found, truth(matrix), 2) == []
            tied = [i for i in range(2) if i >= before]
            assert digits > 4 or all(found.bound[i] <= 1e-3 for i in tied)
            assert digits < 15 or all(found.bound[i] == 1 for i in tied)


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_a_pair_that_is_tied_but_stands_apart_is_bounded_as_a_plane(single: bool) -> None:
    sigma = np.append([5.0, 5.0], np.linspace(2, 0.1, 58))
    matrix = with_spectrum(80, 60, sigma, np.random.default_rng(1))
    with in_float32(single):
        found = leading(dense(matrix), 2, "pair")
    assert found.bound.tolist() == [1.0, 1.0]
    assert found.plane_bound < 1e-4
    assert broken(found, truth(matrix), 2) == []


@dataclass(frozen=True, eq=False)
class Look:
    """What the iteration knew at one moment: the rows it started from, the run, and what it stated.

    `rounding` is what the start's rows may be off in the precision of the run.
    """

    start: np.ndarray
    rounding: float
    run: Run
    stated: tuple[Statement, ...]


@contextmanager
def watched() -> Iterator[list[Look]]:
    """Every look that `leading` takes at a run, with the start of that run made orthonormal."""
    looks: list[Look] = []
    starts: list[torch.Tensor] = []
    iterate, state = audit.svd.leading_vectors, audit.svd.lanczos.statements

    def iterating(linear_map: LinearMap, start: torch.Tensor, *rest: object) -> object:
        starts.append(start)
        return iterate(linear_map, start, *rest)

    def stating(run: Run, k: int) -> tuple[Statement, ...]:
        rows, rounding = orthonormal(starts[-1].double().numpy()), 4 * torch.finfo(starts[-1].dtype).eps
        looks.append(Look(rows, rounding, run, state(run, k)))
        return looks[-1].stated

    with ExitStack() as patches:
        patches.enter_context(patch.object(audit.svd, "leading_vectors", iterating))
        patches.enter_context(patch.object(audit.svd.lanczos, "statements", stating))
        yield looks


def orthonormal(rows: np.ndarray) -> np.ndarray:
    return np.linalg.qr(rows.T)[0].T


def start_of(name: str, n: int, k: int) -> np.ndarray:
    """The orthonormal rows [b, n] that a map of n columns by this name is started from."""
    with patch.object(audit.svd, "leading_vectors", return_value=None) as iterate:
        leading(dense(np.eye(n)), k, name)
    return orthonormal(iterate.call_args_list[0].args[1].double().numpy())


def hiding(start: np.ndarray, overlap: float, hidden: float, sigma: np.ndarray) -> np.ndarray:
    """A matrix chosen after its start: one more singular value, whose vector is all but orthogonal to it."""
    n = start.shape[1]
    rng = np.random.default_rng(n)
    inside, outside = start.T @ rng.standard_normal(len(start)), rng.standard_normal(n)
    for _ in range(2):
        outside -= start.T @ (start @ outside)
    x = overlap * inside / np.linalg.norm(inside)
    x += (1 - overlap**2) ** 0.5 * outside / np.linalg.norm(outside)
    v = np.column_stack([x, np.linalg.qr(np.column_stack([x, rng.standard_normal((n, n - 1))]))[0][:, 1:]])
    u = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (u * np.append(hidden, sigma)) @ v.T


VISIBLE = np.append([5.0, 3.0], np.linspace(0.5, 0.1, 147))
HIDDEN = {"above": 6.0, "a twin": 5 * (1 - 1e-9), "just below": 4.5, "half way": 4.0}


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_a_start_that_is_not_random_breaks_the_certificate(hidden: float, single: bool) -> None:
    """The clause about chance is needed: no run can know what its start is orthogonal to."""
    matrix = hiding(start_of("Q.0", 150, 1), 0.0, hidden, VISIBLE)
    known = truth(matrix)
    with in_float32(single):
        assert broken(leading(dense(matrix), 1, "Q.0"), known, 1) != []
        for name in ("Q.1", "Q.2", "Q.3"):
            assert broken(leading(dense(matrix), 1, name), known, 1) == []


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_only_a_start_less_likely_than_declared_breaks_it(hidden: float, k: int) -> None:
    start = start_of("Q.0", 150, k)
    assert len(start) == max(k + 1, audit.svd.BLOCK)
    for overlap in 10.0 ** -np.arange(0.5, 12, 0.5):
        matrix = hiding(start, float(overlap), hidden, VISIBLE)
        likely = scipy.stats.beta.cdf(overlap**2, len(start) / 2, (150 - len(start)) / 2)
        if likely > DECLARED:
            assert broken(leading(dense(matrix), k, "Q.0"), truth(matrix), k) == []


def test_the_start_is_as_random_as_the_chance_supposes() -> None:
    """|Q1 x|^2 of a fixed x follows Beta(b/2, (n-b)/2); beside the line of its twin, one dimension less."""
    n, b = 40, audit.svd.BLOCK
    starts = [start_of(f"layer {i}", n, 2) for i in range(400)]
    x, twin = np.linalg.qr(np.random.default_rng(0).standard_normal((n, 2)))[0].T
    part = np.array([np.sum((start @ x) ** 2) for start in starts])
    lines = [start @ twin / np.linalg.norm(start @ twin) for start in starts]
    beside = np.array(
        [np.sum((s @ x - line * (line @ (s @ x))) ** 2) for s, line in zip(starts, lines, strict=True)]
    )
    assert scipy.stats.kstest(part, scipy.stats.beta(b / 2, (n - b) / 2).cdf).pvalue > 0.01
    assert scipy.stats.kstest(beside, scipy.stats.beta((b - 1) / 2, (n - b) / 2).cdf).pvalue > 0.01
    assert scipy.stats.kstest(part, scipy.stats.beta((b - 1) / 2, (n - b) / 2).cdf).pvalue < 1e-6


@settings(max_examples=300)
@given(st.floats(-8, 0), st.integers(1, 8), st.integers(3, 5000))
def test_the_chance_of_a_small_overlap_is_scipys_or_above(power: float, b: int, n: int) -> None:
    tau = 10.0**power
    chance = missed(tau, b, n)
    exact = scipy.stats.beta.cdf(tau**2, b / 2, (n - b) / 2) if b < n else 1.0
    assert exact * (1 - 1e-9) <= chance <= 1
    if b <= n - 2 and tau**2 * n < 0.01:
        assert chance <= 1.02 * exact


@pytest.mark.parametrize("part", range(4))
def test_no_eigenvector_has_a_larger_part_in_the_start_than_the_run_allows(part: int) -> None:
    """The inequality that all rests on, for every true eigenpair and at every look; and that of twins."""
    wrong: dict[Sample, float] = {}
    tightest = 0.0
    for seed in range(60 * part, 60 * (part + 1)):
        drawn, k = sample(seed, 80, smallest=8), 1 + seed % 3
        with in_float32(seed % 2 == 1), watched() as looks:
            leading(drawn.linear_map, k, f"seed {seed}")
        pairs = eigenpairs(drawn.matrix)
        used = max(
            (share for look in looks for share in shares_of_what_is_allowed(look, k, *pairs)), default=0.0
        )
        tightest = max(tightest, used)
        if used > 1:
            wrong[drawn] = used
    assert wrong == {}
    assert tightest > 0.8  # the inequality is sharp: a smaller overlap could not be promised


def shares_of_what_is_allowed(look: Look, k: int, x: np.ndarray, values: np.ndarray) -> Iterator[float]:
    """How much of tau each eigenvector's part in the start takes up, and of tau' beside its window's line."""
    run = replace(look.run, noise=look.run.noise + ROUNDING * float(values.max()))  # LAPACK's own
    part = look.start @ x
    allowed = run.overlap(torch.from_numpy(values)).numpy() + look.rounding
    yield from (np.linalg.norm(part, axis=0) / allowed).tolist()
    for i, near in enumerate(windows(run, k)):
        inside = np.abs(values - float(run.theta[i])) <= near
        line = orthonormal(run.first[:, i : i + 1].numpy().T)[0]
        beside = part[:, inside] - np.outer(line, line @ part[:, inside])
        twins = run.overlap(torch.from_numpy(values[inside]), without=i).numpy() + look.rounding
        yield from (np.linalg.norm(beside, axis=0) / twins).tolist()


@pytest.mark.parametrize("part", range(4))
def test_what_a_run_states_is_true_and_its_probes_stand_for_all_values_between(part: int) -> None:
    wrong: dict[Sample, Statement] = {}
    stated = 0
    for seed in range(60 * part, 60 * (part + 1)):
        drawn, k = sample(seed, 80, smallest=8), 1 + seed % 3
        with in_float32(seed % 2 == 1), watched() as looks:
            leading(drawn.linear_map, k, f"seed {seed}")
        _, values = eigenpairs(drawn.matrix)
        for look in looks:
            for i, one in enumerate(look.stated):
                if one.chance > DECLARED:
                    continue
                stated += 1
                above = (values > one.upper * (1 + 1e-12)).sum()
                if above != i + 1 or chance_on_a_grid(look.run, i, one.upper) > one.chance:
                    wrong[drawn] = one
    assert wrong == {}
    assert stated > 20


def eigenpairs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of W^T W or W W^T, the smaller one: eigenvectors as columns, and eigenvalues."""
    matrix = matrix.T if matrix.shape[1] > matrix.shape[0] else matrix
    _, sigma, rows = np.linalg.svd(matrix, full_matrices=False)
    return rows.T, sigma**2


def windows(run: Run, k: int) -> list[float]:
    """Half the width of each leading Ritz value's window, as far as they are wider than rounding."""
    theta = run.theta.tolist()
    found: list[float] = []
    for i in range(min(k, len(theta) - 1)):
        near = min(theta[i] - theta[i + 1], theta[i - 1] - theta[i] if i else np.inf)
        if WINDOW * near <= run.noise:
            break
        found.append(WINDOW * near)
    return found


def chance_on_a_grid(run: Run, i: int, upper: float) -> float:
    """The chance of a statement, from the overlap at thousands of values where the program looks at a few."""
    theta, half = run.theta, windows(run, i + 1)
    first, apart = float(theta[0]), float(theta[0] - theta[1])
    grid = torch.cat(
        [
            torch.linspace(upper, first, 2000, dtype=torch.float64),
            first * torch.logspace(0, 2, 200, dtype=torch.float64),
            first + apart * torch.logspace(-2, 2, 200, dtype=torch.float64),
        ]
    )
    outside = torch.stack([(grid - theta[j]).abs() >= half[j] for j in range(i + 1)]).all(dim=0)
    overlap = float(run.overlap(grid[outside]).max())
    twins = 0.0
    for j in range(i + 1):
        inside = theta[j] + half[j] * torch.linspace(-1, 1, 401, dtype=torch.float64)
        twins += missed(2 * float(run.overlap(inside, without=j).max()), len(run.first) - 1, run.n - 1)
    return (i + 2) * missed(overlap, len(run.first), run.n) + (i + 1) * (i + 2) * twins


@pytest.mark.parametrize("part", range(4))
def test_the_basis_stays_orthonormal_whatever_the_spectrum(part: int) -> None:
    """The recurrence says nothing of a basis that holds a direction twice."""
    lost: dict[Sample, float] = {}
    for seed in range(60 * part, 60 * (part + 1)):
        drawn = sample(seed, 80, smallest=8)
        made: list[Basis] = []

        def making(*given: object, made: list[Basis] = made) -> Basis:
            made.append(Basis(*given))
            return made[-1]

        with in_float32(seed % 2 == 1), patch.object(audit.svd.lanczos, "Basis", making):
            leading(drawn.linear_map, 1 + seed % 3, f"seed {seed}")
        for basis in made:
            rows = basis.rows.double()
            off = (
                float((rows @ rows.T - torch.eye(len(rows))).abs().max()) / torch.finfo(basis.rows.dtype).eps
            )
            if off > 20:
                lost[drawn] = off
    assert lost == {}


@pytest.mark.parametrize("shape", [(1024, 1024), (14336, 512)], ids=str)
def test_rounding_in_a_product_with_a_large_map_is_within_what_is_allowed_for_it(
    shape: tuple[int, int],
) -> None:
    """In float32, where float64 shows it; blocks of rows make it grow with their number."""
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    for matrix in (weight, weight.abs()):
        v = torch.nn.functional.normalize(torch.ones(1, shape[1]))
        for _ in range(3):
            v = torch.nn.functional.normalize(Dense(matrix).gram(v).back)
        exact = Dense(matrix).double().gram(v.double()).back
        off = torch.linalg.vector_norm(Dense(matrix).gram(v).back.double() - exact)
        allowed = torch.finfo(torch.float32).eps * float(torch.linalg.vector_norm(exact))
        assert float(off) <= audit.svd.lanczos.NOISE * allowed
        assert float(off) <= audit.svd.triplets.ROUNDING * allowed


SPECTRA_BY_RATE = {
    "twins": np.append([5, 5 * (1 - 1e-6)], np.linspace(0.5, 0.1, 58)),
    "half way": np.append([5, 3.5], np.linspace(0.5, 0.1, 58)),
    "spread": np.append([5], np.linspace(4.5, 0.1, 59)),
}


def wrong_starts(matrix: np.ndarray, starts: int, declared: float) -> int:
    """How many random starts end in a wrong statement, where runs end as soon as the declared rate allows.

    With the narrowest block, and any bound below 1 good enough.
    """
    known, wrong = truth(matrix), 0
    with ExitStack() as patches:
        for module in (audit.svd.chance, audit.svd.lanczos):
            patches.enter_context(patch.object(module, "DECLARED", declared))
        patches.enter_context(patch.object(audit.svd.lanczos, "ANGLE_TARGET", 1.0))
        patches.enter_context(patch.object(audit.svd, "BLOCK", 2))
        for start in range(starts):
            found = leading(dense(matrix), 1, f"start {start}")
            assert found.bound[0] < 1
            wrong += any(claim.what not in ("sigma", "chance") for claim in broken(found, known, 1))
    return wrong


@pytest.mark.parametrize("name", SPECTRA_BY_RATE)
def test_statements_are_wrong_at_most_at_a_rate_that_can_be_seen(name: str) -> None:
    """A declared rate that a hundred random starts would show."""
    matrix = with_spectrum(60, 60, SPECTRA_BY_RATE[name], np.random.default_rng(0))
    assert (
        scipy.stats.binomtest(wrong_starts(matrix, 100, 0.05), 100, 0.05, alternative="greater").pvalue > 0.01
    )


@pytest.mark.parametrize("name", ["half way", "spread"])
def test_without_the_certificate_they_are_wrong_far_more_often(name: str) -> None:
    """The control: runs that end as soon as what they have seen looks converged."""
    matrix = with_spectrum(60, 60, SPECTRA_BY_RATE[name], np.random.default_rng(0))
    with patch.object(audit.svd.chance, "missed", return_value=0.0):
        assert wrong_starts(matrix, 100, 0.05) > 5


def test_in_float64_the_bounds_hold_down_to_rounding_by_mpmath() -> None:
    """LAPACK's vectors are no better than ours there, so that the truth has to come with 40 digits."""
    for seed in range(40):
        drawn = sample(seed, 12, kind=KINDS[seed % len(KINDS)], smallest=2)
        found = leading(drawn.linear_map, 2, f"seed {seed}")
        with mpmath.workdps(40):
            exact = mpmath.matrix(drawn.factors[0].tolist())
            for factor in drawn.factors[1:]:
                exact *= mpmath.matrix(factor.tolist())
            u, sigma, v = mpmath.svd_r(exact)
            for i in range(len(found.sigma)):
                off = abs(mpmath.mpf(float(found.sigma[i])) - sigma[i])
                assert off <= float(found.residual[i]), drawn
                for row, true in ((found.v[i], v[i, :]), (found.u[i], u[:, i].T)):
                    assert precise_sine(row.tolist(), list(true)) <= float(found.bound[i]), drawn


def precise_sine(row: list[float], true: list[mpmath.mpf]) -> mpmath.mpf:
    numbers = [mpmath.mpf(value) for value in row]
    length = mpmath.sqrt(mpmath.fsum(value**2 for value in numbers))
    cosine = mpmath.fdot(numbers, true) / length
    return mpmath.sqrt(
        mpmath.fsum((a / length - cosine * b) ** 2 for a, b in zip(numbers, true, strict=True))
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_plain_randomised_svd_breaks_the_same_check(steps: int) -> None:
    """The control: residuals measured, gaps taken between the values that were found, and no certificate."""
    wrong: Counter[str] = Counter()
    maps = 0
    for seed in range(400):
        drawn, k = sample(seed, kind=("uniform", "clustered", "plateau", "near copies")[seed % 4]), 2
        maps += 1
        false = broken(uncertified(drawn.matrix, k, steps, seed), truth(drawn.matrix), k)
        wrong.update({claim.what for claim in false} | ({"any"} if false else set()))
    assert wrong["any"] > 0.3 * maps
    assert wrong["v"] + wrong["u"] + wrong["plane v"] > 0.01 * maps


def test_randomised_svd_that_trusts_itself_breaks_it_outright() -> None:
    """The other control: the angle that is worked towards here, claimed for what came out."""
    wrong = 0
    for seed in range(200):
        drawn = sample(seed, kind="uniform", smallest=20)
        found = uncertified(drawn.matrix, 2, 2, seed)
        claimed: Triplets = replace(found, bound=torch.full_like(found.bound, audit.svd.ANGLE_TARGET))
        wrong += any(claim.what == "v" for claim in broken(claimed, truth(drawn.matrix), 2))
    assert wrong > 100
