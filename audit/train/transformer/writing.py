"""The report over all transformers in a folder: report.md, two figures, and the numbers as JSON and CSV."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from audit.continuity import null_mean
from audit.train.folder import pace_in
from audit.train.reporting import (
    Drawn,
    Wanted,
    Written,
    deviation,
    provenance,
    published_tables,
    runs_in,
    write_files,
)
from audit.train.transformer.ablations import ABLATIONS, TABLES, ablation
from audit.train.transformer.config import config_of
from audit.train.transformer.cost import cost_of, peak_of
from audit.train.transformer.settings import Run, Settings
from audit.train.transformer.trainer import Training, diverged, is_last
from audit.train.values import Values
from registry.experiments import ABLATED_LLAMA, LLAMA, QWEN3
from reports.training import document
from reports.training.model import AblationRuns, Experiment
from reports.training.transformer.figures import draw_growth, draw_projections
from reports.training.transformer.markdown import to_markdown

PAPERS, PAPERS_VOCABULARY = "wikitext-103", 50257
"""The text of the paper's table, and the ids of GPT-2's tokenizer."""

STATED = ("width", "layers", "heads", "ffn", "sequence", "batch_size", "steps", "init_std")
"""Settings that the paper states, or that follow from what it states."""

AUDITS = "audits"
"""The folder of the audits of the final weights."""

FILES: Drawn = {
    "figures/projections.png": draw_projections,
    "figures/growth.png": draw_growth,
    "histories.csv": lambda experiment: document.histories_csv(experiment).encode(),
    "results.csv": lambda experiment: document.results_csv(experiment).encode(),
    "results.json": lambda experiment: document.to_json(experiment).encode(),
    "report.md": lambda experiment: to_markdown(experiment).encode(),
}


def write(training: Training) -> Written:
    """Write the report over every finished run in the folder that was trained like these.

    Raises OutputError.
    """
    found, left_out = runs_in(training.out, _wanted(training))
    settings, tokens = training.settings, training.tokens
    deviating = deviation(asdict(settings), {name: getattr(Settings(), name) for name in STATED})
    experiment = Experiment(
        dataset=tokens.dataset,
        settings={**asdict(settings), "tokenizer": tokens.tokenizer, "vocabulary": tokens.vocabulary},
        as_published=deviating,
        null=null_mean(settings.width),
        ablations=tuple(
            AblationRuns(one.name, one.isolates, found[one.name]) for one in ABLATIONS if found[one.name]
        ),
        tables=tuple(_tables(training)) if deviating is None else (),
        provenance=tuple(_provenance(training, found)),
        axis="step",
        audits=_audits(training, found),
    )
    write_files(training.out, FILES, experiment)
    return Written(experiment, left_out, (*FILES, AUDITS))


def _wanted(training: Training) -> Wanted:
    def name_and_config(name: str, seed: int) -> tuple[str, Mapping[str, Any]]:
        run = Run(ablation(name), seed)
        return run.name, config_of(run, training.tokens, training.settings)

    def is_finished(history: Sequence[Values]) -> bool:
        return is_last(history, training.settings)

    names = [one.name for one in ABLATIONS]
    return Wanted(names, (LLAMA, QWEN3, ABLATED_LLAMA), name_and_config, is_finished, diverged)


def _tables(training: Training) -> Iterator[Any]:
    """Table 2 beside what was tokenised as the paper's text; perplexities only beside that text itself."""
    tokens = training.tokens
    if tokens.vocabulary == PAPERS_VOCABULARY:
        yield from published_tables(TABLES, () if tokens.dataset == PAPERS else ("ppl",))


def _audits(training: Training, found: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Where the audits are, as seen from the report."""
    names = [f"{name}-{run.seed}" for name, runs in found.items() for run in runs]
    links = {name: f"{AUDITS}/{name}/report.md" for name in names}
    return {name: link for name, link in links.items() if (training.out / link).is_file()}


def _provenance(training: Training, found: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str]]:
    tokens = training.tokens
    about = f" ({tokens.about})" if tokens.about else ""
    told = dict(
        provenance(
            f"{tokens.dataset} in tokens of {tokens.tokenizer}, {len(tokens.train):,} to train on and "
            f"{len(tokens.valid):,} to validate on{about}, SHA-256 {tokens.digest}",
            training.machine.name,
        )
    )
    yield "data", told.pop("data")
    costs = {
        name: cost_of(Run(ablation(name), 0), training.settings, tokens.vocabulary)
        for name, runs in found.items()
        if runs
    }
    for name, cost in costs.items():
        yield f"{name} has", f"{cost.parameters:,} parameters"
    if costs:
        largest = max(costs.values(), key=lambda cost: cost.flops)
        yield "cost of a run", f"{largest.tokens:,} tokens, {largest.flops:.3g} floating point operations"
    yield from _paces(training, found)
    yield from told.items()


def _paces(training: Training, found: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str]]:
    """How fast each run went, and on a GPU which part of its peak that is."""
    settings = training.settings
    for name, runs in found.items():
        for each in runs:
            run = Run(ablation(name), each.seed)
            pace = pace_in(training.folder(run).path)
            if pace is None or pace.seconds <= 0:
                continue
            rate = pace.steps * settings.batch_size * settings.sequence / pace.seconds
            told = f"{rate:,.0f} tokens a second on {pace.device}"
            peak = peak_of(pace.device)
            if peak is not None and settings.precision == "bf16":
                cost = cost_of(run, settings, training.tokens.vocabulary)
                share = rate * cost.flops_a_token / (peak * pace.processes)
                told += f", {share:.0%} of the peak in bf16"
            yield f"speed of {run.name}", told
