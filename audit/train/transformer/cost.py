"""What a run costs, said before it starts: parameters, tokens, floating point operations."""

from dataclasses import dataclass

from audit.train.transformer.model import parameter_count
from audit.train.transformer.settings import Run, Settings

BF16_PEAKS = (
    ("B200", 2250e12), ("H200", 989e12), ("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", 989e12),
    ("A100", 312e12), ("L40S", 362e12), ("L4", 121e12), ("A10G", 70e12), ("A10", 125e12),
)  # fmt: skip
"""Dense bf16 operations a second, from NVIDIA's data sheets; the first that a device's name contains."""


@dataclass(frozen=True)
class Cost:
    """What one run takes: parameters, tokens it sees, floating point operations."""

    parameters: int
    tokens: int
    flops: float

    @property
    def flops_a_token(self) -> float:
        """Operations that a token of the training takes."""
        return self.flops / self.tokens


def cost_of(run: Run, settings: Settings, vocabulary: int) -> Cost:
    """6 operations for each weight that a token meets, and 12 L T D for the scores and what they weigh.

    Forward one part, backward two; an embedding is looked up, not multiplied. The half of the scores that
    causality hides is counted, as Chowdhery et al. 2022 (PaLM, appendix B) count it.
    """
    shape = settings.shape(vocabulary)
    parameters = parameter_count(shape, run.ablation)
    met = parameters if run.ablation.tied else parameters - vocabulary * shape.width
    tokens = settings.steps * settings.batch_size * settings.sequence
    attention = 12 * shape.layers * shape.context * shape.width
    return Cost(parameters, tokens, tokens * float(6 * met + attention))


def least_memory(cost: Cost, settings: Settings, vocabulary: int, rows: int) -> float:
    """Bytes below which no run fits: weights, gradients and two moments, and the logits of some windows.

    Of the logits there are three at a time, in float32: themselves, their softmax and their gradient.
    """
    return 16.0 * cost.parameters + 12.0 * rows * settings.sequence * vocabulary


def peak_of(device_name: str) -> float | None:
    """bf16 operations a second that a GPU of this name can do at most; None where that is not known."""
    return next((peak for name, peak in BF16_PEAKS if name in device_name), None)
