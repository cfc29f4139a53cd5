"""`render` writes a report again from its JSON alone, the same to the byte, and refuses what is no report."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_llama
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sample_mixture import sample_mixture
from sample_report import sample_report

from reports.document import DocumentError, from_json, to_json
from reports.figures import draw, illustrations
from reports.markdown import to_markdown
from reports.terminal import to_terminal


def contents(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.drawn
def test_a_report_rendered_again_is_the_same_to_the_byte(cli, tmp_path):
    folder = write_llama(tmp_path / "m", layers=6)
    assert cli(folder, "--full", "--out", "out").exit_code == 0
    before = contents("out")
    assert len([name for name in before if name.startswith("figures/")]) == 6
    assert cli("render", "out/audit.json", "--out", "again").exit_code == 0
    assert contents("again") == before
    for name in list(before):
        if not name.endswith((".json", ".safetensors")):
            Path("out", name).write_text("spoilt")
    assert cli("render", "out").exit_code == 0
    assert contents("out") == before
    assert sorted(os.listdir()) == ["again", "out"]


def test_what_is_printed_is_what_the_audit_printed(cli, llama):
    for format in ("table", "markdown", "json"):
        first = cli(llama, "--out", "out", "--format", format)
        again = cli("render", "out", "--format", format)
        assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert cli("render", "out", "--json").stdout == Path("out/audit.json").read_text()


def test_the_model_is_not_needed(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    for file in llama.iterdir():
        file.unlink()
    assert cli("render", "out").exit_code == 0


def test_a_report_of_an_earlier_version_has_no_paths_and_is_rendered_without(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    value = json.loads(Path("out/audit.json").read_text())
    for found in value["projections"].values():
        del found["trajectory"]
    Path("out/audit.json").write_text(json.dumps(value))
    assert cli("render", "out").exit_code == 0
    assert "trajectories" not in Path("out/report.md").read_text()


def test_a_json_on_its_own_needs_a_folder_to_go_to(cli, llama):
    assert cli(llama, "--out", "out").exit_code == 0
    Path("mail").mkdir()
    Path("mail/letter.txt").write_text("mine")
    Path("out/audit.json").rename("mail/from-a-friend.json")
    result = cli("render", "mail/from-a-friend.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "mail holds something other than a report: name another folder with --out" in result.stderr
    assert sorted(os.listdir("mail")) == ["from-a-friend.json", "letter.txt"]
    assert cli("render", "mail/from-a-friend.json", "--out", "new").exit_code == 0
    assert sorted(os.listdir("new")) == ["audit.json", "figures", "report.md"]
    assert "Written to new: report.md, figures, audit.json\n" in cli("render", "new").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file missing/audit.json: name an audit.json or its folder"),
        ("", "holds no report: not valid JSON"),
        ("[]", "holds no report: the document"),
        ('{"schema": "gcont-audit/1"}', "holds no report: model"),
        ("[" * 100_000, "holds no report: not valid JSON"),
        ('{"x": NaN}', "holds no report: not valid JSON"),
        ("\x00", "holds no report: not valid JSON"),
    ],
)
def test_what_is_no_report_is_told_in_one_line(cli, text, said):
    Path("missing").mkdir()
    if text is not None:
        Path("missing/audit.json").write_text(text)
    result = cli("render", "missing/audit.json")
    assert (result.exit_code, result.stdout) == (2 if text is None else 5, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_bytes_that_are_no_text_are_no_report(cli):
    Path("audit.json").write_bytes(b"\xff\xfe\x00")
    assert cli("render", "audit.json").exit_code == 5


# A report that contradicts itself

WHOLE: dict[str, Any] = json.loads(to_json(sample_report()))
MIXTURE: dict[str, Any] = json.loads(to_json(sample_mixture()))


FAR_PATH = {"points": [[9.0, 0.0, 0.0], None, None], "shares": [1.0, 0.0, 0.0]}


def changed(path: str, new: object, whole: dict[str, Any] = WHOLE) -> str:
    value = json.loads(json.dumps(whole))
    *parents, last = path.split(".")
    place = value
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(last) if isinstance(place, list) else last] = new
    return json.dumps(value)


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        ("projections.Q.stable_rank", [1.0], "projections.Q.stable_rank: 1 entries for 3 layers"),
        ("projections.Q.participation.u", [], "projections.Q.participation.u: 0 entries for 3 layers"),
        ("projections.Q.layers", [0, 2, 1], "projections.Q.layers: not a rising list"),
        ("projections.Q.layers", [0, 1, 1], "projections.Q.layers: not a rising list"),
        ("projections.Q.layers", [-1, 0, 1], "projections.Q.layers: not a rising list"),
        ("projections.O.pairs.0.layers", [0, 7], "projections.O.pairs: [0, 7] are no two layers in order"),
        ("projections.O.pairs.0.layers", [1, 0], "projections.O.pairs: [1, 0] are no two layers in order"),
        ("projections.O.pairs.0.u1", 1.5, "projections.O.pairs: |cos| outside 0 to 1"),
        ("projections.O.continuity.u1", 1e9, "projections.O.continuity: |cos| outside 0 to 1"),
        ("projections.O.continuity.u1", None, "projections.O.continuity.u1: not the mean of any pairs"),
        ("projections.O.pairs.0.u1", None, "projections.O.continuity.u1: not the mean of any pairs"),
        ("projections.O.null.u", -0.1, "projections.O.null: |cos| outside 0 to 1"),
        ("projections.O.lag.u", [2.0], "projections.O.lag: |cos| outside 0 to 1"),
        ("projections.O.pairs", [], "projections.O.pairs: 0 for 3 layers"),
        ("projections.O.sigma.0.0", 1e301, "a number beyond any that a report holds"),
        ("provenance.peak_memory_bytes", 10**400, "a number beyond any that a report holds"),
        ("projections.O.trajectory.u", FAR_PATH, "projections.O.trajectory: a point further out"),
        ("projections.O.shape", [0, 100], "projections.O.shape: not positive"),
        ("projections.Q.spectrum.0.1", [2, 7.0], "projections.Q.spectrum: singular values that are not"),
        ("projections.Q.spectrum.0.1", [101, 1.0], "projections.Q.spectrum: ranks that do not rise"),
        ("projections.Q.spectrum.0.1", [2, 0.0], "projections.Q.spectrum: singular values that are not"),
    ],
)
def test_a_contradiction_is_named_by_its_key(path, new, said):
    with pytest.raises(DocumentError) as caught:
        from_json(changed(path, new))
    assert said in str(caught.value)


def leaves(value: object, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [
            leaf for key, each in value.items() if "." not in key for leaf in leaves(each, f"{path}{key}.")
        ]
    if isinstance(value, list):
        return [leaf for i, each in enumerate(value) for leaf in leaves(each, f"{path}{i}.")] + [path[:-1]]
    return [path[:-1]]


ODD = st.sampled_from(
    [None, 0, -1, 1, 2, 1e308, 1e299, 10**30, 10**400, "", "x\x1b[2J", [], {}, [1], True, 0.5, -0.25]
)


Place = tuple[dict[str, Any], str]

PLACES: list[Place] = [(whole, leaf) for whole in (WHOLE, MIXTURE) for leaf in leaves(whole)]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), new=ODD)
def test_any_value_in_any_place_is_refused_or_rendered(place: Place, new: object) -> None:
    whole, path = place
    try:
        report = from_json(changed(path, new, whole))
    except DocumentError:
        return
    assert to_markdown(report).endswith("\n")
    Console(width=80, file=io.StringIO()).print(to_terminal(report))


DRAWN = [(whole, leaf) for whole, leaf in PLACES if leaf.startswith(("projections", "stacks"))]


@settings(max_examples=25)
@given(place=st.sampled_from(DRAWN), new=ODD)
def test_any_value_that_is_a_report_can_be_drawn(place: Place, new: object) -> None:
    whole, path = place
    try:
        report = from_json(changed(path, new, whole))
    except DocumentError:
        return
    for illustration in illustrations(report):
        assert draw(report, illustration).startswith(b"\x89PNG")
