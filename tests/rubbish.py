"""Documents that are nearly right: values that something may trip over, put anywhere into real ones."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

awkward = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 8, 24, 33, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400]),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["F32", "BF16", "F4", "F6_E2M3", "f32", "", "\ud800", "__metadata__"]),
)
json_values = st.recursive(
    awkward,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> "list[tuple[Any, ...]]":
    """Every place in a document that holds a value, as the keys that lead there."""
    keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, inner in keys:
        found += places(inner, (*path, key))
    return found


@st.composite
def nearly(draw: st.DrawFn, documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One of these documents, with one to three of its values replaced or taken out."""
    document: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(documents))))
    for _ in range(draw(st.integers(1, 3))):
        if not (there := places(document)):
            break
        *above, last = draw(st.sampled_from(there))
        holder: Any = document
        for key in above:
            holder = holder[key]
        if draw(st.booleans()) and isinstance(holder, dict):
            del holder[last]
        else:
            holder[last] = draw(json_values)
    return document


@st.composite
def nearly_text(draw: st.DrawFn, texts: Sequence[str], words: Sequence[str]) -> str:
    """One of these texts, with one to three of its lines doubled, taken out, moved, or a word put in."""
    lines = draw(st.sampled_from(texts)).splitlines()
    for _ in range(draw(st.integers(1, 3))):
        place, other = (draw(st.integers(0, max(len(lines) - 1, 0))) for _ in range(2))
        line = lines[place] if lines else ""
        cut = draw(st.integers(0, len(line)))
        word = draw(st.sampled_from(words) | st.text(max_size=3))
        new = draw(
            st.sampled_from([[], [line, line], lines[other : other + 1], [line[:cut] + word + line[cut:]]])
        )
        lines[place : place + 1] = new
    return "\n".join(lines)
