"""`models`, `schema`: what the registry knows by name, and what a report looks like."""

import json as json_format
from typing import Annotated

import typer

from audit.cli.talk import Talk, show

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def models(json: AsJson = False) -> None:
    """The models the registry knows by name: those of the paper."""
    with Talk().errors():
        from registry import models as known

        if json:
            keys = ("name", "repo", "family", "layers", "hidden_size", "role")
            typer.echo(
                json_format.dumps([{key: getattr(one, key) for key in keys} for one in known()], indent=1)
            )
            return
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("model", "Hub id", "family", "layers", "published values"):
            table.add_column(heading)
        for model in known():
            published = "yes" if model.published else "figures only"
            table.add_row(model.name, model.repo, model.family, str(model.layers), published)
        show(table)


def schema() -> None:
    """The JSON Schema of audit.json."""
    with Talk().errors():
        from reports.document import json_schema

        typer.echo(json_format.dumps(json_schema(), indent=1))
