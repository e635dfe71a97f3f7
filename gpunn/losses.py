"""Losses: what training makes small. Each is given once, by its value and by its derivative at the output layer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, final

from gpunn.activations import HIDDEN, Array
from gpunn.errors import ConfigurationError
from gpunn.kernels.formulas.activations import Function


class Loss(ABC):
    """C = mean over the batch of what each example contributes.

    `A`, `Z` and `Y`, all (m, n_L), are a^L, z^L (the logits) and the targets.
    """

    name: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    """The activation functions of the output layer that it goes with."""
    from_logits: ClassVar[bool]
    """Whether compiled kernels compute it from z^L, and so have the identity for the last layer's function."""
    factor: ClassVar[float]
    """What its derivative has that kernels are given with the step: the 2 of a square."""

    def computed(self, functions: Sequence[str]) -> tuple[str, ...]:
        """Return the activation functions that compiled kernels compute, of layers that have these."""
        return (*functions[:-1], "identity" if self.from_logits else functions[-1])

    @abstractmethod
    def of_examples(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:
        """Return what each example contributes, (m,)."""

    def value(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:
        """Return C, a number without dimensions."""
        return self.of_examples(xp, A, Z, Y).mean()

    @abstractmethod
    def output_delta(self, A: Array, Y: Array, slope: Function) -> Array:
        """Return delta^L = dC / dz^L, (m, n_L); `slope` is f' of the output layer, in terms of its activations."""


@final
class SquaredError(Loss):
    """C = mean of sum_j (a_j - y_j)^2; delta^L = 2 (a - y) f'(z) / m."""

    name = "squared_error"
    outputs = HIDDEN
    from_logits = False
    factor = 2.0

    def of_examples(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:  # noqa: ARG002
        error = A - Y
        return (error * error).sum(axis=1)

    def output_delta(self, A: Array, Y: Array, slope: Function) -> Array:
        # The average over the batch enters here, once, instead of into every gradient.
        return 2 / len(A) * (A - Y) * slope(A)


@final
class BinaryCrossEntropy(Loss):
    """C = -mean of sum_j (y_j ln a_j + (1 - y_j) ln(1 - a_j)); delta^L = (a - y) / m, as sigma' cancels.

    Each output answers a question of its own, with yes or no. Source: M. Nielsen, "Neural Networks and Deep Learning",
    chapter 3, equations 63 and 68. Computed from z, as max(z, 0) - y z + ln(1 + exp(-|z|)), it is right also where a
    rounds to 0 or 1.
    """

    name = "binary_cross_entropy"
    outputs = ("sigmoid",)
    from_logits = True
    factor = 1.0

    def of_examples(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:  # noqa: ARG002
        return (xp.maximum(Z, 0) - Y * Z + xp.log1p(xp.exp(-abs(Z)))).sum(axis=1)

    def output_delta(self, A: Array, Y: Array, slope: Function) -> Array:  # noqa: ARG002 - it has cancelled out
        return (A - Y) / len(A)


@final
class CrossEntropy(Loss):
    """C = -mean of sum_j y_j ln a_j, with the softmax a; delta^L = (a - y) / m.

    The outputs are the probabilities of classes of which one is right. Source: as above, equations 80 and 81. Computed
    from z, with ln a_j = z_j - ln sum_k exp(z_k), it is right also where a rounds to 0.
    """

    name = "cross_entropy"
    outputs = ("softmax",)
    from_logits = True
    factor = 1.0

    def of_examples(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:  # noqa: ARG002
        shifted = Z - Z.max(axis=1, keepdims=True)
        return xp.log(xp.exp(shifted).sum(axis=1)) - (Y * shifted).sum(axis=1)

    def output_delta(self, A: Array, Y: Array, slope: Function) -> Array:  # noqa: ARG002 - softmax's, and taken in
        return (A - Y) / len(A)


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (SquaredError(), BinaryCrossEntropy(), CrossEntropy())}


def loss_for(output: str, name: str | None = None) -> str:
    """Return `name`, or where it is None the loss that goes with the output layer's activation function `output`.

    Raises `ConfigurationError` where the two don't go together.
    """
    if name is None:
        return "cross_entropy" if output == "softmax" else "squared_error"
    if name not in LOSSES:
        raise ConfigurationError(f"found the loss {name!r}, expected {', '.join(LOSSES)}")
    if output not in LOSSES[name].outputs:
        raise ConfigurationError(
            f"found the loss {name} with the output activation {output}: expected {', '.join(LOSSES[name].outputs)}"
        )
    return name
