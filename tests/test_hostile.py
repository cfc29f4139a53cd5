"""Files that lie, break, or would like to run, seen from the command line: one line, code 5, no trace."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import llama_config, pack, write_index, write_llama

from registry.quotation import quoted

INDEX = "model.safetensors.index.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def refused(cli) -> Callable[..., str]:
    """Audit the folder `m`, and expect what a broken file gets; gives the line on stderr."""

    def check(*said: str, code: int = 5) -> str:
        before = sorted(os.listdir())
        result = cli("m", "--out", "out")
        assert (result.exit_code, result.stdout) == (code, ""), result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert len(result.stderr) < 5000
        for words in said:
            assert words in result.stderr
        assert sorted(os.listdir()) == before
        return str(result.stderr)

    return check


def header_of(file: Path) -> tuple[dict[str, Any], bytes]:
    """A file's header and its data."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(change: Callable[[dict[str, Any]], None]) -> None:
    """A llama in `m`, its header changed."""
    file = write_llama(Path("m")) / "model.safetensors"
    header, data = header_of(file)
    change(header)
    file.write_bytes(pack(header, data))


# Headers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: header[Q].update(shape=[16, 17]), "takes 1024 bytes"),
        (lambda header: header[Q].update(shape=[-16, -16]), "impossible shape"),
        (lambda header: header[Q].update(shape=[16.0, 16]), "impossible shape"),
        (lambda header: header[Q].update(shape=[2**40, 2**40, 0]), "impossible shape"),
        (lambda header: header[Q].update(dtype="F31"), "unknown dtype 'F31'"),
        (lambda header: header[Q].update(dtype="F4"), "takes 1024 bytes"),
        (lambda header: header[Q].update(dtype="F4", shape=[3]), "no whole bytes"),
        (lambda header: header[Q].update(data_offsets=[0, 1024]), "starts at byte"),
        (lambda header: header.update({Q: []}), "described by list"),
        (lambda header: header[Q].update(dtype="x" * 10**6), "unknown dtype 'xxx"),
    ],
)
def test_a_lying_header_is_named_with_its_tensor(refused, change, said):
    rewrite(change)
    line = refused("model.safetensors", said)
    assert "self_attn.q_proj" in line or said == "starts at byte"


def test_a_name_of_a_million_characters_does_not_fill_the_screen(refused):
    rewrite(lambda header: header.update({"x" * 10**6: {"dtype": "no"}}))
    assert "unknown dtype 'no'" in refused("model.safetensors")


def test_a_prefix_of_a_million_characters_does_not_either(refused):
    def change(header: dict[str, Any]) -> None:
        for name in list(header):
            header["module." * 150_000 + name] = header.pop(name)
        (q,) = (entry for name, entry in header.items() if name.endswith(Q))
        q["shape"] = [16, 16, 1]

    rewrite(change)
    refused("module.module.", "has shape [16, 16, 1]")


@pytest.mark.parametrize("metadata", [[], "pt", {"format": 1}, {"format": None}, {"a": {}}])
def test_notes_that_are_no_strings_are_refused(refused, metadata):
    rewrite(lambda header: header.update(__metadata__=metadata))
    refused("model.safetensors", "__metadata__")


def test_a_file_that_ends_before_its_data(refused):
    file = write_llama(Path("m")) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused("model.safetensors is truncated", "download it again")


def test_experts_without_number_are_not_described_one_by_one(tmp_path):
    """A file that is all hole takes no disk, and may claim as many experts as it likes."""
    from types import SimpleNamespace

    from audit.errors import ConfigError
    from audit.options import AuditOptions
    from audit.understanding import understand

    count = 10**9
    shapes = {
        "model.layers.0.mlp.experts.gate_up_proj": (count, 8, 16),
        "model.layers.0.mlp.experts.down_proj": (count, 4, 8),
        "model.layers.0.self_attn.q_proj.weight": (16, 8),
    }
    config = {"model_type": "gpt_oss", "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    with pytest.raises(ConfigError, match="no model has 1000000000 experts"):
        understand(SimpleNamespace(id="m", config=config, shapes=shapes), AuditOptions())  # type: ignore[arg-type]


# What is no file


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", INDEX])
def test_a_pipe_does_not_hang(refused, name):
    folder = write_llama(Path("m"), shards=2 if name == INDEX else 1)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(name)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(refused, name, device):
    folder = write_llama(Path("m"))
    (folder / name).unlink()
    (folder / name).symlink_to(device)
    refused(name)


def test_a_shard_that_is_a_pipe_does_not_hang(refused):
    folder = write_llama(Path("m"), shards=2)
    shard = folder / "model-00002-of-00002.safetensors"
    shard.unlink()
    os.mkfifo(shard)
    refused(shard.name)


def test_an_index_does_not_lead_out_of_its_folder_by_a_link(refused):
    folder = write_llama(Path("m"), shards=2)
    shard = folder / "model-00002-of-00002.safetensors"
    Path("elsewhere").mkdir()
    shard.rename(Path("elsewhere") / shard.name)
    shard.symlink_to(Path("elsewhere").absolute() / shard.name)
    refused(shard.name)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", INDEX])
def test_a_git_lfs_pointer_is_called_one(refused, name):
    folder = write_llama(Path("m"), shards=2 if name == INDEX else 1)
    (folder / name).write_text(POINTER)
    refused(name, "Git LFS pointer", "git lfs pull")


# Files that change


class Swap:
    """Changes the weights after the headers were read, when the first tensor is to be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]) -> None:
        """The change is made once, to the file of the llama in `m`."""
        from audit.pipeline import Pipeline

        work, file, left = Pipeline.__init__, Path("m/model.safetensors"), [change]

        def init(self: Any, *args: Any, **options: Any) -> None:
            work(self, *args, **options)
            if left:
                left.pop()(file)

        monkeypatch.setattr(Pipeline, "__init__", init)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: os.truncate(file, 1000),
        lambda file: os.truncate(file, file.stat().st_size - 1),
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: shutil.copy(write_llama(Path("n"), layers=4) / file.name, file),
    ],
    ids=["cut to its header", "cut by a byte", "gone", "emptied", "another model's"],
)
def test_weights_that_change_under_the_audit_are_no_report(cli, monkeypatch, change):
    write_llama(Path("m"))
    Swap(monkeypatch, change)
    result = cli("m", "--out", "out")
    assert (result.exit_code, result.stdout) == (5, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "model.safetensors" in result.stderr
    assert not Path("out").exists()


# Index


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff\xfe{}", "not readable JSON"),
        (b'{"weight_map": {"a": "m.safetensors"', "not readable JSON"),
        (b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "'a' stands twice"),
        (b'{"weight_map": {"a": 1}}', "no weight_map"),
        (b'{"weight_map": ["a"]}', "no weight_map"),
        (b'{"weight_map": {"a": "../m.safetensors"}}', "no shard beside it"),
        (b"[" * 10**5, "not readable JSON"),
        (b'{"weight_map": {"a": "' + b"x" * 10**6 + b'"}}', "no shard beside it"),
    ],
)
def test_an_index_that_lies(refused, text, said):
    (write_llama(Path("m"), shards=2) / INDEX).write_bytes(text)
    refused(INDEX, said)


def test_an_index_too_large_to_be_one_is_not_read(refused):
    folder = write_llama(Path("m"), shards=2)
    with (folder / INDEX).open("wb") as file:
        file.truncate(10**12)
    refused(INDEX, "too large")


def test_promised_and_missing(refused):
    folder = write_llama(Path("m"), shards=2)
    map_ = json.loads((folder / INDEX).read_text())["weight_map"]
    write_index(folder, map_ | {"model.layers.9.x": "model-00001-of-00002.safetensors"})
    refused(INDEX, "model.layers.9.x", "model-00001-of-00002.safetensors")


def test_promised_in_one_shard_and_held_by_another(refused):
    folder = write_llama(Path("m"), shards=2)
    map_ = json.loads((folder / INDEX).read_text())["weight_map"]
    other = next(file for file in map_.values() if file != map_[Q])
    write_index(folder, map_ | {Q: other})
    refused(INDEX, Q, other)


# config.json


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 10**12},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 3.5},
        {"num_hidden_layers": "3"},
        {"num_attention_heads": True},
        {"num_attention_heads": -4},
        {"num_attention_heads": 10**4000},
        {"num_attention_heads": [[4]]},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 8},
        {"hidden_size": 17},
        {"hidden_size": float("inf")},
        {"head_dim": 10**4000},
        {"text_config": {"num_hidden_layers": -1}},
    ],
    ids=str,
)
def test_an_absurd_config_is_one_line(refused, config):
    write_llama(Path("m"), config=llama_config(**config))
    refused("config.json")


def test_a_value_of_any_depth_is_one_line(refused):
    """Python reads lists in lists a little deeper than it shows them."""
    folder = write_llama(Path("m"))
    text = json.dumps(llama_config(num_attention_heads="deep"))
    for depth in range(850, 1000):
        (folder / "config.json").write_text(text.replace('"deep"', "[" * depth + "]" * depth))
        refused("config.json")


def test_what_python_cannot_show_is_quoted_all_the_same():
    deep: list[Any] = []
    for _ in range(10**5):
        deep = [deep]
    assert quoted(deep) == "something of type list that is too large to show"
    assert quoted(10**5000) == "something of type int that is too large to show"
    assert quoted("x" * 1000) == f"'{'x' * 199}..."


@pytest.mark.parametrize(
    "text",
    [
        b'{"model_type": "llama", "model_type": "gpt2"}',
        b'{"x": ' + b"9" * 5000 + b"}",
        b'{"a": {"b": 1, "b": 2}}',
    ],
)
def test_a_config_of_two_minds_or_without_end(refused, text):
    (write_llama(Path("m")) / "config.json").write_bytes(text)
    refused("config.json")


@pytest.mark.parametrize("key", ["model_type", "architecture"])
def test_a_name_of_a_million_characters_is_not_compared_with_each_family(refused, key):
    config = {"num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 4, key: "llama" * 200_000}
    write_llama(Path("m"), config=config)
    refused("is unknown", code=3)


def test_what_real_configs_hold_is_read(audited):
    folder = write_llama(Path("m"))
    text = json.dumps(llama_config(rope_scaling={"factor": float("inf")}, limit=float("nan"), a=None))
    (folder / "config.json").write_text(f'{{"model_type": "llama", {text[1:]}')
    assert audited(folder)["model"]["layers"] == 3


def test_rubbish_where_nothing_is_expected_changes_nothing(audited):
    rubbish = {
        "quantization_config": [1],
        "layer_types": [{"a": 1}, [1], 3],
        "per_layer_config": "x",
        "architectures": 7,
    }
    numbers = [
        audited(write_llama(Path(name), config=config))["projections"]
        for name, config in (("a", llama_config()), ("b", llama_config(**rubbish)))
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("method", [[["awq"]], {}, 7, None, ""])
def test_a_quantisation_without_a_name_is_told_as_such(refused, method):
    config = llama_config(model_type="new", quantization_config={"quant_method": method})
    write_llama(Path("m"), config=config)
    refused("is quantised (method not named)", code=3)


# Pickles


class Trap:
    """What makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        """What unpickling calls."""
        return open, ("sprung", "w")


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.ckpt", "config.json", "model.safetensors"]
)
@pytest.mark.parametrize(
    "line", ["MODEL", "plan MODEL", "families --explain MODEL", "families --draft MODEL"]
)
def test_a_pickle_is_never_opened(cli, name, line):
    Path("m").mkdir()
    (Path("m") / "config.json").write_text(json.dumps(llama_config()))
    (Path("m") / name).write_bytes(pickle.dumps(Trap()))
    result = cli(*("m" if word == "MODEL" else word for word in line.split()))
    assert result.exit_code in (3, 5), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("sprung").exists()
    pickle.loads((Path("m") / name).read_bytes()).close()
    assert Path("sprung").exists(), "the trap would have sprung"
