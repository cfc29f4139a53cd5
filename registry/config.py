"""Numbers out of a config.json, by a family's rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry.family import ConfigKeys, KeyRule

MAX_LAYERS = 10_000
"""More layers than this is a broken config, not a model."""


class ConfigError(ValueError):
    """A key of config.json holds something that cannot be what the key means."""


@dataclass(frozen=True)
class Dimensions:
    """What the config says; None where it says nothing."""

    layers: int | None
    hidden: int | None
    heads: int | None
    kv_heads: int | None
    head_dim: int | None


def model_types(config: Mapping[str, Any], nested: tuple[str, ...] = ("text_config",)) -> Iterator[str]:
    """The model types a config names, the whole model's before its text model's."""
    for part in (config, *_nested(config, nested)):
        if isinstance(part.get("model_type"), str):
            yield part["model_type"]


def architecture(config: Mapping[str, Any]) -> str | None:
    """The name of the model in timm, which writes no model type."""
    name = config.get("architecture")
    return name if isinstance(name, str) else None


def dimensions(config: Mapping[str, Any] | None, keys: ConfigKeys) -> Dimensions:
    """The dimensions a config declares, read from its text model where there is one.

    Raises ConfigError for a value that is no positive whole number.
    """
    if config is None:
        return Dimensions(None, None, None, None, None)
    parts = [*_nested(config, keys.nested), config]
    layers = _find(parts, keys.layers)
    if layers is not None and layers > MAX_LAYERS:
        raise ConfigError(f"config.json claims {layers} layers")
    hidden = _find(parts, keys.hidden)
    heads = _find(parts, keys.heads)
    head_dim = _find(parts, keys.head_dim)
    if head_dim is None and hidden is not None and heads is not None:
        head_dim = hidden // heads or None
    return Dimensions(layers, hidden, heads, _find(parts, keys.kv_heads) or heads, head_dim)


def _nested(config: Mapping[str, Any], names: tuple[str, ...]) -> list[Mapping[str, Any]]:
    return [config[name] for name in names if isinstance(config.get(name), Mapping)]


def _find(parts: list[Mapping[str, Any]], rules: tuple[str | KeyRule, ...]) -> int | None:
    for rule in rules:
        if isinstance(rule, str):
            rule = KeyRule(key=rule)
        if rule.when is not None and not any(part.get(rule.when) for part in parts):
            continue
        if rule.value is not None:
            return rule.value
        assert rule.key is not None
        for part in parts:
            if part.get(rule.key) is not None:
                return _whole(rule.key, part[rule.key])
    return None


def _whole(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"config.json: {key} is {value!r}, expected a positive whole number")
    return value
