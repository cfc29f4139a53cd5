"""Numbers out of a config.json, by a stack's rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry.quotation import quoted
from registry.stack import LARGEST, ConfigKeys, KeyRule, Rules

MAX_LAYERS = 10_000
"""More layers than this is a broken config, not a model."""

Config = Mapping[str, Any]


class ConfigError(ValueError):
    """A key of config.json holds something that cannot be what the key means."""


@dataclass(frozen=True)
class HeadNumbers:
    """What the config says of one layer's heads; None where it says nothing."""

    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    value_dim: int | None = None


def model_types(config: Config, nested: tuple[str, ...] = ("text_config",)) -> Iterator[str]:
    """The model types a config names, the whole model's before its text model's."""
    for part in (config, *_nested(config, nested)):
        if isinstance(part.get("model_type"), str):
            yield part["model_type"]


def architecture(config: Config) -> str | None:
    """The name of the model in timm, which writes no model type."""
    name = config.get("architecture")
    return name if isinstance(name, str) else None


class Numbers:
    """The dimensions that a config declares, by the rules of one stack; all None without a config."""

    def __init__(self, config: Config | None, keys: ConfigKeys) -> None:
        """Nothing is read yet."""
        self._keys = keys
        self._parts = [] if config is None else [*_nested(config, keys.nested), config]

    @property
    def layers(self) -> int | None:
        """How many layers there are; raises ConfigError for what cannot be."""
        layers = self._find(self._keys.layers)
        if layers is not None and layers > MAX_LAYERS:
            raise ConfigError(f"config.json claims {layers} layers")
        return layers

    @property
    def hidden(self) -> int | None:
        """The width of the residual stream; raises ConfigError."""
        return self._find(self._keys.hidden)

    def experts(self, layer: int) -> int | None:
        """How many routed experts a layer has; raises ConfigError."""
        return self._find(self._keys.experts, layer, least=0) or None

    def heads(self, layer: int) -> HeadNumbers:
        """One layer's heads; raises ConfigError."""
        special = self._keys.by_layer_type.get(self._layer_type(layer) or "")

        def find(name: str) -> int | None:
            rules = getattr(self._keys, name)
            own = self._given_to(layer, rules)
            return own or self._find((special and getattr(special, name)) or rules, layer)

        heads, head_dim = find("heads"), find("head_dim")
        if head_dim is None and self.hidden is not None and heads is not None:
            head_dim = self.hidden // heads or None
        kv_heads = find("kv_heads") or (heads if self._keys.kv_heads else None)
        if heads is not None and kv_heads is not None and heads % kv_heads:
            raise ConfigError(f"config.json: {heads} heads cannot share {kv_heads} key-value heads evenly")
        return HeadNumbers(heads, kv_heads, head_dim, find("value_dim") or head_dim)

    def count(self, rules: Rules) -> int:
        """A number that may be missing or zero; raises ConfigError."""
        return self._find(rules, least=0) or 0

    def says(self, key: str) -> bool:
        """Whether a key of the config is truthy."""
        return any(part.get(key) for part in self._parts)

    def _given_to(self, layer: int, rules: Rules) -> int | None:
        """What the table of overrides by layer says under the keys of these rules."""
        keys = [rule if isinstance(rule, str) else rule.key for rule in rules]
        for part in self._parts:
            table = part.get(self._keys.by_layer)
            given = table.get(str(layer)) if isinstance(table, Mapping) else None
            if isinstance(given, Mapping):
                for key in keys:
                    if key is not None and given.get(key) is not None:
                        return _whole(key, given[key], least=1)
        return None

    def _layer_type(self, layer: int) -> str | None:
        for part in self._parts:
            types = part.get("layer_types")
            if isinstance(types, list) and layer < len(types):
                return types[layer] if isinstance(types[layer], str) else None
        return None

    def _find(self, rules: Rules, layer: int | None = None, least: int = 1) -> int | None:
        for rule in rules if self._parts else ():
            if isinstance(rule, str):
                rule = KeyRule(key=rule)
            if rule.when is not None and not self.says(rule.when):
                continue
            if rule.value is not None:
                return rule.value
            assert rule.key is not None
            for part in self._parts:
                value = part.get(rule.key)
                if isinstance(value, list) and layer is not None and layer < len(value):
                    value = value[layer]
                if value is not None:
                    return _whole(rule.key, value, least, rule.times)
        return None


def _nested(config: Config, names: tuple[str, ...]) -> list[Config]:
    return [config[name] for name in names if isinstance(config.get(name), Mapping)]


def _whole(key: str, value: object, least: int, times: int = 1) -> int:
    """A number that can be a dimension, so many times; raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"config.json: {key} is {quoted(value)}, expected a positive whole number")
    if value * times > LARGEST:
        raise ConfigError(f"config.json: {key} is {quoted(value)}, more than any model has")
    return value * times
