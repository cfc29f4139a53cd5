"""`gcont-audit train --list`: every ablation of both kinds, and what it isolates."""

from dataclasses import asdict
from json import dumps

import typer
from rich import box
from rich.table import Table

from audit.cli.talk import show
from audit.train import ablations as toy
from audit.train.transformer import ablations as transformer
from registry.experiments import published_tables


def show_ablations(*, json: bool) -> None:
    """Print them as a table, or as JSON."""
    ablations: tuple[toy.Ablation | transformer.TransformerAblation, ...] = (
        *toy.ABLATIONS,
        *transformer.ABLATIONS,
    )
    if json:
        typer.echo(dumps([asdict(one) for one in ablations], indent=1))
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("ablation", "tables", "isolates"):
        table.add_column(heading)
    for one in ablations:
        if one is transformer.ABLATIONS[0]:
            table.add_section()
        where = ", ".join(str(each.number) for each in published_tables() if one.name in each.rows)
        table.add_row(one.name, where, one.isolates)
    show(table)
