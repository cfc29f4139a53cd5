"""The report of a training experiment: published beside ours, the verdicts, and the same numbers as data."""

import csv
import io
import json
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from math import sqrt
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from registry.experiments import published_source, published_tables
from reports.figures.style import STYLE
from reports.training.comparison import (
    Comparison,
    Group,
    Score,
    Verdict,
    compare,
    differing,
    judge,
    once,
    scores,
)
from reports.training.document import histories_csv, results, results_csv, to_json
from reports.training.figures import draw_continuity
from reports.training.markdown import to_markdown
from reports.training.measured import FIRST, Measured, measured
from reports.training.model import AblationRuns, Experiment, PublishedCell, PublishedTable, RunHistory
from reports.training.notation import decimal, heading, in_order, signed
from reports.training.panels import continuity
from reports.training.terminal import to_terminal

BEFORE = {"epoch": 0, "W_v1": 0.0625, "G_v1": 0.75}


def run(seed: int, *, diverged: int | None = None, **last: float | None) -> RunHistory:
    return RunHistory(seed, (BEFORE, {"epoch": 1, **last}), diverged)


def ablation(name: str, *runs: RunHistory) -> AblationRuns:
    return AblationRuns(name, f"what {name} isolates", runs)


def sample(**changes: object) -> Experiment:
    """Three ablations and two small tables, of numbers that binary holds exactly."""
    relu = ablation(
        "res-relu",
        run(0, acc=0.75, G_v1=0.5, Gcum_v1=0.875, W_v1=0.5, delta=0.375),
        run(1, acc=0.75, G_v1=0.25, Gcum_v1=0.875, W_v1=0.75, delta=0.125),
    )
    none = ablation(
        "res-none",
        run(0, acc=0.5, G_v1=0.5, Gcum_v1=0.5, W_v1=0.25, delta=0.25),
        run(1, diverged=1, acc=0.125, G_v1=None, Gcum_v1=None, W_v1=None, delta=None),
    )
    adam = ablation("adam", run(1, acc=0.5, G_v1=0.5, Gcum_v1=0.5, W_v1=0.5, delta=0.0))
    first = PublishedTable(
        1,
        "conditions",
        "arXiv:1",
        ("acc", "G_v1", "Gcum_v1", "W_v1"),
        {
            "res-relu": cells(acc=0.75, G_v1=0.375, Gcum_v1=0.75, W_v1=0.5),
            "res-none": cells(acc=0.5, G_v1=0.75, W_v1=0.25),
            "res-tanh": cells(acc=0.9),
        },
    )
    second = PublishedTable(
        5,
        "weights",
        "arXiv:1",
        ("acc", "W_v1"),
        {
            "res-relu": {"acc": PublishedCell(0.75, None), "W_v1": PublishedCell(0.5, 0.0625)},
            "res-none": {"acc": PublishedCell(0.5, None), "W_v1": PublishedCell(0.25, 0.0)},
            "adam": {"acc": PublishedCell(0.5, None), "W_v1": PublishedCell(0.75, 0.125)},
        },
    )
    made = Experiment(
        "MNIST",
        {"epochs": 1, "batch_size": 128, "lr": 0.001, "betas": [0.9, 0.99]},
        None,
        0.0625,
        (relu, none, adam),
        (first, second),
        (("tool", "gcont-audit 1"),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def cells(**means: float) -> dict[str, PublishedCell]:
    return {metric: PublishedCell(mean, None) for metric, mean in means.items()}


def of(found: Sequence[Comparison], table: int, name: str, metric: str) -> Comparison:
    (one,) = [one for one in found if (one.table, one.ablation, one.metric) == (table, name, metric)]
    return one


def printed(experiment: Experiment) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(to_terminal(experiment))
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def paper() -> tuple[PublishedTable, ...]:
    """The registry's tables of the residual MLP, as the audit hands them on."""
    return tuple(
        PublishedTable(
            table.number,
            table.title,
            published_source(),
            table.columns,
            {
                name: {metric: PublishedCell(cell.mean, cell.std) for metric, cell in row.items()}
                for name, row in table.rows.items()
            },
        )
        for table in published_tables()
        if table.number != 2
    )


# The published tables


TYPED_BY_HAND = [
    (1, "res-relu", "W_v1", 0.959, None),
    (1, "res-radial", "Gcum_v1", 0.859, None),
    (1, "nores-none", "acc", 0.873, None),
    (1, "res-none-ln", "W_v1", 0.578, None),
    (2, "tf-silu", "ppl", 41.9, None),
    (2, "tf-nores-silu", "V_v1", 0.054, None),
    (3, "adam", "W_v2", 0.421, None),
    (3, "nonadaptive-init-0.0001", "G_v1", 0.999, None),
    (4, "res-gelu", "G_u2", 0.010, 0.004),
    (4, "res-tanh", "G_v2", 0.678, 0.180),
    (4, "nonadaptive-init-0.0001", "G_v1", 0.999, 0.0),
    (5, "res-none-ln", "W_v1", 0.631, 0.021),
    (5, "nores-gelu", "W_u1", 0.549, 0.054),
    (5, "adam-nonadaptive", "W_wa_u", 0.050, 0.0),
]


@pytest.mark.parametrize(("number", "name", "metric", "mean", "std"), TYPED_BY_HAND)
def test_published_cells_are_those_of_the_paper(number, name, metric, mean, std) -> None:
    (table,) = [one for one in published_tables() if one.number == number]
    cell = table.rows[name][metric]
    assert (cell.mean, cell.std) == (mean, std)


def test_every_published_table_is_whole() -> None:
    tables = published_tables()
    assert published_source() == "arXiv:2605.04971"
    assert [(one.number, len(one.rows), len(one.columns)) for one in tables] == [
        (1, 11, 7),
        (2, 7, 8),
        (3, 5, 7),
        (4, 15, 7),
        (5, 15, 7),
    ]
    for table in tables:
        for name, row in table.rows.items():
            known = set(table.columns) - ({"ppl"} if name == "llama-3.1-8b" else set())
            assert set(row) == (set() if name == "tf-nonorm" else known), (table.number, name)


TRANSFORMERS = {
    "res-silu-norm": "tf-silu", "res-relu-norm": "tf-relu", "res-gelu-norm": "tf-gelu",
    "res-none-norm": "tf-none", "nores-silu-norm": "tf-nores-silu", "nonorm (any)": "tf-nonorm",
}  # fmt: skip
"""Table 2's rows as the paper has them, and as our ablations are called."""


def test_every_published_cell_is_that_of_the_file_read_from_the_paper() -> None:
    root = os.environ.get("GCONT_TEST_DATA")
    file = Path(root or "").parent / "paper" / "tables.json"
    if not root or not file.is_file():
        pytest.skip("no paper/tables.json beside the folder that GCONT_TEST_DATA names")
    theirs = {int(key[5]): rows for key, rows in json.loads(file.read_text()).items() if key[:5] == "table"}
    ours = {table.number: table.rows for table in published_tables()}
    assert ours.keys() == theirs.keys()
    for number, rows in theirs.items():
        names = {label.lower().replace("+", "-"): row for label, row in rows.items()}
        names = {TRANSFORMERS.get(name, name): row for name, row in names.items()}
        assert list(ours[number]) == list(names)
        for name, row in names.items():
            plain = {
                metric: (cell["mean"], cell["std"]) if isinstance(cell, dict) else (cell, None)
                for metric, cell in row.items()
                if cell is not None
            }
            assert {m: (cell.mean, cell.std) for m, cell in ours[number][name].items()} == plain


# Comparing


@pytest.mark.parametrize(
    ("published", "std", "ours", "agrees"),
    [
        (0.96, None, 0.99, True),  # .03, which binary makes a little more of
        (0.96, None, 0.93, True),
        (0.96, None, 0.9901, False),
        (0.96, 0.0, 0.99, True),
        (0.96, 0.0, 0.9299, False),
        (0.5, 0.001, 0.53, True),  # the width is wider than three deviations
        (0.5, 0.001, 0.5301, False),
        (0.792, 0.04, 0.912, True),  # three deviations, to the digit
        (0.792, 0.04, 0.672, True),
        (0.792, 0.04, 0.9121, False),
        (0.792, 0.04, 0.6719, False),
    ],
)
def test_agreement_is_three_deviations_or_the_width(published, std, ours, agrees) -> None:
    assert judge(published, std, ours) is (Verdict.AGREES if agrees else Verdict.DIFFERS)


def test_mean_and_deviation_are_those_of_the_seeds() -> None:
    relu, none, adam = sample().ablations
    assert measured(relu, "W_v1") == Measured(0.625, pytest.approx(0.25 / sqrt(2)), (0.5, 0.75))
    assert measured(none, "W_v1") == Measured(0.25, None, (0.25, None))
    assert measured(adam, "W_v1") == Measured(0.5, None, (0.5,))
    assert measured(relu, "G_v1", FIRST) == Measured(0.75, 0.0, (0.75, 0.75))
    assert measured(relu, "acc", FIRST) == Measured(None, None, (None, None))
    assert measured(ablation("x", RunHistory(0, ())), "acc") == Measured(None, None, (None,))


def test_a_diverged_run_is_in_no_mean_though_it_has_numbers() -> None:
    none = sample().ablations[1]
    assert none.runs[1].last["acc"] == 0.125
    assert measured(none, "acc") == Measured(0.5, None, (0.5, None))


def test_cells_are_compared_with_what_each_table_prints() -> None:
    found = compare(sample())
    assert len(found) == 4 + 3 + 2 + 2 + 2, "of each table those whose ablation was run"
    weight = of(found, 5, "res-relu", "W_v1")
    assert (weight.difference, weight.stds, weight.verdict) == (0.125, 2.0, Verdict.AGREES)
    same = of(found, 1, "res-relu", "W_v1")
    assert (same.difference, same.stds, same.verdict) == (0.125, None, Verdict.AGREES)
    sharp = of(found, 5, "res-none", "W_v1")
    assert (sharp.difference, sharp.stds, sharp.verdict) == (0.0, None, Verdict.AGREES)
    assert of(found, 1, "res-relu", "Gcum_v1").verdict is Verdict.DIFFERS


def test_each_metric_counts_once_and_the_table_with_a_deviation_counts() -> None:
    kept = once(compare(sample()))
    assert len(kept) == len({(one.ablation, one.metric) for one in kept}) == 9
    assert {one.table for one in kept if one.metric == "W_v1"} == {5}
    assert {one.table for one in kept if one.metric == "acc" and one.ablation != "adam"} == {1}
    assert once(reversed(compare(sample()))) != kept
    assert {one.table for one in once(reversed(compare(sample()))) if one.metric == "W_v1"} == {5}


def test_the_score_counts_minibatch_gradients_and_unknown_settings_apart() -> None:
    found = compare(sample())
    assert scores(found) == {
        Group.SCORED: Score(4, 5, 0),
        Group.MINIBATCH: Score(1, 2, 0),
        Group.UNKNOWN: Score(2, 2, 0),
    }
    assert [(one.ablation, one.metric) for one in differing(found)] == [
        ("res-relu", "Gcum_v1"),
        ("res-none", "G_v1"),
    ]


def test_an_ablation_of_which_every_run_diverged_has_no_verdict_and_is_counted_as_such() -> None:
    base = sample()
    lost = replace(base.ablations[0], runs=tuple(replace(r, diverged=1) for r in base.ablations[0].runs))
    experiment = replace(base, ablations=(lost, *base.ablations[1:]))
    found = compare(experiment)
    assert {one.verdict for one in found if one.ablation == "res-relu"} == {None}
    assert scores(found)[Group.SCORED] == Score(2, 2, 3)
    text = to_markdown(experiment)
    assert "2 of 2 cells (100 %) (3 more could not be measured)" in text
    assert "- res-relu, seed 1: loss no longer finite in epoch 1" in text
    assert "| **res-relu** | published | .750 | .375 | .750 | .500 |" in text
    assert "|  | ours | – | – | – | – |" in text


def test_other_settings_than_the_papers_give_no_verdict() -> None:
    told = "Trained for 1 epoch where the paper has 20."
    experiment = sample(as_published=told)
    found = compare(experiment)
    assert {one.verdict for one in found} == {None}
    assert of(found, 5, "res-relu", "W_v1").stds == 2.0
    assert scores(found) == {}
    for text in (to_markdown(experiment), printed(experiment)):
        assert told in text
        assert not re.search(r"✗ \||[✓✗]\*|\d[✓✗]| agree:", text)
        assert ".875" in text
    assert "## Cells that differ" not in to_markdown(experiment)


# Rendering


def test_the_markdown_is_this() -> None:
    assert to_markdown(sample()) == MARKDOWN


MARKDOWN = """\
# Training experiment: 5 runs of 3 ablations on MNIST

- The settings are those of the published runs, as far as they are known.
- Settings: epochs 1, batch size 128, lr 0.001, betas 0.9, 0.99.
- Random directions give .062: what |cos| is by chance in this width.

## The score

- 4 of 5 cells (80 %) of the weights' geometry, the summed gradients' v1 and the accuracy agree: within 3 published standard deviations or .030, whichever is wider.
- 1 of 2 cells of single-minibatch gradients agree; they change from one minibatch to the next and are counted apart.
- 2 of 2 cells of the ablation adam agree; its settings are not printed, and ours were chosen by their fit to this row, so that it is counted apart.

## Runs that diverged

These are left out of every mean.

- res-none, seed 1: loss no longer finite in epoch 1

## What was trained

|  |  | seeds |
|:--|:--|--:|
| **res-relu** | what res-relu isolates | 0, 1 |
| **res-none** | what res-none isolates | 0, 1 |
| **adam** | what adam isolates | 1 |

## Continuity over epochs

![Continuity over epochs](figures/continuity.png)

Mean |cos| between adjacent layers, epoch 0 before the first update; the mean over seeds, and a band from the lowest to the highest seed. Dotted: what random directions give.

## Beside the published tables

Ours: mean ± sample standard deviation over the seeds that did not diverge. Apart: ours minus published and, in brackets, how many published standard deviations that is, where the table prints them; ✓ is within 3 published standard deviations or .030, whichever is wider, ✗ is not. A table without deviations is judged by those that another table prints for the same number.

### arXiv:1, Table 1: conditions

|  |  | accuracy | G v1 | Gcum v1 | W v1 |
|:--|:--|--:|--:|--:|--:|
| **res-relu** | published | .750 | .375 | .750 | .500 |
|  | ours | .750 ± .000 | .375 ± .177 | .875 ± .000 | .625 ± .177 |
|  | apart | +.000 ✓ | +.000 ✓ | **+.125 ✗** | +.125 ✓ |
| **res-none** | published | .500 | .750 | – | .250 |
|  | ours | .500 | .500 | – | .250 |
|  | apart | +.000 ✓ | **−.250 ✗** | – | +.000 ✓ |

### arXiv:1, Table 5: weights

|  |  | accuracy | W v1 |
|:--|:--|--:|--:|
| **res-relu** | published | .750 | .500 ± .062 |
|  | ours | .750 ± .000 | .625 ± .177 |
|  | apart | +.000 ✓ | +.125 (+2.0) ✓ |
| **res-none** | published | .500 | .250 ± .000 |
|  | ours | .500 | .250 |
|  | apart | +.000 ✓ | +.000 ✓ |
| **adam** | published | .500 | .750 ± .125 |
|  | ours | .500 | .500 |
|  | apart | +.000 ✓ | −.250 (−2.0) ✓ |

## Cells that differ

|  |  | table | published | ours | apart | seeds |  |
|:--|:--|--:|--:|--:|--:|--:|:--|
| **res-relu** | Gcum v1 | 1 | .750 | .875 ± .000 | **+.125 ✗** | .875, .875 | scored |
| **res-none** | G v1 | 1 | .750 | .500 | **−.250 ✗** | .500, – | single minibatch |

## All that was measured

After the last epoch, mean ± sample standard deviation over the seeds that did not diverge.

### Weights

|  | accuracy | W v1 |
|:--|--:|--:|
| **res-relu** | .750 ± .000 | .625 ± .177 |
| **res-none** | .500 | .250 |
| **adam** | .500 | .500 |

### Gradient of a single minibatch

|  | G v1 |
|:--|--:|
| **res-relu** | .375 ± .177 |
| **res-none** | .500 |
| **adam** | .500 |

### Sum of all gradients

|  | Gcum v1 | Δ |
|:--|--:|--:|
| **res-relu** | .875 ± .000 | .250 ± .177 |
| **res-none** | .500 | .250 |
| **adam** | .500 | .000 |

### Before the first update

|  | W v1 | W u1 | G v1 | G WA(v) | G u1 |
|:--|--:|--:|--:|--:|--:|
| **res-relu** | .062 ± .000 | – | .750 ± .000 | – | – |
| **res-none** | .062 | – | .750 | – | – |
| **adam** | .062 | – | .750 | – | – |

## How to read this

- **v1, u1**: continuity, the mean |cos| between the leading right (v, input) or left (u, output) singular vectors of adjacent layers; v2, u2 likewise of the second ones. **WA** weighs all singular vectors by their share of energy. Random directions give .062; near that there is no continuity.
- **W** is the weight, **G** the gradient of the epoch's last minibatch alone, which is noisy, **Gcum** the sum of all gradients since the start. **erank** is the effective rank.
- **Δ** = Gcum v1 − W v1: continuity that the gradients built up and the weights have not kept. Near 0 all of it was transferred; well above 0 it was lost on the way.
- **ΔW** is the update W − W₀ since the start, **θ** its largest singular value over that at which it stands out of W₀, a random matrix, and **kept** the |cos| between a layer's leading direction in the weight and in the update.
- **β**: |cos| between a layer's leading direction in the weight and in a moving average of its gradients, of that decay; β 0 is a single gradient, β 1 the sum of all.

## Provenance

|  |  |
|:--|:--|
| tool | gcont-audit 1 |
"""  # noqa: E501 a paragraph of Markdown is one line


def test_without_published_tables_the_markdown_has_our_own_alone() -> None:
    text = to_markdown(sample(dataset="digits *8x8*", tables=(), provenance=()))
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Training experiment: 5 runs of 3 ablations on digits \\*8x8\\*",
        "## Runs that diverged",
        "## What was trained",
        "## Continuity over epochs",
        "## All that was measured",
        "### Weights",
        "### Gradient of a single minibatch",
        "### Sum of all gradients",
        "### Before the first update",
        "## How to read this",
    ]
    assert "- No published table is about this data set." in text


def renderings(experiment: Experiment) -> Sequence[str]:
    return (
        to_markdown(experiment),
        printed(experiment),
        to_json(experiment),
        results_csv(experiment),
        histories_csv(experiment),
    )


def numbers(experiment: Experiment) -> Iterator[float | None]:
    for row in results(experiment).values():
        for one in row.values():
            yield from (one["mean"], one["std"], *one["seeds"])
    yield from (v for a in experiment.ablations for r in a.runs for e in r.entries for v in e.values())


@pytest.mark.parametrize(("dataset", "tables", "shown"), [("MNIST", paper(), True), ("digits", (), False)])
def test_published_numbers_stand_only_beside_the_papers_data_set(dataset, tables, shown) -> None:
    """Of all numbers in three digits that are anywhere in the report, and not among our own."""
    cells = [cell for table in paper() for row in table.rows.values() for cell in row.values()]
    experiment = sample(dataset=dataset, tables=tables)
    ours = {decimal(value) for value in (experiment.null, *numbers(experiment))}
    theirs = {decimal(value) for cell in cells for value in (cell.mean, cell.std)} - ours
    assert len(theirs) > 150
    found = {one for text in renderings(experiment) for one in re.findall(r"(?<!\d)\.\d{3}(?!\d)", text)}
    assert bool(theirs & found) is shown
    assert any("arXiv:2605.04971" in text for text in renderings(experiment)) is shown


def test_the_terminal_fits_80_columns_and_shows_both_numbers() -> None:
    assert printed(sample()) == TERMINAL


TERMINAL = """\

 5 runs of 3 ablations on MNIST
 epochs 1, batch size 128, lr 0.001, betas 0.9, 0.99

          acc       W v1      W u1 W WA(v) G v1      Gcum v1   Δ
 ──────────────────────────────────────────────────────────────────
 res-relu .750 .750 .625 .500 –    –       .375 .375 .875✗.750 .250
 res-none .500 .500 .250 .250 –    –       .500✗.750 .500      .250
 adam     .500 .500 .500 .750 –    –       .500      .500      .000

 Random directions give .062; behind ours the published value, ✗ where they
 differ. Δ = Gcum v1 − W v1.

 The settings are those of the published runs, as far as they are known.
 4 of 5 cells (80 %) of the weights' geometry, the summed gradients' v1 and the
 accuracy agree: within 3 published standard deviations or .030, whichever is
 wider.
 1 of 2 cells of single-minibatch gradients agree; they change from one
 minibatch to the next and are counted apart.
 2 of 2 cells of the ablation adam agree; its settings are not printed, and
 ours were chosen by their fit to this row, so that it is counted apart.
 res-none, seed 1: loss no longer finite in epoch 1
"""


@pytest.mark.parametrize("value", [0.0, 0.5, 0.9999])
def test_any_ablation_fits_80_columns(value: float) -> None:
    metrics = ("acc", "W_v1", "W_u1", "W_wa_v", "G_v1", "Gcum_v1")
    names = [*paper()[0].rows, *paper()[1].rows, "a-name-of-someone-elses", "x" * 12]
    experiment = sample(
        ablations=tuple(
            ablation(name, run(0, delta=-0.987, **dict.fromkeys(metrics, value))) for name in names
        ),
        tables=paper(),
    )
    text = printed(experiment)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "nonadaptive-" in text
    assert "\n init-0.0001\n" in text
    assert "\n adam-        " in text
    assert "\n someone-\n elses\n" in text
    assert "\n xxxxxxxxxxxx " in text
    assert " −.987\n" in text


def test_numbers_are_written_as_the_paper_writes_them() -> None:
    values = (None, 0.9591, 1.0, 0.0, -0.0001, -0.0206, 9.9994, 109.06, 12345.0, 0.9996)
    assert [decimal(value) for value in values] == [
        "–", ".959", "1.000", ".000", ".000", "−.021", "9.999", "109.1", "1.23e+04", "1.000",
    ]  # fmt: skip
    assert [signed(value) for value in (0.002, -0.011, 0.0)] == ["+.002", "−.011", "+.000"]


def test_metrics_have_names_and_an_order() -> None:
    shuffled = ["ema_1_v1", "ema_0.999_u1", "ema_0.9_v1", "ema_0_v1", "ema_0_u1", "new", "delta", "dW_ratio"]
    shuffled += ["Gcum_v1", "G_wa_u", "G_v1", "W_u1", "W_v1", "W_erank", "test_loss", "loss", "acc", "epoch"]
    assert in_order(shuffled) == (
        "acc", "loss", "test_loss", "W_v1", "W_u1", "W_erank", "G_v1", "G_wa_u", "Gcum_v1", "delta",
        "dW_ratio", "ema_0_v1", "ema_0_u1", "ema_0.9_v1", "ema_0.999_u1", "ema_1_v1", "new",
    )  # fmt: skip
    names = ["acc", "W_wa_v", "Gcum_u2", "delta", "ema_0.9_v1", "new"]
    assert list(map(heading, names)) == ["accuracy", "W WA(v)", "Gcum u2", "Δ", "v1, β 0.9", "new"]


# As data


def test_results_have_the_shape_that_others_read() -> None:
    text = to_json(sample())
    assert text.endswith("}\n")
    read = json.loads(text)
    assert read == results(sample())
    assert list(read) == ["res-relu", "res-none", "adam"]
    assert list(read["res-relu"]) == ["acc", "W_v1", "G_v1", "Gcum_v1", "delta"]
    assert read["res-relu"]["acc"] == {"mean": 0.75, "std": 0.0, "seeds": [0.75, 0.75]}
    assert read["res-none"]["W_v1"] == {"mean": 0.25, "std": None, "seeds": [0.25, None]}
    assert read["adam"]["delta"] == {"mean": 0.0, "std": None, "seeds": [0.0]}


def test_a_number_that_is_none_is_refused_rather_than_written() -> None:
    experiment = sample(ablations=(ablation("res-relu", run(0, acc=float("nan"))),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(experiment)


def test_results_as_csv_hold_the_same_numbers() -> None:
    experiment = sample()
    rows = list(csv.DictReader(io.StringIO(results_csv(experiment))))
    assert list(rows[0]) == ["ablation", "metric", "mean", "std", "seed 0", "seed 1"]
    found = results(experiment)
    assert len(rows) == sum(map(len, found.values()))
    for row in rows:
        one = found[row["ablation"]][row["metric"]]
        seeds = [float(row[f"seed {seed}"]) if row[f"seed {seed}"] else None for seed in (0, 1)]
        assert seeds == ([None, *one["seeds"]] if row["ablation"] == "adam" else one["seeds"])
        assert (row["mean"], row["std"]) == (str(one["mean"]), "" if one["std"] is None else str(one["std"]))


def test_histories_as_csv_go_back_to_what_was_measured() -> None:
    experiment = sample()
    rows = list(csv.DictReader(io.StringIO(histories_csv(experiment))))
    assert list(rows[0].values()) == ["res-relu", "0", "0", "W_v1", "0.0625"]
    for one in experiment.ablations:
        for run in one.runs:
            for epoch, values in enumerate(run.entries):
                read = {
                    row["metric"]: float(row["value"]) if row["value"] else None
                    for row in rows
                    if (row["ablation"], row["seed"], row["epoch"]) == (one.name, str(run.seed), str(epoch))
                }
                assert read == {name: value for name, value in values.items() if name != "epoch"}


# The figure


def drawn(experiment: Experiment) -> Figure:
    with mpl.style.context(["default", STYLE]):
        figure = Figure()
        FigureCanvasAgg(figure)
        continuity(figure, experiment)
        figure.canvas.draw()
    return figure


def history(seed: int, epochs: int = 21) -> RunHistory:
    metrics = ("acc", "W_v1", "W_u1", "G_v1", "Gcum_v1")
    entries = ({name: (i + 1) / (i + 2 + seed + k) for k, name in enumerate(metrics)} for i in range(epochs))
    first, *others = entries
    return RunHistory(seed, ({name: first[name] for name in ("W_v1", "W_u1", "G_v1")}, *others))


NAMES = [*paper()[1].rows, *paper()[0].rows]


def grid(panels: int, *runs: RunHistory) -> Experiment:
    return sample(ablations=tuple(ablation(name, *runs) for name in NAMES[:panels]))


@pytest.mark.parametrize(("panels", "columns"), [(1, 1), (2, 2), (3, 3), (5, 3), (16, 4)])
def test_the_figure_keeps_its_text_on_the_page_and_apart(panels: int, columns: int) -> None:
    figure = drawn(grid(panels, history(0), history(1)))
    assert len(figure.axes) == panels
    assert len({axes.get_position().x0 for axes in figure.axes}) == columns
    page = figure.bbox
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent() for text in shown]
    assert all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes)
    assert min(text.get_fontsize() for text in shown) >= 9
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 < min(axes.xaxis.label.get_window_extent().y0 for axes in figure.axes)
    assert legend.x0 >= page.x0
    assert legend.x1 <= page.x1
    boxes = [text.get_window_extent() for text in shown if text.get_text().startswith((*NAMES, "accuracy"))]
    assert len(boxes) == 2 * panels
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_the_lines_are_means_and_the_band_goes_from_lowest_to_highest() -> None:
    experiment = sample(ablations=sample().ablations[:1])
    (axes,) = drawn(experiment).axes
    lines = {line.get_color(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["#0072B2"] == [[0, 0.0625], [1, 0.625]]
    assert lines["#E69F00"] == [[0, 0.75], [1, 0.375]]
    assert lines["#D55E00"] == [[1, 0.875]]
    assert lines["#8A8A8A"] == [[0, 0.0625], [1, 0.0625]]
    bands = [[y for x, y in band.get_paths()[0].vertices if x == 1] for band in axes.collections]
    assert [(min(ends), max(ends)) for ends in bands] == [(0.25, 0.5), (0.875, 0.875), (0.5, 0.75)]
    assert axes.get_title(loc="left") == "res-relu"
    assert [text.get_text() for text in axes.texts] == ["accuracy .750"]


def test_an_ablation_without_a_whole_run_says_so_in_its_panel() -> None:
    lost = replace(history(0), diverged=3)
    told = [
        drawn(sample(ablations=(ablation("res-none", *runs),))).axes[0]
        for runs in ((lost,), (history(1, epochs=1),), (lost, history(1)))
    ]
    assert [axes.texts[0].get_text() for axes in told][:2] == ["every run diverged", "not trained"]
    assert [len(axes.lines) for axes in told] == [1, 4, 5]
    assert not told[2].collections, "one whole run has no band"
    weights = [line.get_ydata().tolist() for line in told[2].lines if line.get_color() == "#0072B2"]
    assert weights == [[values["W_v1"] for values in history(1).entries]]


def test_the_same_experiment_gives_the_same_png_whatever_the_users_own_style() -> None:
    experiment = grid(3, history(0), history(1))
    png = draw_continuity(experiment)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert b"atplotlib" not in png
    assert struct.unpack(">II", png[16:24])[0] == 1650
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "figure.dpi": 40}):
        assert draw_continuity(experiment) == png
