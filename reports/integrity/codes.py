"""The codes that a check's findings can have; what lies in the layers is called as an audit calls it."""

from reports.codes import CODES, Code

_SHARED = (
    "surplus-tensor",
    "unknown-tensor",
    "missing-projection",
    "unread-stack",
    "extra-layer",
    "odd-heads",
)

CHECK_CODES = (
    Code("header", "error", "a file whose safetensors header cannot be read or cannot be right"),
    Code("truncated", "error", "a file with fewer bytes than its header promises"),
    Code("unreadable", "error", "a file that could not be read to its end, or changed meanwhile"),
    Code("missing-shard", "error", "a file of the model that is not there"),
    Code("index", "error", "an index that cannot be read, or promises tensors that are not where it says"),
    Code("double-tensor", "error", "a tensor that two shards hold"),
    Code("hash-mismatch", "error", "a file whose content is not what the Hub says it is"),
    Code("config", "error", "a config.json that cannot be read, or contradicts the tensors"),
    Code("nan", "error", "NaN somewhere in a tensor"),
    Code("inf", "error", "an infinite value somewhere in a tensor"),
    Code("zero", "warning", "a tensor of nothing but zeros; info for vectors and whole numbers"),
    Code("unknown-family", "warning", "a model that no family is known for"),
    *(code for code in CODES if code.name in _SHARED),
    Code("total-size", "info", "an index whose total_size is not the size of the tensors"),
    Code("duplicate-tensor", "info", "tensors that hold the same bytes: tied weights stored twice"),
    Code("layout-unchecked", "info", "a model whose tensors were not held against config.json, and why"),
)
"""Every code; a check makes findings of no other."""
