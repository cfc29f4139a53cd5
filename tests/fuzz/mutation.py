"""Turn one input into another that is nearly right: by its bytes, its words, or its JSON.

Random bytes alone hardly ever get past the first bracket.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

NASTY: Sequence[Any] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 16, 255, 2**31, 2**53 + 1, 2**62, 2**63, 2**64, 10**12, 10**400,
    -(10**400), 0.5, 3.0, 1e300, float("inf"), float("nan"), "", "4", "\x00", "\x1b[31m", "\u202e", "\ud800",
    "../x", "C:\\x", "a" * 10_000, [], [[]], [0] * 20, [None], {}, {"": {}}, {"model_type": "llama"},
    10**4200,
)  # fmt: skip
"""Values that something may trip over."""

DEEP = tuple("[" * depth + "]" * depth for depth in range(900, 1000, 4))
"""Lists in lists, some so deep that they can be read and not be shown."""

WORDS = (
    *(bytes([sign]) for sign in b'{}[]"\\,:.=<> \n\x00\xff\xc3*#\''), b"**", b"[[", b"]]", b'"""', b"..",
    b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xf0\x9f\x98\x80", b"\\ud800", b"null", b"true", b"NaN", b"Infinity",
    b"-0", b"1e999", b"9" * 5000, b"0x" + b"f" * 5000, b"[" * 2000, b'{"":' * 2000, b"{layer}", b"{expert}",
    b"1979-05-27", b"00:00:61", b"_orig_mod.", b"module.",
)  # fmt: skip

PLACE = "here comes something deep"

_TOKEN = re.compile(rb"[A-Za-z_]+|[0-9]+|\s+|.", re.DOTALL)
_MOST = 2**16
"""Bytes that an input may grow to."""

Mutation = Callable[[bytes, random.Random], bytes]


def of_bytes(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    changed = bytearray(data or b"\x00")
    for _ in range(chance.choice((1, 1, 2, 8))):
        start = chance.randrange(len(changed) + 1)
        stop = min(len(changed), start + chance.choice((0, 1, 2, 8, 64)))
        new = chance.choice((b"", bytes(changed[start:stop]) * 2, chance.randbytes(1), chance.choice(WORDS)))
        changed[start:stop] = new
    return bytes(changed)


def of_words(data: bytes, chance: random.Random) -> bytes:
    """Words and signs swapped, doubled, dropped, or replaced by others of the input or of WORDS."""
    words = _TOKEN.findall(data) or [b""]
    for _ in range(chance.choice((1, 1, 2, 4))):
        place, other = chance.randrange(len(words)), chance.randrange(len(words))
        match chance.randrange(4):
            case 0:
                words[place], words[other] = words[other], words[place]
            case 1:
                words[place] = words[other]
            case 2:
                words[place] = chance.choice(WORDS)
            case 3:
                span = slice(place, place + chance.choice((1, 5, 20)))
                words[span] = [] if chance.random() < 0.5 and len(words) > 1 else words[span] * 2
        words = words or [b""]
    return b"".join(words)


def of_lines(data: bytes, chance: random.Random) -> bytes:
    """Lines swapped, doubled or dropped."""
    lines = data.splitlines(keepends=True) or [b""]
    place, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[place : place + 1] = chance.choice(
        ([], [lines[place]] * 2, [lines[other]], [lines[other], lines[place]])
    )
    return b"".join(lines)


def of_json(data: bytes, chance: random.Random) -> bytes:
    """Values anywhere in it replaced, taken out, put elsewhere; what is no JSON is changed by its words."""
    try:
        root = {"": json.loads(data)}
    except (ValueError, RecursionError):
        return of_words(data, chance)
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(root))
        holder, key = chance.choice(places)
        match chance.randrange(5):
            case 0 | 1:
                holder[key] = deepcopy(chance.choice(NASTY))  # what is put in may be changed next
            case 2 if chance.random() < 0.2:
                holder[key] = PLACE
            case 2:
                other, there = chance.choice(places)
                holder[key] = json.loads(_written(other[there]))
            case 3 if holder is not root:
                del holder[key]
            case 3 | 4:
                near = holder[key]
                if isinstance(near, int) and abs(near) < 2**70:
                    holder[key] = near + chance.choice((-1, 1, near, -near, -2 * near))
                elif isinstance(near, str):
                    holder[key] = near + chance.choice(("x", "\u202e", near, ".", "/"))
    text = _written(root.get("")).replace(f'"{PLACE}"', chance.choice(DEEP))
    return text.encode("utf-8", "surrogatepass")


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _places(root: Any) -> "list[tuple[Any, Any]]":
    """Every place in it that holds a value, as (its holder, its key)."""
    found, left = [], [root]
    while left:
        holder = left.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        found += [(holder, key) for key in keys]
        left += [holder[key] for key in keys if isinstance(holder[key], (dict, list))]
    return found


def mutate(data: bytes, chance: random.Random, kinds: Sequence[Mutation]) -> bytes:
    """The input changed by one of these mutations, rarely by several."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        try:
            data = chance.choice(kinds)(data, chance)
        except RecursionError:  # read just so, and too deep to be written again
            data = of_words(data, chance)
    return data[:_MOST]
