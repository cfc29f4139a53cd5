"""What the words in a tensor's name tell of its part in a layer; only a hint, that shapes must agree with."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Context = Literal["attention", "ffn", "cross"]


class Role(StrEnum):
    """The part that a name's last words speak of; OUT and IN tell a writer or reader by its context only."""

    Q = "Q"
    K = "K"
    V = "V"
    O = "O"  # noqa: E741 - the field's own name for the attention output
    QKV = "QKV"
    KV = "KV"
    GATE = "Gate"
    UP = "Up"
    DOWN = "Down"
    GATE_UP = "Gate, Up"
    UP_GATE = "Up, Gate"
    IN = "in"
    OUT = "out"
    NUMBERED = "numbered"
    Q_DOWN = "Q, first factor"
    Q_UP = "Q, second factor"
    KV_DOWN = "K and V, first factor"
    KV_UP = "K and V, second factor"


@dataclass(frozen=True)
class Word:
    """What a name tells: a role and a context, if any, and the number that tells fc1 from fc2."""

    role: Role | None
    context: Context | None
    number: int = 0


_PIECES = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_FILLING = {
    "proj",
    "project",
    "projection",
    "linear",
    "lin",
    "dense",
    "to",
    "c",
    "attn",
    "attention",
    "self",
    "matrix",
    "layer",
}
_NUMBERED = {"", "w", "fc", "ff", "ffn", "mlp"}

_ATTENTION = {
    "q": Role.Q, "query": Role.Q, "queries": Role.Q, "wq": Role.Q, "w_q": Role.Q,
    "k": Role.K, "key": Role.K, "keys": Role.K, "wk": Role.K, "w_k": Role.K,
    "v": Role.V, "value": Role.V, "values": Role.V, "val": Role.V, "wv": Role.V, "w_v": Role.V,
    "o": Role.O, "wo": Role.O, "w_o": Role.O,
    "qkv": Role.QKV, "wqkv": Role.QKV, "q_k_v": Role.QKV, "query_key_value": Role.QKV, "w_pack": Role.QKV,
    "kv": Role.KV, "wkv": Role.KV, "k_v": Role.KV, "key_value": Role.KV,
    "q_a": Role.Q_DOWN, "q_b": Role.Q_UP, "kv_a": Role.KV_DOWN, "kv_a_with_mqa": Role.KV_DOWN,
    "kv_b": Role.KV_UP,
}  # fmt: skip
_FFN = {
    "gate": Role.GATE, "gating": Role.GATE, "w_gate": Role.GATE, "wg": Role.GATE, "wi_0": Role.GATE,
    "fc_0": Role.GATE, "up": Role.UP, "w_up": Role.UP, "wi_1": Role.UP, "wi": Role.IN, "fc": Role.UP,
    "fc_in": Role.UP, "h_4_h": Role.IN, "intermediate": Role.UP,
    "down": Role.DOWN, "w_down": Role.DOWN, "fc_out": Role.DOWN, "4_h_h": Role.DOWN,
    "gate_up": Role.GATE_UP, "up_gate": Role.UP_GATE,
}  # fmt: skip
_FFN_ONLY = {
    "g": Role.GATE, "u": Role.UP, "d": Role.DOWN, "in": Role.IN, "input": Role.IN, "weights_in": Role.IN,
    "w_in": Role.IN, "out": Role.OUT, "output": Role.OUT, "weights_out": Role.OUT, "w_out": Role.OUT,
    "ffn_output": Role.OUT, "wo": Role.OUT, "o": Role.OUT, "": Role.OUT, "ffn": Role.IN,
}  # fmt: skip
_OUT = {"", "out", "output"}


def components(name: str) -> list[str]:
    """The parts of a path, without the word for the array itself."""
    parts = re.split(r"[./]", name)
    return parts[:-1] if len(parts) > 1 and parts[-1] in ("weight", "kernel", "w") else parts


def words(component: str) -> list[str]:
    """`q_proj`, `qProj` and `Q_proj` alike in lower case."""
    return [piece.lower() for piece in _PIECES.findall(component)]


def read(name: str) -> Word:
    """What a layer-local name tells."""
    path = components(name)
    leaf = path[-1].removesuffix("_weight")
    if leaf.isdecimal() and len(path) > 1:
        leaf = f"{path[-2]}_{leaf}"
    context = _context(path)
    if context == "cross":
        return Word(None, context)
    said = words(leaf)
    core = [word for word in said if word not in _FILLING]
    if context == "attention":
        return Word(_attention_role(said, core), context)
    if path[-1].isdecimal() and context == "ffn":
        return Word(Role.NUMBERED, context, int(path[-1][:9]))
    if len(core) > 1 and core[-2] in _NUMBERED and core[-1].isdecimal() and "_".join(core) not in _FFN:
        return Word(Role.NUMBERED, context, int(core[-1][:9]))
    if len(core) == 1 and core[0].isdecimal():
        return Word(Role.NUMBERED, context, int(core[0][:9]))
    told = "_".join(core)
    if context == "ffn":
        if not told and words(path[-2 if len(path) > 1 else -1]) == ["intermediate"]:
            return Word(Role.UP, context)
        return Word(_FFN.get(told) or _FFN_ONLY.get(told), context)
    role = _ATTENTION.get(told) or _FFN.get(told)
    if role is None and told in _OUT:
        role = Role.DOWN if len(path) > 1 and words(path[-2]) == ["output"] else Role.OUT
    return Word(role, None)


def _attention_role(said: list[str], core: list[str]) -> Role | None:
    if said == ["c", "attn"]:
        return Role.QKV
    told = "_".join(core[:-1] if core[1:] == ["0"] else core)
    if told == "in":
        return Role.QKV
    return _ATTENTION.get(told) or (Role.OUT if told in _OUT else None)


def _context(path: list[str]) -> Context | None:
    """What the deepest telling part of a path is about."""
    for part in reversed(path):
        said, low = set(words(part)), part.lower()
        attends = "attn" in low or "attention" in low or bool(said & {"att", "mha"})
        if attends and ("cross" in low or {"enc", "encoder"} & said):
            return "cross"
        if "crossattention" in low or said == {"cross"}:
            return "cross"
        if attends:
            return "attention"
        if "mlp" in low or "ffn" in low or said & {"ff", "feed", "forward", "feedforward", "relu"}:
            return "ffn"
        if said & {"moe", "expert", "experts", "intermediate"}:
            return "ffn"
    return None
