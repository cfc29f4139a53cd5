"""Which files of a repository hold the weights, told from their names and the index."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from audit.errors import ConfigError, NoSafetensorsError, ShardIndexError
from registry.quotation import quoted

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
CONFIG = "config.json"
MAX_JSON_BYTES = 200_000_000

LFS = b"version https://git-lfs"
"""How the pointer begins that Git leaves in place of a large file."""

_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")


def weight_files(names: Collection[str], read_index: Callable[[], bytes], where: str) -> tuple[str, ...]:
    """The safetensors files of a folder or repo that together are the model.

    The index decides where there is one; then model.safetensors; then a complete numbered set; then a
    file that stands alone. Never a glob over everything: repos carry second copies in other layouts.
    Raises NoSafetensorsError and ShardIndexError.
    """
    if INDEX in names:
        return _indexed(read_index(), names, where)
    if WHOLE in names:
        return (WHOLE,)
    found = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    models = [name for name in found if not name.startswith(("adapter_", "consolidated"))] or found
    if models == ["adapter_model.safetensors"]:
        raise NoSafetensorsError(
            f"{where} holds a LoRA adapter, not a model", "merge it into its base model and audit that"
        )
    numbered = [hit for name in models if (hit := _NUMBERED.fullmatch(name))]
    if numbered and len(numbered) == len(models) and len({hit["stem"] for hit in numbered}) == 1:
        return _complete(numbered, where)
    if len(models) == 1:
        return (models[0],)
    if models:
        raise NoSafetensorsError(
            f"{where} has {len(models)} safetensors files and no index to say which belong together",
            f"name one of them, such as {models[0]}",
        )
    raise _nothing_to_read(names, where)


def _nothing_to_read(names: Collection[str], where: str) -> NoSafetensorsError:
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if pickles:
        return NoSafetensorsError(
            f"{where} has its weights only as {pickles[0]}, and pickles are never opened: they can run code",
            "convert it where you trust it, with AutoModel.from_pretrained(A).save_pretrained(B)",
        )
    if any(name.endswith(".gguf") for name in names):
        return NoSafetensorsError(f"{where} holds GGUF files", "audit the safetensors they were made from")
    return NoSafetensorsError(f"{where} holds no .safetensors file", "name a folder or repo that does")


def _complete(numbered: list[re.Match[str]], where: str) -> tuple[str, ...]:
    stem, count = numbered[0]["stem"], numbered[0]["count"]
    wanted = tuple(f"{stem}-{number:05d}-of-{count}.safetensors" for number in range(1, int(count) + 1))
    present = {hit.string for hit in numbered}
    for name in wanted:
        if name not in present:
            raise ShardIndexError(f"{where} lacks the shard {name}", "download it again")
    return wanted


def _indexed(text: bytes, names: Collection[str], where: str) -> tuple[str, ...]:
    files = tuple(dict.fromkeys(weight_map(text, where).values()))
    for name in files:
        if not lies_beside(name):
            raise ShardIndexError(f"{INDEX} in {where} names {quoted(name)}, which is no shard beside it")
        if name not in names:
            raise ShardIndexError(f"{INDEX} names {name}, which is missing from {where}", "download it again")
    return files


def lies_beside(name: str) -> bool:
    """Whether a name that an index gives can be a shard in its folder, on any system."""
    return (
        name.endswith(".safetensors")
        and name.isprintable()
        and not {":", "\\"} & set(name)
        and not {"", ".", ".."} & set(name.split("/"))
    )


def weight_map(text: bytes, where: str) -> dict[str, str]:
    """Tensor name to file name, as an index has it; raises ShardIndexError for anything else."""
    value = parse_object(text, f"{INDEX} in {where}", ShardIndexError).get("weight_map")
    if not isinstance(value, dict) or not value or not all(isinstance(file, str) for file in value.values()):
        raise ShardIndexError(f"{INDEX} in {where} has no weight_map of tensor names to files")
    return value


@dataclass(frozen=True)
class IndexDifference:
    """Tensors that an index and its shards do not agree on, by name.

    `missing` are promised and in no shard, `contradictory` are in another shard than promised, `surplus` are
    in a shard and not promised.
    """

    missing: tuple[str, ...]
    contradictory: tuple[str, ...]
    surplus: tuple[str, ...]


def compare_index(promised: Mapping[str, str], held: Mapping[str, str]) -> IndexDifference:
    """How what an index promises differs from what the shards hold, both tensor name to file name.

    What is promised in shards that were not opened is to be left out of `promised`.
    """
    return IndexDifference(
        tuple(tensor for tensor in promised if tensor not in held),
        tuple(tensor for tensor, file in promised.items() if held.get(tensor, file) != file),
        tuple(tensor for tensor in held if tensor not in promised),
    )


def parse_config(text: bytes, where: str) -> Mapping[str, Any]:
    """A config.json; raises ConfigError for what cannot be one."""
    return parse_object(text, f"{CONFIG} in {where}", ConfigError)


def parse_object(
    text: bytes, what: str, error_type: type[ShardIndexError] | type[ConfigError]
) -> Mapping[str, Any]:
    """A JSON object; raises `error_type` for anything else.

    NaN and Infinity are read, since real configs hold them. A key that stands twice with two values is
    refused: other readers may believe the other one.
    """
    if text.startswith(LFS):
        raise error_type(f"{what} is a Git LFS pointer, not the file", "run `git lfs pull` in its folder")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_of_one_mind)
    except (ValueError, RecursionError) as error:
        raise error_type(f"{what} is not readable JSON", str(error)[:300]) from error
    if not isinstance(value, dict):
        raise error_type(f"{what} is not a JSON object")
    return value


def _of_one_mind(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, said in pairs:
            if value[key] is not said and value[key] != said:  # NaN is not even equal to itself
                raise ValueError(f"the key {quoted(key)} stands twice, with two values")
    return value
