"""Which files of a repository hold the weights, told from their names and the index."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from audit.errors import ConfigError, NoSafetensorsError, ShardIndexError

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
CONFIG = "config.json"
MAX_JSON_BYTES = 200_000_000

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
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name.endswith(".safetensors"):
            raise ShardIndexError(f"{INDEX} in {where} names {name!r}, which is no shard beside it")
        if name not in names:
            raise ShardIndexError(f"{INDEX} names {name}, which is missing from {where}", "download it again")
    return files


def weight_map(text: bytes, where: str) -> dict[str, str]:
    """Tensor name to file name, as an index has it; raises ShardIndexError for anything else."""
    value = parse_object(text, f"{INDEX} in {where}", ShardIndexError).get("weight_map")
    if not isinstance(value, dict) or not value or not all(isinstance(file, str) for file in value.values()):
        raise ShardIndexError(f"{INDEX} in {where} has no weight_map of tensor names to files")
    return value


def parse_config(text: bytes, where: str) -> Mapping[str, Any]:
    """A config.json; raises ConfigError for what cannot be one."""
    return parse_object(text, f"{CONFIG} in {where}", ConfigError)


def parse_object(
    text: bytes, what: str, error_type: type[ShardIndexError] | type[ConfigError]
) -> Mapping[str, Any]:
    """A JSON object; raises `error_type` for anything else."""
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise error_type(f"{what} is not readable JSON", str(error)[:200]) from error
    if not isinstance(value, dict):
        raise error_type(f"{what} is not a JSON object")
    return value
