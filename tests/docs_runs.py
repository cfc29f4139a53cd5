"""The experiments of docs/reproduction, put together again from their histories, and its figures drawn anew.

    python tests/docs_runs.py

writes the report and every figure with its numbers, and trains nothing.
"""

from dataclasses import replace
from pathlib import Path

from histories import ablations_in

from audit.train.ablations import ABLATIONS, FIGURES, TABLES
from audit.train.reporting import published_tables
from audit.train.settings import Settings
from audit.train.writing import described
from reports.training import document
from reports.training.figures import CONTINUITY, draw_continuity, files_of
from reports.training.markdown import to_markdown
from reports.training.model import Experiment

FOLDER = Path(__file__).parents[1] / "docs/reproduction"
PROVENANCE = "\n## Provenance\n"


def runs_of(folder: str, dataset: str = "mnist", epochs: int = Settings().epochs) -> Experiment:
    """The runs in one of the folders, without the published tables."""
    bare = described(dataset, Settings(epochs=epochs), dict.fromkeys((one.name for one in ABLATIONS), ()))
    return replace(bare, ablations=ablations_in(FOLDER / folder / "histories.csv", ABLATIONS, "epoch"))


def reproduction() -> Experiment:
    """Every row of the paper's tables on MNIST, with those of Figure 13 on other images beside them."""
    beside = (runs_of("fashion-mnist", "fashion-mnist"), runs_of("digits", "digits"))
    return replace(runs_of(""), tables=tuple(published_tables(TABLES)), beside=beside)


def before() -> Experiment:
    """The reproduction with nine rows as they were trained before, in another order of the same sums."""
    whole, earlier = reproduction(), runs_of("stacked")
    return replace(whole, ablations=tuple(earlier.ablation(one.name) or one for one in whole.ablations))


def shares() -> Experiment:
    """The same, and the ablations that break a share of the symmetry."""
    whole = reproduction()
    return replace(whole, ablations=(*whole.ablations, *runs_of("shares").ablations))


def phases() -> Experiment:
    """Figure 2's runs."""
    return runs_of("figure-2", epochs=FIGURES[2].epochs or 0)


def drawn() -> dict[str, tuple[Experiment, list[str]]]:
    """Each experiment's figures that the documentation shows, by the experiment's name."""
    return {
        "reproduction": (reproduction(), ["figure-1", "figure-12", "figure-13", "threshold"]),
        "shares": (shares(), ["shares"]),
        "phases": (phases(), ["figure-2"]),
    }


def main() -> None:
    """Write all of it."""
    (FOLDER / "figures").mkdir(exist_ok=True)
    for experiment, names in drawn().values():
        for place, draw in files_of(experiment).items():
            if Path(place).stem in names:
                (FOLDER / place).write_bytes(draw(experiment))
    experiment = reproduction()
    (FOLDER / CONTINUITY.file).write_bytes(draw_continuity(experiment))
    (FOLDER / "results.json").write_text(document.to_json(experiment))
    (FOLDER / "results.csv").write_text(document.results_csv(experiment))
    report = FOLDER / "report.md"
    _, _, provenance = report.read_text().partition(PROVENANCE)
    report.write_text(to_markdown(experiment) + PROVENANCE + provenance)


if __name__ == "__main__":
    main()
