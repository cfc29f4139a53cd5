"""A measurement as bytes: what comes back is what was there, to the last bit, and damage is noticed."""

import struct
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.measure import Expert, Measured, Spectrum
from audit.plan import Place
from audit.record import DamagedRecordError, from_bytes, to_bytes
from audit.svd import Triplets
from registry import Projection

PROBLEMS = (None, "nan", "inf", "zero")
numbers = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])


@st.composite
def tensors(draw: st.DrawFn, axes: int) -> Tensor:
    """Any numbers, NaN and infinity too, of few elements or none; now and then a view of something larger."""
    shape = draw(st.tuples(*[st.integers(0, 5)] * axes))
    count = 2 * int(torch.tensor(shape).prod())
    values = draw(st.lists(numbers, min_size=count, max_size=count))
    whole = torch.tensor(values, dtype=torch.float64).to(draw(dtypes))
    return (whole[::2] if draw(st.booleans()) else whole[: count // 2]).view(shape)


def of(kind: type, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A dataclass with every field drawn, tensors with one axis and numbers where nothing else is given."""
    drawn = {}
    for each in fields(kind):
        hint = str(each.type)
        drawn[each.name] = tensors(1) if "Tensor" in hint else st.booleans() if "bool" in hint else numbers
    return st.builds(kind, **drawn | given)


matrices = st.none() | tensors(2)
places = st.builds(
    Place, st.none() | st.text(max_size=8), st.sampled_from(list(Projection)), st.integers(0, 999)
)
measurements = of(
    Measured,
    place=places,
    shape=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    problem=st.sampled_from(PROBLEMS),
    triplets=st.none() | of(Triplets, v=matrices, u=matrices),
    stable_rank=st.none() | numbers,
    spectrum=st.none() | of(Spectrum, wa_v=st.none() | numbers, wa_u=st.none() | numbers),
    experts=st.none()
    | st.lists(
        of(
            Expert,
            problem=st.sampled_from(PROBLEMS),
            sigma1=st.none() | numbers,
            vector=st.none() | tensors(1),
        ),
        max_size=3,
    ).map(tuple),
)


def bits(value: Any) -> Any:
    """Everything that a measurement is, floats and tensors bit by bit."""
    if isinstance(value, Tensor):
        whole = torch.empty(value.shape, dtype=value.dtype).copy_(value)
        return (value.dtype, tuple(value.shape), bytes(whole.view(-1).view(torch.uint8).tolist()))
    if isinstance(value, float):
        return "nan" if value != value else struct.pack(">d", value)
    if isinstance(value, tuple):
        return tuple(bits(item) for item in value)
    if is_dataclass(value):
        return (type(value), {each.name: bits(getattr(value, each.name)) for each in fields(value)})
    return value


SAMPLE = Measured(
    Place("vision", Projection.GATE, 7),
    (3, 5),
    float("inf"),
    "inf",
    spectrum=Spectrum(torch.arange(5.0)[:3], 0.1, None),
    experts=(Expert(0.1, float("nan"), vector=torch.arange(5.0)[:2]),),
)


@given(measurements, st.text(max_size=5))
def test_what_comes_back_is_what_was_there(measured: Measured, key: str) -> None:
    assert bits(from_bytes(to_bytes(measured, key), key)) == bits(measured)


def test_a_whole_number_where_a_float_belongs_comes_back_as_one() -> None:
    assert from_bytes(to_bytes(Measured(SAMPLE.place, (1, 1), 3))).peak == 3.0


@given(st.binary(max_size=300))
def test_bytes_that_are_nothing_are_damaged(data: bytes) -> None:
    with pytest.raises(DamagedRecordError):
        from_bytes(data)


@given(st.data())
def test_a_byte_changed_or_missing_or_too_many_is_noticed(data: st.DataObject) -> None:
    whole = to_bytes(SAMPLE)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(changed), whole[:at], whole + whole[at:]):
        with pytest.raises(DamagedRecordError):
            from_bytes(damaged)


def test_another_key_or_another_version_s_fields_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = to_bytes(SAMPLE, "a")
    with pytest.raises(DamagedRecordError, match="something else"):
        from_bytes(whole, "b")
    monkeypatch.setattr("audit.record._hints", lambda kind: {"place": Place, "more": float})
    with pytest.raises(DamagedRecordError, match="other fields"):
        from_bytes(whole, "a")
