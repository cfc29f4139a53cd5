"""Train one small transformer step by step, and measure it as it goes."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from audit.train.text import Tokens
from audit.train.transformer.machine import Machine, reaching
from audit.train.transformer.measure import continuities
from audit.train.transformer.model import Transformer
from audit.train.transformer.settings import BETAS, FLOOR, Run, Settings
from audit.train.transformer.windows import Windows, spread
from audit.train.values import State, Values

LARGEST = 700.0
"""A loss above it has a perplexity that no float holds."""

LOSS_SUM = "loss_sum"
"""What the state calls the sum of the losses since the last measurement."""


class Loop:
    """A run at some step: its model, its optimiser, and the text in the order in which it comes."""

    def __init__(self, run: Run, tokens: Tokens, settings: Settings, machine: Machine) -> None:
        """At step 0; raises ValueError for a text shorter than a window."""
        self.step = 0
        self.diverged = False
        self._run, self._settings, self._machine = run, settings, machine
        self._windows = Windows(tokens.train, settings.sequence, run.seed)
        self._valid = spread(tokens.valid, settings.sequence, settings.valid_tokens)
        shape = settings.shape(tokens.vocabulary)
        self._model = Transformer(shape, run.ablation, run.seed, settings.init_std).to(machine.device)
        self._parameters = dict(self._model.named_parameters())
        self._trained = machine.prepared(self._model)
        self._optimiser = torch.optim.AdamW(
            list(_groups(self._model)),
            lr=settings.lr,
            betas=BETAS,
            weight_decay=settings.weight_decay,
            fused=machine.device.type in ("cpu", "cuda"),
        )
        self._loss_sum = 0.0
        self._measured_at: int | None = None

    @property
    def is_due(self) -> bool:
        """Whether the run is to be measured before it goes on."""
        due = self.diverged or self._settings.is_measured(self.step)
        return due and self._measured_at != self.step + self.diverged

    def advance(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Make a step; False where `stopped` says so, on any process, and the step is not made.

        A loss or a gradient that is not finite makes no update either: the run has diverged. Raises PeerError
        where another process has ended; the step is not made then.
        """
        with reaching():
            found = self._backward(stopped)
        if found is None:
            return False
        loss, norm = found
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.diverged = True
            return True
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self._settings)
        self._optimiser.step()
        self.step += 1
        self._loss_sum += loss
        return True

    def measured(self, stopped: Callable[[], bool] = lambda: False) -> Values | None:
        """What is measured at this step, None where told to stop; on other ranks than 0 the losses alone.

        `loss` is the mean over the steps since the last measurement, absent before the first step. Of a run
        that has diverged, the losses are None, the step is the one that was not made, and the continuity is
        that of the weights that stand.
        """
        values: Values = {"step": self.step + self.diverged}
        if self.diverged:
            values |= {"loss": None, "valid_loss": None, "ppl": None}
        else:
            validated = self._validated(stopped)
            if validated is None:
                return None
            if steps := self.step - (self._measured_at or 0):
                values["loss"] = self._loss_sum / steps
            values |= validated
        self._loss_sum, self._measured_at = 0.0, self.step + self.diverged
        values["lr"] = learning_rate(max(0, self.step - 1), self._settings)
        if self._machine.leads:
            values |= continuities(self._parameters, self._run, self._settings)
        return values

    def network(self) -> State:
        """The parameters, as the checkpoint has them."""
        return {name: one.detach().cpu().clone() for name, one in self._parameters.items()}

    def state(self) -> State:
        """All that the run goes on from, on the CPU."""
        told = {name: one.detach().cpu().clone() for name, one in self._tensors()}
        return {**told, LOSS_SUM: torch.tensor(self._loss_sum, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor], step: int, measured_at: int) -> None:
        """Go on from rank 0's state after so many steps; raises KeyError or RuntimeError for another's."""
        self.step = step
        self._measured_at = measured_at
        for parameter in self._parameters.values():
            self._optimiser.state[parameter] = {
                "step": torch.tensor(float(step), device=self._counter_device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        with torch.no_grad():
            for name, tensor in self._tensors():
                if self._machine.leads:
                    tensor.copy_(state[name])
                tensor.copy_(self._machine.spread(tensor))
        self._loss_sum = self._machine.told(float(state[LOSS_SUM]) if self._machine.leads else None)

    @property
    def _counter_device(self) -> torch.device:
        device = self._machine.device
        return device if device.type == "cuda" else torch.device("cpu")

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._parameters.items():
            yield name, parameter
            moments = self._optimiser.state.get(parameter, {})
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in moments:
                    yield f"{moment}.{name}", moments[moment]

    def _backward(self, stopped: Callable[[], bool]) -> tuple[float, float] | None:
        """The batch's mean loss and its gradient's norm, before it was clipped; None where told to stop."""
        settings, machine = self._settings, self._machine
        rows = self._windows.batch(self.step, settings.batch_size, machine.share(settings.batch_size))
        self._optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=machine.device)
        parts = torch.split(rows, machine.rows_at_a_time(len(rows)))
        for part in parts[:-1]:
            if machine.size == 1 and stopped():  # several processes stop together, at the end of a step
                return None
            with machine.without_averaging(self._trained):
                total += self._add_gradient(part, len(rows))
        total += self._add_gradient(parts[-1], len(rows))
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), settings.clip_norm or math.inf)
        told = machine.mean(torch.stack([total, norm.to(total.dtype), total.new_tensor(float(stopped()))]))
        loss, length, halted = told.tolist()
        return None if halted else (loss, length)

    def _add_gradient(self, part: Tensor, rows: int) -> Tensor:
        """Add a part's share of the mean loss to the gradients, and give it back."""
        loss = self._loss(self._trained, part) * (len(part) / rows)
        torch.autograd.backward(loss)
        return loss.detach()

    def _loss(self, model: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
        """Mean negative log-likelihood of each next token, in nats; windows [B, T + 1]."""
        windows = windows.to(self._machine.device)
        with self._machine.autocast(bf16=self._settings.precision == "bf16"):
            logits = model(windows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())

    def _validated(self, stopped: Callable[[], bool]) -> Values | None:
        """Loss and perplexity on the validation windows, each process a share; None where told to stop."""
        machine = self._machine
        rows = self._valid[machine.share(len(self._valid))]
        total = torch.zeros((), dtype=torch.float32, device=machine.device)
        with torch.no_grad():
            for part in torch.split(rows, machine.rows_at_a_time(self._settings.batch_size)):
                if machine.size == 1 and stopped():
                    return None
                if len(part):  # there may be more processes than windows
                    total += self._loss(self._model, part) * len(part)
        loss = float(machine.mean(total)) * machine.size / len(self._valid)
        if not math.isfinite(loss):
            return {"valid_loss": None, "ppl": None}
        return {"valid_loss": loss, "ppl": math.exp(loss) if loss < LARGEST else None}


def _groups(model: Transformer) -> Iterator[dict[str, Any]]:
    """Matrices, which decay, and gains, which do not."""
    gains = [one for one in model.parameters() if one.dim() < 2]
    yield {"params": [one for one in model.parameters() if one.dim() == 2]}
    if gains:
        yield {"params": gains, "weight_decay": 0.0}


def learning_rate(step: int, settings: Settings) -> float:
    """The rate of the update after `step` others: a linear rise over the warm-up, then the schedule."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))
