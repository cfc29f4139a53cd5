"""A run's folder: OUT/<ablation>-<seed>/ with config.json, history.json, model.safetensors, and .state/.

config.json and model.safetensors are a checkpoint that the registry knows, there from the first measurement
on. A state is named by when it was, an epoch or a step, and written beside the one before, which goes
afterwards (of toy MLPs that are trained together, when all have written theirs): a run that is killed at any
moment goes on from the last state that is whole.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audit.disk import write_file, writing
from audit.errors import OutputError
from audit.lock import is_free
from audit.train.values import State, Values

CONFIG, HISTORY, WEIGHTS, PACE, STATE, LOCK = (
    "config.json", "history.json", "model.safetensors", "pace.json", ".state", ".state/lock",
)  # fmt: skip
OURS = {CONFIG, HISTORY, WEIGHTS, PACE, STATE}
"""All that a run's folder holds; one with anything else in it is left alone."""

_HALF = re.compile(
    r"\.(config\.json|history\.json|pace\.json|model\.safetensors|[0-9]{4,}\.safetensors)\.\w{8}"
)
"""What was being written when a process died."""

_STATE = re.compile(r"[0-9]{4,}\.safetensors")


@dataclass(frozen=True)
class Pace:
    """How fast a run went: seconds for so many steps, the first after each start apart; on what."""

    device: str
    steps: int
    seconds: float
    processes: int = 1

    def after(self, earlier: "Pace | None") -> "Pace":
        """Together with what was noted before, if that was on the same device."""
        if earlier is None or (earlier.device, earlier.processes) != (self.device, self.processes):
            return self
        return replace(self, steps=self.steps + earlier.steps, seconds=self.seconds + earlier.seconds)


class RunFolder:
    """Where one run's files are; `config` says which run it is, and all that its numbers follow from.

    `entries`: how many measurements of a run there must be for it to go on from an epoch or a step.
    """

    def __init__(
        self, path: Path, config: Mapping[str, Any], entries: Callable[[int], int] = lambda epoch: epoch + 1
    ) -> None:
        """Nothing is read or written yet."""
        self.path = path
        self._config = config
        self._entries = entries

    def check(self, *, fresh: bool = False) -> None:
        """Raise OutputError where the folder holds something else than a run, or another run.

        With `fresh` another run may be there: it goes.
        """
        with writing(self.path):
            if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
                raise OutputError(f"{self.path} is no folder", "name another place with --out")
            names = {file.name for file in self.path.iterdir()} if self.path.is_dir() else set()
        others = {name for name in names - OURS if not _HALF.fullmatch(name)}
        if (self.path / STATE).is_symlink():
            others.add(STATE)
        if others:
            raise OutputError(
                f"{self.path} holds something other than a run ({min(others)})",
                "name another place with --out",
            )
        if names and not fresh and (other := self._difference()):
            raise OutputError(
                f"{self.path} holds another run: {other}", "name another place with --out, or add --fresh"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out; raises OutputError where another process trains this run."""
        with writing(self.path):
            (self.path / STATE).mkdir(parents=True, exist_ok=True)
            file = (self.path / LOCK).open("ab")
        with file:
            if not is_free(file):
                raise OutputError(
                    f"another process is training {self.path}",
                    "wait for it, or name another place with --out",
                )
            self._sweep()
            yield

    def clear(self) -> None:
        """Forget everything but the lock, and last of all which run it was."""
        with writing(self.path):
            for file in (
                *self._states().values(),
                *(self.path / name for name in (HISTORY, WEIGHTS, PACE, CONFIG)),
            ):
                file.unlink(missing_ok=True)

    def history(self) -> list[Values]:
        """What was measured, from before the first update on; empty where nothing was."""
        return history_in(self.path)

    def kept(self) -> set[int]:
        """The epochs or steps that there is a state of, and all that was measured until then."""
        measured = len(self.history())
        return {when for when in self._states() if self._entries(when) <= measured}

    def state(self, when: int) -> State:
        """The state after an epoch or a step; raises OutputError where it is damaged."""
        file = self._states()[when]
        try:
            with safe_open(file, framework="pt") as opened:
                return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{file} cannot be read: {error}", "--fresh trains the run again") from error

    def is_settled(self) -> bool:
        """Whether everything is there that a run leaves when it ends, and no earlier state."""
        return len(self._states()) == 1 and bool(self.kept()) and _is_whole(self.path / WEIGHTS)

    def write(self, when: int, history: Sequence[Values], state: State, parameters: State) -> None:
        """Write all of a run after an epoch or a step, so that it outlives the process; raises OutputError.

        The state last: it stands for the whole.
        """
        with writing(self.path):
            write_file(self.path / CONFIG, json.dumps(self._config, indent=1).encode())
            write_file(self.path / HISTORY, json.dumps(history, indent=1).encode(), durable=True)
            write_file(self.path / WEIGHTS, _packed(parameters), durable=True)
            write_file(self._state(when), _packed(state), durable=True)

    def write_pace(self, pace: Pace) -> None:
        """Write how fast the run went: beside its numbers, which do not depend on it."""
        with writing(self.path):
            write_file(self.path / PACE, json.dumps(asdict(pace), indent=1).encode())

    def adopt(self, other: "RunFolder") -> None:
        """Take over what another run of the same recipe has come to, the state last."""
        with writing(self.path):
            write_file(self.path / CONFIG, json.dumps(self._config, indent=1).encode())
            for name in (HISTORY, WEIGHTS):
                write_file(self.path / name, (other.path / name).read_bytes(), durable=True)
            for when, file in other._states().items():
                write_file(self._state(when), file.read_bytes(), durable=True)

    def forget_before(self, when: int) -> None:
        """Remove the earlier states."""
        with writing(self.path):
            for earlier, file in self._states().items():
                if earlier < when:
                    file.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what was half written; only under the lock."""
        with writing(self.path):
            for folder in (self.path, self.path / STATE):
                for file in folder.iterdir():
                    if _HALF.fullmatch(file.name):
                        file.unlink()

    def _states(self) -> dict[int, Path]:
        folder = self.path / STATE
        files = sorted(folder.glob("[0-9]*.safetensors"))
        return {int(file.stem): file for file in files if _STATE.fullmatch(file.name)}

    def _state(self, when: int) -> Path:
        return self.path / STATE / f"{when:04d}.safetensors"

    def _difference(self) -> str | None:
        """How the run that is there differs from this one, None where it does not."""
        there = config_in(self.path)
        if there is None:
            # a process that died before its first state was kept leaves no config
            return None if not (self.path / HISTORY).exists() else "its config.json is damaged"
        return next(_differences(there, self._config), None)


def _is_whole(weights: Path) -> bool:
    try:
        with safe_open(weights, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def check_root(out: Path) -> None:
    """Raise OutputError where a folder of runs cannot be: it is a run itself, or no folder."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is no folder", "name another place with --out")
    if (out / CONFIG).exists():
        raise OutputError(f"{out} is a checkpoint itself", "name another place with --out")


def history_in(folder: Path) -> list[Values]:
    """What was measured of the run in a folder; empty where nothing was, or it is not as it was written."""
    told = _json_in(folder / HISTORY)
    known = isinstance(told, list) and all(isinstance(one, dict) for one in told)
    return told if known and all(map(_is_measured, (value for one in told for value in one.values()))) else []


def pace_in(folder: Path) -> Pace | None:
    """How fast the run in a folder went; None where that was not noted."""
    try:
        return TypeAdapter(Pace).validate_python(_json_in(folder / PACE))
    except ValidationError:
        return None


def config_in(folder: Path) -> Mapping[str, Any] | None:
    """The config of the run in a folder; None where there is none."""
    told = _json_in(folder / CONFIG)
    return told if isinstance(told, dict) else None


def _json_in(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _is_measured(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and isfinite(value))


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for key in {**wanted, **there}:
        is_, should = there.get(key), wanted.get(key)
        if isinstance(is_, Mapping) and isinstance(should, Mapping):
            yield from _differences(is_, should)
        elif is_ != should:
            yield f"its {key} is {is_!r}, not {should!r}"


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    packed: bytes = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    return packed
