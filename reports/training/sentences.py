"""An experiment in plain sentences, the same in every rendering."""

from collections.abc import Iterator, Mapping

from reports.training.comparison import STDS, WIDTH, Group, Score
from reports.training.model import Experiment
from reports.training.notation import decimal

TOYS = "the weights' geometry, the summed gradients' v1 and the accuracy"
"""What the score of the toy MLP is about."""

TOLERANCE = f"within {STDS} published standard deviations or {decimal(WIDTH)}, whichever is wider"


def trained(experiment: Experiment) -> str:
    """How much was trained on what: `6 runs of 2 ablations on MNIST`."""
    runs = sum(len(ablation.runs) for ablation in experiment.ablations)
    return f"{_count(runs, 'run')} of {_count(len(experiment.ablations), 'ablation')} on {experiment.dataset}"


def settings(experiment: Experiment) -> str:
    """The settings as they were given: `epochs 20, batch size 128, lr 0.001`."""
    return ", ".join(f"{name.replace('_', ' ')} {_plain(one)}" for name, one in experiment.settings.items())


def standing(experiment: Experiment) -> Iterator[str]:
    """Whether the settings are the paper's, and what follows for what stands below."""
    if experiment.as_published is not None:
        yield experiment.as_published
        if experiment.tables:
            yield "Published values stand beside these runs for orientation, without a verdict."
    elif experiment.tables:
        yield "The settings are those of the published runs, as far as they are known."
    if not experiment.tables and experiment.as_published is None:
        yield "No published table is about this data set."


def score(scores: Mapping[Group, Score], scored: str = TOYS) -> Iterator[str]:
    """How many cells agree, group by group; nothing where no verdict was given."""
    for group, found in scores.items():
        share = f"{found.agree} of {_count(found.of, 'cell')}"
        lack = f" ({found.unmeasured} more could not be measured)" if found.unmeasured else ""
        match group:
            case Group.SCORED:
                percent = 100 * found.agree // found.of
                yield f"{share} ({percent} %){lack} of {scored} agree: {TOLERANCE}."
            case Group.MINIBATCH:
                yield (
                    f"{share}{lack} of single-minibatch gradients agree; they change from one minibatch to "
                    "the next and are counted apart."
                )
            case Group.UNKNOWN:
                yield (
                    f"{share}{lack} of the ablation adam agree; its settings are not printed, and ours were "
                    "chosen by their fit to this row, so that it is counted apart."
                )


def diverged(experiment: Experiment) -> Iterator[str]:
    """Each run whose loss was no longer finite; these are in no mean."""
    for ablation in experiment.ablations:
        for run in ablation.runs:
            if run.diverged is not None:
                where = f"{experiment.axis} {run.diverged}"
                yield f"{ablation.name}, seed {run.seed}: loss no longer finite in {where}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
