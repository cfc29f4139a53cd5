"""A report as Markdown, for a file, a pull request or a model card."""

import re
from collections.abc import Iterable, Iterator, Sequence

from reports import experts
from reports.figures import (
    CONTINUITY,
    EXPERTS,
    HEATMAP,
    LAG,
    SPECTRA,
    TRAJECTORIES,
    Illustration,
    illustrations,
    of_stack,
)
from reports.invariance import INVARIANCES
from reports.model import Report, Stack
from reports.pattern import sentences
from reports.planes import LEGEND as LEGEND_OF_PLANES
from reports.planes import SHOWN, plane_rows
from reports.reading import INTRODUCTION, LIMITS, TERMS, character
from reports.stacks import described, not_measured, notes
from reports.view import (
    LEGEND,
    MISSING,
    details,
    findings,
    name_of,
    number,
    printable,
    provenance,
    rows,
    size,
    spectra,
)


def to_markdown(report: Report, *, illustrated: bool = True) -> str:
    """The whole report; the same report always gives the same text.

    `illustrated` links the figures that lie beside it in the report's folder.
    """
    return "\n".join(_lines(report, illustrated)) + "\n"


def _lines(report: Report, illustrated: bool) -> Iterator[str]:
    figures = illustrations(report) if illustrated else ()
    yield f"# Geometric continuity of {escape(report.model.id)}"
    yield ""
    for sentence in sentences(report.main):
        yield f"- {escape(sentence)}"
    yield from _figures(figures, CONTINUITY)
    yield from ("", "## Findings", "")
    yield from _finding_lines(report)
    yield from ("", "## Continuity through depth", "")
    if report.stacks:
        yield from (f"The {_heading(report, None)}.", "")
    yield from _main_table(report.main)
    yield from ("", LEGEND.replace("Full bars mark", "Bold marks"))
    yield from _note_lines(report.main)
    yield from _plane_lines(report.main)
    yield from _figures(figures, HEATMAP, *TRAJECTORIES.values())
    yield from ("", "## What the leading directions are like", "")
    yield from _detail_table(report.main)
    yield from ("", *_character_lines(report.main), "", DETAIL_LEGEND)
    yield from _figures(figures, LAG)
    if experts.with_experts(report.main):
        yield from ("", "## The routed experts", "")
        yield from (*_expert_lines(report.main), "", experts.LEGEND)
        yield from _figures(figures, EXPERTS)
    if report.settings.full:
        yield from ("", "## The whole spectrum", "")
        yield from (*_spectrum_table(report.main), "", SPECTRUM_LEGEND)
        yield from _figures(figures, SPECTRA)
    if report.published is not None:
        yield from _published_lines(report)
    for name in report.stacks:
        yield from _stack_lines(report, name, figures)
    yield from _lacking_lines(report)
    yield from _reading_lines()
    yield from _provenance_lines(report)


def _heading(report: Report, stack: str | None) -> str:
    return escape(f"{name_of(report, stack)}: {described(report.every_stack[stack])}")


def _stack_lines(report: Report, name: str, figures: Sequence[Illustration]) -> Iterator[str]:
    """All of a further stack: what the main one has, in one section."""
    stack, own = report.stacks[name], of_stack(report.stacks, name)
    yield from ("", f"## {_heading(report, name)}", "")
    yield from (f"- {escape(sentence)}" for sentence in (*sentences(stack), *experts.sentences(stack)))
    yield from ("", *_main_table(stack))
    yield from _note_lines(stack)
    yield from _plane_lines(stack)
    yield from _figures(figures, own[CONTINUITY])
    yield from ("", *_detail_table(stack), "", *_character_lines(stack))
    if experts.with_experts(stack):
        yield from ("", *_expert_table(stack))
        if not experts.with_experts(report.main):
            yield from ("", experts.LEGEND)
        yield from _figures(figures, own[EXPERTS])
    if report.settings.full:
        yield from ("", *_spectrum_table(stack))


def _figures(shown: Sequence[Illustration], *wanted: Illustration) -> Iterator[str]:
    for illustration in wanted:
        if illustration in shown:
            title = escape(illustration.title)
            yield from ("", f"![{title}]({illustration.file})", "")
            yield f"*{title}.* {illustration.caption}"


def _finding_lines(report: Report) -> Iterator[str]:
    rows = list(findings(report))
    if not rows:
        yield "None: nothing broken, empty, doubled, torn or untrained stood out."
        return
    yield from table(
        ("", "", "finding"), ((f"**{row.severity}**", f"`{row.code}`", escape(row.message)) for row in rows)
    )


def _main_table(stack: Stack) -> Iterator[str]:
    yield from table(
        ("", "v1 (input)", "null", "EVR", "chance", "u1 (output)", "null", "EVR", "chance", "shape", ""),
        (
            (
                f"**{escape(row.name)}**",
                _facing(row.v.continuity, row.v.facing), row.v.null, row.v.evr, row.v.chance,
                _facing(row.u.continuity, row.u.facing), row.u.null, row.u.evr, row.u.chance,
                row.shape, row.note,
            )
            for row in rows(stack)
        ),
    )  # fmt: skip


def _note_lines(stack: Stack) -> Iterator[str]:
    for note in notes(stack):
        yield from ("", escape(note))


def _plane_lines(stack: Stack) -> Iterator[str]:
    rows = plane_rows(stack)
    if not rows:
        return
    yield from ("", "### Degenerate pairs", "")
    yield from table(
        ("", "layers", "v1", "planes of v1, v2", "u1", "planes of u1, u2", "bound"),
        (
            (escape(row.projection), row.layers, row.v1, row.plane_v, row.u1, row.plane_u, row.bound)
            for row in rows[:SHOWN]
        ),
    )
    more = f" {len(rows) - SHOWN} more such pairs are in audit.json." if len(rows) > SHOWN else ""
    yield from ("", LEGEND_OF_PLANES + more)


def _lacking_lines(report: Report) -> Iterator[str]:
    if lacking := list(not_measured(report)):
        yield from ("", "## What is not measured", "")
        yield from (f"- {escape(line)}" for line in lacking)


def _reading_lines() -> Iterator[str]:
    yield from ("", "## How to read this", "", INTRODUCTION, "")
    for term, meaning in TERMS.items():
        yield f"- **{term}**: {meaning}."
    yield from (
        "",
        "What each number survives, when a model is rewritten without changing what it computes:",
        "",
    )
    yield from table(
        ("rewriting", "survives", "changes"),
        ((row.rewriting, row.survives, row.changes) for row in INVARIANCES),
    )
    yield from ("", "What the numbers do not mean:", "")
    for limit in LIMITS:
        yield f"- {limit}"


def _provenance_lines(report: Report) -> Iterator[str]:
    yield from ("", "## Provenance", "")
    yield from table(("", ""), ((what, escape(value)) for what, value in provenance(report)))
    yield ""
    yield from table(
        ("file", "size", "content"),
        (
            (escape(f.name), size(f.size), escape(_content(f.etag, f.sha256, f.header_sha256)))
            for f in report.provenance.files
        ),
    )


def _facing(text: str, facing: bool) -> str:
    return f"**{text}**" if facing else text


_DETAIL_HEADINGS = (
    "", "stable rank", "spread of v1", "spread of u1",
    "top channel of v1", "top channel of u1", "lag 1 to last", "error bound",
)  # fmt: skip


DETAIL_LEGEND = (
    "Medians over layers. Stable rank is ||W||² / σ1². Spread is the participation ratio 1 / Σ vᵢ⁴: 1 "
    "for a single channel, the dimension for all. Top channel: the coordinate most layers agree on. "
    "Lag: mean |cos| in the facing space between adjacent layers, and between the first and the last. "
    "Error bound: the largest by which any |cos| of v1 or u1 above may be off."
)


def _detail_table(stack: Stack) -> Iterator[str]:
    yield from table(
        _DETAIL_HEADINGS,
        (
            (
                f"**{escape(row.name)}**", row.stable_rank, row.participation_v, row.participation_u,
                row.top_v, row.top_u, row.lag, row.bound,
            )
            for row in details(stack)
        ),
    )  # fmt: skip


def _character_lines(stack: Stack) -> Iterator[str]:
    for sentence in character(stack):
        yield f"- {escape(sentence)}"


def _expert_lines(stack: Stack) -> Iterator[str]:
    for sentence in experts.sentences(stack):
        yield f"- {escape(sentence)}"
    yield from ("", *_expert_table(stack))


def _expert_table(stack: Stack) -> Iterator[str]:
    yield from table(
        ("", "layers", "experts", "with the stack", "lowest to highest layer", "between two", "null"),
        (
            (
                f"**{escape(row.name)}**", row.layers, row.experts, row.with_stack, row.over_layers,
                row.between, row.null,
            )
            for row in experts.rows(stack)
        ),
    )  # fmt: skip


SPECTRUM_LEGEND = (
    "WA: Σ wᵢ |⟨vᵢ, vᵢ'⟩| with wᵢ = σᵢ² / Σ σ² of the earlier layer, the mean over adjacent pairs. "
    "Effective rank: exp of the entropy of σ² / Σ σ² (σ², as in arXiv:2605.04971, where Roy and "
    "Vetterli took σ), the median over layers."
)


def _spectrum_table(stack: Stack) -> Iterator[str]:
    yield from table(
        ("", "WA v", "null", "WA u", "null", "effective rank", "of at most"),
        (
            (
                f"**{escape(row.name)}**", row.wa_v, row.null_v, row.wa_u, row.null_u,
                row.effective_rank, row.largest_rank,
            )
            for row in spectra(stack)
        ),
    )  # fmt: skip


def _published_lines(report: Report) -> Iterator[str]:
    assert report.published is not None
    yield from ("", f"## Beside what is published ({escape(report.published.source)})", "")
    yield from table(
        ("", "", "published", "ours", "difference"),
        (
            (
                f"**{escape(value.projection)}**",
                f"{'continuity' if value.metric == 'continuity' else 'EVR'} {value.space}1",
                f"{value.published:.2f}",
                number(value.ours, 3),
                MISSING if value.difference is None else f"{value.difference:+.3f}",
            )
            for value in report.published.values
        ),
    )


_WORDS = ("", "file", "content", "finding", "rewriting", "survives", "changes", "model", "settings")
"""Headings of columns that hold words, which are set left; numbers are set right."""


def table(headings: Sequence[str], body: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; the cells must be escaped already."""
    yield f"| {' | '.join(headings)} |"
    yield f"|{'|'.join(':--' if heading in _WORDS else '--:' for heading in headings)}|"
    for cells in body:
        yield f"| {' | '.join(cells)} |"


def _content(etag: str | None, sha256: str | None, header_sha256: str | None) -> str:
    if sha256:
        return f"sha256 {sha256}"
    if etag:
        return f"etag {etag}"
    return f"sha256 of header {header_sha256}" if header_sha256 else MISSING


_MARKUP = re.compile(r"[\\`*_\[\]<>|#~&@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What Markdown takes for markup, and what GitHub's makes links of: addresses on the web and of mail."""


def escape(text: str) -> str:
    """Text from outside, made harmless in Markdown."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))
