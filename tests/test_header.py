"""A safetensors header is believed only when it is right: anything else is a HeaderError, nothing worse."""

import json
import tempfile
import tracemalloc
from contextlib import suppress
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import pack
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rubbish import awkward, json_values
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import save_file

from audit.checkpoint.header import TensorEntry, parse_header, read_header
from audit.errors import HeaderError, TruncatedError

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip

VALID: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "c": {"dtype": "U8", "shape": [], "data_offsets": [32, 33]},
}
SIZE = 33
"""Bytes of data that VALID describes."""

tensor_like = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "U8", "F4"]) | json_values,
        "shape": st.lists(st.integers(-1, 5) | awkward, max_size=4) | json_values,
        "data_offsets": st.lists(st.integers(-1, 40) | awkward, max_size=3) | json_values,
    },
)


def parse(text: bytes, data: int = SIZE) -> dict[str, TensorEntry]:
    return parse_header(text, 8 + len(text) + data, "m.safetensors")


def attempt(text: bytes, data: int = SIZE) -> None:
    """Either a sound dict of entries, or an error of ours."""
    try:
        entries = parse(text, data)
    except (HeaderError, TruncatedError):
        return
    assert sum(entry.nbytes for entry in entries.values()) == data
    assert all(isinstance(entry, TensorEntry) for entry in entries.values())


def read_bytes(content: bytes) -> dict[str, TensorEntry]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        return read_header(path)


@given(st.binary(max_size=64))
@example(b"")
@example(b"\x00" * 8)
@example((2**64 - 1).to_bytes(8, "little"))
def test_random_bytes_are_refused_or_read(content):
    with suppress(HeaderError, TruncatedError):
        assert read_bytes(content) == {}


@given(st.binary(max_size=64), st.integers(0, 64))
def test_random_header_text_is_refused_or_read(text, data):
    attempt(text, data)


@given(json_values | st.dictionaries(st.text(max_size=4), tensor_like | json_values, max_size=4))
@example({})
@example({"t": {"dtype": "F32", "shape": [2**62] * 16, "data_offsets": [0, 8]}})
@example({"t": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}})
def test_random_json_is_refused_or_read(value):
    attempt(json.dumps(value).encode("utf-8", "surrogatepass"))


@given(st.data())
def test_a_damaged_header_is_refused_or_read(data):
    header = deepcopy(VALID)
    name = data.draw(st.sampled_from(["a", "b", "c"]))
    key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", None]))
    value = data.draw(json_values)
    if key is None:
        header[name] = value
    elif isinstance(header[name][key], list) and header[name][key] and data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(header[name][key]) - 1))
        header[name][key][position] = value
    else:
        header[name][key] = value
    attempt(json.dumps(header).encode())


@given(st.data())
def test_a_header_with_flipped_bytes_is_refused_or_read(data):
    text = bytearray(json.dumps(VALID).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    attempt(bytes(text))


@given(st.integers(0, 400), st.integers(0, 33))
def test_a_cut_file_is_truncated_at_whatever_byte(keep, extra):
    whole = pack(VALID, bytes(SIZE))
    cut = whole[: min(keep + extra, len(whole) - 1)]
    with pytest.raises((TruncatedError, HeaderError)):
        read_bytes(cut)


def with_tensor(**changes: object) -> dict[str, object]:
    return {"t": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes}


def entry(dtype: str, shape: list[int], start: int, stop: int, **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop], **more}


@pytest.mark.parametrize(
    ("header", "data", "error"),
    [
        pytest.param(with_tensor(data_offsets=[0, 2**40]), 16, HeaderError, id="shape and length differ"),
        pytest.param(with_tensor(shape=[2**30], data_offsets=[0, 2**32]), 16, TruncatedError, id="past end"),
        pytest.param(with_tensor(data_offsets=[16, 0]), 16, HeaderError, id="backwards"),
        pytest.param(with_tensor(data_offsets=[-16, 0]), 16, HeaderError, id="negative offset"),
        pytest.param(with_tensor(shape=[-2, -2]), 16, HeaderError, id="negative shape"),
        pytest.param(with_tensor(shape=[2.0, 2]), 16, HeaderError, id="float in shape"),
        pytest.param(with_tensor(data_offsets=[0.0, 16.0]), 16, HeaderError, id="float offsets"),
        pytest.param(with_tensor(shape=[True, 4]), 16, HeaderError, id="bool in shape"),
        pytest.param(with_tensor(data_offsets=[False, 16]), 16, HeaderError, id="bool offset"),
        pytest.param(with_tensor(shape=[[2], 2]), 16, HeaderError, id="nested list"),
        pytest.param(with_tensor(shape="22"), 16, HeaderError, id="shape is text"),
        pytest.param(with_tensor(shape=[1] * 5000 + [4]), 16, HeaderError, id="very many axes"),
        pytest.param(with_tensor(shape=[2**63, 0], data_offsets=[0, 0]), 0, HeaderError, id="2^63 in shape"),
        pytest.param(with_tensor(data_offsets=[0, 16, 32]), 16, HeaderError, id="three offsets"),
        pytest.param(with_tensor(dtype="F33"), 16, HeaderError, id="unknown dtype"),
        pytest.param(with_tensor(dtype=["F32"]), 16, HeaderError, id="dtype is a list"),
        pytest.param({"t": {"dtype": "F32", "shape": [4]}}, 16, HeaderError, id="no offsets"),
        pytest.param({"t": []}, 0, HeaderError, id="tensor is a list"),
        pytest.param([], 0, HeaderError, id="header is a list"),
        pytest.param(VALID, SIZE + 1, HeaderError, id="bytes of no tensor"),
        pytest.param(VALID, SIZE - 1, TruncatedError, id="one byte short"),
        pytest.param(with_tensor() | {"u": with_tensor()["t"]}, 16, HeaderError, id="overlap"),
        pytest.param(with_tensor(data_offsets=[8, 24]), 24, HeaderError, id="hole in front"),
        pytest.param(
            with_tensor() | {"u": {"dtype": "U8", "shape": [4], "data_offsets": [20, 24]}},
            24, HeaderError, id="hole between",
        ),
        pytest.param(b'{"t": 1, "t": 2}', 0, HeaderError, id="tensor named twice"),
        pytest.param(
            b'{"t": {"dtype": "U8", "dtype": "I8", "shape": [1], "data_offsets": [0, 1]}}',
            1, HeaderError, id="key stands twice",
        ),
        pytest.param(b'{"\xff": 1}', 0, HeaderError, id="not UTF-8"),
        pytest.param(b'{"t": ' * 100_000, 0, HeaderError, id="deep objects"),
        pytest.param(b'{"t": ' + b"[" * 100_000, 0, HeaderError, id="deep lists"),
        pytest.param(b'{"t": ' + b"9" * 10_000 + b"}", 0, HeaderError, id="10,000-digit number"),
        pytest.param(b'{"t": NaN}', 0, HeaderError, id="NaN"),
        pytest.param(b"", 0, HeaderError, id="nothing"),
        pytest.param(with_tensor(shape=[2**40, 2**40, 0]), 16, HeaderError, id="a product beyond 64 bits"),
        pytest.param({"t": entry("F4", [3], 0, 1)}, 1, HeaderError, id="12 bits"),
        pytest.param({"t": entry("F6_E2M3", [3], 0, 2)}, 2, HeaderError, id="18 bits"),
        pytest.param({"__metadata__": []} | with_tensor(), 16, HeaderError, id="metadata is a list"),
        pytest.param({"__metadata__": {"a": 1}} | with_tensor(), 16, HeaderError, id="a number in metadata"),
        pytest.param({"__metadata__": {"a": None}} | with_tensor(), 16, HeaderError, id="null in metadata"),
        pytest.param({"__metadata__": {"a": {}}} | with_tensor(), 16, HeaderError, id="nested metadata"),
        pytest.param(rb'{"__metadata__": {"a": "\ud800"}}', 0, HeaderError, id="half a character"),
        pytest.param(b'{"__metadata__": {"a": "1", "a": "2"}}', 0, HeaderError, id="metadata stands twice"),
        pytest.param({"t": entry("U8", [], 0, 1, x=float("nan"))}, 1, HeaderError, id="NaN in an entry"),
        pytest.param(b"{} {}", 0, HeaderError, id="two objects"),
        pytest.param(b"{}\x00", 0, HeaderError, id="NUL behind it"),
        pytest.param(b"\xef\xbb\xbf{}", 0, HeaderError, id="byte order mark"),
    ],
)  # fmt: skip
def test_a_wrong_header_is_refused(header, data, error):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with pytest.raises(error) as caught:
        parse(text, data)
    assert "m.safetensors" in caught.value.message


def test_a_name_that_no_encoding_can_write_is_refused():
    """JSON can spell half a surrogate pair, which neither a report nor a terminal can hold."""
    text = rb'{"layers.\ud800": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
    with pytest.raises(HeaderError):
        parse(text, 1)


@pytest.mark.parametrize(
    ("header", "data", "names"),
    [
        (b"{}   \n", 0, set()),
        ({"__metadata__": None}, 0, set()),
        ({"__metadata__": {}}, 0, set()),
        ({"": entry("U8", [1], 0, 1)}, 1, {""}),
        ({"a": entry("U8", [0], 0, 0), "b": entry("F32", [3, 0], 0, 0)}, 0, {"a", "b"}),
        ({"a": entry("U8", [2], 0, 2), "z": entry("U8", [0], 2, 2), "b": entry("I8", [], 2, 3)}, 3, {*"abz"}),
        ({"a": entry("F4", [2, 3], 0, 3)}, 3, {"a"}),
        ({"a": entry("F6_E3M2", [4], 0, 3)}, 3, {"a"}),
        ({"a": entry("U8", [1], 0, 1, note=["later", {"x": 1}])}, 1, {"a"}),
        (rb'{"\ud83d\ude00": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}', 1, {"😀"}),
    ],
)  # fmt: skip
def test_what_is_rare_and_right_is_read_as_safetensors_reads_it(header, data, names):
    content = pack(header, bytes(data))
    assert set(read_bytes(content)) == names == {name for name, _ in deserialize(content)}


BITS = {"I8": 8, "U8": 8, "BF16": 16, "F4": 4, "F6_E2M3": 6, "C64": 64}
notes = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)


@st.composite
def nearly_legal(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A header and the bytes of its data: right, or with one thing in it changed."""
    header: dict[str, Any] = {"__metadata__": draw(notes)} if draw(st.booleans()) else {}
    end = 0
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        dtype, shape = draw(st.sampled_from(sorted(BITS))), draw(st.lists(st.integers(0, 4), max_size=3))
        start, end = end, end + prod(shape) * BITS[dtype] // 8
        header[name] = entry(dtype, shape, start, end)
    if header and draw(st.booleans()):
        said = header[draw(st.sampled_from(sorted(header)))]
        said[draw(st.sampled_from(sorted(said) or ["a"]))] = draw(awkward | st.just([2**40, 2**40, 0]))
    return header, end + draw(st.sampled_from([0, 0, 0, 1]))


@given(nearly_legal(), st.sampled_from([b"", b"", b" ", b"\n", b"\x00", b"{}"]))
@settings(max_examples=400)
def test_what_safetensors_refuses_is_refused_and_the_rest_is_read(said, behind):
    """Ours is stricter in three things that are not drawn: a key twice, 17 axes, an entry that is a list."""
    header, data = said
    content = pack(json.dumps(header).encode() + behind, bytes(data))
    try:
        theirs = {name: (one["dtype"], tuple(one["shape"])) for name, one in deserialize(content)}
    except SafetensorError:
        with pytest.raises((HeaderError, TruncatedError)):
            read_bytes(content)
        return
    assert {name: (one.dtype, one.shape) for name, one in read_bytes(content).items()} == theirs


def test_a_file_without_tensors_is_read():
    assert read_bytes(pack({})) == {}
    assert read_bytes(pack({"__metadata__": {"format": "pt"}})) == {}


def test_offsets_count_from_the_start_of_the_file():
    text = json.dumps(VALID).encode()
    entries = parse(text)
    assert entries["a"] == TensorEntry("F32", (2, 3), 8 + len(text), 8 + len(text) + 24)
    assert entries["c"].nbytes == 1
    assert "__metadata__" not in entries


def test_a_git_lfs_pointer_is_named_for_what_it_is():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    with pytest.raises(HeaderError, match=r"Git LFS pointer.*git lfs pull"):
        read_bytes(pointer)


@pytest.mark.parametrize("length", [100_000_001, 2**60, 2**64 - 1])
def test_a_huge_claim_allocates_nothing(tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    tracemalloc.start()
    try:
        with pytest.raises(HeaderError, match=str(length)):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_header_of_megabytes_takes_memory_in_proportion(tmp_path):
    """A tensor takes some ten times the bytes that its entry has in the file, and no more."""
    entries = ",".join(
        f'"{i:x}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{i + 1}]}}' for i in range(40_000)
    )
    text = f"{{{entries}}}".encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack(text, bytes(40_000)))
    tracemalloc.start()
    try:
        assert len(read_header(path)) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 20 * len(text)
    finally:
        tracemalloc.stop()


def test_what_an_error_quotes_is_cut_short():
    text = json.dumps({"x" * 10**6: {"dtype": "y" * 10**6}}).encode()
    with pytest.raises(HeaderError) as caught:
        parse(text)
    assert len(str(caught.value)) < 1000


def test_a_folder_or_a_missing_file_is_no_header(tmp_path):
    for path in (tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(HeaderError, match="cannot be read"):
            read_header(path)


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@given(st.dictionaries(st.text("ab.é0", min_size=1, max_size=4), st.tuples(shapes, st.sampled_from(DTYPES))))
@example({"scalar": ((), torch.float32), "empty": ((0, 3), torch.float16)})
def test_what_safetensors_writes_is_read_as_safetensors_reads_it(said):
    tensors = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in said.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(tensors, path, metadata={"format": "pt"})
        entries = read_header(path)
        with safe_open(path, framework="pt") as reference:
            assert set(entries) == set(reference.keys())
            for name, entry in entries.items():
                view = reference.get_slice(name)
                assert (entry.dtype, list(entry.shape)) == (view.get_dtype(), view.get_shape())
