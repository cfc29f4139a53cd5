"""An experiment as Markdown: each published table beside ours, then all that was measured."""

from collections.abc import Iterator, Sequence

from reports.markdown import escape, table
from reports.training import sections, sentences
from reports.training.comparison import Comparison, compare, scores
from reports.training.figures import CONTINUITY
from reports.training.measured import FIRST
from reports.training.model import Experiment
from reports.training.notation import decimal, geometry, in_order
from reports.training.pictures import PICTURES, Picture
from reports.training.pictures.cells import cell, words


def to_markdown(experiment: Experiment) -> str:
    """The whole report; the same experiment always gives the same text."""
    return "\n".join(_lines(experiment)) + "\n"


def _lines(experiment: Experiment) -> Iterator[str]:
    comparisons = compare(experiment)
    yield f"# Training experiment: {escape(sentences.trained(experiment))}"
    yield ""
    for sentence in sentences.standing(experiment):
        yield f"- {escape(sentence)}"
    yield f"- Settings: {escape(sentences.settings(experiment))}."
    yield f"- Random directions give {decimal(experiment.null)}: what |cos| is by chance in this width."
    yield from _score_lines(comparisons)
    yield from sections.diverged_lines(experiment)
    yield from sections.trained_lines(experiment)
    yield from _figure_lines()
    for picture in PICTURES:
        yield from picture_lines(picture, experiment)
    if comparisons:
        yield from ("", "## Beside the published tables", "", sections.APART)
    for published in experiment.tables:
        yield from sections.published_lines(experiment, published, comparisons)
    yield from sections.differing_lines(comparisons)
    yield from _measured_lines(experiment)
    yield from _reading_lines(experiment)
    yield from sections.provenance_lines(experiment)


def _score_lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    if found := scores(comparisons):
        yield from ("", "## The score", "")
        yield from (f"- {sentence}" for sentence in sentences.score(found))


def _figure_lines() -> Iterator[str]:
    yield from ("", f"## {CONTINUITY.title}", "")
    yield f"![{CONTINUITY.title}]({CONTINUITY.file})"
    yield from ("", CONTINUITY.caption)


def picture_lines(picture: Picture, experiment: Experiment) -> Iterator[str]:
    """A figure with its caption, and what its numbers come to; no section where it shows nothing."""
    if not picture.rows(experiment):
        return
    shown = picture.illustration
    title = shown.title if picture.number is None else f"Figure {picture.number}: {shown.title}"
    yield from ("", f"## {title}", "", f"![{shown.title}]({shown.file})", "", shown.caption)
    if rows := picture.found(experiment):
        yield ""
        yield from table(
            tuple(map(words, rows[0])), (tuple(cell(*named) for named in row.items()) for row in rows)
        )


def _measured_lines(experiment: Experiment) -> Iterator[str]:
    """Our own tables, whatever is published."""
    shown = [one for one in experiment.ablations if one.whole]
    known = in_order(metric for one in shown for run in one.whole for metric in run.last)
    averages = tuple(metric for metric in known if metric.startswith("ema_"))
    update = (*geometry("dW"), "spike", "kept_v1", "kept_u1")
    placed = {"acc", *geometry("W"), *geometry("G"), *geometry("Gcum"), "delta", *averages, *update}
    yield from ("", "## All that was measured", "")
    yield "After the last epoch, mean ± sample standard deviation over the seeds that did not diverge."
    tables = (
        ("Weights", ("acc", *geometry("W"))),
        ("Gradient of a single minibatch", geometry("G")),
        ("Sum of all gradients", (*geometry("Gcum"), "delta")),
        ("The update since the start", update),
        ("Leading directions of the weights beside those of averaged gradients", averages),
        ("Losses and movement", tuple(metric for metric in known if metric not in placed)),
    )
    for title, metrics in tables:
        columns = [metric for metric in metrics if metric in known]
        if columns:
            yield from ("", f"### {title}", "")
            yield from sections.own_table(shown, columns)
    if shown:
        yield from ("", "### Before the first update", "")
        yield from sections.own_table(shown, ("W_v1", "W_u1", "G_v1", "G_wa_v", "G_u1"), FIRST)


def _reading_lines(experiment: Experiment) -> Iterator[str]:
    null = decimal(experiment.null)
    yield from ("", "## How to read this", "")
    yield (
        "- **v1, u1**: continuity, the mean |cos| between the leading right (v, input) or left (u, output) "
        "singular vectors of adjacent layers; v2, u2 likewise of the second ones. **WA** weighs all singular "
        f"vectors by their share of energy. Random directions give {null}; near that there is no continuity."
    )
    yield (
        "- **W** is the weight, **G** the gradient of the epoch's last minibatch alone, which is noisy, "
        "**Gcum** the sum of all gradients since the start. **erank** is the effective rank."
    )
    yield (
        "- **Δ** = Gcum v1 − W v1: continuity that the gradients built up and the weights have not kept. "
        "Near 0 all of it was transferred; well above 0 it was lost on the way."
    )
    yield (
        "- **ΔW** is the update W − W₀ since the start, **θ** its largest singular value over that at which "
        "it stands out of W₀, a random matrix, and **kept** the |cos| between a layer's leading direction in "
        "the weight and in the update."
    )
    yield (
        "- **β**: |cos| between a layer's leading direction in the weight and in a moving average of its "
        "gradients, of that decay; β 0 is a single gradient, β 1 the sum of all."
    )
