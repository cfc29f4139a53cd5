"""Further stacks and routed experts as they are told: whole documents, sentences, notes, and the way back."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from sample_mixture import ALIKE, IN_PART, LED, dense, routed, sample_mixture
from sample_report import sample_report

from reports import experts
from reports.comparison import Audited
from reports.document import DocumentError, from_json, to_json
from reports.experts import Bond
from reports.figures import illustrations
from reports.index import to_markdown as to_page
from reports.index import to_terminal as to_table
from reports.markdown import to_markdown
from reports.model import Coverage, ExpertSummary, Report, Spaces, Stack
from reports.pattern import judged, sentences
from reports.stacks import not_measured, notes
from reports.terminal import to_terminal
from reports.view import provenance

MARKDOWN = r"""# Geometric continuity of org/mixture

- Continuous in input space (v1): Q 0.75, Gate 0.88, Up 0.50, SharedGate 0.75.
- Continuous in output space (u1): O 0.75, SharedDown 0.75.
- 7 of 8 projections are as the paper expects (arXiv:2605.04971): Q in v1, V low, O in u1, Gate in v1, Up in v1, SharedGate in v1, SharedDown in u1.
- Unusual: Down is only at chance in output space (u1) at 0.06.

![Layer by layer](figures/continuity.png)

*Layer by layer.* Each point compares two adjacent layers: |cos| between their leading singular vectors, in the space that faces the residual stream. The grey band is where 95 of 100 pairs of random directions fall. Hollow points are degenerate pairs.

## Findings

|  |  | finding |
|:--|:--|:--|
| **error** | `nan` | cross-attention: K of layer 0 holds NaN; likewise in layer 2 |
| **error** | `nan` | K of layer 0 holds NaN |

## Continuity through depth

The decoder: mixed, 4 layers, hidden size 100.

|  | v1 (input) | null | EVR | chance | u1 (output) | null | EVR | chance | shape |  |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|:--|
| **Q** | **0.7500** | 0.080 | – | – | 0.0625 | 0.080 | – | – | 100×100 |  |
| **V** | **0.0625** | 0.080 | – | – | 0.0625 | 0.080 | – | – | 100×100 |  |
| **O** | 0.0625 | 0.080 | – | – | **0.7500** | 0.080 | – | – | 100×100 |  |
| **Gate** | **0.8750** | 0.080 | – | – | – | – | – | – | 400×100 |  |
| **Up** | **0.5000** | 0.080 | – | – | – | – | – | – | 400×100 |  |
| **Down** | – | – | – | – | **0.0625** | 0.080 | – | – | 100×400 |  |
| **SharedGate** | **0.7500** | 0.080 | – | – | 0.0625 | 0.080 | – | – | 100×100 |  |
| **SharedDown** | 0.0625 | 0.080 | – | – | **0.7500** | 0.080 | – | – | 100×100 |  |

Continuity is the mean |cos| between the leading singular vectors of adjacent layers; null is what random directions give. EVR is the share of their path through depth held by 3 principal components; chance is the same for random directions. Bold marks the space that faces the residual stream.

Gate, Up and Down: where a layer has routed experts, all of them stacked. The space that does not face the residual stream would depend on their order, and is left out.

Where a projection is not measured in every layer, the nearest two that are make a pair: those of Q, V, O lie up to 2 layers apart.

![Both spaces at a glance](figures/heatmap.png)

*Both spaces at a glance.* The same numbers in both spaces: dark is a direction kept from layer to layer. Names in bold face the residual stream in that space.

## What the leading directions are like

|  | stable rank | spread of v1 | spread of u1 | top channel of v1 | top channel of u1 | lag 1 to last | error bound |
|:--|--:|--:|--:|--:|--:|--:|--:|
| **Q** | 2.0 | 30 | 40 | 7 in 2/2 | 8 in 2/2 | 0.75 to 0.75 | 2e-05 |
| **V** | 2.0 | 30 | 40 | 7 in 2/2 | 8 in 2/2 | 0.06 to 0.06 | 2e-05 |
| **O** | 2.0 | 30 | 40 | 7 in 2/2 | 8 in 2/2 | 0.75 to 0.75 | 2e-05 |
| **Gate** | 2.0 | 30 | – | 7 in 4/4 | – | 0.88 to 0.88 | 1e-06 |
| **Up** | 2.0 | 30 | – | 7 in 4/4 | – | 0.50 to 0.50 | 1e-06 |
| **Down** | 2.0 | – | 40 | – | 8 in 4/4 | 0.06 to 0.06 | 2e-05 |
| **SharedGate** | 2.0 | 30 | 40 | 7 in 3/3 | 8 in 3/3 | 0.75 to 0.75 | 2e-05 |
| **SharedDown** | 2.0 | 30 | 40 | 7 in 3/3 | 8 in 3/3 | 0.75 to 0.75 | 2e-05 |

- Spread over many channels: v1 of Q, V, Gate, Up, SharedGate; u1 of O, Down, SharedDown.

Medians over layers. Stable rank is ||W||² / σ1². Spread is the participation ratio 1 / Σ vᵢ⁴: 1 for a single channel, the dimension for all. Top channel: the coordinate most layers agree on. Lag: mean |cos| in the facing space between adjacent layers, and between the first and the last. Error bound: the largest by which any |cos| of v1 or u1 above may be off.

![A path, or one direction throughout](figures/lag.png)

*A path, or one direction throughout.* Mean |cos| between layers that lie 1, 2, 3 ... apart. A line that stays up is one direction kept throughout. A line that falls is a direction lost with depth: by turning step by step, or at once where the first figure has a break. The last points rest on few pairs; the band is that of a single pair.

## The routed experts

- The experts of a layer share a direction: v1 of Gate.
- The experts of a layer share a direction in part: v1 of Up.
- Each expert has a direction of its own, and the stack's is that of one or a few: u1 of Down.

|  | layers | experts | with the stack | lowest to highest layer | between two | null |
|:--|--:|--:|--:|--:|--:|--:|
| **Gate** | 3 of 4 | 4 | 0.85 | 0.50 to 0.85 | 0.75 | 0.080 |
| **Up** | 3 of 4 | 4 | 0.75 | 0.50 to 0.75 | 0.38 | 0.080 |
| **Down** | 3 of 4 | 4 | 0.15 | 0.15 to 0.50 | 0.10 | 0.080 |

With the stack: |cos| of an expert's leading direction with that of all experts stacked, the median over a layer's experts, then over layers; beside it the lowest and the highest layer. Between two: the mean |cos| between the leading directions of two experts, the median over layers. null is what random directions give; as each expert is part of the stack, a few experts lie above it in any case.

![The routed experts](figures/experts.png)

*The routed experts.* For each layer, |cos| between the leading direction of each expert and that of all experts stacked, in the space that faces the residual stream: a dot an expert or, of many experts, a thin bar from the lowest to the highest, thick over the middle half, with a dash at the median. Circles are the mean |cos| between two experts. The grey band is where 95 of 100 pairs of random directions fall.

## encoder: mixed, 2 layers, hidden size 64

- Continuous in input space (v1): Q 0.50.
- Continuous in output space (u1): Q 0.50.
- Unusual: Q is moderate in output space (u1) too, at 0.50.

|  | v1 (input) | null | EVR | chance | u1 (output) | null | EVR | chance | shape |  |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|:--|
| **Q** | **0.5000** | 0.100 | – | – | 0.5000 | 0.080 | – | – | 100×64 |  |

![Layer by layer: encoder](figures/continuity-encoder.png)

*Layer by layer: encoder.* |cos| of adjacent layers in the space that faces the residual stream, as in the first figure.

|  | stable rank | spread of v1 | spread of u1 | top channel of v1 | top channel of u1 | lag 1 to last | error bound |
|:--|--:|--:|--:|--:|--:|--:|--:|
| **Q** | 2.0 | 30 | 40 | 7 in 2/2 | 8 in 2/2 | 0.50 to 0.50 | 2e-05 |

- Spread over many channels: v1 of Q.

## cross-attention: mixed, 4 layers, hidden size 100

- Continuous in input space (v1): Q 0.75, K 0.88, V 0.88.
- Continuous in output space (u1): O 0.75.
- 2 of 2 projections are as the paper expects (arXiv:2605.04971): Q in v1, O in u1.

|  | v1 (input) | null | EVR | chance | u1 (output) | null | EVR | chance | shape |  |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|:--|
| **Q** | **0.7500** | 0.080 | – | – | 0.0625 | 0.080 | – | – | 100×100 |  |
| **K** | **0.8750** | 0.100 | – | – | 0.0625 | 0.080 | – | – | 100×64 |  |
| **V** | **0.8750** | 0.100 | – | – | 0.0625 | 0.080 | – | – | 100×64 |  |
| **O** | 0.0625 | 0.080 | – | – | **0.7500** | 0.080 | – | – | 100×100 |  |

K and V read another stack's output, the same in every layer: their v1 lies in that stack's space, not in the residual stream of this one.

![Layer by layer: cross-attention](figures/continuity-cross-attention.png)

*Layer by layer: cross-attention.* |cos| of adjacent layers in the space that faces the residual stream, as in the first figure.

|  | stable rank | spread of v1 | spread of u1 | top channel of v1 | top channel of u1 | lag 1 to last | error bound |
|:--|--:|--:|--:|--:|--:|--:|--:|
| **Q** | 2.0 | 30 | 40 | 7 in 4/4 | 8 in 4/4 | 0.75 to 0.75 | 2e-05 |
| **K** | 2.0 | 30 | 40 | 7 in 4/4 | 8 in 4/4 | 0.88 to 0.88 | 2e-05 |
| **V** | 2.0 | 30 | 40 | 7 in 4/4 | 8 in 4/4 | 0.88 to 0.88 | 2e-05 |
| **O** | 2.0 | 30 | 40 | 7 in 4/4 | 8 in 4/4 | 0.75 to 0.75 | 2e-05 |

- Spread over many channels: v1 of Q, K, V; u1 of O.

## What is not measured

- decoder: Q, V, O: layers 0, 2: linear attention
- cross-attention: K: layers 0, 2-3: NaN

"""  # noqa: E501

TERMINAL = r"""
org/mixture  mixed: decoder, encoder, cross-attention

 decoder  mixed, 4 layers, hidden size 100

            v1 (input)      null EVR  chance u1 (output)     null EVR  chance
 ────────────────────────────────────────────────────────────────────────────
 Q          0.7500 █████▎  0.080   –       – 0.0625         0.080   –       –
 V          0.0625 ▌       0.080   –       – 0.0625         0.080   –       –
 O          0.0625         0.080   –       – 0.7500 █████▎  0.080   –       –
 Gate       0.8750 ██████▏ 0.080   –       –      –             –   –       –
 Up         0.5000 ███▌    0.080   –       –      –             –   –       –
 Down            –             –   –       – 0.0625 ▌       0.080   –       –
 SharedGate 0.7500 █████▎  0.080   –       – 0.0625         0.080   –       –
 SharedDown 0.0625         0.080   –       – 0.7500 █████▎  0.080   –       –

 Continuity is the mean |cos| between the leading singular vectors of adjacent
 layers; null is what random directions give. EVR is the share of their path
 through depth held by 3 principal components; chance is the same for random
 directions. Full bars mark the space that faces the residual stream.

 Gate, Up and Down: where a layer has routed experts, all of them stacked. The
 space that does not face the residual stream would depend on their order, and
 is left out.
 Where a projection is not measured in every layer, the nearest two that are
 make a pair: those of Q, V, O lie up to 2 layers apart.

 Continuous in input space (v1): Q 0.75, Gate 0.88, Up 0.50, SharedGate 0.75.
 Continuous in output space (u1): O 0.75, SharedDown 0.75.
 7 of 8 projections are as the paper expects (arXiv:2605.04971): Q in v1, V
 low, O in u1, Gate in v1, Up in v1, SharedGate in v1, SharedDown in u1.
 Unusual: Down is only at chance in output space (u1) at 0.06.

 error nan cross-attention: K of layer 0 holds NaN; likewise in layer 2
 error nan K of layer 0 holds NaN

What the leading directions are like (medians over layers)

             stable  spread  spread         top         lag 1  error
               rank   of v1   of u1  channel v1       to last  bound
 ────────────────────────────────────────────────────────────────────
 Q              2.0      30      40    7 in 2/2  0.75 to 0.75  2e-05
 V              2.0      30      40    7 in 2/2  0.06 to 0.06  2e-05
 O              2.0      30      40    7 in 2/2  0.75 to 0.75  2e-05
 Gate           2.0      30       –    7 in 4/4  0.88 to 0.88  1e-06
 Up             2.0      30       –    7 in 4/4  0.50 to 0.50  1e-06
 Down           2.0       –      40           –  0.06 to 0.06  2e-05
 SharedGate     2.0      30      40    7 in 3/3  0.75 to 0.75  2e-05
 SharedDown     2.0      30      40    7 in 3/3  0.75 to 0.75  2e-05

 Spread over many channels: v1 of Q, V, Gate, Up, SharedGate; u1 of O, Down,
 SharedDown.

The routed experts: |cos| of their leading directions (medians)

                        with the          over  between
       layers  experts     stack        layers      two   null
 ──────────────────────────────────────────────────────────────
 Gate  3 of 4        4      0.85  0.50 to 0.85     0.75  0.080
 Up    3 of 4        4      0.75  0.50 to 0.75     0.38  0.080
 Down  3 of 4        4      0.15  0.15 to 0.50     0.10  0.080

 The experts of a layer share a direction: v1 of Gate.
 The experts of a layer share a direction in part: v1 of Up.
 Each expert has a direction of its own, and the stack's is that of one or a
 few: u1 of Down.

 encoder  mixed, 2 layers, hidden size 64

   v1 (input)      null EVR  chance u1 (output)     null EVR  chance
 ───────────────────────────────────────────────────────────────────
 Q 0.5000 ███▌    0.100   –       – 0.5000 ▒▒▒▒    0.080   –       –

 Continuous in input space (v1): Q 0.50.
 Continuous in output space (u1): Q 0.50.
 Unusual: Q is moderate in output space (u1) too, at 0.50.

What the leading directions are like (medians over layers)

    stable  spread  spread         top         lag 1  error
      rank   of v1   of u1  channel v1       to last  bound
 ───────────────────────────────────────────────────────────
 Q     2.0      30      40    7 in 2/2  0.50 to 0.50  2e-05

 Spread over many channels: v1 of Q.

 cross-attention  mixed, 4 layers, hidden size 100

   v1 (input)      null EVR  chance u1 (output)     null EVR  chance
 ───────────────────────────────────────────────────────────────────
 Q 0.7500 █████▎  0.080   –       – 0.0625         0.080   –       –
 K 0.8750 ██████▏ 0.100   –       – 0.0625         0.080   –       –
 V 0.8750 ██████▏ 0.100   –       – 0.0625         0.080   –       –
 O 0.0625         0.080   –       – 0.7500 █████▎  0.080   –       –

 K and V read another stack's output, the same in every layer: their v1 lies in
 that stack's space, not in the residual stream of this one.

 Continuous in input space (v1): Q 0.75, K 0.88, V 0.88.
 Continuous in output space (u1): O 0.75.
 2 of 2 projections are as the paper expects (arXiv:2605.04971): Q in v1, O in
 u1.

What the leading directions are like (medians over layers)

    stable  spread  spread         top         lag 1  error
      rank   of v1   of u1  channel v1       to last  bound
 ───────────────────────────────────────────────────────────
 Q     2.0      30      40    7 in 4/4  0.75 to 0.75  2e-05
 K     2.0      30      40    7 in 4/4  0.88 to 0.88  2e-05
 V     2.0      30      40    7 in 4/4  0.88 to 0.88  2e-05
 O     2.0      30      40    7 in 4/4  0.75 to 0.75  2e-05

 Spread over many channels: v1 of Q, K, V; u1 of O.

What is not measured

 decoder: Q, V, O: layers 0, 2: linear attention
 cross-attention: K: layers 0, 2-3: NaN

 model      org/mixture at abc123
 family     mixed (model_type mixed)
 size       decoder 4 layers, hidden size 100; encoder 2 layers, hidden size 64;
            cross-attention 4 layers, hidden size 100
 stored as  BF16, computed in float32 on CPU (2 threads)
 settings   weights raw, 2 leading triplets
 tensors    90 audited, 2 unknown (1 in layers), 13 ignored: 6 norms and scales,
            4 biases, 3 router
 work       16.1 GB read in 1 min 5 s
 memory     1.1 GB peak of 1.4 GB planned for 2 workers, 8.0 GB allowed
 tool       gcont-audit 0.1.0, torch 2.13.0, Python 3.11.7
 started    2026-11-23T08:00:00+00:00
 command    gcont-audit org/name
"""


def printed(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def test_markdown_tells_stack_by_stack() -> None:
    document = to_markdown(sample_mixture())
    assert document.split("## How to read this")[0] == MARKDOWN


def test_the_terminal_tells_stack_by_stack() -> None:
    assert printed(to_terminal(sample_mixture()), 80) == TERMINAL


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_nor_cut(width: int) -> None:
    text = printed(to_terminal(sample_mixture()), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text


def test_degenerate_shared_experts_fit_80_columns() -> None:
    """The longest name with its mark, beside numbers in every column."""
    report = sample_mixture()
    found = sample_report().projections["V"]
    full = replace(found, evr3=Spaces(0.9, 0.9), evr3_null=Spaces(0.55, 0.55))
    text = printed(to_terminal(replace(report, projections={"SharedDown": full})), 80)
    assert " SharedDown* 0.5000 ███▌    0.080 0.90    0.55 0.0625         0.080 0.90   0.55\n" in text


# What is said


def main_of(**projections: object) -> Stack:
    return replace(sample_mixture(), projections=projections).main  # type: ignore[arg-type]


def test_stacked_experts_are_judged_by_the_space_that_faces_the_stream() -> None:
    stack = main_of(Gate=routed("v", 0.75, ALIKE), Down=routed("u", 0.0625, LED))
    assert judged(stack) == (1, 2)
    assert sentences(stack) == (
        "Continuous in input space (v1): Gate 0.75.",
        "Nothing is continuous in output space (u1).",
        "1 of 2 projections are as the paper expects (arXiv:2605.04971): Gate in v1.",
        "Unusual: Down is only at chance in output space (u1) at 0.06.",
    )


def test_a_space_in_which_nothing_was_measured_is_passed_over() -> None:
    assert sentences(main_of(Gate=routed("v", 0.75, ALIKE)))[1].startswith("1 of 1 projections")


def test_shared_experts_are_judged_by_their_own_side() -> None:
    stack = main_of(SharedUp=dense("v", 0.75, 0.0625), SharedDown=dense("u", 0.0625, 0.75))
    assert judged(stack) == (2, 2)
    turned = main_of(SharedUp=dense("v", 0.0625, 0.75), SharedDown=dense("u", 0.75, 0.0625))
    assert judged(turned) == (0, 2)


def test_what_cross_attention_reads_of_another_stack_is_not_judged() -> None:
    keys = {name: dense("v", 0.75, 0.0625) for name in ("Q", "K", "V")}
    assert judged(Stack(keys, "mixed", 4, 100)) == (2, 3)
    assert judged(Stack(keys, "mixed", 4, 100, cross=True)) == (1, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (ALIKE, Bond.SHARED),
        (replace(ALIKE, between=0.55), Bond.SHARED),
        (IN_PART, Bond.PARTLY),
        (replace(ALIKE, between=0.27), Bond.PARTLY),
        (LED, Bond.LED),
        (replace(LED, with_stack=(0.89, 0.1, 0.1, 0.1)), Bond.OWN),
        (replace(LED, with_stack=(None,) * 4), Bond.OWN),
        (replace(LED, between=None), None),
    ],
)
def test_what_experts_share_is_read_from_the_null_up(given: ExpertSummary, expected: Bond | None) -> None:
    """The null is .08: a fifth of the way to 1 is .264, half of it .54."""
    assert experts.bond(routed("v", 0.5, given)) is expected


def test_experts_without_a_null_are_shown_and_not_judged() -> None:
    found = replace(routed("v", 0.5, ALIKE), null=Spaces(None, None))
    assert list(experts.sentences(main_of(Gate=found))) == []
    (row,) = experts.rows(main_of(Gate=found))
    assert (row.between, row.null) == ("0.75", "–")


def test_experts_that_differ_in_number_or_could_not_be_measured() -> None:
    few = replace(ALIKE, sigma1=(1.0, 2.0), with_stack=(0.5, 0.25))
    none = ExpertSummary((None,), (None,), None)
    found = replace(routed("v", 0.5, ALIKE), experts=(ALIKE, few, None, none))
    (row,) = experts.rows(main_of(Gate=found))
    assert (row.layers, row.experts) == ("3 of 4", "1 to 4")
    assert (row.with_stack, row.over_layers) == ("0.61", "0.38 to 0.85")
    blank = replace(found, experts=(None, None, None, none))
    (row,) = experts.rows(main_of(Gate=blank))
    assert (row.with_stack, row.over_layers, row.between) == ("–", "–", "–")


def test_the_widest_gap_between_two_layers_is_named_once() -> None:
    q, k = dense("v", 0.75, 0.1, (0, 3, 4)), dense("v", 0.75, 0.1, (0, 4))
    stack = main_of(Q=q, K=k, O=dense("u", 0.1, 0.75))
    (note,) = notes(stack)
    assert note.endswith("make a pair: those of Q, K lie up to 4 layers apart.")


@pytest.mark.parametrize(
    ("names", "start"),
    [
        (("K",), "K reads"),
        (("K", "V"), "K and V read"),
        (("K", "V", "OV"), "K, V and OV read"),
        (("Q",), None),
    ],
)
def test_cross_attention_says_whose_space_its_input_is(names: tuple[str, ...], start: str | None) -> None:
    stack = Stack({name: dense("v", 0.75, 0.1) for name in names}, "mixed", 4, 100, cross=True)
    said = list(notes(stack))
    assert [note.startswith(start or "?") for note in said] == [True] * (start is not None)
    assert not list(notes(replace(stack, cross=False)))


def test_equal_reasons_are_told_together_and_layers_in_their_order() -> None:
    lacking = {"layers 4-6, 0-2": "linear attention", "layer 3": "linear attention", "layer 9": "NaN"}
    q, k = (replace(dense("v", 0.75, 0.1), unmeasured=each) for each in (lacking, {**lacking, "wa": "no"}))
    odd = replace(q, unmeasured={"layer": "x", "layers 1-": "x", "layer 9999999999": "x", "layers a": "x"})
    report = replace(sample_mixture(), projections={"Q": q, "K": k, "V": odd}, stacks={})
    assert list(not_measured(report)) == ["Q, K: layers 0-6: linear attention", "Q, K: layer 9: NaN"]


def test_every_tensor_is_accounted_for_by_many_rules() -> None:
    rules = {f"rule {i}": i for i in range(1, 20)}
    report = replace(sample_mixture(), coverage=Coverage(7, rules, ("a",)))
    told = dict(provenance(report))["tensors"]
    assert told.startswith("7 audited, 1 unknown, 190 ignored: 19 rule 19, 18 rule 18, ")
    assert told.endswith(", 1 rule 1")
    bare = replace(report, coverage=Coverage(7, {}, ()))
    assert dict(provenance(bare))["tensors"] == "7 audited, 0 unknown, 0 ignored"
    assert max(map(len, printed(to_terminal(report), 80).splitlines())) <= 80


def test_the_page_over_models_shows_the_main_stacks() -> None:
    entries = [Audited("m", "m", one, fresh=True) for one in (sample_mixture(), sample_report())]
    heading = next(line for line in to_page(entries).splitlines() if line.startswith("| model"))
    assert heading == (
        "| model | layers | width | Q v1 | V v1 | O u1 | Gate v1 | Up v1 | Down u1 | SharedGate v1 | "
        "SharedDown u1 | null | as expected | findings | settings |"
    )
    table = printed(to_table(entries), 80)
    assert "Shared" not in table
    assert "…" not in table


# Read back


def test_json_comes_back_as_the_same_report() -> None:
    report = from_json(to_json(sample_mixture()))
    assert report == sample_mixture()
    assert to_markdown(report) == to_markdown(sample_mixture())


def old(report: Report) -> str:
    """As versions wrote it that knew one stack and no experts."""
    value = json.loads(to_json(report))
    del value["stacks"], value["model"]["stack"], value["coverage"]["unknown_in_layers"]
    for found in value["projections"].values():
        del found["experts"]
    for finding in value["findings"]:
        del finding["stack"]
    return json.dumps(value)


def test_a_report_of_a_version_without_stacks_is_read() -> None:
    assert from_json(old(sample_report())) == sample_report()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experts": [None]}, "projections.Gate.experts: 1 entries for 4 layers"),
        ({"with_stack": [0.5]}, "projections.Gate.experts: 1 compared with the stack, of 4"),
        ({"with_stack": [0.5, 0.5, 1.5, 0.5]}, "projections.Gate.experts: |cos| outside 0 to 1"),
        ({"between": -0.5}, "projections.Gate.experts: |cos| outside 0 to 1"),
        ({"sigma1": [], "with_stack": []}, "projections.Gate.experts: 0 compared with the stack, of 0"),
    ],
)
def test_experts_that_contradict_themselves_are_named_by_key(change: dict[str, object], said: str) -> None:
    value = json.loads(to_json(sample_mixture()))
    found = value["projections"]["Gate"]
    (found if "experts" in change else found["experts"][1]).update(change)
    with pytest.raises(DocumentError) as caught:
        from_json(json.dumps(value))
    assert said in str(caught.value)


def test_a_contradiction_in_a_further_stack_is_named_by_its_key() -> None:
    value = json.loads(to_json(sample_mixture()))
    value["stacks"]["encoder"]["projections"]["Q"]["shape"] = [0, 1]
    with pytest.raises(DocumentError, match=r"stacks\.encoder\.projections\.Q\.shape: not positive"):
        from_json(json.dumps(value))


# Names from outside


NAMES = ["", "../x", "a/b", "Vision Tower", "\x1b[2J", "模型", "x" * 300, "a|b](c)"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_stack_of_any_name_can_be_told(name: str) -> None:
    report = sample_mixture()
    report = replace(report, stacks={name: report.stacks["encoder"]})
    text = printed(to_terminal(report), 80) + to_markdown(report)
    assert "\x1b" not in text
    (file,) = [one.file for one in illustrations(report) if one.stack == name]
    assert file.startswith("figures/continuity-")
    assert file.count("/") == 1
    assert set(file) <= set("abcdefghijklmnopqrstuvwxyz0123456789-./")
    assert len(file) < 80


def test_stacks_whose_names_are_alike_have_files_of_their_own() -> None:
    report = sample_mixture()
    names = ("A b", "a-b", "a b", "a-b-2")
    report = replace(report, stacks=dict.fromkeys(names, report.stacks["encoder"]))
    own = [one.file for one in illustrations(report) if one.stack is not None]
    assert len(own) == len(set(own)) == len(names)
