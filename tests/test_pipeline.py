"""Workers side by side: the same numbers whoever makes them, errors surface, reads are announced."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from checkpoints import write_llama

import audit.checkpoint.reader as reader_module
from audit.checkpoint import TensorReader, open_checkpoint
from audit.errors import TruncatedError
from audit.measure import Measured
from audit.options import AuditOptions
from audit.pipeline import Pipeline
from audit.plan import AuditPlan, Place, Task, make_plan, pending
from registry import Projection, Read

CPU = torch.device("cpu")


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A llama of six layers in three shards."""
    return write_llama(tmp_path / "deep", 6, shards=3)


def plan_of(folder: Path, **options: object) -> AuditPlan:
    return make_plan(open_checkpoint(str(folder)), AuditOptions(**options))  # type: ignore[arg-type]


def measured(plan: AuditPlan, workers: int, tasks: Sequence[Task] | None = None) -> dict[Place, Measured]:
    made = Pipeline(plan, CPU, workers).measure(plan.tasks if tasks is None else tasks, {})
    return {one.place: one for one in made}


def assert_same(one: Measured, other: Measured) -> None:
    """To the last bit."""
    for name in ("sigma", "v", "u", "residual", "gap", "bound"):
        assert torch.equal(getattr(one.triplets, name), getattr(other.triplets, name))
    if one.spectrum is not None and other.spectrum is not None:
        assert torch.equal(one.spectrum.sigma, other.spectrum.sigma)
        assert (one.spectrum.wa_v, one.spectrum.wa_u) == (other.spectrum.wa_v, other.spectrum.wa_u)


@pytest.mark.parametrize("full", [False, True])
def test_the_numbers_do_not_depend_on_the_workers(deep: Path, full: bool) -> None:
    plan = plan_of(deep, full=full)
    alone, together = measured(plan, 1), measured(plan, 4)
    assert alone.keys() == together.keys() == {place for task in plan.tasks for place in task.places}
    for place, one in alone.items():
        assert_same(one, together[place])


def test_tasks_really_go_on_side_by_side(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three workers waits in its first read until the others have come as far."""
    barrier, seen, read = threading.Barrier(3), set[int](), TensorReader.read

    def waiting(self: TensorReader, one: Read, **options: bool) -> torch.Tensor:
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            barrier.wait(timeout=60)
        return read(self, one, **options)

    monkeypatch.setattr(TensorReader, "read", waiting)
    assert len(measured(plan_of(deep), 3)) == 6 * 8
    assert len(seen) == 3


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_a_task_is_raised(deep: Path, workers: int) -> None:
    plan = plan_of(deep)
    shard = sorted(deep.glob("*.safetensors"))[1]
    os.truncate(shard, shard.stat().st_size - 1000)
    with pytest.raises(TruncatedError, match=shard.name):
        measured(plan, workers)


@pytest.mark.parametrize(
    ("known", "left"),
    [
        ([], [0, 1, 2]),
        ([1], [0, 1, 2]),  # 2 is compared with 1, which is taken again
        ([0], [0, 1, 2]),
        ([2], [0, 1]),
        ([0, 1], [1, 2]),
        ([0, 1, 2], []),
    ],
)
def test_with_full_a_layer_is_planned_again_where_the_next_one_needs_it(
    llama: Path, known: list[int], left: list[int]
) -> None:
    plan = plan_of(llama, full=True, only="q")
    (task,) = plan.tasks
    places = {Place(None, Projection.Q, layer) for layer in known}
    assert [visit.layer.index for visit in pending(task, places, True)] == left


def test_only_what_is_not_known_is_planned(llama: Path) -> None:
    plan = plan_of(llama)
    left = Place(None, Projection.UP, 1)
    known = {place for task in plan.tasks for place in task.places} - {left}
    visits = [visit for task in plan.tasks for visit in pending(task, known, False)]
    assert [(visit.layer.index, visit.projections) for visit in visits] == [(1, (Projection.UP,))]
    assert plan.bytes_left(known) == 24 * 16 * 4
    assert plan.bytes_left({}) == plan.bytes_to_read


def test_whoever_stops_listening_stops_the_workers(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends with the matrix it is at, of 48; a composite takes two reads."""
    reads, read, before = 0, TensorReader.read, set(threading.enumerate())

    def slow(self: TensorReader, one: Read, **options: bool) -> torch.Tensor:
        nonlocal reads
        reads += 1
        time.sleep(0.02)
        return read(self, one, **options)

    monkeypatch.setattr(TensorReader, "read", slow)
    readers: list[TensorReader] = []
    # one that is closed would end them too
    monkeypatch.setattr(TensorReader, "__exit__", lambda self, *error: readers.append(self))
    plan = plan_of(deep)
    made: Iterator[Measured] = Pipeline(plan, CPU, 2).measure(plan.tasks, {})
    next(made)
    crew = set(threading.enumerate()) - before
    made.close()  # type: ignore[attr-defined]
    then = reads
    for thread in crew:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in crew)
    assert reads <= then + 2 * 2
    readers[0].close()


@pytest.mark.parametrize("full", [False, True])
def test_what_is_known_is_not_measured_again(deep: Path, full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(deep, full=full, only="q,down")
    whole = measured(plan, 1)
    known = {place: one for place, one in whole.items() if place.layer in (0, 1, 4)}
    reads: list[str] = []
    read = TensorReader.read
    monkeypatch.setattr(TensorReader, "read", lambda self, one: reads.append(one.tensor) or read(self, one))
    rest = {one.place: one for one in Pipeline(plan, CPU, 1).measure(plan.tasks, known)}
    assert rest.keys() == whole.keys() - known.keys()
    for place, one in rest.items():
        assert_same(one, whole[place])
    # with --full the layers in front of those that lack are factorised once more, to be compared with
    layers = {int(name.split(".")[2]) for name in reads}
    assert layers == ({1, 2, 3, 4, 5} if full else {2, 3, 5})


def test_a_stretch_of_a_projections_layers_takes_up_the_one_before(deep: Path) -> None:
    plan = plan_of(deep, full=True, only="k")
    (task,) = plan.tasks
    stretch = Task(task.visits[3:], before=task.visits[2])
    whole, part = measured(plan, 1), measured(plan, 1, [stretch])
    assert {place.layer for place in part} == {3, 4, 5}
    for place, one in part.items():
        assert_same(one, whole[place])
        assert one.spectrum is not None
        assert one.spectrum.wa_v is not None


def test_a_layer_that_is_compared_with_none_needs_values_only(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(plan_of(llama, full=True, only="up"), 1)
    monkeypatch.setattr("audit.measure.factorise", lambda linear_map: pytest.fail("vectors were asked for"))
    (alone,) = measured(plan_of(llama, full=True, only="up", layers="1"), 1).values()
    expected = whole[Place(None, Projection.UP, 1)]
    assert alone.spectrum is not None
    assert expected.spectrum is not None
    torch.testing.assert_close(alone.spectrum.sigma, expected.spectrum.sigma, rtol=1e-9, atol=0)
    assert alone.triplets is not None
    assert alone.triplets.chance == 0
    assert bool((alone.triplets.bound < 1e-4).all())


class Advice:
    """What the system was told of which bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[int, int, int]] = []
        monkeypatch.setattr(os, "posix_fadvise", lambda file, *rest: self.told.append(rest))

    def of(self, kind: int) -> list[tuple[int, int]]:
        return [(start, size) for start, size, advice in self.told if advice == kind]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on its file cache")
def test_reads_are_announced_before_they_are_made(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advice, plan = Advice(monkeypatch), plan_of(llama)
    measured(plan, 1)
    extents = {
        (plan.checkpoint.tensors[read.tensor].entry.start, plan.checkpoint.tensors[read.tensor].entry.nbytes)
        for task in plan.tasks
        for visit in task.visits
        for slot in visit.layer.slots.values()
        for read in slot.reads
    }
    assert set(advice.of(os.POSIX_FADV_WILLNEED)) == extents
    assert advice.of(os.POSIX_FADV_DONTNEED) == []


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on its file cache")
def test_what_does_not_fit_in_memory_is_dropped_after_its_last_read(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advice, checkpoint = Advice(monkeypatch), open_checkpoint(str(llama))
    monkeypatch.setattr(reader_module, "physical_memory", lambda: 1000)
    twice, once = Read("model.embed_tokens.weight"), Read("model.norm.weight")
    entries = [checkpoint.tensors[read.tensor].entry for read in (twice, once)]
    with TensorReader(checkpoint, [twice, once, twice]) as reader:
        reader.read(twice)
        assert advice.told == []
        reader.read(once)
        reader.read(twice)
    dropped = [(entry.start, entry.nbytes) for entry in reversed(entries)]
    assert advice.of(os.POSIX_FADV_DONTNEED) == dropped
