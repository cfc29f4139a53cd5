"""What each number survives: rewritings of a model that change its weights and not what it computes.

A number that such a rewriting changes says something about how the model is written down, not about what it
does. The tests apply every row to a real checkpoint.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Invariance:
    """One rewriting: what is done, which numbers survive it, which it changes."""

    key: str
    rewriting: str
    survives: str
    changes: str


INVARIANCES = (
    Invariance(
        key="value-basis",
        rewriting="another basis inside a value head: V to A V, O to O A⁻¹, any invertible A",
        survives="OV, every number of it",
        changes="u1 of V and v1 of O; where A is no rotation, v1, u1 and σ of both",
    ),
    Invariance(
        key="value-rotation",
        rewriting="the same with A a rotation",
        survives="OV; v1 of V, u1 of O, and the σ of both",
        changes="u1 of V, v1 of O",
    ),
    Invariance(
        key="query-basis",
        rewriting="another basis inside a query and key head that cancels in QᵀK "
        "(with rotary embedding: one that turns and scales its planes)",
        survives="v1 and σ of Q and K where it is a rotation, else nothing of Q and K",
        changes="u1 of Q and K; all of Q and K where it is no rotation",
    ),
    Invariance(
        key="norm-gain",
        rewriting="a pre-norm's gain g moved into all its readers: W to W diag(g), g to 1 "
        "(a LayerNorm's own bias b to b/g)",
        survives="every number with `--fold-norm`",
        changes="raw v1, u1 and σ of Q, K, V, Gate and Up, and raw OV",
    ),
    Invariance(
        key="layer-norm-mean",
        rewriting="c 1ᵀ diag(g)⁻¹ added to what reads a pre-norm LayerNorm of gain g, whose output has mean "
        "zero before the gain (what this makes of the norm's own bias is taken off the reader's)",
        survives="readers' numbers and OV with `--fold-norm`",
        changes="raw v1, u1 and σ of the readers, and raw OV",
    ),
    Invariance(
        key="neuron-order",
        rewriting="the neurons of a feed-forward block in another order",
        survives="v1 of Gate and Up, u1 of Down, and every σ",
        changes="u1 of Gate and Up, v1 of Down",
    ),
    Invariance(
        key="neuron-scale",
        rewriting="a neuron scaled: its row of Up by s, its column of Down by 1/s (behind a gate or a ReLU)",
        survives="every number of Gate",
        changes="v1, u1 and σ of Up and Down",
    ),
    Invariance(
        key="residual-rotation",
        rewriting="the residual stream rotated, in every layer alike (RMSNorm, gains folded)",
        survives="every continuity, EVR, WA and σ; signal flow of OV",
        changes="spread (participation ratio) and top channels in the space that faces the stream",
    ),
)
