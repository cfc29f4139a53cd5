"""Training the small transformer: against AdamW by hand, resumed to the bit, ended where it diverges."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event
from types import FrameType, SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.distributed import DistBackendError
from torch.nn import functional as F
from transformers_at_work import BY_NAME, CPU, THIN, Silent, longer, runs, tokens, training

from audit import AuditOptions, audit_model
from audit.disk import write_file
from audit.errors import OutputError, PeerError, UsageError
from audit.train.folder import Pace, pace_in
from audit.train.transformer.loop import Loop, learning_rate
from audit.train.transformer.machine import GRACE, Machine
from audit.train.transformer.measure import PROJECTIONS
from audit.train.transformer.model import Transformer
from audit.train.transformer.settings import Run, Settings
from audit.train.transformer.trainer import Training, diverged, train
from audit.train.transformer.windows import Windows, spread
from audit.train.values import Values


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run, but for the lock, and how fast it went."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in ("lock", "pace.json")
    }


HEARD = Event()
"""The main thread has heard the signal, and is about to tell the one that trains."""


def interrupt() -> None:
    """Stop the work as a signal does, from the thread that trains."""
    HEARD.clear()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert HEARD.wait(60)
    time.sleep(0.05)  # until it has told


@pytest.fixture(autouse=True)
def stoppable() -> Iterator[None]:
    """A signal that stops the work, as the command line has Ctrl-C and SIGTERM do."""

    def stop(number: int, frame: FrameType | None) -> None:
        HEARD.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, stop)
    yield
    signal.signal(signal.SIGUSR1, before)


class Stopper(Silent):
    """Stops the training after so many steps of its runs."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, run: Run, seconds: float) -> None:
        self.left -= 1
        if self.left == 0:
            interrupt()


def measured(loop: Loop) -> Values:
    """What is measured where nobody stops it."""
    values = loop.measured()
    assert values is not None
    return values


# The order of the text


@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 9), st.integers(0, 3))
def test_every_window_comes_once_before_any_comes_again(
    count: int, size: int, rounds: int, seed: int
) -> None:
    text = np.arange(count * 4 + 2, dtype=np.uint16)
    windows = Windows(text, 4, seed)
    assert windows.count == count
    firsts = []
    for step in range(math.ceil(rounds * count / size)):
        batch = windows.batch(step, size)
        assert batch.tolist() == [list(range(row[0], row[0] + 5)) for row in batch.tolist()]
        firsts += [row[0] for row in batch.tolist()]
    assert {first % 4 for first in firsts} == {0}
    for start in range(0, rounds * count, count):
        assert sorted(firsts[start : start + count]) == [4 * window for window in range(count)]


def test_a_step_gives_the_same_windows_whenever_it_is_asked_for() -> None:
    text = np.arange(403, dtype=np.uint16)
    in_order = [Windows(text, 4, 7).batch(step, 16).tolist() for step in range(20)]
    windows = Windows(text, 4, 7)
    for step in (19, 3, 0, 12, 3):
        assert windows.batch(step, 16).tolist() == in_order[step]
    assert Windows(text, 4, 8).batch(0, 16).tolist() != in_order[0]
    assert in_order[0] != Windows(text, 4, 7).batch(100, 16).tolist()


def test_the_parts_of_a_batch_are_the_batch() -> None:
    windows = Windows(np.arange(403, dtype=np.uint16), 4, 7)
    whole = windows.batch(3, 16).tolist()
    parts = [windows.batch(3, 16, slice(rank, 16, 3)).tolist() for rank in range(3)]
    assert Counter(map(tuple, whole)) == Counter(tuple(row) for part in parts for row in part)


def test_validation_windows_are_spread_evenly() -> None:
    rows = spread(np.arange(101, dtype=np.uint16), 10, most_tokens=40)
    assert [row[0] for row in rows.tolist()] == [0, 20, 50, 70]
    assert len(spread(np.arange(101, dtype=np.uint16), 10, most_tokens=10**9)) == 10
    assert len(spread(np.arange(101, dtype=np.uint16), 10, most_tokens=1)) == 1


# One step


def test_the_rate_rises_and_falls_as_stated() -> None:
    settings = Settings(lr=1.0, warmup=4, steps=104)
    assert [learning_rate(step, settings) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate(4, settings) == 1.0
    assert learning_rate(54, settings) == pytest.approx(0.1 + 0.9 * 0.5)
    assert learning_rate(104, settings) == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(learning_rate(step, settings) for step in range(4, 104)))
    constant = replace(settings, schedule="constant")
    assert {learning_rate(step, constant) for step in range(3, 104)} == {1.0}
    assert learning_rate(0, replace(settings, warmup=0)) == 1.0


@pytest.mark.parametrize("clip", [0.05, None])
def test_three_steps_are_adamws_written_out(clip: float | None) -> None:
    """In float64, by the update of Loshchilov and Hutter 2019; matrices decay, gains do not."""
    settings = replace(THIN, clip_norm=clip, weight_decay=0.3)
    [run] = runs("tf-silu")
    loop = Loop(run, tokens(), settings, Machine(CPU))
    model = Transformer(settings.shape(11), run.ablation, run.seed).double()
    first = {name: torch.zeros_like(one) for name, one in model.named_parameters()}
    second = {name: torch.zeros_like(one) for name, one in model.named_parameters()}
    windows = Windows(tokens().train, settings.sequence, run.seed)
    for step in range(3):
        assert loop.advance()
        batch = windows.batch(step, settings.batch_size)
        logits = model(batch[:, :-1])
        loss = -F.log_softmax(logits, dim=-1).gather(-1, batch[:, 1:, None]).mean()
        named = dict(model.named_parameters())
        gradients = dict(zip(named, torch.autograd.grad(loss, named.values()), strict=True))
        norm = math.sqrt(sum(float(one.square().sum()) for one in gradients.values()))
        shrink = min(1.0, clip / norm) if clip else 1.0
        assert clip is None or shrink < 0.9
        rate = settings.lr * (step + 1) / 3
        with torch.no_grad():
            for name, weight in named.items():
                gradient = gradients[name] * shrink
                first[name].lerp_(gradient, 0.1)
                second[name].lerp_(gradient.square(), 0.05)
                if weight.dim() == 2:
                    weight *= 1 - rate * 0.3
                m = first[name] / (1 - 0.9 ** (step + 1))
                v = second[name] / (1 - 0.95 ** (step + 1))
                weight -= rate * m / (v.sqrt() + 1e-8)
    for name, found in loop.network().items():
        torch.testing.assert_close(found.double(), named[name].detach(), rtol=2e-3, atol=2e-5, msg=name)


def test_parts_of_a_batch_add_up_to_the_batch() -> None:
    [run] = runs("tf-gqa")
    whole, parted = (Loop(run, tokens(), THIN, Machine(CPU, micro_batch=rows)) for rows in (4, 3))
    for loop in (whole, parted):
        for _ in range(3):
            loop.advance()
    assert measured(whole)["loss"] == pytest.approx(measured(parted)["loss"], rel=1e-5)
    for name, found in whole.network().items():
        torch.testing.assert_close(found, parted.network()[name], rtol=1e-3, atol=1e-4)


def test_one_batch_can_be_learnt_by_heart() -> None:
    """A text of four windows: the same batch at every step."""
    settings = replace(THIN, width=32, ffn=64, steps=150, warmup=5, weight_decay=0.0)
    text = replace(tokens(), train=np.random.default_rng(0).integers(0, 11, 33).astype(np.uint16))
    [run] = runs("tf-silu")
    loop = Loop(run, text, settings, Machine(CPU))
    losses = []
    for _ in range(150):
        loop.advance()
        losses.append(measured(loop)["loss"])
    assert losses[0] == pytest.approx(math.log(11), abs=0.2)
    assert losses[-1] is not None
    assert losses[-1] < 0.1


def test_perplexity_is_that_of_the_validation_windows() -> None:
    [run] = runs("tf-silu")
    settings = replace(THIN, valid_tokens=10**6, batch_size=3)
    loop = Loop(run, tokens(), settings, Machine(CPU))
    model = Transformer(settings.shape(11), run.ablation, run.seed)
    valid = tokens().valid
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(valid) - 8, 8):
            window = torch.from_numpy(valid[start : start + 9].astype(np.int64))
            total += float(F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum"))
            count += 8
    found = measured(loop)
    assert found["valid_loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["ppl"] == pytest.approx(math.exp(total / count), rel=1e-5)
    assert "loss" not in found


def test_the_continuity_is_numpys() -> None:
    [run] = runs("tf-gqa")
    loop = Loop(run, tokens(), THIN, Machine(CPU))
    for _ in range(5):
        loop.advance()
    found, weights = measured(loop), loop.network()
    maps: dict[str, list[np.ndarray]] = {}
    for layer in range(3):
        matrices = {
            name: weights[f"model.layers.{layer}.{path}.weight"].double().numpy()
            for name, path in PROJECTIONS.items()
        }
        # four query heads of 4 channels; two and two read the values of one head
        seen = [matrices["V"][4 * head : 4 * head + 4] for head in (0, 0, 1, 1)]
        matrices["OV"] = matrices["O"] @ np.concatenate(seen)
        for name, matrix in matrices.items():
            maps.setdefault(name, []).append(matrix)
    for name, chain in maps.items():
        factors = [np.linalg.svd(matrix) for matrix in chain]
        for i in (0, 1):
            v = np.mean([abs(a.Vh[i] @ b.Vh[i]) for a, b in pairwise(factors)])
            u = np.mean([abs(a.U[:, i] @ b.U[:, i]) for a, b in pairwise(factors)])
            assert found[f"{name}_v{i + 1}"] == pytest.approx(v, abs=1e-5), name
            assert found[f"{name}_u{i + 1}"] == pytest.approx(u, abs=1e-5), name


def test_bf16_follows_the_same_curve() -> None:
    [run] = runs("tf-silu")
    losses = {}
    for precision in ("fp32", "bf16"):
        loop = Loop(run, tokens(), replace(THIN, precision=precision), Machine(CPU))  # type: ignore[arg-type]
        for _ in range(10):
            loop.advance()
        losses[precision] = measured(loop)["loss"]
        assert {one.dtype for one in loop.network().values()} == {torch.float32}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("precision", "compiled"), [("fp32", False), ("bf16", False), ("bf16", True)])
def test_a_gpu_follows_the_cpus_curve(precision: str, compiled: bool) -> None:
    [run] = runs("tf-gqa")
    settings = replace(THIN, precision=precision)  # type: ignore[arg-type]
    losses = []
    for machine in (Machine(CPU), Machine(torch.device("cuda"), compiled=compiled)):
        loop = Loop(run, tokens(), settings, machine)
        for _ in range(10):
            loop.advance()
        losses.append(measured(loop)["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02 if precision == "bf16" else 1e-3)


# Runs in their folders


def test_a_run_leaves_its_files(tmp_path: Path) -> None:
    train(training(tmp_path, "tf-silu"), Silent())
    folder = tmp_path / "tf-silu-1"
    assert sorted(contents(folder)) == [
        ".state/0012.safetensors", "config.json", "history.json", "model.safetensors",
    ]  # fmt: skip
    assert load_file(folder / ".state/0012.safetensors") == {}
    history = json.loads((folder / "history.json").read_text())
    assert [one["step"] for one in history] == [0, 4, 8, 12]
    assert history[3]["lr"] == learning_rate(11, THIN)
    pace = pace_in(folder)
    assert pace is not None
    assert (pace.device, pace.steps) == ("cpu", 11)


def test_the_last_step_is_measured_wherever_it_falls(tmp_path: Path) -> None:
    train(training(tmp_path, "tf-silu", settings=longer(6)), Silent())
    history = json.loads((tmp_path / "tf-silu-1/history.json").read_text())
    assert [one["step"] for one in history] == [0, 4, 6]


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    for out in ("a", "b"):
        train(training(tmp_path / out, "tf-silu", "tf-linear"), Silent())
    for run in ("tf-silu-1", "tf-linear-1"):
        assert contents(tmp_path / "a" / run) == contents(tmp_path / "b" / run)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 11, 12, 17])
def test_stopped_and_gone_on_with_is_the_same_to_the_bit(tmp_path: Path, steps: int) -> None:
    """Two runs of 12 steps, measured every 4."""
    train(training(tmp_path / "whole", "tf-vgate", "tf-tied"), Silent())
    with pytest.raises(KeyboardInterrupt):
        train(training(tmp_path / "stopped", "tf-vgate", "tf-tied"), Stopper(steps))
    train(training(tmp_path / "stopped", "tf-vgate", "tf-tied"), Silent())
    for run in ("tf-vgate-1", "tf-tied-1"):
        assert contents(tmp_path / "stopped" / run) == contents(tmp_path / "whole" / run)


def test_stopped_again_and_again_it_comes_to_the_same_bits(tmp_path: Path) -> None:
    train(training(tmp_path / "whole", "tf-silu"), Silent())
    stops = 0
    while True:
        try:
            train(training(tmp_path / "stopped", "tf-silu"), Stopper(2))
        except KeyboardInterrupt:
            stops += 1
        else:
            break
    assert stops >= 4
    assert contents(tmp_path / "stopped/tf-silu-1") == contents(tmp_path / "whole/tf-silu-1")


@pytest.mark.parametrize("count", range(1, 13))
def test_killed_before_any_of_its_writes_it_goes_on_to_the_same_bits(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times config, history, weights and state; how fast it went apart."""
    train(training(tmp_path / "whole", "tf-silu"), Silent())
    written = 0

    def dying(file: Path, content: bytes, *, durable: bool = False) -> None:
        nonlocal written
        written += file.name != "pace.json"
        if written == count:
            (file.parent / f".{file.name}.x1y2_z3w").write_bytes(content[:9])
            raise KeyboardInterrupt
        write_file(file, content, durable=durable)

    with monkeypatch.context() as patched:
        patched.setattr("audit.train.folder.write_file", dying)
        with pytest.raises(KeyboardInterrupt):
            train(training(tmp_path / "killed", "tf-silu"), Silent())
    assert written == count
    train(training(tmp_path / "killed", "tf-silu"), Silent())
    assert contents(tmp_path / "killed/tf-silu-1") == contents(tmp_path / "whole/tf-silu-1")


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
from transformers_at_work import Silent, longer, training
from audit.train.transformer.trainer import train
torch.set_num_threads(1)
class Loud(Silent):
    def measured(self, run, values):
        print(values["step"], flush=True)
train(training(Path(sys.argv[1]), "tf-qknorm", settings=longer(200)), Loud())
"""


def test_killed_outright_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline().strip() not in ("40", ""):
        pass
    time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    killed = training(tmp_path / "killed", "tf-qknorm", settings=longer(200))
    assert 40 <= max(killed.folder(killed.runs[0]).kept()) < 200
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(killed, Silent())
        train(training(tmp_path / "whole", "tf-qknorm", settings=longer(200)), Silent())
    finally:
        torch.set_num_threads(before)
    assert contents(tmp_path / "killed/tf-qknorm-1") == contents(tmp_path / "whole/tf-qknorm-1")


@pytest.mark.parametrize("when", [1, 2, 3, 4])
def test_stopped_while_it_is_measured_it_measures_when_it_goes_on(
    tmp_path: Path, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first step, after four, after eight, and after the last."""
    train(training(tmp_path / "whole", "tf-silu"), Silent())
    validated, calls = Loop._validated, 0

    def stopping(loop: Loop, stopped: Callable[[], bool]) -> Values | None:
        nonlocal calls
        calls += 1
        if calls == when:
            interrupt()
        return validated(loop, stopped)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_validated", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(training(tmp_path / "stopped", "tf-silu"), Silent())
    states = [int(file.stem) for file in (tmp_path / "stopped/tf-silu-1/.state").glob("*.safetensors")]
    assert states == ([4 * (when - 1)] if when > 1 else [])
    train(training(tmp_path / "stopped", "tf-silu"), Silent())
    assert contents(tmp_path / "stopped/tf-silu-1") == contents(tmp_path / "whole/tf-silu-1")


CLOSED = "[.../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:28393"
"""As gloo has it."""


@pytest.mark.parametrize(
    "error", [RuntimeError(CLOSED), DistBackendError("NCCL error")], ids=["gloo", "nccl"]
)
@pytest.mark.parametrize(
    ("meeting", "kept"), [(1, []), (2, []), (4, [2]), (6, [4]), (7, [4]), (16, [12])], ids=str
)
def test_where_another_process_has_ended_every_whole_step_is_kept(
    tmp_path: Path, meeting: int, kept: list[int], error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They meet at every step, and where they are measured: before the first, after 4, 8 and 12."""
    train(training(tmp_path / "whole", "tf-silu"), Silent())
    reduce, meetings = Accelerator.reduce, 0

    def lost(self: Accelerator, *given: object, **options: object) -> object:
        nonlocal meetings
        meetings += 1
        if meetings == meeting:
            raise error
        return reduce(self, *given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Accelerator, "reduce", lost)
        with pytest.raises(PeerError, match="another process of this training ended"):
            train(training(tmp_path / "lost", "tf-silu"), Silent())
    states = (tmp_path / "lost/tf-silu-1/.state").glob("*.safetensors")
    assert [int(file.stem) for file in states] == kept
    train(training(tmp_path / "lost", "tf-silu"), Silent())
    assert contents(tmp_path / "lost/tf-silu-1") == contents(tmp_path / "whole/tf-silu-1")


def test_other_errors_of_torch_are_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Accelerator, "reduce", full)
    with pytest.raises(torch.OutOfMemoryError):
        train(training(tmp_path, "tf-silu"), Silent())


@pytest.mark.parametrize("end", [None, KeyboardInterrupt], ids=["alone", "ended"])
def test_who_has_lost_another_leaves_the_launcher_time_to_end_it(
    end: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if end is not None:
            raise end

    monkeypatch.setattr("audit.train.transformer.machine.time", SimpleNamespace(sleep=sleep))
    with pytest.raises(PeerError), Machine(CPU):
        raise PeerError("another one ended")
    with pytest.raises(UsageError), Machine(CPU):
        raise UsageError("its own doing")
    assert waited == [GRACE]


def test_what_is_finished_is_left_as_it_is(tmp_path: Path) -> None:
    class Refusing(Silent):
        def begin(self, run: Run, step: int, lost: bool) -> None:
            raise AssertionError(f"{run.name} is trained again")

    train(training(tmp_path, "tf-silu"), Silent())
    before = contents(tmp_path / "tf-silu-1")
    train(training(tmp_path, "tf-silu"), Refusing())
    assert contents(tmp_path / "tf-silu-1") == before


@pytest.mark.parametrize("lost", ["model.safetensors", "history.json", ".state/0012.safetensors"])
def test_what_is_lost_of_a_finished_run_is_made_again(tmp_path: Path, lost: str) -> None:
    train(training(tmp_path, "tf-silu"), Silent())
    before = contents(tmp_path / "tf-silu-1")
    (tmp_path / "tf-silu-1" / lost).unlink()
    train(training(tmp_path, "tf-silu"), Silent())
    assert contents(tmp_path / "tf-silu-1") == before


def test_fresh_trains_again_what_is_there(tmp_path: Path) -> None:
    train(training(tmp_path, "tf-silu"), Silent())
    other = replace(training(tmp_path, "tf-silu"), settings=replace(THIN, lr=0.02))
    with pytest.raises(OutputError, match=r"tf-silu-1 holds another run: its lr is 0\.01, not 0\.02"):
        train(other, Silent())
    train(other, Silent(), fresh=True)
    assert json.loads((tmp_path / "tf-silu-1/config.json").read_text())["training"]["lr"] == 0.02


def test_another_text_is_another_run(tmp_path: Path) -> None:
    train(training(tmp_path, "tf-silu"), Silent())
    other = replace(training(tmp_path, "tf-silu"), tokens=replace(tokens(), digest="d" * 64))
    with pytest.raises(OutputError, match="holds another run: its dataset_sha256 is"):
        train(other, Silent())


def test_a_state_of_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(training(tmp_path, "tf-silu"), Stopper(6))
    [state] = (tmp_path / "tf-silu-1/.state").glob("*.safetensors")
    save_file({"sum.0": torch.zeros(12, 12)}, state)
    with pytest.raises(OutputError, match=r"the state in .*tf-silu-1 is of something else"):
        train(training(tmp_path, "tf-silu"), Silent())


def test_a_full_disk_asks_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, content: bytes, *, durable: bool = False) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("audit.train.folder.write_file", full)
    with pytest.raises(OutputError, match="No space left on device: make room and repeat the command, or"):
        train(training(tmp_path, "tf-silu"), Silent())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (replace(THIN, sequence=480), "counting has 480 training tokens, a window 481: choose a shorter"),
        (replace(THIN, sequence=120), "counting has 120 validation tokens, a window 121: choose a shorter"),
    ],
)
def test_a_text_shorter_than_a_window_is_told(tmp_path: Path, settings: Settings, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train(training(tmp_path, "tf-silu", settings=settings), Silent())
    assert not list(tmp_path.glob("tf-*"))


# Divergence is a result


def test_a_loss_that_is_not_finite_ends_the_run_with_the_weights_that_stand(tmp_path: Path) -> None:
    asked = training(tmp_path, "tf-nonorm", settings=replace(THIN, lr=1e12, clip_norm=None, warmup=0))
    train(asked, Silent())
    folder = tmp_path / "tf-nonorm-1"
    history = json.loads((folder / "history.json").read_text())
    step = diverged(history)
    assert step is not None
    assert 2 <= step <= 4
    assert [one["step"] for one in history] == [0, step]
    assert history[-1]["loss"] is None
    assert history[-1]["ppl"] is None
    assert 0 <= history[-1]["Q_v1"] <= 1
    weights = load_file(folder / "model.safetensors")
    assert all(bool(torch.isfinite(one).all()) for one in weights.values())
    before = contents(folder)
    train(asked, Silent())
    assert contents(folder) == before


def test_a_gradient_that_is_not_finite_makes_no_update() -> None:
    [run] = runs("tf-silu")
    loop = Loop(run, tokens(), THIN, Machine(CPU))
    loop.advance()
    before = loop.network()
    loop._parameters["model.layers.2.mlp.down_proj.weight"].register_hook(
        lambda gradient: gradient * math.inf
    )
    loop.advance()
    assert loop.diverged
    assert loop.step == 1
    after = loop.network()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_projection_that_is_not_finite_has_no_continuity() -> None:
    [run] = runs("tf-silu")
    loop = Loop(run, tokens(), THIN, Machine(CPU))
    with torch.no_grad():
        loop._parameters["model.layers.1.self_attn.v_proj.weight"][0, 0] = math.nan
        loop._parameters["model.layers.1.mlp.gate_proj.weight"].zero_()
    found = measured(loop)
    for name in ("V_v1", "V_u2", "OV_v1", "Gate_v1", "valid_loss", "ppl"):
        assert found[name] is None, name
    for name in ("Q_v1", "O_u1", "Up_v2"):
        assert found[name] is not None, name


# What becomes of the weights


@pytest.mark.parametrize("name", list(BY_NAME))
def test_the_audit_reads_what_was_trained(tmp_path: Path, name: str) -> None:
    """The audit's continuity of the saved checkpoint is the last that was measured in training."""
    train(training(tmp_path, name), Silent())
    last = json.loads((tmp_path / f"{name}-1/history.json").read_text())[-1]
    report = audit_model(str(tmp_path / f"{name}-1"), AuditOptions(device="cpu"))
    assert report.model.family == "llama"
    for projection in (*PROJECTIONS, "OV"):
        audited = report.projections[projection].continuity
        for leader in ("v1", "u1"):
            expected = last[f"{projection}_{leader}"]
            assert getattr(audited, leader) == pytest.approx(expected, abs=1e-4), projection


def test_paces_add_up_on_the_same_device_only() -> None:
    before = Pace("cpu", 10, 2.0)
    assert Pace("cpu", 5, 1.0).after(before) == Pace("cpu", 15, 3.0)
    assert Pace("gpu", 5, 1.0).after(before) == Pace("gpu", 5, 1.0)
    assert Pace("cpu", 5, 1.0, 2).after(before) == Pace("cpu", 5, 1.0, 2)
    assert Pace("cpu", 5, 1.0).after(None) == Pace("cpu", 5, 1.0)


def test_a_batch_that_the_processes_cannot_share_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(CPU)
    monkeypatch.setattr(machine, "size", 3)
    asked = Training(runs("tf-silu"), tokens(), THIN, tmp_path, machine)
    with pytest.raises(
        UsageError, match="a batch of 4 on 3 processes: choose a --batch-size that they divide"
    ):
        asked.check()
