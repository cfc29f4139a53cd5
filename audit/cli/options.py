"""The options that several commands share, grouped by topic."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

SOURCE, MEASURE, OUTPUT, TALK = "What to read", "What to measure", "Where it goes", "How it talks"


class Format(StrEnum):
    """What stdout carries."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"
    SARIF = "sarif"


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A Hub id (org/name), a folder, one .safetensors file, or a URL. A local path wins.",
        show_default=False,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision", metavar="REV", help="Branch, tag or commit on the Hub.", rich_help_panel=SOURCE
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        metavar="",
        help="Read a Hub model's weights by byte ranges as they are measured: no shard on disk.",
        rich_help_panel=SOURCE,
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download",
        metavar="",
        help="Fetch its shards into the Hub cache, and keep them. Default: if the disk has room for them.",
        rich_help_panel=SOURCE,
    ),
]
Family = Annotated[
    str | None,
    typer.Option(
        "--family",
        metavar="NAME",
        help="Read it as this family, whatever config.json says.",
        rich_help_panel=SOURCE,
    ),
]
FamilyFile = Annotated[
    Path | None,
    typer.Option(
        "--family-file",
        metavar="TOML",
        help="Read it by your own family declaration.",
        rich_help_panel=SOURCE,
    ),
]
Full = Annotated[
    bool,
    typer.Option(
        "--full",
        metavar="",
        help="Every singular value by the exact path: adds WA, effective rank and spectrum. Slower.",
        rich_help_panel=MEASURE,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="SLICE",
        help="Only these layers, as a Python slice: 0:16, 8:, ::2.",
        rich_help_panel=MEASURE,
    ),
]
Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="LIST",
        help="Only these projections: q,k,v,o,ov,gate,up,down,sharedgate,sharedup,shareddown.",
        rich_help_panel=MEASURE,
    ),
]
FoldNorm = Annotated[
    bool,
    typer.Option(
        "--fold-norm",
        metavar="",
        help="Multiply readers by the gain of the norm in front of them.",
        rich_help_panel=MEASURE,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        metavar="",
        help="Exit with 3 where a layer holds a tensor that no rule claims, lacks a projection without a "
        "reason, or a whole stack is not read. The report is written all the same.",
        rich_help_panel=MEASURE,
    ),
]
FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        metavar="COND",
        help="Exit with 1 if this holds of the report: 'Q.v1<0.5', findings:error (see docs/gates.md). "
        "May be given several times.",
        show_default=False,
        rich_help_panel=MEASURE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=MEASURE
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="A ceiling on memory, file pages apart, as 8GB or 6GiB: fewer workers, or refused up front.",
        rich_help_panel=MEASURE,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="The report's folder. Default: gcont-reports/ORG--NAME.",
        rich_help_panel=OUTPUT,
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        metavar="",
        help="Audit again what is finished, and from the start what is not.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Short for --format json.", rich_help_panel=OUTPUT)
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.", rich_help_panel=OUTPUT)]
StdoutFormat = Annotated[
    Format, typer.Option("--format", help="What to print on stdout.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", help="Nothing on stderr but errors.", rich_help_panel=TALK),
]
Verbose = Annotated[
    int,
    typer.Option(
        "-v",
        "--verbose",
        metavar="",
        count=True,
        help="Say more on stderr; -vv shows tracebacks.",
        show_default=False,
        rich_help_panel=TALK,
    ),
]


def streaming(stream: bool, download: bool) -> bool | None:
    """Whether to stream; None where that was left open. Raises SelectionError for both at once."""
    from audit.errors import SelectionError

    if stream and download:
        raise SelectionError("--stream and --download exclude each other", "give one of them, or neither")
    return stream if stream or download else None
