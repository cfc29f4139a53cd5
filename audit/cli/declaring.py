"""`gcont-audit families`: the families there are, one as a file to start from, and a model of one's own."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli import options as o
from audit.cli.talk import Talk, show

if TYPE_CHECKING:
    from audit.checkpoint import Checkpoint
    from audit.explanation import Explained
    from audit.options import AuditOptions
    from registry import Family, Layout

OWN = "A model of your own"

Show = Annotated[
    str | None,
    typer.Option(
        "--show",
        metavar="NAME",
        help="Print a family's declaration, to start your own from.",
        rich_help_panel=OWN,
    ),
]
Explain = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="MODEL",
        help="List every tensor of a model with the rule that claims it. Headers only.",
        rich_help_panel=OWN,
    ),
]
Draft = Annotated[
    str | None,
    typer.Option(
        "--draft",
        metavar="MODEL",
        help="Print a first declaration for a model of no known family, guessed from names and shapes. "
        "Headers only.",
        rich_help_panel=OWN,
    ),
]


@dataclass(frozen=True)
class _Asked:
    """What one line asks of `families`: the listing where none of the three is given."""

    show: str | None
    explain: str | None
    draft: str | None
    options: "AuditOptions"
    json: bool

    def check(self) -> None:
        """Raise UsageError for options that do not go together."""
        from audit.errors import UsageError

        given = [name for name in ("show", "explain", "draft") if getattr(self, name) is not None]
        if len(given) > 1:
            told = " and ".join(f"--{name}" for name in given)
            raise UsageError(f"{told} ask for different things", "give one of them")
        does = given[0] if given else "the listing"
        works = {
            "--family": ("explain",),
            "--family-file": ("explain",),
            "--revision": ("explain", "draft"),
            "--json": ("explain", "the listing"),
        }
        asked = self.options
        values = (asked.family, asked.family_file, asked.revision, self.json or None)
        for (option, fitting), value in zip(works.items(), values, strict=True):
            if value is not None and does not in fitting:
                told = " or ".join(f"--{name}" if name != "the listing" else name for name in fitting)
                raise UsageError(f"{option} goes with {told} only", "see `gcont-audit families --help`")


def families(
    show: Show = None,
    explain: Explain = None,
    draft: Draft = None,
    revision: o.Revision = None,
    family: o.Family = None,
    family_file: o.FamilyFile = None,
    json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """The model families the registry can read.

    With --show, --explain or --draft: what it takes to have a model of your own read."""
    talk = Talk(quiet, verbose)
    with talk.errors():
        from audit.options import AuditOptions

        options = AuditOptions(revision=revision, family=family, family_file=family_file)
        asked = _Asked(show, explain, draft, options, json)
        asked.check()
        if show is not None:
            typer.echo(_declaration(show), nl=False)
        elif explain is not None:
            _explain(explain, asked, talk)
        elif draft is not None:
            _draft(draft, options, talk)
        else:
            _list(json=json)


def _list(*, json: bool) -> None:
    from registry import families as known

    if json:
        from json import dumps

        typer.echo(dumps([_as_json(family) for family in known()], indent=1))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("family", no_wrap=True)
    table.add_column("what it is, and its model types in config.json")
    for family in known():
        told, types = Text(family.summary), _types(family)
        if types != family.name:
            told.append(f"\n{types}", style="dim")
        table.add_row(family.name, told)
    show(table)
    count = sum(len(family.model_types) for family in known())
    typer.echo(f"{len(known())} families, {count} model types.")


def _types(family: "Family") -> str:
    """The model types, or what timm's names of its models begin with."""
    if family.model_types:
        return ", ".join(family.model_types)
    if not family.architectures:
        return "(as a part of others only)"
    stems = dict.fromkeys(name.split("_")[0].split("*")[0] for name in family.architectures)
    return f"(by `architecture` in config.json: names such as {', '.join(f'{stem}_*' for stem in stems)})"


def _as_json(family: "Family") -> dict[str, object]:
    return {
        "name": family.name,
        "summary": family.summary,
        "model_types": family.model_types,
        "architectures": family.architectures,
        "projections": family.declared,
        "stacks": list(family.stacks),
        "parts": list(family.parts),
        "source": family.source,
    }


def _declaration(name: str) -> str:
    """A family's TOML; raises UsageError, with the nearest names, where there is none of that name."""
    from difflib import get_close_matches

    from audit.errors import UsageError
    from registry import declaration
    from registry import families as known

    try:
        return declaration(name)
    except KeyError:
        owner = next((family.name for family in known() if name in family.model_types), None)
        names = [family.name for family in known()]
        near = [owner] if owner else get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else "`gcont-audit families` lists them"
        raise UsageError(f"no family is called {name!r}", hint) from None


def _explain(model: str, asked: _Asked, talk: Talk) -> None:
    from audit.cli.auditing import find
    from audit.explanation import explain
    from audit.understanding import understand

    checkpoint = find(model, asked.options, talk, headers_only=True)
    layout = understand(checkpoint, asked.options)
    tensors = explain(layout, checkpoint.shapes)
    if asked.json:
        typer.echo(_explained_json(checkpoint, layout, tensors))
    else:
        _show_explained(checkpoint, layout, tensors)


def _explained_json(checkpoint: "Checkpoint", layout: "Layout", tensors: "tuple[Explained, ...]") -> str:
    from json import dumps

    from audit.explanation import count

    head = {
        "model": checkpoint.id,
        "revision": checkpoint.revision,
        "family": layout.family,
        "model_type": layout.model_type,
        "unread": dict(layout.unread),
        "counts": asdict(count(layout)),
    }
    rows = ",\n  ".join(
        dumps(
            {
                "name": one.name,
                "shape": one.shape,
                "kind": one.kind,
                "rule": layout.claims[one.name].rule,
                "inside": one.inside,
            }
        )
        for one in tensors
    )
    return f'{dumps(head, indent=1)[:-2]},\n "tensors": [\n  {rows}\n ]\n}}'


def _show_explained(checkpoint: "Checkpoint", layout: "Layout", tensors: "tuple[Explained, ...]") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from audit.explanation import grouped
    from reports.view import printable

    typer.echo(f"{printable(checkpoint.id)}: family {layout.family}, {len(tensors)} tensors")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("tensor", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("shape", overflow="fold")
    table.add_column("rule", min_width=12, max_width=18)
    kind = None
    for group in grouped(tensors):
        if kind not in (None, group.kind):
            table.add_section()
        kind = group.kind
        some = f"{group.count} of {group.possible}" if group.count < group.possible else str(group.count)
        table.add_row(
            Text(printable(group.name)),
            some if group.possible > 1 else "",
            str(list(group.shape)),
            Text(printable(group.rule)),
            style="bold red" if kind == "unknown" else None,
        )
    show(table)
    for line in _counts(layout):
        typer.echo(line)


def _counts(layout: "Layout") -> Iterator[str]:
    from audit.explanation import count
    from reports.view import printable

    counts = count(layout)
    yield f"audited   {_tensors(counts.audited)}"
    for rule, ignored in counts.ignored.items():
        yield f"ignored   {_tensors(ignored)}: {printable(rule)}"
    unknown = counts.unknown_inside + counts.unknown_outside
    where = f": {counts.unknown_inside} inside a layer, {counts.unknown_outside} outside" if unknown else ""
    yield f"unknown   {_tensors(unknown)}{where}"


def _tensors(count: int) -> str:
    return f"{count} tensor{'' if count == 1 else 's'}"


def _draft(model: str, options: "AuditOptions", talk: Talk) -> None:
    from audit.cli.auditing import find
    from registry import Layout, draft, match
    from registry import families as known

    checkpoint = find(model, options, talk, headers_only=True)
    layout = match(checkpoint.shapes, checkpoint.config, known())
    if isinstance(layout, Layout):
        talk.note(
            f"{checkpoint.id} is of a known family already: `gcont-audit families --show {layout.family}`"
        )
    typer.echo(draft(checkpoint.shapes, checkpoint.config), nl=False)
