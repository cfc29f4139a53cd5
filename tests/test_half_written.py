"""On a disk that fills up, or takes nothing, there is the whole new report, the whole old one, or none."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_llama

import audit.output

FILES = {"audit.json", "report.md", "vectors.safetensors", "figures"}
FIGURE = bytes(20_000)
"""As large as a figure may be, so that the disk can fill up while they are written."""

SIZES = (4, 40, 100, *range(116, 220, 8))
"""Some sizes in kB of disks that are too small for an audit of three layers."""


@pytest.fixture(autouse=True)
def _figures_take_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.output.draw", lambda report, illustration: FIGURE)
    monkeypatch.setattr("audit.output.draw_models", lambda entries: FIGURE)


@pytest.fixture
def model() -> Path:
    """A checkpoint in the working folder."""
    return write_llama(Path("m"))


Disk = Callable[..., Any]


@pytest.fixture
def disk() -> Disk:
    """A file system of so many kB on the folder `disk`; skips where none may be mounted."""
    if shutil.which("mount") is None:
        pytest.skip("no program to mount a file system with")

    @contextmanager
    def mounted(size: int) -> Iterator[Path]:
        folder = Path("disk").absolute()
        folder.mkdir(exist_ok=True)
        try:
            _mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"file systems may not be mounted here: {error.stderr.decode().strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True, capture_output=True)

    return mounted


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def make_room(folder: Path) -> None:
    _mount("-o", "remount,size=50m", str(folder))


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond so many bytes, as on a disk that is full just then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def measured(folder: Path) -> Any:
    """The numbers of a report that is whole."""
    assert {path.name for path in folder.iterdir()} == FILES
    assert all((folder / "figures" / name).stat().st_size for name in os.listdir(folder / "figures"))
    assert (folder / "report.md").read_text().endswith("\n")
    return json.loads((folder / "audit.json").read_text())["projections"]


def says_so(result: Any, *said: str) -> None:
    """One line on stderr with these words, nothing on stdout, and the code for it."""
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for words in ("cannot be written", *said):
        assert words in result.stderr


def no_litter(folder: Path, *but: str) -> None:
    """Nothing is there but these and the folder of an unfinished audit, and nothing half written in that."""
    assert set(os.listdir(folder)) <= {*but, "out.partial"}
    assert not [path for path in folder.rglob(".*") if path.name.startswith(".report.")]


@pytest.mark.parametrize("size", SIZES)
def test_wherever_the_disk_fills_up_an_audit_leaves_no_half_report(cli, model, disk, size):
    assert cli(model, "--out", "there").exit_code == 0
    with disk(size) as folder:
        result = cli(model, "--out", "disk/out")
        says_so(result, "No space left on device", "make room and repeat the command", "--out")
        assert not (folder / "out").exists()
        no_litter(folder)
        make_room(folder)
        assert cli(model, "--out", "disk/out").exit_code == 0
        assert measured(folder / "out") == measured(Path("there"))
        assert os.listdir(folder) == ["out"]


def test_the_disk_has_filled_up_at_every_stage(cli, model, disk, monkeypatch):
    """An audit is cut short at its measurements and at each kind of file of its report."""
    begun: list[str] = []
    for name in ("to_json", "to_markdown", "draw", "save_file"):
        monkeypatch.setattr(audit.output, name, noted(begun, name, getattr(audit.output, name)))
    last = set()
    for size in range(4, 2000, 8):
        begun[:] = ["measurements"]
        with disk(size):
            result = cli(model, "--out", "disk/out")
        if result.exit_code == 0:
            break
        says_so(result, "No space left on device", "make room")
        last.add(begun[-1])
    assert last == {"measurements", "to_json", "to_markdown", "draw", "save_file"}


def noted(begun: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which notes its name when it is called."""

    def called(*args: Any, **options: Any) -> Any:
        begun.append(name)
        return function(*args, **options)

    return called


@pytest.mark.parametrize("room", [4, 12, 24, 40, 56, 76])
def test_a_full_disk_leaves_the_old_report_as_it_was(cli, model, disk, room):
    with disk(20_000) as folder:
        assert cli(model, "--out", "disk/out").exit_code == 0
        before = contents(folder / "out")
        used = shutil.disk_usage(folder).used // 1024
        _mount("-o", f"remount,size={used + room}k", str(folder))
        says_so(cli(model, "--only", "q", "--out", "disk/out", "--fresh"), "No space left on device")
        assert contents(folder / "out") == before
        no_litter(folder, "out")
        make_room(folder)
        assert cli(model, "--only", "q", "--out", "disk/out").exit_code == 0
        assert set(measured(folder / "out")) == {"Q"}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("size", [0, 100, 1000, 5000, 12_000, 19_000])
def test_a_file_that_cannot_grow_is_as_good_as_a_full_disk(cli, model, size, old):
    """Without a file system of its own: this needs no rights."""
    assert cli(model, "--out", "there").exit_code == 0
    if old:
        assert cli(model, "--out", "out").exit_code == 0
    before = contents(Path("out"))
    with no_file_larger_than(size):
        result = cli(model, "--out", "out", "--fresh")
    says_so(result, "File too large")
    assert contents(Path("out")) == before
    no_litter(Path(), "out", "m", "there")
    assert cli(model, "--out", "out", "--fresh").exit_code == 0
    assert measured(Path("out")) == measured(Path("there"))


@pytest.mark.parametrize("size", [0, 4, 30, 50, 70])
def test_a_report_rendered_onto_a_full_disk_is_whole_or_not_there(cli, model, disk, size):
    assert cli(model, "--out", "there").exit_code == 0
    with disk(max(size, 4)) as folder:
        (folder / "filling").write_bytes(bytes(4096 if size == 0 else 0))
        says_so(cli("render", "there", "--out", "disk/out"), "No space left on device")
        assert os.listdir(folder) == ["filling"]
        make_room(folder)
        assert cli("render", "there", "--out", "disk/out").exit_code == 0
        assert measured(folder / "out") == measured(Path("there"))


@pytest.mark.parametrize("size", [0, 100, 1000, 19_000])
def test_a_report_rendered_again_where_no_file_can_grow_stays_what_it_was(cli, model, size):
    assert cli(model, "--out", "out").exit_code == 0
    before = contents(Path("out"))
    with no_file_larger_than(size):
        says_so(cli("render", "out"), "File too large")
    assert contents(Path("out")) == before
    no_litter(Path(), "out", "m")


@pytest.mark.parametrize("size", [0, 100, 19_000])
def test_a_batchs_page_is_the_whole_new_one_or_the_whole_old_one(cli, model, size):
    assert cli("batch", model, "--out", "all").exit_code == 0
    (Path("all") / "index.png").write_bytes(b"old")
    before = contents(Path("all"))
    write_llama(Path("other"))
    with no_file_larger_than(size):
        result = cli("batch", model, "--out", "all", "--quiet")
    assert result.exit_code == 2, result.stderr
    assert "File too large" in result.stderr.splitlines()[-1]
    assert contents(Path("all")) == before
    assert {path.name for path in Path("all").iterdir()} == {"index.md", "index.png", "m"}


def test_a_disk_that_takes_nothing_is_refused_before_the_work(cli, model, disk, monkeypatch):
    monkeypatch.setattr("audit.audit.run", lambda *_: pytest.fail("worked in vain"))
    with disk(1000) as folder:
        _mount("-o", "remount,ro", str(folder))
        says_so(cli(model, "--out", "disk/out"), "Read-only file system", "--out")
        says_so(cli(model, "--out", "disk/not/there/out"), "Read-only file system")
        result = cli("batch", model, "--out", "disk/all")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Read-only file system" in result.stderr
        assert os.listdir(folder) == []


def run(*words: str, before: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own."""
    command = [*before, sys.executable, "-m", "audit", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_folder_that_one_may_not_write_to_is_refused_before_the_work(model):
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:
        before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and there is no setpriv to take that right away")
    closed = Path("closed")
    closed.mkdir(mode=0o555)
    result = run(str(model), "--out", "closed/out", before=before)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "cannot be written: Permission denied" in result.stderr
    assert list(closed.iterdir()) == []


def test_a_missing_parent_is_made_and_goes_again_where_nothing_came_of_it(cli, model):
    with no_file_larger_than(100):
        says_so(cli(model, "--out", "not/there/yet/out"), "File too large")
    assert [str(path) for path in Path("not").rglob("*") if path.is_dir()] in (
        [],
        ["not/there", "not/there/yet", "not/there/yet/out.partial"],
    )
    assert cli(model, "--out", "not/there/yet/out").exit_code == 0
    measured(Path("not/there/yet/out"))


def test_of_two_audits_at_once_one_says_so_and_the_other_is_whole(cli, model):
    assert cli(model, "--out", "there").exit_code == 0
    first = subprocess.Popen(
        [sys.executable, "-m", "audit", str(model), "--out", "out"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        until = time.monotonic() + 60
        while not Path("out.partial/gcont-audit.lock").exists() and time.monotonic() < until:
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)  # so that it is there as long as the second one looks
        second = cli(model, "--out", "out")
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate(timeout=120)
    finally:
        first.kill()
        first.wait()
    assert (first.returncode, said) == (0, b"")
    assert (second.exit_code, second.stdout) == (2, "")
    assert "another audit is writing to out" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert measured(Path("out")) == measured(Path("there"))
    assert set(os.listdir()) == {"m", "out", "there"}
