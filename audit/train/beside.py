"""Runs on other images, out of their own folder, for the figure over several data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit.errors import OutputError
from audit.train.folder import config_in
from audit.train.reporting import runs_in
from audit.train.trainer import Training
from audit.train.writing import described, wanted
from registry.experiments import TOY_MODEL_TYPE
from reports.training.model import Experiment

IMAGES = ("input_size", "num_labels", "dataset", "dataset_sha256")
"""What config.json says of the images; all else is the same in runs that are trained alike."""


@dataclass(frozen=True)
class Beside:
    """A folder's runs, the digest of their images, and how many others there are."""

    folder: Path
    digest: str
    experiment: Experiment
    left_out: int


def all_beside(folders: Sequence[Path], training: Training) -> list[Beside]:
    """The runs in each of the folders, on different images; raises OutputError, as `beside` does."""
    found: dict[str, Beside] = {}
    for folder in folders:
        one = beside(folder, training)
        if (other := found.setdefault(one.digest, one)) is not one:
            raise OutputError(
                f"the runs in {other.folder} and in {folder} are on the same images", "leave one of them out"
            )
    return [*found.values()]


def beside(folder: Path, training: Training) -> Beside:
    """The finished runs in another folder that were trained like these, but on its own images.

    Raises OutputError for a folder without any, and for one whose images are these.
    """
    images = _images(folder)
    if images is None:
        raise OutputError(
            f"{folder} holds no toy MLP", "name a folder that `gcont-audit train` has filled, or leave it out"
        )
    if images["dataset_sha256"] == training.data.digest:
        raise OutputError(
            f"the runs in {folder} are on the same images", "name those on others, or leave it out"
        )
    these = wanted(training)

    def name_and_config(name: str, seed: int) -> tuple[str, Mapping[str, Any]]:
        where, config = these.name_and_config(name, seed)
        return where, {**config, **images}

    found, left_out = runs_in(folder, replace(these, name_and_config=name_and_config))
    if not any(found.values()):
        raise OutputError(
            f"{folder} holds no finished run of these settings",
            "train them there with the same --epochs, --width and all else",
        )
    experiment = described(str(images["dataset"]), training.settings, found, training.readings)
    return Beside(folder, str(images["dataset_sha256"]), experiment, left_out)


def _images(folder: Path) -> Mapping[str, Any] | None:
    """What the first run in a folder was trained on; None where there is no run."""
    if not folder.is_dir():
        return None
    try:
        runs_there = sorted(folder.iterdir())
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be read: {error.strerror}", "name another, or leave it out"
        ) from error
    configs = map(config_in, runs_there)
    runs = (one for one in configs if one is not None and one.get("model_type") == TOY_MODEL_TYPE)
    return next(({name: one.get(name) for name in IMAGES} for one in runs), None)
