"""`gcont-audit train --list`: every ablation, what it isolates, and what the paper leaves open."""

from dataclasses import asdict
from json import dumps

import typer
from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from audit.cli.talk import show
from audit.train import ablations as toy
from audit.train.readings import QUESTIONS
from audit.train.transformer import ablations as transformer
from registry.experiments import published_tables


def show_ablations(*, json: bool) -> None:
    """Print them as tables; as JSON the ablations alone."""
    ablations: tuple[toy.Ablation | transformer.TransformerAblation, ...] = (
        *toy.ABLATIONS,
        *transformer.ABLATIONS,
    )
    if json:
        typer.echo(dumps([asdict(one) for one in ablations], indent=1))
        return
    table = _table("ablation", "tables", "isolates")
    for one in ablations:
        if one is transformer.ABLATIONS[0]:
            table.add_section()
        where = ", ".join(str(each.number) for each in published_tables() if one.name in each.rows)
        table.add_row(one.name, where, one.isolates)
    words = "What the paper leaves open of the toy MLP; the first of each fits best and is taken"
    show(Group(table, Padding(Text(words, style="bold"), (1, 1)), _readings()))


def _readings() -> Table:
    table = _table("reading", "is")
    for name, question in QUESTIONS.items():
        for answer, told in question.answers.items():
            table.add_row(f"{name}={answer}", told.says, end_section=answer == [*question.answers][-1])
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading)
    return table
