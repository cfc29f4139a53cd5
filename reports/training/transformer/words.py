"""What is said of the small transformers in plain sentences, the same in every rendering."""

from collections.abc import Iterator

from reports.training.comparison import UNJUDGED
from reports.training.model import Experiment, PublishedTable
from reports.training.notation import decimal, heading
from reports.training.transformer.claims import CHANCE, PREDICTED, PUBLISHED, Claim, Divergence
from reports.training.transformer.projections import FACING

SCORED = "the projections' continuity"
"""What the score is about."""

UNTRAINABLE = "tf-nonorm"
"""The row of Table 2 that has no numbers."""

LARGE_MODEL = "llama-3.1-8b"
"""The row of Table 2 that is a pretrained model's."""

WITHOUT_VERDICT = (
    f"{', '.join(map(heading, UNJUDGED))} has no verdict: the width of agreement is one of |cos|. The paper "
    "trained each of its models once and prints no deviation."
)

GROUPS: dict[str, tuple[Claim | Divergence, ...]] = {
    "What the paper says": PUBLISHED,
    "What it leaves open": PREDICTED,
}


def bar(experiment: Experiment) -> str:
    """What the claims call chance."""
    return (
        f"A projection is above chance where its continuity is above {decimal(CHANCE * experiment.null)}, "
        f"{CHANCE} times what random directions give. A claim is judged by means over the runs that did not "
        "diverge."
    )


def unmeasured(count: int) -> str:
    """How many claims are about what was not trained, or diverged."""
    claims = "1 more claim is" if count == 1 else f"{count} more claims are"
    return f"{claims} about ablations that were not trained, or diverged: report.md says which."


def limits(experiment: Experiment) -> Iterator[str]:
    """What these runs cannot show."""
    most = max((len(one.runs) for one in experiment.ablations), default=0)
    seeds = "a single seed" if most <= 1 else f"at most {most} seeds"
    yield (
        f"These are small models, {seeds} an ablation, trained briefly on one text. What differs between two "
        "ablations may differ as much between two seeds; how much cannot be told from a single one."
    )
    yield (
        "A claim that fails here may hold in a larger model or after longer training, and one that holds "
        "need not hold there. Nor does a verdict say why: continuity is measured, its cause is not."
    )


def without_norm(table: PublishedTable) -> str | None:
    """What the table prints of the models without RMSNorm, which has no number; None without such a row."""
    if table.rows.get(UNTRAINABLE) != {}:
        return None
    return "The published runs without RMSNorm gave NaN, so that their row is empty."


def orientation(table: PublishedTable) -> str | None:
    """The pretrained model's row, in words; None where the table has none."""
    if not (row := table.rows.get(LARGE_MODEL)):
        return None
    known = [metric for metric in FACING.values() if metric in row]
    values = ", ".join(f"{heading(metric)} {decimal(row[metric].mean)}" for metric in known)
    return f"For orientation, the same table's Llama-3.1-8B, pretrained and of 32 layers: {values}."
