"""The report of the small transformers: Table 2 beside ours, the claims on both sides of each threshold."""

import csv
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from registry.experiments import published_source, published_tables
from reports.figures.style import STYLE
from reports.training.comparison import Group, Score, compare, scores
from reports.training.document import histories_csv, results, results_csv, to_json
from reports.training.model import (
    AblationRuns,
    Experiment,
    PublishedCell,
    PublishedTable,
    RunHistory,
    Values,
)
from reports.training.transformer.claims import PREDICTED, PUBLISHED, Finding, Outcome
from reports.training.transformer.figures import draw_growth, draw_projections
from reports.training.transformer.growth import growth
from reports.training.transformer.heatmap import projections
from reports.training.transformer.markdown import chosen, to_markdown
from reports.training.transformer.terminal import to_terminal

NULL = 0.0625
TWICE = 0.125
FACING = ("Q_v1", "K_v1", "Gate_v1", "Up_v1", "O_u1", "Down_u1", "V_v1")
NAMES = (
    "tf-silu", "tf-relu", "tf-gelu", "tf-none", "tf-nores-silu", "tf-nonorm", "tf-gqa", "tf-tied",
    "tf-qknorm", "tf-linear", "tf-vgate",
)  # fmt: skip


def ended(*facing: float | None, step: int = 200, ppl: float | None = 32.0) -> Values:
    """The last entry: Q K Gate Up O Down V where they face the stream, all else .25, OV .75 and .875."""
    others = {
        f"{name}_{vector}": 0.25
        for name in ("Q", "K", "V", "O", "Gate", "Up", "Down", "OV")
        for vector in ("v1", "v2", "u1", "u2")
    }
    return {
        "step": step, "loss": 3.25, "valid_loss": 3.5, "ppl": ppl, "lr": 0.001, **others,
        "OV_v1": 0.75, "OV_u1": 0.875, **dict(zip(FACING, facing, strict=True)),
    }  # fmt: skip


STARTED: Values = {"step": 0, "valid_loss": 5.5, "ppl": 256.0, "lr": 0.0, **dict.fromkeys(FACING, NULL)}
LOST = RunHistory(42, (STARTED, {"step": 40, "loss": None, "valid_loss": None, "ppl": None}), 40)
HIGH = (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25)


def trained(*facing: float | None, seed: int = 42) -> RunHistory:
    return RunHistory(seed, (STARTED, ended(*facing)))


def ablation(name: str, *runs: RunHistory) -> AblationRuns:
    return AblationRuns(name, f"what {name} isolates", runs)


def sample(**changes: object) -> Experiment:
    """A baseline, one without residual connections, one that diverged, and a small table."""
    table = PublishedTable(
        2,
        "a small transformer",
        "arXiv:1",
        ("ppl", "Q_v1", "V_v1"),
        {
            "tf-silu": cells(ppl=41.5, Q_v1=0.5, V_v1=0.125),
            "llama-3.1-8b": cells(Q_v1=0.75, V_v1=0.125),
            "tf-nores-silu": cells(ppl=2032.0, Q_v1=0.0625),
            "tf-nonorm": {},
        },
    )
    made = Experiment(
        "wikitext-103",
        {"width": 256, "steps": 200},
        None,
        NULL,
        (
            ablation("tf-silu", trained(0.5, 0.625, 0.75, 0.375, 0.25, 0.625, 0.25)),
            ablation("tf-nores-silu", trained(*[NULL] * 7)),
            ablation("tf-nonorm", LOST),
        ),
        (table,),
        (("tool", "gcont-audit 1"),),
        "step",
        {"tf-silu-42": "audits/tf silu/report.md"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def cells(**means: float) -> dict[str, PublishedCell]:
    return {metric: PublishedCell(mean, None) for metric, mean in means.items()}


def of(runs: Mapping[str, tuple[float | None, ...]]) -> Experiment:
    return sample(ablations=tuple(ablation(name, trained(*facing)) for name, facing in runs.items()))


def printed(experiment: Experiment, *, width: int = 80, style: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), color_system="standard" if style else None)
    console.print(to_terminal(experiment))
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def paper() -> PublishedTable:
    """The registry's Table 2, as the audit hands it on."""
    (table,) = [one for one in published_tables() if one.number == 2]
    rows = {
        name: {metric: PublishedCell(cell.mean, cell.std) for metric, cell in row.items()}
        for name, row in table.rows.items()
    }
    return PublishedTable(2, table.title, published_source(), table.columns, rows)


# Beside the published table


def test_perplexity_has_no_verdict_and_is_in_no_score() -> None:
    found = {(one.ablation, one.metric): one for one in compare(sample())}
    assert found["tf-silu", "ppl"].verdict is None
    assert found["tf-silu", "ppl"].difference == -9.5
    assert scores(list(found.values())) == {Group.SCORED: Score(2, 3, 0)}
    assert found["tf-silu", "V_v1"].verdict == "differs"


def test_every_row_of_the_papers_table_is_an_ablation_of_ours_or_the_pretrained_model() -> None:
    assert set(paper().rows) - {"llama-3.1-8b"} == set(NAMES[:6])


# The claims


def judged(number: int, experiment: Experiment, *, predicted: bool = False) -> Finding:
    return (PREDICTED if predicted else PUBLISHED)[number].judged(experiment)


def holds(number: int, experiment: Experiment, *, predicted: bool = False) -> bool:
    found = judged(number, experiment, predicted=predicted)
    assert found.outcome is not Outcome.NOT_MEASURED, found.numbers
    return found.outcome is Outcome.HOLDS


SIX = [
    (0, "tf-silu", False), (2, "tf-relu", False), (3, "tf-gelu", False), (4, "tf-none", False),
    (2, "tf-gqa", True), (3, "tf-tied", True), (4, "tf-qknorm", True),
]  # fmt: skip


@pytest.mark.parametrize(("number", "name", "predicted"), SIX)
def test_the_six_are_above_chance_where_each_is_above_twice_chance(number, name, predicted) -> None:
    judge = partial(holds, number, predicted=predicted)
    assert judge(of({name: (*[0.126] * 6, 0.0)})), "V is none of them"
    for place in range(6):
        facing = [0.5] * 7
        facing[place] = TWICE
        assert not judge(of({name: tuple(facing)})), FACING[place]


def test_v_is_lowest_where_it_is_below_every_other_reader() -> None:
    assert holds(1, of({"tf-silu": (0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.499)})), "O and Down are no readers"
    for place in range(4):
        facing = [0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.5]
        facing[place] = 0.5
        assert not holds(1, of({"tf-silu": tuple(facing)})), FACING[place]


@pytest.mark.parametrize(("gate", "fits"), [(0.46, True), (0.48, False), (0.6, False)])
def test_gate_loses_continuity_without_the_activation(gate: float, fits: bool) -> None:
    bare = (0.9, 0.9, gate, 0.9, 0.9, 0.9, 0.9)
    assert holds(5, of({"tf-silu": HIGH, "tf-none": bare})) is fits


def test_without_residual_connections_every_projection_is_below_twice_chance() -> None:
    assert holds(6, of({"tf-nores-silu": (0.124,) * 7}))
    for place in range(7):
        facing = [0.0625] * 7
        facing[place] = TWICE
        assert not holds(6, of({"tf-nores-silu": tuple(facing)})), FACING[place]


def test_without_norm_training_diverges_where_every_run_did() -> None:
    of_runs = lambda *runs: judged(7, sample(ablations=(ablation("tf-nonorm", *runs),)))  # noqa: E731
    first = RunHistory(1, (), 0)
    assert of_runs(LOST) == Finding(Outcome.HOLDS, "tf-nonorm diverged: seed 42 in step 40")
    assert of_runs(first, LOST).numbers == "tf-nonorm diverged: seed 1 in step 0, seed 42 in step 40"
    assert of_runs(trained(*HIGH)) == Finding(Outcome.FAILS, "tf-nonorm came to its end with PPL 32.0")
    assert of_runs(trained(*HIGH, seed=1), LOST) == Finding(
        Outcome.FAILS, "tf-nonorm came to its end with PPL 32.0; diverged: seed 42 in step 40"
    )
    assert of_runs() == Finding(Outcome.NOT_MEASURED, "tf-nonorm was not trained")


@pytest.mark.parametrize(
    ("q", "k", "fits"), [(0.46, 0.46, True), (0.48, 0.46, False), (0.46, 0.48, False), (0.6, 0.6, False)]
)
def test_q_and_k_lose_continuity_without_softmax(q: float, k: float, fits: bool) -> None:
    linear = (q, k, 0.9, 0.9, 0.9, 0.9, 0.9)
    assert holds(0, of({"tf-silu": HIGH, "tf-linear": linear}), predicted=True) is fits


@pytest.mark.parametrize(("v", "fits"), [(0.29, True), (0.27, False), (0.1, False)])
def test_an_activation_on_v_raises_its_continuity(v: float, fits: bool) -> None:
    gated = (0.9, 0.9, 0.9, 0.9, 0.9, 0.9, v)
    assert holds(1, of({"tf-silu": HIGH, "tf-vgate": gated}), predicted=True) is fits


def test_a_claim_without_its_ablation_is_not_measured_and_says_why() -> None:
    softmax = PREDICTED[0]
    lost = sample(ablations=(ablation("tf-silu", trained(*HIGH)), ablation("tf-linear", LOST)))
    assert softmax.judged(of({"tf-linear": HIGH})).numbers == "tf-silu was not trained"
    assert softmax.judged(lost).numbers == "tf-linear diverged"
    lacking = of({"tf-silu": HIGH, "tf-linear": (0.1, None, 0.1, 0.1, 0.1, 0.1, 0.1)})
    assert softmax.judged(lacking) == Finding(Outcome.NOT_MEASURED, "tf-linear has no K v1")
    empty = sample(ablations=())
    assert {one.judged(empty).outcome for one in (*PUBLISHED, *PREDICTED)} == {Outcome.NOT_MEASURED}


def test_a_claim_is_told_with_its_numbers_of_every_seed_that_did_not_diverge() -> None:
    runs = (trained(*[0.25] * 7, seed=0), trained(*[0.75] * 7, seed=1), LOST)
    found = judged(0, sample(ablations=(ablation("tf-silu", *runs),)))
    told = "tf-silu: Q v1 .500, K v1 .500, Gate v1 .500, Up v1 .500, O u1 .500, Down u1 .500"
    assert found == Finding(Outcome.HOLDS, told)


def test_the_papers_own_numbers_bear_out_its_claims() -> None:
    table = paper()
    runs = {
        name: tuple(row[metric].mean for metric in FACING) for name, row in table.rows.items() if "ppl" in row
    }
    experiment = of(runs)
    assert [holds(number, replace(experiment, null=0.0499)) for number in range(7)] == [True] * 7


# Rendering


def test_the_markdown_is_this() -> None:
    assert to_markdown(sample()) == MARKDOWN


MARKDOWN = """\
# Small transformers: 3 runs of 3 ablations on wikitext-103

- The settings are those of the published runs, as far as they are known.
- Settings: width 256, steps 200.
- Random directions give .062: what |cos| is by chance in this width.
- 2 of 3 cells (66 %) of the projections' continuity agree: within 3 published standard deviations or .030, whichever is wider.

## Runs that diverged

These are left out of every mean.

- tf-nonorm, seed 42: loss no longer finite in step 40

## What was trained

|  |  | seeds |
|:--|:--|--:|
| **tf-silu** | what tf-silu isolates | 42 |
| **tf-nores-silu** | what tf-nores-silu isolates | 42 |
| **tf-nonorm** | what tf-nonorm isolates | 42 |

## Continuity, projection by projection

![Continuity, projection by projection](figures/projections.png)

Mean |cos| between adjacent layers after the last step, in the space that faces the residual stream: v1 of what reads it, u1 of what writes it, both of OV. The mean over seeds. The line in the colour bar is what random directions give.

## How continuity grew

![How continuity grew](figures/growth.png)

Mean |cos| between adjacent layers, step 0 before the first update; the mean over seeds, and of several a band from the lowest to the highest. Dotted: what random directions give.

## Beside the published table

Ours: mean ± sample standard deviation over the seeds that did not diverge. Apart: ours minus published and, in brackets, how many published standard deviations that is, where the table prints them; ✓ is within 3 published standard deviations or .030, whichever is wider, ✗ is not. A table without deviations is judged by those that another table prints for the same number.

PPL has no verdict: the width of agreement is one of |cos|. The paper trained each of its models once and prints no deviation.

### arXiv:1, Table 2: a small transformer

|  |  | PPL | Q v1 | V v1 |
|:--|:--|--:|--:|--:|
| **tf-silu** | published | 41.5 | .500 | .125 |
|  | ours | 32.0 | .500 | .250 |
|  | apart | −9.500 | +.000 ✓ | **+.125 ✗** |
| **tf-nores-silu** | published | 2.03e+03 | .062 | – |
|  | ours | 32.0 | .062 | – |
|  | apart | −2.00e+03 | +.000 ✓ | – |
| **tf-nonorm** | published | – | – | – |
|  | ours | – | – | – |
|  | apart | – | – | – |

The published runs without RMSNorm gave NaN, so that their row is empty.

For orientation, the same table's Llama-3.1-8B, pretrained and of 32 layers: Q v1 .750, V v1 .125.

## Cells that differ

|  |  | table | published | ours | apart | seeds |  |
|:--|:--|--:|--:|--:|--:|--:|:--|
| **tf-silu** | V v1 | 2 | .125 | .250 | **+.125 ✗** | .250 | scored |

## The claims, one by one

A projection is above chance where its continuity is above .125, 2 times what random directions give. A claim is judged by means over the runs that did not diverge.

### What the paper says

|  |  |  |
|:--|:--|:--|
| Q, K, Gate, Up, O and Down each stand above chance where they face the residual stream. | ✓ holds | tf-silu: Q v1 .500, K v1 .625, Gate v1 .750, Up v1 .375, O u1 .250, Down u1 .625 |
| V stands lowest among those that read the residual stream. | ✓ holds | tf-silu: Q v1 .500, K v1 .625, Gate v1 .750, Up v1 .375, V v1 .250 |
| The six stand above chance with ReLU in the gate, too. | not measured | tf-relu was not trained |
| The six stand above chance with GELU in the gate, too. | not measured | tf-gelu was not trained |
| The six stand above chance without an activation, too: Gate times Up and RMSNorm remain. | not measured | tf-none was not trained |
| Without the activation Gate loses continuity (by more than .030). | not measured | tf-none was not trained |
| Without residual connections every projection is near chance. | ✓ holds | tf-nores-silu: Q v1 .062, K v1 .062, Gate v1 .062, Up v1 .062, O u1 .062, Down u1 .062, V v1 .062 |
| Without RMSNorm training diverges. | ✓ holds | tf-nonorm diverged: seed 42 in step 40 |

### What it leaves open

|  |  |  |
|:--|:--|:--|
| Without softmax Q and K lose continuity (each by more than .030). | not measured | tf-linear was not trained |
| An activation on V raises its continuity (by more than .030). | not measured | tf-vgate was not trained |
| The six stand above chance with keys and values that query heads share. | not measured | tf-gqa was not trained |
| The six stand above chance with tied embeddings. | not measured | tf-tied was not trained |
| The six stand above chance with queries and keys normalised. | not measured | tf-qknorm was not trained |

### What these runs cannot show

- These are small models, a single seed an ablation, trained briefly on one text. What differs between two ablations may differ as much between two seeds; how much cannot be told from a single one.
- A claim that fails here may hold in a larger model or after longer training, and one that holds need not hold there. Nor does a verdict say why: continuity is measured, its cause is not.

## All that was measured

After the last step, mean ± sample standard deviation over the seeds that did not diverge.

### Where each projection faces the residual stream

|  | PPL | validation loss | loss | Q v1 | K v1 | Gate v1 | Up v1 | O u1 | Down u1 | V v1 | OV v1 | OV u1 |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
| **tf-silu** | 32.0 | 3.500 | 3.250 | .500 | .625 | .750 | .375 | .250 | .625 | .250 | .750 | .875 |
| **tf-nores-silu** | 32.0 | 3.500 | 3.250 | .062 | .062 | .062 | .062 | .062 | .062 | .062 | .750 | .875 |

### v1: the leading input direction

|  | Q v1 | K v1 | Gate v1 | Up v1 | O v1 | Down v1 | V v1 | OV v1 |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|
| **tf-silu** | .500 | .625 | .750 | .375 | .250 | .250 | .250 | .750 |
| **tf-nores-silu** | .062 | .062 | .062 | .062 | .250 | .250 | .062 | .750 |

### u1: the leading output direction

|  | Q u1 | K u1 | Gate u1 | Up u1 | O u1 | Down u1 | V u1 | OV u1 |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|
| **tf-silu** | .250 | .250 | .250 | .250 | .250 | .625 | .250 | .875 |
| **tf-nores-silu** | .250 | .250 | .250 | .250 | .062 | .062 | .250 | .875 |

### v2: the second input direction

|  | Q v2 | K v2 | Gate v2 | Up v2 | O v2 | Down v2 | V v2 | OV v2 |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|
| **tf-silu** | .250 | .250 | .250 | .250 | .250 | .250 | .250 | .250 |
| **tf-nores-silu** | .250 | .250 | .250 | .250 | .250 | .250 | .250 | .250 |

### u2: the second output direction

|  | Q u2 | K u2 | Gate u2 | Up u2 | O u2 | Down u2 | V u2 | OV u2 |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|
| **tf-silu** | .250 | .250 | .250 | .250 | .250 | .250 | .250 | .250 |
| **tf-nores-silu** | .250 | .250 | .250 | .250 | .250 | .250 | .250 | .250 |

## How each projection grew

Up to 8 of the steps that were measured; all of them, and those of diverged runs, are in histories.csv.

### tf-silu

| step | PPL | Q v1 | K v1 | Gate v1 | Up v1 | O u1 | Down u1 | V v1 |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|
| 0 | 256.0 | .062 | .062 | .062 | .062 | .062 | .062 | .062 |
| 200 | 32.0 | .500 | .625 | .750 | .375 | .250 | .625 | .250 |

### tf-nores-silu

| step | PPL | Q v1 | K v1 | Gate v1 | Up v1 | O u1 | Down u1 | V v1 |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|
| 0 | 256.0 | .062 | .062 | .062 | .062 | .062 | .062 | .062 |
| 200 | 32.0 | .062 | .062 | .062 | .062 | .062 | .062 | .062 |

## How to read this

- **v1, u1**: continuity, the mean |cos| between the leading right (v, input) or left (u, output) singular vectors of adjacent layers; v2, u2 likewise of the second ones. Random directions give .062; near that there is no continuity.
- Q, K, V, Gate and Up read the residual stream, so that v1 faces it; O and Down write it, so that u1 does. **OV** is the product of O and V and faces it on both sides.
- **PPL**, perplexity, is e to the validation loss; **loss** is the mean over the training steps since the entry before. – stands for what is not defined or not finite.
- The second directions are only as well defined as the second singular value stands apart from the third; a low v2 or u2 may mean that the two change places.

## The audits of the final weights

- [tf-silu-42](audits/tf%20silu/report.md)

## Provenance

|  |  |
|:--|:--|
| tool | gcont-audit 1 |
"""  # noqa: E501 a paragraph of Markdown is one line


def test_the_terminal_is_this() -> None:
    assert printed(sample()) == TERMINAL


TERMINAL = """\

 3 runs of 3 ablations on wikitext-103
 width 256, steps 200

                PPL       Q     K     Gate  Up    O     Down  V
 ──────────────────────────────────────────────────────────────────
 tf-silu        32.0      .500  .625  .750  .375  .250  .625  .250✗
   published    41.5      .500                                .125
 tf-nores-silu  32.0      .062  .062  .062  .062  .062  .062  .062
   published    2.03e+03  .062
 tf-nonorm      –         –     –     –     –     –     –     –

 v1 of Q, K, Gate, Up and V, u1 of O and Down. Random directions give .062.
 Below ours the published values, ✗ where they differ.

 The settings are those of the published runs, as far as they are known.
 2 of 3 cells (66 %) of the projections' continuity agree: within 3 published
 standard deviations or .030, whichever is wider.
 tf-nonorm, seed 42: loss no longer finite in step 40

 What the paper says
 ✓ Q, K, Gate, Up, O and Down each stand above chance where they face the
   residual stream.
 ✓ V stands lowest among those that read the residual stream.
 ✓ Without residual connections every projection is near chance.
 ✓ Without RMSNorm training diverges.

 ✓ holds, ✗ fails. A projection is above chance where its continuity is above
 .125, 2 times what random directions give. A claim is judged by means over the
 runs that did not diverge.
 9 more claims are about ablations that were not trained, or diverged:
 report.md says which.
 These are small models, a single seed an ablation, trained briefly on one
 text. What differs between two ablations may differ as much between two seeds;
 how much cannot be told from a single one.
 A claim that fails here may hold in a larger model or after longer training,
 and one that holds need not hold there. Nor does a verdict say why: continuity
 is measured, its cause is not.
"""


@pytest.mark.parametrize("value", [0.0, 0.5, 0.9999, None])
def test_all_ablations_fit_80_columns_with_nothing_cut_off(value: float | None) -> None:
    names = (*NAMES, "a-name-of-someone-elses", "x" * 12)
    run = RunHistory(42, (STARTED, ended(*[value] * 7, ppl=1234.5)))
    experiment = sample(ablations=tuple(ablation(name, run) for name in names), tables=(paper(),))
    text = printed(experiment)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "1.23e+03" in text


def test_text_from_outside_reaches_neither_the_terminal_nor_the_markdown_raw() -> None:
    evil = sample(
        dataset="a\x1b[31mb|*c*",
        ablations=(ablation("tf-\x1b[2J|x", trained(*HIGH)),),
        audits={"run|\x1b[1m": "a)b/report.md"},
    )
    assert "\x1b" not in printed(evil) + to_markdown(evil)
    assert "b\\|\\*c\\*" in to_markdown(evil)
    assert "](a%29b/report.md)" in to_markdown(evil)


def empties() -> dict[str, Experiment]:
    return {
        "nothing": sample(ablations=(), audits={}),
        "no table": sample(tables=()),
        "no runs": sample(ablations=(ablation("tf-silu"),)),
        "no entries": sample(ablations=(ablation("tf-silu", RunHistory(1, ())),)),
        "one run": sample(ablations=sample().ablations[:1]),
        "all diverged": sample(ablations=(ablation("tf-silu", LOST), ablation("tf-nonorm", LOST))),
    }


@pytest.mark.parametrize("name", empties())
def test_an_experiment_of_little_or_nothing_has_a_report(name: str) -> None:
    experiment = empties()[name]
    text = to_markdown(experiment)
    assert text.startswith("# Small transformers: ")
    assert ("Nothing: no run came to its end." in text) is (name in {"nothing", "no runs", "all diverged"})
    assert ("## Beside the published table" in text) is (name != "no table")
    assert ("## The audits of the final weights" in text) is (name != "nothing")
    assert max(map(len, printed(experiment).splitlines())) <= 80
    assert results_csv(experiment).startswith("ablation,metric,mean,std")
    assert draw_projections(experiment)[:4] == draw_growth(experiment)[:4] == b"\x89PNG"


def test_other_settings_than_the_papers_are_told_and_give_no_verdict() -> None:
    told = "The settings are not the paper's: steps 200 instead of 10000."
    experiment = sample(as_published=told)
    for text in (to_markdown(experiment), printed(experiment)):
        assert told in text
        assert ".125" in text
        assert "✓ |" not in text.replace("✓ holds |", "")
        assert ".250✗" not in text
        assert "agree:" not in text
    assert "## Cells that differ" not in to_markdown(experiment)


def test_growth_is_told_at_eight_steps_at_most_the_first_and_the_last_among_them() -> None:
    assert chosen(()) == ()
    assert chosen((0, 25, 50)) == (0, 25, 50)
    assert chosen(tuple(range(8))) == tuple(range(8))
    assert chosen(tuple(range(0, 10_001, 500))) == (0, 1500, 3000, 4500, 5500, 7000, 8500, 10_000)


# As data


def test_histories_are_told_by_step_with_those_of_a_diverged_run() -> None:
    rows = list(csv.DictReader(io.StringIO(histories_csv(sample()))))
    assert list(rows[0]) == ["ablation", "seed", "step", "metric", "value"]
    lost = [(row["step"], row["metric"], row["value"]) for row in rows if row["ablation"] == "tf-nonorm"]
    assert lost[:3] == [("0", "ppl", "256.0"), ("0", "valid_loss", "5.5"), ("0", "lr", "0.0")]
    assert lost[-3:] == [("40", "ppl", ""), ("40", "loss", ""), ("40", "valid_loss", "")]
    assert {row["metric"] for row in rows}.isdisjoint({"step", "epoch"})


def test_results_are_of_the_last_step_and_null_where_a_run_diverged() -> None:
    read = json.loads(to_json(sample()))
    assert read == results(sample())
    assert read["tf-silu"]["Gate_v1"] == {"mean": 0.75, "std": None, "seeds": [0.75]}
    assert read["tf-nonorm"]["ppl"] == {"mean": None, "std": None, "seeds": [None]}
    assert list(read["tf-silu"])[:8] == ["ppl", "loss", "valid_loss", "lr", "Q_v1", "Q_u1", "Q_v2", "Q_u2"]


# The figures


def drawn(drawing, experiment: Experiment) -> Figure:
    with mpl.style.context(["default", STYLE]):
        figure = Figure()
        FigureCanvasAgg(figure)
        drawing(figure, experiment)
        figure.canvas.draw()
    return figure


def grid(rows: int) -> Experiment:
    """Rows of numbers that are all different, the sixth diverged, one perplexity very large."""
    runs = [trained(*(0.01 * (7 * row + place) for place in range(7))) for row in range(rows)]
    if rows > 5:
        runs[4] = RunHistory(42, (STARTED, ended(*HIGH, ppl=1702.5)))
        runs[5] = LOST
    return sample(ablations=tuple(map(ablation, NAMES, runs)))


def shown(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("rows", [1, 6, 11])
@pytest.mark.parametrize("drawing", [projections, growth])
def test_text_stays_on_the_page_and_apart(drawing, rows: int) -> None:
    figure = drawn(drawing, grid(rows))
    page = figure.bbox
    boxes = {text: text.get_window_extent() for text in shown(figure)}
    for text, box in boxes.items():
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, text.get_text()
        assert text.get_fontsize() >= 9
    crossing = [
        (one.get_text(), other.get_text())
        for one, other in combinations(boxes, 2)
        if boxes[one].overlaps(boxes[other])
    ]
    assert crossing == []


def test_the_map_has_every_number_and_every_name() -> None:
    texts = [text.get_text() for text in shown(drawn(projections, sample()))]
    headings = ["Q v1", "K v1", "Gate v1", "Up v1", "O u1", "Down u1", "V v1", "OV v1", "OV u1"]
    assert [text for text in texts if text[-3:] in {" v1", " u1"}] == headings
    first = texts.index("tf-silu")
    assert texts[first : first + 11] == [
        "tf-silu", "PPL 32.0", ".50", ".62", ".75", ".38", ".25", ".62", ".25", ".75", ".88",
    ]  # fmt: skip
    assert texts[texts.index("tf-nonorm") + 1] == "diverged in step 40"
    assert "mean |cos|; line: chance, .062" in texts


def test_numbers_stand_out_from_their_cells() -> None:
    """By WCAG's contrast ratio, computed here: 3.5 for letters of this size."""
    values = [place / 28 for place in range(28)]
    experiment = of({NAMES[row]: tuple(values[row * 7 : row * 7 + 7]) for row in range(4)})
    axes = drawn(projections, experiment).axes[0]
    cells = {patch.get_bbox().get_points().mean(0).round(3).tobytes(): patch for patch in axes.patches}
    numbers = [text for text in axes.texts if text.get_text().startswith(".")]
    assert len(numbers) == 4 * 9
    for text in numbers:
        x, y = text.get_position()
        patch = next(one for one in cells.values() if one.get_bbox().contains(x, y))
        assert contrast(patch.get_facecolor(), mpl.colors.to_rgb(text.get_color())) > 3.5, text.get_text()


def contrast(one, other) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_chance_is_marked_in_the_colour_bar() -> None:
    _, bar = drawn(projections, sample()).axes
    assert [line.get_xdata() for line in bar.lines] == [[NULL, NULL]]
    assert bar.get_xlim() == (0, 1)


def test_each_projection_grows_in_a_line_of_its_own_colour_and_dashes() -> None:
    axes = drawn(growth, sample()).axes
    assert [one.get_title(loc="left") for one in axes] == ["tf-silu", "tf-nores-silu", "tf-nonorm"]
    assert [one.texts[0].get_text() for one in axes] == ["PPL 32.0", "PPL 32.0", "every run diverged"]
    chance, *lines = axes[0].lines
    assert chance.get_ydata() == [NULL, NULL]
    ends = [0.625, 0.25, 0.375, 0.75, 0.625, 0.5, 0.25]
    assert [line.get_xydata().tolist() for line in lines] == [[[0, NULL], [200, end]] for end in ends]
    assert len({line.get_color() for line in lines}) == len({str(line._dash_pattern) for line in lines}) == 7
    assert len(axes[2].lines) == 1


@pytest.mark.parametrize("draw", [draw_projections, draw_growth])
def test_the_same_experiment_gives_the_same_png_whatever_the_users_own_style(draw) -> None:
    png = draw(sample())
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert b"atplotlib" not in png
    assert struct.unpack(">II", png[16:24])[0] in {1440, 1650}
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "figure.dpi": 40}):
        assert draw(sample()) == png
