"""Tensors come out of their shards bit by bit as they went in, and no file is opened twice."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint, write_llama
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import audit.checkpoint.reader as reader_module
from audit.audit import run
from audit.checkpoint import TensorReader, open_checkpoint
from audit.errors import CorruptError, TruncatedError, UnsupportedDtypeError
from audit.options import AuditOptions, parse_only
from audit.plan import make_plan, planned_reads
from registry import Read, Slab

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def bits(tensor: torch.Tensor) -> list[int]:
    """The bytes, so that NaN, infinity and the sign of zero compare too."""
    return tensor.contiguous().view(-1).view(torch.uint8).tolist()


def whole(names: Iterable[str]) -> list[Read]:
    """One read of each tensor."""
    return [Read(name) for name in names]


class Opens:
    """Counts what the reader opens, and watches whether it was closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: list = []
        monkeypatch.setattr(reader_module, "open", self, raising=False)

    def __call__(self, path: Path, *args, **kwargs):
        self.files.append(open(path, *args, **kwargs))  # noqa: SIM115 - the reader closes it
        return self.files[-1]

    @property
    def still_open(self) -> list:
        return [file for file in self.files if not file.closed]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_float_dtype_is_read_exactly(tmp_path, dtype):
    special = torch.tensor(
        [0.0, -0.0, 1.5, float("inf"), -float("inf"), float("nan"), 1e-7, 6e4], dtype=dtype
    )
    tensors = {
        "special": special,
        "random": torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).to(dtype),
        "scalar": torch.tensor(2.5, dtype=dtype),
        "empty": torch.empty(0, 3, dtype=dtype),
        "deep": torch.arange(24, dtype=dtype).reshape(2, 3, 4),
    }
    folder = write_checkpoint(tmp_path / "m", tensors)
    reference = load_file(folder / "model.safetensors")
    with TensorReader(open_checkpoint(str(folder)), whole(tensors)) as reader:
        for name in tensors:
            read = reader.read(Read(name))
            assert (read.dtype, read.shape) == (reference[name].dtype, reference[name].shape)
            assert bits(read) == bits(reference[name])
        assert reader.bytes_read == sum(tensor.nbytes for tensor in tensors.values())


@given(st.permutations(["a", "b", "c", "d", "a", "c"]))
def test_any_order_of_reads_gives_the_same_tensors(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("any")
    tensors = {name: torch.full((3,), float(ord(name))) for name in "abcd"}
    write_checkpoint(folder, tensors, shards=2)
    with TensorReader(open_checkpoint(str(folder)), whole(order)) as reader:
        for name in order:
            assert torch.equal(reader.read(Read(name)), tensors[name])


@pytest.mark.parametrize("full", [False, True])
def test_each_shard_is_opened_once_and_all_are_closed(tmp_path, monkeypatch, full):
    folder = write_llama(tmp_path / "m", layers=4, shards=5)
    plan = make_plan(open_checkpoint(str(folder)), AuditOptions(full=full))
    opens = Opens(monkeypatch)
    run(plan, "")
    assert sorted(Path(file.name).name for file in opens.files) == sorted(
        file.name for file in plan.checkpoint.files
    )
    assert not opens.still_open


def test_a_shard_is_closed_after_its_last_planned_read(tmp_path, monkeypatch):
    folder = write_llama(tmp_path / "m", shards=2)
    checkpoint = open_checkpoint(str(folder))
    first, second = (
        [name for name, stored in checkpoint.tensors.items() if stored.file is file]
        for file in checkpoint.files
    )
    opens = Opens(monkeypatch)
    with TensorReader(checkpoint, whole([first[0], first[1], second[0]])) as reader:
        reader.read(Read(first[0]))
        assert len(opens.still_open) == 1
        reader.read(Read(first[1]))
        assert not opens.still_open
        reader.read(Read(second[0]))
        assert not opens.still_open


def test_an_interrupted_reader_closes_its_files(llama, monkeypatch):
    opens = Opens(monkeypatch)
    with TensorReader(open_checkpoint(str(llama)), whole(["model.norm.weight"] * 2)) as reader:
        reader.read(Read("model.norm.weight"))
        assert len(opens.still_open) == 1
    assert not opens.still_open


def test_a_file_that_shrank_since_it_was_planned(llama):
    checkpoint = open_checkpoint(str(llama))
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:3000])
    last = max(checkpoint.tensors, key=lambda name: checkpoint.tensors[name].entry.stop)
    with (
        TensorReader(checkpoint, whole([last])) as reader,
        pytest.raises(TruncatedError, match="ended while"),
    ):
        reader.read(Read(last))


def test_a_file_that_went_away_since_it_was_planned(llama):
    checkpoint = open_checkpoint(str(llama))
    (llama / "model.safetensors").unlink()
    with (
        TensorReader(checkpoint, whole(checkpoint.tensors)) as reader,
        pytest.raises(CorruptError, match="cannot be opened"),
    ):
        reader.read(Read("model.norm.weight"))


def test_a_short_read_is_continued(llama, monkeypatch):
    """A pipe or a network file system may give fewer bytes than asked for."""
    whole_read = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda file, buffers, offset: whole_read(file, [buffers[0][:7]], offset)
    )
    expected = load_file(llama / "model.safetensors")["model.embed_tokens.weight"]
    with TensorReader(open_checkpoint(str(llama)), whole(["model.embed_tokens.weight"])) as reader:
        assert torch.equal(reader.read(Read("model.embed_tokens.weight")), expected)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(torch.int8, "I8"), (torch.uint8, "U8"), (torch.int64, "I64"), (torch.bool, "BOOL"),
     (torch.float8_e4m3fn, "F8_E4M3"), (torch.float8_e5m2, "F8_E5M2")],
    ids=str,
)  # fmt: skip
def test_what_is_no_plain_float_is_refused_by_name(tmp_path, dtype, stored):
    folder = write_checkpoint(tmp_path / "m", {"layer.weight": torch.zeros(2, 2).to(dtype)})
    with (
        TensorReader(open_checkpoint(str(folder)), whole(["layer.weight"])) as reader,
        pytest.raises(UnsupportedDtypeError, match=rf"layer\.weight is stored as {stored}"),
    ):
        reader.read(Read("layer.weight"))


def test_a_read_tensor_keeps_nothing_of_its_file(llama):
    path = llama / "model.safetensors"
    before = path.read_bytes()
    with TensorReader(open_checkpoint(str(llama)), whole(["model.norm.weight"])) as reader:
        reader.read(Read("model.norm.weight")).fill_(7)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ([], AuditOptions()),
        (["--full"], AuditOptions(full=True)),
        (["--fold-norm"], AuditOptions(fold_norm=True)),
        (["--only", "v,ov"], AuditOptions(only=parse_only("v,ov"))),
        (["--layers", "1:"], AuditOptions(layers=slice(1, None))),
    ],
)
def test_planned_bytes_are_the_bytes_read(llama, audited, flags, options):
    report = audited(llama, *flags)
    plan = make_plan(open_checkpoint(str(llama)), options)
    assert report["provenance"]["bytes_read"] == plan.bytes_to_read
    assert report["coverage"]["audited"] == len(set(planned_reads(plan.visits, options)))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_slab_is_an_experts_share_of_a_tensor(tmp_path, dtype):
    generator = torch.Generator().manual_seed(0)
    packed = torch.randn(5, 3, 4, generator=generator).to(dtype)
    flat = torch.randn(10, 4, generator=generator).to(dtype)
    folder = write_checkpoint(tmp_path / "m", {"before": torch.ones(3), "packed": packed, "flat": flat})
    reads = [Read(name, Slab(index, 5)) for name in ("packed", "flat") for index in range(5)]
    with TensorReader(open_checkpoint(str(folder)), reads) as reader:
        for index in range(5):
            assert torch.equal(reader.read(Read("packed", Slab(index, 5))), packed[index])
            assert torch.equal(reader.read(Read("flat", Slab(index, 5))), flat[2 * index : 2 * index + 2])
        assert reader.bytes_read == packed.nbytes + flat.nbytes
