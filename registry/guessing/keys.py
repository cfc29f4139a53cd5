"""Guess which keys of a config.json hold a stack's dimensions: by well-known names, and by its tensors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.config import Config

CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "layers": (
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "decoder_layers",
        "num_encoder_layers", "encoder_layers", "num_transformer_layers", "depth", "layers",
    ),
    "hidden": (
        "hidden_size", "n_embd", "d_model", "dim", "model_dim", "embed_dim", "n_embed", "embedding_size",
        "hidden_dim", "width",
    ),
    "heads": (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads",
        "encoder_attention_heads", "heads",
    ),
    "kv_heads": (
        "num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "kv_n_heads",
        "multi_query_group_num",
    ),
    "head_dim": ("head_dim", "d_kv", "kv_channels", "attention_head_dim", "head_size", "d_head"),
    "value_dim": ("v_head_dim",),
}  # fmt: skip
"""The first of each is the declaration's default; none is for the width of a head of V."""


@dataclass
class Keys:
    """The keys that hold the dimensions, where they are not the default ones; `checks` by dimension.

    `fixed` are dimensions that no key holds.
    """

    keys: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    nested: str | None = None
    checks: dict[str, str] = field(default_factory=dict)


def widths(config: Config | None) -> set[int]:
    """Every width that a residual stream has by the config, or by one of its sub-configs."""
    parts = (
        [] if config is None else [config, *(part for part in config.values() if isinstance(part, Mapping))]
    )
    return {number for part in parts for number in _own_widths(part)}


def guess_keys(config: Config | None, layers: int, hidden: int | None, name: str = "") -> Keys:
    """The keys for a stack of so many layers; keys that hold the stack's own `name` come first."""
    found = Keys()
    if config is None:
        return found
    found.nested, parts = _parts(config, hidden)
    for dimension, candidates in CANDIDATES.items():
        said = {key: value for key in candidates if (value := _number(parts, key)) is not None}
        if dimension == "hidden":
            said = {key: value for key, value in said.items() if value == hidden} or said
        own = [key for key in said if name and name in key]
        default = candidates[0] if dimension != "value_dim" else None
        key = own[0] if own else next(iter(said), None)
        if dimension == "layers" and key is not None and said[key] != layers:
            key = next((one for one in said if said[one] == layers), key)
        if key is None:
            continue
        found.values[dimension] = said[key]
        if key != default:
            found.keys[dimension] = key
    if found.values.get("layers", layers) != layers:
        found.checks["layers"] = (
            f"config.json says {found.values['layers']} layers, and {layers} have tensors"
        )
    if "heads" not in found.values:
        found.checks["heads"] = "config.json does not say how many heads there are: heads = [{ value = N }]"
    return found


def _parts(config: Config, hidden: int | None) -> tuple[str | None, list[Config]]:
    """The configs to ask, and the name of a sub-config that is not asked by default."""
    nested = {
        key: part for key, part in config.items() if isinstance(part, Mapping) and hidden in _own_widths(part)
    }
    if "text_config" in nested or (hidden in _own_widths(config) and "text_config" not in config):
        return None, [part for part in (config.get("text_config"), config) if isinstance(part, Mapping)]
    if nested:
        key = next(iter(nested))
        return key, [nested[key], config]
    return None, [config]


def _own_widths(config: Config) -> set[int]:
    return {number for key in CANDIDATES["hidden"] if (number := _number([config], key)) is not None}


def _number(parts: list[Config], key: str) -> int | None:
    return next(_whole(part.get(key) for part in parts), None)


def _whole(values: Iterator[Any]) -> Iterator[int]:
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            yield value


def fix_kv_heads(keys: Keys, rows: int, hidden: int | None) -> None:
    """As many key-value heads as rows with Q, K and V leave room for, if the config's do not fit."""
    heads = keys.values.get("heads", 0)
    width = keys.values.get("head_dim") or (hidden or 0) // max(heads, 1)
    if not heads or not width or rows == (heads + 2 * keys.values.get("kv_heads", heads)) * width:
        return
    count, rest = divmod(rows - heads * width, 2 * width)
    if rest == 0 and count > 0 and heads % count == 0:
        keys.fixed["kv_heads"] = count
        keys.checks["kv_heads"] = "this fits the rows; is there a key of config.json that tells?"
