"""`gcont-audit train`: the experiments that explain the audit, run again, beside the published numbers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf

import typer

from audit.cli import options as o
from audit.cli.experiments import options as t
from audit.cli.talk import Talk


def train(
    names: t.Names = None,
    tables: t.Tables = None,
    figures: t.Figures = None,
    all: t.All = False,
    listing: t.Listing = False,
    seeds: t.Seeds = None,
    dataset: t.Dataset = None,
    data: t.Data = None,
    beside: t.Beside = None,
    batch_size: t.BatchSize = None,
    lr: t.Lr = None,
    width: t.Width = None,
    depth: t.Depth = None,
    epochs: t.Epochs = None,
    readings: t.Readings = None,
    preset: t.PresetName = None,
    tokenizer: t.TokenizerName = None,
    steps: t.Steps = None,
    every: t.Every = None,
    sequence: t.Sequence = None,
    warmup: t.Warmup = None,
    schedule: t.ScheduleName = None,
    weight_decay: t.WeightDecay = None,
    clip_norm: t.ClipNorm = None,
    precision: t.PrecisionName = None,
    micro_batch: t.MicroBatch = None,
    compile: t.Compile = None,
    device: o.Device = "auto",
    out: t.Out = None,
    fresh: t.Fresh = False,
    json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Train toy MLPs or small transformers with a part taken away, and compare with arXiv:2605.04971."""
    talk = Talk(quiet, verbose)
    with talk.errors(), _one_voice():
        if listing:
            from audit.cli.experiments.listing import show_ablations

            show_ablations(json=json)
            return
        from audit.errors import UsageError
        from audit.train.readings import parsed
        from audit.train.selection import chosen, epochs_of, seeds_in

        of_transformers = {
            "preset": preset, "tokenizer": tokenizer, "steps": steps, "every": every, "sequence": sequence,
            "warmup": warmup, "schedule": schedule, "weight_decay": weight_decay, "clip_norm": clip_norm,
            "precision": precision, "micro_batch": micro_batch, "compile": compile,
        }  # fmt: skip
        selection = chosen(
            names or (),
            tables or (),
            figures or (),
            everything=all,
            kind="transformer" if preset is not None else None,
        )
        if lr is not None and not 0 < lr < inf:
            raise UsageError(f"--lr {lr:g}", "choose a number above 0, as 0.001")
        if selection.kind == "toy":
            from audit.cli.experiments import toy

            _refuse(of_transformers, "the transformer's, and these are toy MLPs")
            toy.perform(
                toy.Asked(
                    names=selection.names, seeds=seeds_in(seeds or "3"), dataset=dataset or "mnist",
                    data=data, batch_size=batch_size,
                    epochs=epochs or epochs_of(figures or (), alone=not (names or tables or all)),
                    lr=lr, width=width, depth=depth, device=device, out=out,
                    figures=tuple(figures or ()), beside=tuple(beside or ()),
                    readings=parsed(readings or ()),
                ),
                talk,
                fresh=fresh,
                json=json,
            )  # fmt: skip
            return
        from audit.cli.experiments import transformer

        _refuse({"epochs": epochs}, "the toy MLP's; a transformer has --steps")
        _refuse({"beside": beside, "reading": readings}, "the toy MLP's")
        transformer.perform(
            transformer.Asked(
                names=selection.names, seeds=seeds_in(seeds or "42,"), preset=preset or "paper",
                dataset=dataset, data=data, tokenizer=tokenizer, device=device, out=out,
                micro_batch=micro_batch, compiled=compile, precision=precision,
                changes={
                    "batch_size": batch_size, "lr": lr, "width": width, "layers": depth, "steps": steps,
                    "every": every, "sequence": sequence, "warmup": warmup, "schedule": schedule,
                    "weight_decay": weight_decay, "clip_norm": clip_norm,
                },
            ),
            talk,
            fresh=fresh,
            json=json,
        )  # fmt: skip


@contextmanager
def _one_voice() -> Iterator[None]:
    """Let one process of each machine tell of what all of them meet: a bad command line, a stop."""
    from audit.errors import AuditError, StoppedError, UsageError
    from audit.processes.seat import find_seat

    try:
        yield
    except AuditError as error:
        if find_seat().local and error.exit_code in (UsageError.exit_code, StoppedError.exit_code):
            raise typer.Exit(error.exit_code) from error
        raise


def _refuse(options: Mapping[str, object], whose: str) -> None:
    """Raise UsageError for an option that was given and says nothing to these networks."""
    from audit.errors import UsageError

    given = [name for name, value in options.items() if value is not None]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{option} is {whose}", f"leave {option} out")
