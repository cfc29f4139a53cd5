"""What is fuzzed: readers of other people's bytes, inputs to start from, and the errors they may raise."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from types import SimpleNamespace
from typing import Any

from mutation import Mutation, of_bytes, of_json, of_lines, of_words


@dataclass(frozen=True)
class Target:
    """A reader, the errors it may raise, inputs to start from, and how these are changed."""

    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    mutations: tuple[Mutation, ...]


def header() -> Target:
    """A safetensors file's bytes; what is read must fill the file without hole or overlap."""
    from audit.checkpoint.header import header_length, parse_header
    from audit.errors import HeaderError, TruncatedError

    def read(data: bytes) -> None:
        length = header_length(data[:8], len(data), "m.safetensors")
        entries = parse_header(data[8 : 8 + length], len(data), "m.safetensors")
        assert sum(entry.nbytes for entry in entries.values()) == len(data) - 8 - length
        "".join(entries).encode()

    def in_json(data: bytes, chance: Any) -> bytes:
        """Change the JSON, and have the length in front of it fit again."""
        length = int.from_bytes(data[:8], "little")
        text = of_json(data[8 : 8 + length], chance)
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    return Target(read, (HeaderError, TruncatedError), tuple(_files()), (of_bytes, in_json, in_json))


def _files() -> Iterator[bytes]:
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    headers: Sequence[tuple[dict[str, Any], int]] = (
        ({}, 0),
        ({"__metadata__": {"format": "pt"}, "a": entry}, 24),
        ({"a": entry, "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}}, 32),
        ({"a": {"dtype": "F4", "shape": [2, 4], "data_offsets": [0, 4]}}, 4),
        ({"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "z": entry}, 24),
    )
    for said, size in headers:
        text = json.dumps(said).encode()
        yield len(text).to_bytes(8, "little") + text + bytes(size)


def index() -> Target:
    """model.safetensors.index.json beside three shards."""
    from audit.checkpoint.files import INDEX, compare_index, weight_files, weight_map
    from audit.errors import ShardIndexError

    shards = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    names = {INDEX, *shards, "sub/model.safetensors"}
    held = dict(zip(("a", "b", "c"), shards, strict=True))

    def read(data: bytes) -> None:
        chosen = weight_files(names, lambda: data, "m")
        assert set(chosen) <= names
        found = compare_index(weight_map(data, "m"), held)
        assert not set(found.missing) & held.keys()

    seeds = (
        {"metadata": {"total_size": 12}, "weight_map": held},
        {"weight_map": {"a": "sub/model.safetensors", "b": shards[0]}},
    )
    return Target(
        read,
        (ShardIndexError,),
        tuple(json.dumps(one).encode() for one in seeds),
        (of_bytes, of_words, of_json, of_json),
    )


def config() -> Target:
    """config.json beside the tensors of its model, understood and drafted."""
    from audit.checkpoint.files import parse_config
    from audit.errors import AuditError
    from audit.options import AuditOptions
    from audit.understanding import understand
    from registry import draft

    models = _models()
    by_type = {config.get("model_type"): shapes for config, shapes in models}

    def read(data: bytes) -> None:
        said = parse_config(data, "m")
        kind = said.get("model_type")
        shapes = by_type.get(kind if isinstance(kind, str) else None) or models[len(data) % len(models)][1]
        checkpoint: Any = SimpleNamespace(id="m", config=said, shapes=shapes)
        with suppress(AuditError):
            layout = understand(checkpoint, AuditOptions())
            assert set(layout.claims) == set(shapes)
        draft(shapes, said)

    seeds = tuple(json.dumps(said).encode() for said, _ in models)
    return Target(read, (AuditError,), seeds, (of_words, of_json, of_json, of_json))


def _models() -> list[tuple[dict[str, Any], dict[str, tuple[int, ...]]]]:
    """Configs and shapes of the models typed by hand for the tests, and of a llama."""
    from checkpoints import llama_config, llama_tensors
    from typed_by_hand import TYPED

    found = [(llama_config(), llama_tensors())]
    found += [(dict(typed.config), typed.tensors()) for typed in TYPED.values()]
    return [(said, {name: tuple(one.shape) for name, one in tensors.items()}) for said, tensors in found]


def family() -> Target:
    """A user's family file, parsed and matched to tensors."""
    from registry import FamilyFileError, match
    from registry.family import parse_family

    models = _models()[:6]

    def read(data: bytes) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return
        declared = parse_family(text, "own.toml")
        for said, shapes in models:
            match(shapes, said, [declared], declared.name)

    folder = resources.files("registry") / "families"
    seeds = tuple(one.read_bytes() for one in sorted(folder.iterdir(), key=str) if one.name.endswith(".toml"))
    return Target(read, (FamilyFileError,), seeds, (of_lines, of_words, of_words, of_bytes))


def gate() -> Target:
    """A condition of --fail-on."""
    from reports.gates import GateSyntaxError, parse

    def read(data: bytes) -> None:
        gate = parse(data.decode("utf-8", "replace"))
        assert parse(gate.text) == gate

    seeds = (
        "Q.v1 < 0.3", "*.v1.min>=1e-3 and findings:error > 0", "vision/K.evr3.v.excess<0.1", "V.wa.u < .5",
        "coverage.unknown", "O.stable_rank.median > 40 and Down.u1.excess <= 0", "findings:nan == 2",
    )  # fmt: skip
    return Target(read, (GateSyntaxError,), tuple(map(str.encode, seeds)), (of_words, of_words, of_bytes))


TARGETS: dict[str, Callable[[], Target]] = {
    "header": header, "index": index, "config": config, "family": family, "gate": gate
}  # fmt: skip
