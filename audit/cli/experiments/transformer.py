"""Train the small transformers that were asked for: cost first, then live continuity, then the report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, cast, get_args

import torch

from audit.cli.experiments.bars import counted, text_bar, training_bar
from audit.cli.experiments.concluding import conclude
from audit.cli.talk import Talk, stopped_by
from audit.errors import AuditError, PeerError, SelectionError, StoppedError, UsageError
from audit.pipeline import resolve_device
from audit.processes.seat import find_seat
from audit.train.folder import check_root
from audit.train.text import load
from audit.train.transformer.ablations import ablation
from audit.train.transformer.cost import cost_of
from audit.train.transformer.machine import Machine
from audit.train.transformer.settings import PRESETS, Precision, Preset, Run, Schedule, Settings
from audit.train.transformer.trainer import Training
from audit.train.transformer.trainer import train as train_all
from audit.train.transformer.writing import AUDITS, write
from reports.training.transformer.terminal import to_terminal

TEXT = ".tokens"
"""Where in the output folder the token ids are kept."""


@dataclass(frozen=True)
class Asked:
    """What the command line says; None stands for the preset's setting, or what suits the device."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    preset: str
    dataset: str | None
    data: Path | None
    tokenizer: str | None
    device: str
    out: Path | None
    micro_batch: int | None
    compiled: str | None
    precision: str | None
    changes: Mapping[str, Any]

    @property
    def starting_point(self) -> Preset:
        """The preset; raises SelectionError where there is none of the name."""
        if self.preset not in PRESETS:
            raise SelectionError(f"there is no preset {self.preset!r}", f"choose {', '.join(PRESETS)}")
        return PRESETS[self.preset]

    @property
    def text(self) -> str:
        """The text's name; that of a folder of one's own is the folder's, unless it is given another."""
        if self.dataset is not None:
            return self.dataset
        return self.starting_point.dataset if self.data is None else self.data.resolve().name

    def settings(self, device: torch.device) -> Settings:
        """The preset's, but for what was asked for; raises UsageError for what fits nothing."""
        changed = {name: value for name, value in self.changes.items() if value is not None}
        if changed.get("clip_norm") == 0:
            changed["clip_norm"] = None
        if "width" in changed:
            changed["ffn"] = 4 * changed["width"]
        if "steps" in changed:
            # the presets' own share
            changed.setdefault("warmup", max(1, changed["steps"] // 20))
        settings = replace(self.starting_point.settings, precision=self._precision(device), **changed)
        heads = settings.heads
        if settings.width % (2 * heads):
            raise UsageError(
                f"--width {settings.width}: the model has {heads} heads of an even size",
                f"choose a multiple of {2 * heads}",
            )
        if settings.warmup > settings.steps:
            raise UsageError(
                f"--warmup {settings.warmup}: there are {settings.steps} steps", "choose as many at most"
            )
        if settings.schedule not in get_args(Schedule):
            raise UsageError(f"--schedule {settings.schedule!r}", "choose cosine or constant")
        for option, value in (
            ("weight-decay", settings.weight_decay),
            ("clip-norm", settings.clip_norm or 0.0),
        ):
            if value < 0 or not isfinite(value):
                raise UsageError(f"--{option} {value:g}", "choose a number from 0 on")
        return settings

    def is_compiled(self, device: torch.device) -> bool:
        """Whether the model is compiled: where it pays, but for what was asked for."""
        if self.compiled not in (None, "on", "off"):
            raise UsageError(f"--compile {self.compiled!r}", "choose on or off")
        return device.type == "cuda" if self.compiled is None else self.compiled == "on"

    def _precision(self, device: torch.device) -> Precision:
        if self.precision is None:
            has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            return "bf16" if has_bf16 else "fp32"
        if self.precision not in get_args(Precision):
            raise UsageError(f"--precision {self.precision!r}", "choose fp32 or bf16")
        return cast(Precision, self.precision)


def perform(asked: Asked, talk: Talk, *, fresh: bool, json: bool) -> None:
    """Tokenise the text, say what it costs, train, audit, write the report over all runs in the folder."""
    talk = talk.led(leads=find_seat().leads)
    device = resolve_device(asked.device)
    settings = asked.settings(device)
    with Machine(device, micro_batch=asked.micro_batch, compiled=asked.is_compiled(device)) as machine:
        training = _trained(asked, settings, machine, talk, fresh=fresh)
    if machine.leads:
        _conclude(training, talk, json=json)


def _trained(asked: Asked, settings: Settings, machine: Machine, talk: Talk, *, fresh: bool) -> Training:
    """All but the report; raises what `train` does, StoppedError or PeerError where it ends before."""
    root = asked.out or Path("gcont-runs") / f"{asked.text}-{asked.preset}"
    check_root(root)
    with machine.first_of_each_host(), text_bar(talk) as progress:
        tokenizer = asked.tokenizer or asked.starting_point.tokenizer
        tokens = load(asked.text, asked.data, tokenizer, root / TEXT, progress)
    runs = tuple(Run(ablation(name), seed) for name in asked.names for seed in asked.seeds)
    training = Training(runs, tokens, settings, root, machine)
    training.check()
    if tokens.about:
        talk.note(f"{tokens.dataset}: {tokens.about}")
    talk.note(cost_in_words(training))
    hint = f"every step is kept in {root}; the same command goes on from there"
    try:
        with training_bar(training, talk) as bar:
            train_all(training, bar, fresh=fresh)
    except PeerError as stop:
        raise PeerError(stop.message, hint) from stop
    except KeyboardInterrupt as stop:
        raise StoppedError(stopped_by(stop), hint) from stop
    return training


def cost_in_words(training: Training) -> str:
    """What the runs take, as far as it follows from the settings."""
    settings, tokens = training.settings, training.tokens
    costs = [cost_of(run, settings, tokens.vocabulary) for run in training.runs]
    largest = max(costs, key=lambda cost: cost.parameters)
    return (
        f"{counted(len(costs), 'run')} of {settings.steps:,} steps: {_short(largest.parameters)} parameters, "
        f"{_short(largest.tokens)} tokens a run out of {_short(len(tokens.train))}, "
        f"{_short(sum(cost.flops for cost in costs), ' ')}FLOP in all"
    )


def _short(number: float, space: str = "") -> str:
    """Three digits and a prefix: `34.1M`."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g}{space}{prefix}"
    return f"{number:.3g}{space}"


def _conclude(training: Training, talk: Talk, *, json: bool) -> None:
    """Audit the runs of this call, and write and print the report over all runs in the folder."""
    for run in training.runs:
        _audit(training, run, talk)
    conclude(write(training), training.out, to_terminal, talk, json=json)


def _audit(training: Training, run: Run, talk: Talk) -> None:
    """Write the audit of a run's final weights, unless it is there; one that cannot be made is told."""
    from audit.cli.auditing import find
    from audit.cli.auditing import write as write_audit
    from audit.finished import finished
    from audit.options import AuditOptions
    from audit.processes import ALONE

    model, folder = str(training.folder(run).path), training.out / AUDITS / run.name
    asked = AuditOptions(device="cpu")
    silent = replace(talk, quiet=True)
    try:
        with talk.busy(f"auditing {run.name}"):
            if finished(folder, asked, lambda: find(model, asked, silent, headers_only=True)) is None:
                write_audit(lambda: find(model, asked, silent), asked, folder, silent, ALONE)
    except AuditError as error:
        talk.note(f"no audit of {run.name}: {error}")
