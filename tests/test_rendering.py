"""Renderers are pure: whole expected documents, and what no renderer may do."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from sample_report import pair, projection, sample_report

from reports.document import DocumentError, from_json, json_schema, to_json
from reports.markdown import to_markdown
from reports.model import Report
from reports.pattern import Strength, sentences, strength
from reports.terminal import bar, to_terminal
from reports.view import duration, number, size

MARKDOWN = r"""# Geometric continuity of org/na\*me?\[2J

- Continuous in input space (v1): Q 0.75, V 0.50.
- Continuous in output space (u1): O 0.88.
- 2 of 3 projections are as the paper expects (arXiv:2605.04971): Q in v1, O in u1.
- Unusual: V is moderate in input space (v1) at 0.50, expected low.
- Degenerate pairs, where sigma2 is within 2% of sigma1 in a layer and v1 is not well defined: 1. report.md compares their leading planes.

![Layer by layer](figures/continuity.png)

*Layer by layer.* Each point compares two adjacent layers: |cos| between their leading singular vectors, in the space that faces the residual stream. The grey band is where 95 of 100 pairs of random directions fall. Hollow points are degenerate pairs.

## Findings

|  |  | finding |
|:--|:--|:--|
| **error** | `nan` | Q of layer 2 holds NaN: not measured |
| **warning** | `noise-like` | V of layer 0 is noise; likewise in layers 1-2 |
| **warning** | `unknown-tensor` | odd\|0 \[2, 2\] matches no rule |
| **warning** | `unknown-tensor` | odd\|1 \[2, 2\] matches no rule |
| **warning** | `unknown-tensor` | odd\|2 \[2, 2\] matches no rule |
| **warning** | `unknown-tensor` | odd\|3 \[2, 2\] matches no rule |
| **warning** | `unknown-tensor` | odd\|4 \[2, 2\] matches no rule |
| **warning** | `unknown-tensor` | and 2 more, in audit.json |

## Continuity through depth

|  | v1 (input) | null | EVR | chance | u1 (output) | null | EVR | chance | shape |  |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|:--|
| **Q** | **0.7500** | 0.080 | 0.90 | 0.55 | 0.0625 | 0.080 | – | – | 100×100 |  |
| **V** | **0.5000** | 0.080 | 0.90 | 0.55 | 0.0625 | 0.080 | – | – | 100×100 | 1 of 2 pairs degenerate |
| **O** | 0.0625 | 0.080 | 0.90 | 0.55 | **0.8750** | 0.080 | – | – | 100×100 |  |

Continuity is the mean |cos| between the leading singular vectors of adjacent layers; null is what random directions give. EVR is the share of their path through depth held by 3 principal components; chance is the same for random directions. Bold marks the space that faces the residual stream.

### Degenerate pairs

|  | layers | v1 | planes of v1, v2 | u1 | planes of u1, u2 | bound |
|:--|--:|--:|--:|--:|--:|--:|
| V | 0–1 | 0.5000 | 1.0000, 0.5000 | 0.0625 | 0.7500, 0.2500 | 5e-01 |

The cosines of the principal angles between the planes of v1 and v2 (u1 and u2), the larger one first: two ones are the same plane. Bound: how far these may be from the truth; 1 where the third singular value is so near the second that the plane is not well defined either.

![Both spaces at a glance](figures/heatmap.png)

*Both spaces at a glance.* The same numbers in both spaces: dark is a direction kept from layer to layer. Names in bold face the residual stream in that space.

## What the leading directions are like

|  | stable rank | spread of v1 | spread of u1 | top channel of v1 | top channel of u1 | lag 1 to last | error bound |
|:--|--:|--:|--:|--:|--:|--:|--:|
| **Q** | 2.5 | 55 | 2 | 7 in 2/2 | 3 in 1/2 | 0.75 to 0.50 | 2e-05 |
| **V** | 2.5 | 55 | 2 | 7 in 2/2 | 3 in 1/2 | 0.75 to 0.50 | 2e-05 |
| **O** | 2.5 | 55 | 2 | 7 in 2/2 | 3 in 1/2 | 0.25 to 0.25 | 2e-05 |

- A channel or two hold u1 of O (channel 3 in 1/2): outlier channels, not blends.
- Spread over many channels: v1 of Q, V.

Medians over layers. Stable rank is ||W||² / σ1². Spread is the participation ratio 1 / Σ vᵢ⁴: 1 for a single channel, the dimension for all. Top channel: the coordinate most layers agree on. Lag: mean |cos| in the facing space between adjacent layers, and between the first and the last. Error bound: the largest by which any |cos| of v1 or u1 above may be off.

![A path, or one direction throughout](figures/lag.png)

*A path, or one direction throughout.* Mean |cos| between layers that lie 1, 2, 3 ... apart. A line that stays up is one direction kept throughout. A line that falls is a direction lost with depth: by turning step by step, or at once where the first figure has a break. The last points rest on few pairs; the band is that of a single pair.

## The whole spectrum

|  | WA v | null | WA u | null | effective rank | of at most |
|:--|--:|--:|--:|--:|--:|--:|
| **Q** | 0.5000 | 0.080 | 0.2500 | 0.080 | 15.0 | 100 |
| **V** | 0.5000 | 0.080 | 0.2500 | 0.080 | 15.0 | 100 |
| **O** | 0.5000 | 0.080 | 0.2500 | 0.080 | 15.0 | 100 |

WA: Σ wᵢ |⟨vᵢ, vᵢ'⟩| with wᵢ = σᵢ² / Σ σ² of the earlier layer, the mean over adjacent pairs. Effective rank: exp of the entropy of σ² / Σ σ² (σ², as in arXiv:2605.04971, where Roy and Vetterli took σ), the median over layers.

![Spectra](figures/spectra.png)

*Spectra.* The singular values of each layer, largest first, over the largest: first layer dark, last light. A steep start is a matrix with few strong directions; a flat line has none.

## Beside what is published (a paper)

|  |  | published | ours | difference |
|:--|:--|--:|--:|--:|
| **Q** | continuity v1 | 0.70 | 0.750 | +0.050 |
| **O** | EVR u1 | 0.76 | – | – |

## What is not measured

- Q, V, O: layer 2: NaN

## How to read this

A transformer's layers share one list of numbers per token, the residual stream: each layer reads it and adds to it. A weight matrix W has an input direction that it amplifies most, v1, and an output direction that this becomes, u1: W v1 = σ1 u1. This report asks whether those directions are kept from layer to layer. arXiv:2605.04971 found that what reads the stream (Q, K, Gate, Up) keeps its input direction, what writes to it (O, Down) its output direction, and V neither; and that residual connections, together with nonlinearities that break rotational symmetry, bring this about.

- **Continuity**: the mean |cos| between v1 (or u1) of adjacent layers: 1 is one direction, at any sign.
- **null**: what two random directions in that space give; continuity means something only above it.
- **EVR**: the share of the path through depth that its first three principal components hold; chance is the same for as many random directions.
- **OV**: the product W_O · W_V, each key-value head repeated over its query heads: all that attention can write of what it reads.
- **error bound**: how far a |cos| may be from the true one, rounding allowed for. That follows from what was measured, but for one thing: that the iteration's random start did not hide a direction from it, which for each matrix is wrong with a probability of at most one in a million (`--full` needs no such luck).

What each number survives, when a model is rewritten without changing what it computes:

| rewriting | survives | changes |
|:--|:--|:--|
| another basis inside a value head: V to A V, O to O A⁻¹, any invertible A | OV, every number of it | u1 of V and v1 of O; where A is no rotation, v1, u1 and σ of both |
| the same with A a rotation | OV; v1 of V, u1 of O, and the σ of both | u1 of V, v1 of O |
| another basis inside a query and key head that cancels in QᵀK (with rotary embedding: one that turns and scales its planes) | v1 and σ of Q and K where it is a rotation, else nothing of Q and K | u1 of Q and K; all of Q and K where it is no rotation |
| a pre-norm's gain g moved into all its readers: W to W diag(g), g to 1 (a LayerNorm's own bias b to b/g) | every number with `--fold-norm` | raw v1, u1 and σ of Q, K, V, Gate and Up, and raw OV |
| c 1ᵀ diag(g)⁻¹ added to what reads a pre-norm LayerNorm of gain g, whose output has mean zero before the gain (what this makes of the norm's own bias is taken off the reader's) | readers' numbers and OV with `--fold-norm` | raw v1, u1 and σ of the readers, and raw OV |
| the neurons of a feed-forward block in another order | v1 of Gate and Up, u1 of Down, and every σ | u1 of Gate and Up, v1 of Down |
| a neuron scaled: its row of Up by s, its column of Down by 1/s (behind a gate or a ReLU) | every number of Gate | v1, u1 and σ of Up and Down |
| the residual stream rotated, in every layer alike (RMSNorm, gains folded) | every continuity, EVR, WA and σ; signal flow of OV | spread (participation ratio) and top channels in the space that faces the stream |

What the numbers do not mean:

- They are no score of quality, and none for pruning: what a layer matters for is decided by the activations that reach it, and none are computed here.
- Only the leading direction is followed. A low value says that this one is not kept, not that nothing is: where the spectrum is flat, it carries little of the matrix.
- A high value can be trivial: one outlier channel, or one constant direction, is continuous too. The spread and the lag profile tell.

## Provenance

|  |  |
|:--|:--|
| model | org/na\*me?\[2J at abc123 |
| family | llama (model\_type llama) |
| size | 3 layers, hidden size 100 |
| stored as | BF16, computed in float32 on CPU (2 threads) |
| settings | weights raw, exact path, whole spectrum, layers 0:3, only Q, V, O |
| tensors | 9 audited, 1 unknown, 10 ignored: 6 norms and scales, 4 biases |
| work | 16.1 GB read in 1 min 5 s |
| memory | 1.1 GB peak of 1.4 GB planned for 2 workers, 8.0 GB allowed |
| tool | gcont-audit 0.1.0, torch 2.13.0, Python 3.11.7 |
| started | 2026-11-23T08:00:00+00:00 |
| command | gcont-audit org/name |

| file | size | content |
|:--|--:|:--|
| model-00001-of-00002.safetensors | 8.0 GB | etag e7a9 |
| model-00002-of-00002.safetensors | 999 B | sha256 5ad1 |
"""  # noqa: E501

TERMINAL = r"""
org/na*me?[2J  llama, 3 layers, hidden size 100


    v1 (input)      null  EVR  chance u1 (output)     null EVR  chance
 ─────────────────────────────────────────────────────────────────────
 Q  0.7500 █████▎  0.080 0.90    0.55 0.0625         0.080   –       –
 V* 0.5000 ███▌    0.080 0.90    0.55 0.0625         0.080   –       –
 O  0.0625         0.080 0.90    0.55 0.8750 ██████▏ 0.080   –       –

 Continuity is the mean |cos| between the leading singular vectors of adjacent
 layers; null is what random directions give. EVR is the share of their path
 through depth held by 3 principal components; chance is the same for random
 directions. Full bars mark the space that faces the residual stream. A * marks
 degenerate pairs.

 Continuous in input space (v1): Q 0.75, V 0.50.
 Continuous in output space (u1): O 0.88.
 2 of 3 projections are as the paper expects (arXiv:2605.04971): Q in v1, O in
 u1.
 Unusual: V is moderate in input space (v1) at 0.50, expected low.
 Degenerate pairs, where sigma2 is within 2% of sigma1 in a layer and v1 is not
 well defined: 1. report.md compares their leading planes.

 error   nan            Q of layer 2 holds NaN: not measured
 warning noise-like     V of layer 0 is noise; likewise in layers 1-2
 warning unknown-tensor odd|0 [2, 2] matches no rule
 warning unknown-tensor odd|1 [2, 2] matches no rule
 warning unknown-tensor odd|2 [2, 2] matches no rule
 warning unknown-tensor odd|3 [2, 2] matches no rule
 warning unknown-tensor odd|4 [2, 2] matches no rule
 warning unknown-tensor and 2 more, in audit.json

What the leading directions are like (medians over layers)

    stable  spread  spread         top         lag 1  error
      rank   of v1   of u1  channel v1       to last  bound
 ───────────────────────────────────────────────────────────
 Q     2.5      55       2    7 in 2/2  0.75 to 0.50  2e-05
 V     2.5      55       2    7 in 2/2  0.75 to 0.50  2e-05
 O     2.5      55       2    7 in 2/2  0.25 to 0.25  2e-05

 A channel or two hold u1 of O (channel 3 in 1/2): outlier channels, not
 blends.
 Spread over many channels: v1 of Q, V.

The whole spectrum (effective rank: median over layers)

      WA v   null    WA u   null  effective rank  of at most
 ────────────────────────────────────────────────────────────
 Q  0.5000  0.080  0.2500  0.080            15.0         100
 V  0.5000  0.080  0.2500  0.080            15.0         100
 O  0.5000  0.080  0.2500  0.080            15.0         100

Beside what is published: a paper

          measure  published   ours  difference
 ───────────────────────────────────────────────
 Q  continuity v1       0.70  0.750      +0.050
 O         EVR u1       0.76      –           –

What is not measured

 Q, V, O: layer 2: NaN

 model      org/na*me?[2J at abc123
 family     llama (model_type llama)
 size       3 layers, hidden size 100
 stored as  BF16, computed in float32 on CPU (2 threads)
 settings   weights raw, exact path, whole spectrum, layers 0:3, only Q, V, O
 tensors    9 audited, 1 unknown, 10 ignored: 6 norms and scales, 4 biases
 work       16.1 GB read in 1 min 5 s
 memory     1.1 GB peak of 1.4 GB planned for 2 workers, 8.0 GB allowed
 tool       gcont-audit 0.1.0, torch 2.13.0, Python 3.11.7
 started    2026-11-23T08:00:00+00:00
 command    gcont-audit org/name
"""


def terminal_text(report: Report, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(to_terminal(report))
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def test_markdown_is_this_document() -> None:
    assert to_markdown(sample_report()) == MARKDOWN


def test_the_terminal_shows_this_text() -> None:
    assert terminal_text(sample_report(), 80) == TERMINAL


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_nor_cut(width: int) -> None:
    text = terminal_text(sample_report(), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text


def test_json_comes_back_as_the_same_report_and_renders_the_same() -> None:
    report = from_json(to_json(sample_report()))
    assert report == sample_report()
    assert to_markdown(report) == MARKDOWN
    assert next(iter(json.loads(to_json(report)))) == "schema"


def test_json_with_keys_of_a_later_version_is_read() -> None:
    value = json.loads(to_json(sample_report()))
    value["later"] = value["model"]["later"] = 1
    assert from_json(json.dumps(value)) == sample_report()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema": "gcont-audit/9"}, "schema"),
        ({"model": 3}, "model"),
        ({"projections": None}, "projections"),
    ],
)
def test_json_that_is_no_report_is_refused_by_key(change: dict[str, object], named: str) -> None:
    value = json.loads(to_json(sample_report())) | change
    with pytest.raises(DocumentError, match=named):
        from_json(json.dumps(value))


def test_nan_never_reaches_json() -> None:
    broken = replace(sample_report().provenance, wall_seconds=float("nan"))
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(replace(sample_report(), provenance=broken))


def test_the_schema_names_the_keys_others_rely_on() -> None:
    keys = json_schema()["$defs"]["ProjectionReport"]["properties"]
    always = "shape layers facing continuity null evr3 evr3_null stable_rank participation lag sigma pairs"
    assert {*always.split(), "wa", "effective_rank"} <= set(keys)
    pair_keys = json_schema()["$defs"]["Pair"]["properties"]
    assert {"layers", "gap", "v1", "u1", "bound_v1", "bound_u1", "degenerate"} <= set(pair_keys)


def test_numbers_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 90_868_000, 16e9, 1.34e12, 2e15)] == [
        "0 B", "999 B", "1.0 kB", "90.9 MB", "16.0 GB", "1.3 TB", "2000.0 TB",
    ]  # fmt: skip
    assert [duration(s) for s in (0.04, 9.94, 42, 185, 7800)] == [
        "0.0 s",
        "9.9 s",
        "42 s",
        "3 min 5 s",
        "2 h 10 min",
    ]
    assert (number(None, 2), number(0.126, 2)) == ("–", "0.13")


def test_bars_are_as_long_as_the_number_and_differ_without_colour() -> None:
    assert (bar(1.0, True), bar(0.0, True), bar(None, True)) == ("█" * 7, " " * 7, " " * 7)
    assert bar(0.5, True).strip() == "███▌"
    assert bar(0.5, False).strip() == "▒▒▒▒"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.08, Strength.NONE),
        (0.2, Strength.NONE),
        (0.26, Strength.WEAK),
        (0.27, Strength.MODERATE),
        (0.55, Strength.STRONG),
    ],
)
def test_strength_is_read_from_the_null_upwards(value: float, expected: Strength) -> None:
    """Null .08, 1/sqrt(100) random cosines: one pair's standard error is .06, two pairs' .042."""
    two_pairs = (pair(0, value, value), pair(1, value, value))
    assert strength(projection("v", two_pairs, value, value), "v") is expected
    assert strength(projection("v", two_pairs, None, None), "v") is None


def test_a_report_without_pairs_says_so() -> None:
    lonely = projection("v", (), None, None)  # type: ignore[arg-type]
    assert sentences(replace(sample_report(), projections={"Q": lonely}).main)[0].startswith(
        "No projection has two layers"
    )
