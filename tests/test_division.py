"""The division of work among processes: whole, in order, balanced, and the same wherever it is made."""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, pairwise

from hypothesis import given
from hypothesis import strategies as st

from audit.division import divide
from audit.plan import Place, Task, Visit
from registry import LayerLayout, Projection

SERIES = (Projection.Q, Projection.K, Projection.UP)
LEADING = (Projection.Q, Projection.OV)


def visit(layer: int, *projections: Projection) -> Visit:
    return Visit(None, LayerLayout(layer, {}, {}), projections)


def layers(count: int) -> tuple[Task, ...]:
    """The tasks of a leading audit: a layer each."""
    return tuple(Task((visit(layer, *LEADING),)) for layer in range(count))


def series(*lengths: int) -> tuple[Task, ...]:
    """The tasks of a full audit: all layers of a projection each."""
    return tuple(
        Task(tuple(visit(layer, projection) for layer in range(length)))
        for projection, length in zip(SERIES, lengths, strict=False)
    )


class Prices:
    """A price for each place."""

    def __init__(self, prices: Sequence[int]) -> None:
        self.prices = prices

    def __call__(self, visit: Visit) -> float:
        return sum(self.of(visit.place(one)) for one in visit.projections)

    def of(self, place: Place) -> float:
        return self.prices[(7 * place.layer + 3 * len(place.projection)) % len(self.prices)]

    def load(self, part: Sequence[Task]) -> float:
        """What a part takes: its visits, and for each task the factorisation in front of it."""
        return sum(sum(map(self, task.visits)) + (self(task.before) if task.before else 0.0) for task in part)


plans = st.integers(0, 9).map(layers) | st.lists(st.integers(1, 6), max_size=3).map(
    lambda lengths: series(*lengths)
)
prices = st.lists(st.integers(1, 50), min_size=1, max_size=12).map(Prices)
parts = st.integers(1, 5)


@st.composite
def partly_done(draw: st.DrawFn) -> tuple[tuple[Task, ...], frozenset[Place]]:
    """Tasks, and some of their places, known already."""
    tasks = draw(plans)
    places = [place for task in tasks for place in task.places]
    return tasks, frozenset(draw(st.sets(st.sampled_from(places))) if places else ())


@given(partly_done(), parts, prices)
def test_every_place_that_is_not_known_is_measured_once_and_in_order(work, parts, cost) -> None:
    tasks, known = work
    shares = divide(tasks, known, parts, cost)
    assert len(shares) == parts
    made = [place for share in shares for task in share for place in task.places]
    assert made == [place for task in tasks for place in task.places if place not in known]


@given(partly_done(), parts, prices)
def test_a_stretch_of_a_series_names_the_visit_in_front_of_it(work, parts, cost) -> None:
    tasks, known = work
    ahead = {
        later.place(name): earlier
        for task in tasks
        for earlier, later in pairwise(task.visits)
        for name in later.projections
    }
    for task in (task for share in divide(tasks, known, parts, cost) for task in share):
        for before, here in pairwise((task.before, *task.visits)):
            assert before == ahead.get(next(iter(here.place(name) for name in here.projections)))


@given(partly_done(), parts, prices)
def test_the_dearest_part_is_as_cheap_as_any_division_into_stretches_makes_it(work, parts, cost) -> None:
    tasks, known = work
    dearest = max(cost.load(share) for share in divide(tasks, known, parts, cost))
    best = min(max(map(cost.load, shares)) for shares in every_division(tasks, known, parts))
    assert dearest <= best * (1 + 1e-9)


@given(partly_done(), parts, prices)
def test_no_part_is_dearer_than_the_mean_and_its_two_largest_visits(work, parts, cost) -> None:
    tasks, known = work
    loads = [cost.load(share) for share in divide(tasks, known, parts, cost)]
    own = divide(tasks, known, 1, cost)[0]
    largest = max((cost(one) for task in tasks for one in task.visits), default=0.0)
    extra = 1 if all(len(task.visits) == 1 for task in tasks) else 2
    assert max(loads) <= cost.load(own) / parts + extra * largest


@given(plans, parts, prices)
def test_the_division_is_the_same_each_time(tasks, parts, cost) -> None:
    assert divide(tasks, {}, parts, cost) == divide(tasks, {}, parts, cost)


def test_no_process_is_idle_while_another_has_layers_to_give() -> None:
    shares = divide(layers(6), {}, 4, Prices([1]))
    assert sorted(len(share) for share in shares) == [1, 1, 2, 2]


def test_a_dear_layer_counts_as_what_it_costs() -> None:
    def cost(visit: Visit) -> float:
        return 30.0 if visit.layer.index == 0 else 10.0

    assert [len(share) for share in divide(layers(7), {}, 3, cost)] == [1, 3, 3]


def test_series_are_cut_only_where_that_is_worth_the_factorisation_made_twice() -> None:
    whole = divide(series(4, 4), {}, 2, Prices([1]))
    assert whole == tuple((task,) for task in series(4, 4))
    (first,), (second,) = divide(series(4), {}, 2, Prices([1]))
    assert [one.layer.index for one in first.visits] == [0, 1]
    assert second.before == first.visits[-1]


def every_division(tasks: Sequence[Task], known: frozenset[Place], parts: int) -> Iterator[list[list[Task]]]:
    """Every division of the visits that are left into stretches, by trying all cuts."""
    line = [
        (Visit(one.stack, one.layer, left), before, number, index)
        for number, task in enumerate(tasks)
        for index, (before, one) in enumerate(pairwise((task.before, *task.visits)))
        if (left := tuple(name for name in one.projections if one.place(name) not in known))
    ]
    for cuts in combinations_with_replacement(range(len(line) + 1), parts - 1):
        shares = []
        for start, end in pairwise((0, *cuts, len(line))):
            share: list[Task] = []
            last = None
            for one, before, number, index in line[start:end]:
                if last == (number, index - 1):
                    share[-1] = Task((*share[-1].visits, one), share[-1].before)
                else:
                    share.append(Task((one,), before))
                last = (number, index)
            shares.append(share)
        yield shares
