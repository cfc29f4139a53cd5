"""Which files are the model, and what is said when they are not there, not whole or not to be believed."""

import errno
import json
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from checkpoints import llama_config, llama_tensors, pack, write_index, write_llama
from safetensors.torch import save_file

from audit.checkpoint import open_checkpoint
from audit.checkpoint.files import INDEX, IndexDifference, compare_index, parse_config, weight_files
from audit.errors import (
    AuditError,
    ConfigError,
    CorruptError,
    HeaderError,
    NoSafetensorsError,
    PathNotFoundError,
    ShardIndexError,
    TruncatedError,
    UnsupportedError,
    UsageError,
)
from audit.options import AuditOptions
from audit.plan import make_plan


def chosen(*names: str, index: dict[str, str] | None = None) -> tuple[str, ...]:
    """What weight_files picks from a repo with these files."""
    text = json.dumps({"weight_map": index}).encode()
    return weight_files({*names, *([INDEX] if index is not None else [])}, lambda: text, "the repo")


def numbered(*numbers: int, count: int = 3, stem: str = "model") -> list[str]:
    return [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in numbers]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors"], ["model.safetensors"]),
        (["model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["model.safetensors", "adapter_model.safetensors"], ["model.safetensors"]),
        (["model.safetensors", "pytorch_model.bin", "model.fp16.safetensors"], ["model.safetensors"]),
        (["weights.safetensors", "config.json"], ["weights.safetensors"]),
        (["weights.safetensors", "consolidated.safetensors"], ["weights.safetensors"]),
        (["consolidated.safetensors"], ["consolidated.safetensors"]),
        (["onnx/model.safetensors", "net.safetensors"], ["net.safetensors"]),
        (numbered(3, 1, 2), numbered(1, 2, 3)),
        ([*numbered(2, 1, count=2), "consolidated.safetensors"], numbered(1, 2, count=2)),
        (numbered(1, 2, count=2, stem="consolidated"), numbered(1, 2, count=2, stem="consolidated")),
    ],
)
def test_without_an_index_the_names_tell(names, expected):
    assert chosen(*names) == tuple(expected)


def test_the_index_decides_over_every_other_file():
    shards = numbered(1, 2, count=2)
    names = [*shards, "model.safetensors", "consolidated.safetensors", "adapter_model.safetensors"]
    assert chosen(*names, index={"a": shards[1], "b": shards[0], "c": shards[1]}) == (shards[1], shards[0])


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (numbered(1, 3), ShardIndexError, r"lacks the shard model-00002-of-00003"),
        (["a.safetensors", "b.safetensors"], NoSafetensorsError, r"2 safetensors files and no index.*a\.s"),
        ([*numbered(1, 2, count=2), "extra.safetensors"], NoSafetensorsError, r"no index to say which"),
        (["adapter_model.safetensors", "adapter_config.json"], NoSafetensorsError, r"LoRA adapter.*merge it"),
        (["pytorch_model.bin"], NoSafetensorsError, r"pytorch_model\.bin.*never opened.*convert.*save_pretr"),
        (["model.pt"], NoSafetensorsError, r"never opened.*can run code"),
        (["model.Q4_K_M.gguf"], NoSafetensorsError, r"GGUF.*safetensors they were made from"),
        (["README.md"], NoSafetensorsError, r"holds no \.safetensors"),
        ([], NoSafetensorsError, r"holds no \.safetensors"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_model_is_said_with_the_next_step(names, error, said):
    with pytest.raises(error, match=said):
        chosen(*names)


@pytest.mark.parametrize(
    "file",
    ["../model.safetensors", "a/../../model.safetensors", "/etc/model.safetensors", "..\\model.safetensors",
     "model.bin", "config.json", "..", "", ".safetensors/..", "a//b.safetensors", "./b.safetensors",
     "C:model.safetensors", "C:\\model.safetensors", "file:///x.safetensors", "a\x00.safetensors",
     "a\n.safetensors", "\x1b[2J.safetensors", "\u202e.safetensors", "\ud800.safetensors", "m.safetensors/",
     "M.SAFETENSORS"],
)  # fmt: skip
def test_an_index_cannot_lead_out_of_its_folder_or_to_other_formats(file):
    with pytest.raises(ShardIndexError, match="no shard beside it") as caught:
        chosen(file, "model.safetensors", index={"a": file})
    assert caught.value.exit_code == 5


def test_an_index_that_names_an_absent_shard():
    with pytest.raises(ShardIndexError, match=r"names gone\.safetensors, which is missing"):
        chosen("model.safetensors", index={"a": "gone.safetensors"})


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}',
     b'{"weight_map": {"a": 1}}', b'{"weight_map": {"a": null}}', b"[" * 100_000, b'{"weight_map": NaN}',
     b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}',
     b'{"weight_map": {}, "weight_map": []}'],
)  # fmt: skip
def test_an_index_that_is_none(text):
    with pytest.raises(ShardIndexError):
        weight_files({INDEX}, lambda: text, "the repo")


def test_an_index_is_compared_with_what_the_shards_hold():
    promised = {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors", "d": "2.safetensors"}
    held = {"a": "1.safetensors", "b": "2.safetensors", "e": "1.safetensors", "d": "2.safetensors"}
    assert compare_index(promised, held) == IndexDifference(
        missing=("c",), contradictory=("b",), surplus=("e",)
    )
    assert compare_index(held, held) == IndexDifference((), (), ())
    assert compare_index({}, held).surplus == tuple(held)


# What is opened from disk


def refused(folder, error: type[AuditError], said: str) -> None:
    """Opening and planning raises this error, and its message is to the point."""
    with pytest.raises(error, match=said):
        make_plan(open_checkpoint(str(folder)), AuditOptions())


def test_shards_are_opened_by_the_index(tmp_path):
    folder = write_llama(tmp_path / "m", shards=3)
    save_file({"decoy": torch.zeros(2)}, folder / "consolidated.safetensors")
    checkpoint = open_checkpoint(str(folder))
    assert [file.name for file in checkpoint.files] == numbered(1, 2, 3)
    assert set(checkpoint.tensors) == set(llama_tensors())
    assert checkpoint.config == llama_config()
    assert checkpoint.shapes["model.layers.2.mlp.down_proj.weight"] == (16, 24)


def test_shards_in_a_subfolder_are_found_through_the_index(tmp_path):
    folder = write_llama(tmp_path / "m", shards=2)
    (folder / "parts").mkdir()
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    for name in set(weight_map.values()):
        (folder / name).rename(folder / "parts" / name)
    write_index(folder, {tensor: f"parts/{name}" for tensor, name in weight_map.items()})
    assert set(open_checkpoint(str(folder)).tensors) == set(llama_tensors())


def test_an_index_that_promises_a_tensor_its_shard_does_not_hold(tmp_path):
    folder = write_llama(tmp_path / "m", shards=2)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    write_index(folder, weight_map | {"model.layers.9.self_attn.q_proj.weight": numbered(1, count=2)[0]})
    refused(folder, ShardIndexError, r"promises model\.layers\.9.* does not hold it")


def test_an_index_that_swaps_two_shards(tmp_path):
    folder = write_llama(tmp_path / "m", shards=2)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    first, second = numbered(1, 2, count=2)
    write_index(folder, {tensor: second if file == first else first for tensor, file in weight_map.items()})
    refused(folder, ShardIndexError, "does not hold it")


def test_a_tensor_in_two_shards(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    for name in numbered(1, 2, count=2):
        save_file({"model.norm.weight": torch.ones(4)}, folder / name)
    refused(folder, CorruptError, r"model\.norm\.weight stands in both")


def test_one_shard_named_as_the_model_is_read_alone(tmp_path):
    folder = write_llama(tmp_path / "m", shards=2)
    shard = folder / numbered(2, count=2)[0]
    checkpoint = open_checkpoint(str(shard))
    assert [file.name for file in checkpoint.files] == [shard.name]
    assert checkpoint.config == llama_config()
    assert 0 < len(checkpoint.tensors) < len(llama_tensors())


def test_a_truncated_shard_is_corrupt(tmp_path):
    folder = write_llama(tmp_path / "m", shards=2)
    shard = folder / numbered(2, count=2)[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(folder, TruncatedError, f"{shard.name} is truncated")


def test_a_git_lfs_checkout_without_its_weights(tmp_path):
    folder = write_llama(tmp_path / "m")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused(folder, HeaderError, "git lfs pull")


def test_a_file_without_tensors_fits_no_family(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(pack({}))
    refused(tmp_path, UnsupportedError, "no family has these tensor names")


def test_links_are_followed(tmp_path):
    real = write_llama(tmp_path / "real")
    folder = tmp_path / "links"
    folder.mkdir()
    for file in real.iterdir():
        (folder / file.name).symlink_to(file)
    assert set(open_checkpoint(str(folder)).tensors) == set(llama_tensors())
    (tmp_path / "link").symlink_to(folder)
    assert set(open_checkpoint(str(tmp_path / "link")).tensors) == set(llama_tensors())


def test_links_of_an_index_lead_nowhere_else(tmp_path):
    """A folder that somebody else made could otherwise have any file of this machine opened."""
    real = write_llama(tmp_path / "real", shards=2)
    folder = tmp_path / "links"
    (folder / "weights").mkdir(parents=True)
    for file in real.iterdir():
        (folder / "weights" / file.name).write_bytes(file.read_bytes())
        (folder / file.name).symlink_to(Path("weights") / file.name)
    assert set(open_checkpoint(str(folder)).tensors) == set(llama_tensors())
    first = next(folder.glob("*00001*"))
    first.unlink()
    first.symlink_to(real / first.name)
    refused(folder, ShardIndexError, f"{first.name}.*out of the folder")


def test_tensors_that_the_index_does_not_name_are_a_finding(tmp_path):
    folder = write_llama(tmp_path / "model", shards=2)
    names = json.loads((folder / INDEX).read_text())["weight_map"]
    left = {name: file for name, file in names.items() if "layernorm" not in name}
    write_index(folder, left)
    checkpoint = open_checkpoint(str(folder))
    assert set(checkpoint.surplus) == set(names) - set(left)
    assert len(checkpoint.surplus) == 6
    (finding,) = make_plan(checkpoint, AuditOptions()).findings
    assert (finding.code, finding.severity) == ("surplus-tensor", "warning")
    assert finding.message.endswith("and 3 more")


def test_the_hubs_cache_links_to_its_blobs(tmp_path):
    real = write_llama(tmp_path / "models--a--b" / "blobs", shards=2)
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    for file in real.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert set(open_checkpoint(str(snapshot)).tensors) == set(llama_tensors())
    first = next(snapshot.glob("*00001*"))
    first.unlink()
    (tmp_path / "elsewhere.safetensors").write_bytes((real / first.name).read_bytes())
    first.symlink_to(tmp_path / "elsewhere.safetensors")
    refused(snapshot, ShardIndexError, f"{first.name}.*out of the folder")


@pytest.mark.parametrize("name", ["model.safetensors", numbered(1, count=1)[0]])
def test_a_link_to_nothing_is_corrupt(tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / "blobs" / "gone")
    refused(tmp_path, CorruptError, name)


def test_a_link_to_itself_is_no_path(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", AuditError, "loop")


def test_a_folder_in_the_place_of_the_weights(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    refused(tmp_path, HeaderError, "cannot be read")


def test_a_folder_that_may_not_be_listed(llama, monkeypatch):
    def forbidden(path: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    refused(llama, UnsupportedError, "cannot be listed: Permission denied")


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".gguf", ".txt", ""])
def test_one_file_of_another_format_is_not_opened(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"\x80\x04")
    refused(path, UnsupportedError, r"not a \.safetensors file")


@pytest.mark.parametrize(
    "model",
    ["./nowhere", "/no/such/folder", "gone.safetensors", "a/b/c", "~/no-such-model", "two words",
     pytest.param("~no-such-user/model", id="no-such-user"), pytest.param("", id="empty")],
)  # fmt: skip
def test_what_can_only_be_a_path_is_not_asked_of_the_hub(model):
    with pytest.raises(PathNotFoundError, match="there is no file or folder") as caught:
        open_checkpoint(model)
    assert caught.value.exit_code == 2


def test_a_name_too_long_for_any_file_is_a_usage_error():
    with pytest.raises(UsageError):
        open_checkpoint("x" * 5000)


def test_a_local_path_has_no_revision(llama):
    with pytest.raises(UsageError, match="--revision is for Hub models"):
        open_checkpoint(str(llama), "main")


def test_a_local_folder_wins_over_a_hub_id_and_says_so(tmp_path, monkeypatch):
    write_llama(tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    checkpoint = open_checkpoint("org/name")
    assert checkpoint.source == "local"
    assert "Hub model of that name is not asked for" in checkpoint.notes[0]


# config.json


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[]", b'"llama"', b"null", b"NaN", b"[" * 100_000, b"9" * 10_000]
)
def test_a_config_that_is_no_json_object(llama, text):
    (llama / "config.json").write_bytes(text)
    refused(llama, ConfigError, r"config\.json")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"x": {"a": [1], "a": [2]}}', '{"a": NaN, "a": 1}'])
def test_a_config_that_says_two_things_is_believed_in_neither(text):
    with pytest.raises(ConfigError, match="'a' stands twice, with two values"):
        parse_config(text.encode(), "m")


def test_a_config_may_repeat_itself_and_hold_what_json_has_no_word_for():
    read = parse_config(b'{"a": 1, "a": 1, "b": NaN, "b2": Infinity, "c": {"d": null, "d": null}}', "m")
    assert (read["a"], read["b2"], read["c"]) == (1, float("inf"), {"d": None})
    assert read["b"] != read["b"]


def test_a_config_that_is_a_folder(llama):
    (llama / "config.json").unlink()
    (llama / "config.json").mkdir()
    refused(llama, ConfigError, r"config\.json cannot be read")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 10**12}, "claims 1000000000000 layers"),
        ({"num_hidden_layers": 10**400}, "layers"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"num_hidden_layers": 3.0}, r"num_hidden_layers is 3\.0"),
        ({"num_attention_heads": -4}, "num_attention_heads is -4"),
        ({"num_attention_heads": "4"}, "num_attention_heads is '4'"),
        ({"num_attention_heads": [4]}, "num_attention_heads is"),
        ({"num_key_value_heads": 3}, "4 heads cannot share 3 key-value heads"),
        ({"num_key_value_heads": 8}, "4 heads cannot share 8 key-value heads"),
        ({"hidden_size": {"text": 16}}, "hidden_size is"),
        ({"hidden_size": float("nan")}, "hidden_size is nan"),
        ({"head_dim": -1}, "head_dim is -1"),
    ],
)
def test_an_absurd_config_is_corrupt(tmp_path, changes, said):
    folder = write_llama(tmp_path / "m", config=llama_config(**changes))
    refused(folder, ConfigError, said)


def test_a_config_of_fewer_layers_than_any_tensor_has(tmp_path):
    tensors = {name.replace("layers.0.", "layers.7."): value for name, value in llama_tensors(1).items()}
    folder = write_llama(tmp_path / "m", layers=1)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, CorruptError, "layers")


@pytest.mark.parametrize("shape", [(16,), (16, 16, 1), (0, 16)])
def test_a_projection_that_is_no_matrix_is_corrupt(tmp_path, shape):
    planted = {"model.layers.1.self_attn.q_proj.weight": torch.zeros(shape)}
    folder = write_llama(tmp_path / "m", planted=planted)
    refused(folder, ConfigError, r"model\.layers\.1\.self_attn\.q_proj\.weight has shape")


def test_a_config_is_utf8(tmp_path):
    folder = write_llama(tmp_path / "m")
    text = json.dumps(llama_config() | {"author": "Jürgen 雪"}, ensure_ascii=False)
    (folder / "config.json").write_bytes(text.encode())
    assert open_checkpoint(str(folder)).config["author"] == "Jürgen 雪"
