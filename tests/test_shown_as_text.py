"""What a file or a stranger's report says is shown as text: on terminals, in Markdown, figures and TOML."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import llama_config, write_llama
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from sample_mixture import sample_mixture
from sample_report import sample_report

from reports.comparison import Audited
from reports.document import DocumentError, from_json, to_json
from reports.index import to_markdown as to_page
from reports.markdown import to_markdown
from reports.terminal import to_terminal

Q = "model.layers.1.self_attn.q_proj.weight"

HOSTILE = (
    "\x1b[31mred", "\x9b31m", "\x1b]8;;http://evil.example\x1b\\x", "\x07\b\r", "\u202eabc\u2066", "a\u200bb",
    "\x7f", "`code`", "a|b", "[x](http://evil.example)", "![x](http://evil.example/x.png)", "<!--", "```",
    "<img src=x onerror=y>", "<http://evil.example>", "http://evil.example", "www.evil.example",
    "a@evil.example", "&lt;b&gt;", "~~x~~", "**b** _i_", "[bold]x[/bold]", "[link=http://evil.example]x[/link]",
    "\\", "$x^{$", "a\n\n# b",
)  # fmt: skip


def unprintable(text: str) -> set[str]:
    return {character for character in text if not character.isprintable()} - {"\n"}


def active(markdown: str) -> Iterator[Token]:
    """Everything in a page that is no text, no table and none of its own figures and links."""
    parser = MarkdownIt("gfm-like", {"linkify": False})
    for block in parser.parse(markdown):
        if block.type in ("html_block", "fence", "code_block") and "gcont-audit batch" not in block.content:
            yield block
        for token in block.children or ():
            address = str(token.attrs.get("src") or token.attrs.get("href") or "")
            own = address.startswith("figures/") or address in ("index.png", "folder/report.md")
            if token.type in ("link_open", "image", "html_inline", "s_open") and not own:
                yield token


def bare_addresses(markdown: str) -> list[str]:
    """What GitHub would make a link of without being asked."""
    return [line for line in markdown.splitlines() for sign in ("http://", "www.", "a@e") if sign in line]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_file_says_is_shown_as_text(cli, text):
    planted = {f"model.layers.0.{text}.weight": torch.ones(2, 2), Q: torch.zeros(16, 16)}
    config = llama_config(model_type=text, architectures=[text], quantization_config={"quant_method": text})
    write_llama(Path("m"), planted=planted, config=config)
    for asked in (
        "m", "m --family TEXT", "m --family llama --only TEXT", "plan m --family llama", "families --draft m",
        "families --explain m --family llama", "families --show TEXT", "m --family llama --out out",
        "m --family llama --out out --json", "render out",
    ):  # fmt: skip
        line = [text if word == "TEXT" else word for word in asked.split()]
        result = cli(*line, COLUMNS="300")
        assert result.exit_code in (0, 2, 3), (line, result.stderr)
        assert not unprintable(result.stdout + result.stderr), line
        if result.exit_code:
            assert len(result.stderr.splitlines()) == 1, line
        if "--draft" in line:
            assert tomllib.loads(result.stdout)["name"]
        if "--json" in line:
            assert json.loads(result.stdout)["coverage"]["unknown"] == [f"model.layers.0.{text}.weight"]
    page = Path("out/report.md").read_text(encoding="utf-8")
    assert list(active(page)) == []
    assert bare_addresses(page) == []
    assert not unprintable(page)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document that holds text or nothing, and every key, as a path."""
    if isinstance(value, (str, type(None))):
        yield path
    value = value[:1] if isinstance(value, list) else value  # the others are like these
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    ):
        yield from places(inner, (*path, key))
        if isinstance(value, dict):
            yield (*path, key, "its key")


def with_text(document: Any, path: tuple[Any, ...], text: str) -> Any:
    """A copy of it that says the text there."""
    document = json.loads(json.dumps(document))
    *above, last = path[:-1] if path[-1] == "its key" else path
    holder = document
    for key in above:
        holder = holder[key]
    if path[-1] == "its key":
        holder[text] = holder.pop(last)
    else:
        holder[last] = text
    return document


@pytest.mark.parametrize("sample", [sample_report, sample_mixture])
def test_a_report_from_a_stranger_is_shown_as_text_too(sample):
    """`render` and `batch` show any audit.json."""
    text = "<img src=x>[l](http://evil.example)\x1b[31m|`x`\u202e[bold]q[/bold]"
    document = json.loads(to_json(sample()))
    shown = 0
    for path in places(document):
        try:
            report = from_json(json.dumps(with_text(document, path, text)))
        except DocumentError:
            continue
        shown += 1
        console = Console(file=StringIO(), width=200, markup=False)
        console.print(to_terminal(report))
        assert not unprintable(console.file.getvalue()), path  # type: ignore[attr-defined]
        for page in (to_markdown(report), to_page([Audited(report.model.id, "folder", report, True)])):
            assert list(active(page)) == [], path
            assert bare_addresses(page) == [], path
            assert not unprintable(page), path
    assert shown > 50


@pytest.mark.drawn
@pytest.mark.parametrize("name", ["$x^{$", "[bold]\\frac{", "\u202e雪`"])
def test_a_figure_says_any_name(cli, name):
    folder = write_llama(Path(name))
    result = cli(folder, "--out", "out")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in Path("out/figures").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not have such names")
def test_a_folder_whose_name_is_no_text_is_audited(llama):
    folder = os.fsencode(llama.parent) + b"/m\xff"
    os.rename(llama, folder)
    done = subprocess.run(
        [sys.executable, "-m", "audit", folder, "--out", "out", "--only", "q"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(Path("out/audit.json").read_bytes())["model"]["layers"] == 3
