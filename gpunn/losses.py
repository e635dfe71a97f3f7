"""Loss functions: value, and derivative at the output layer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, final

from gpunn.activations import HIDDEN, Array
from gpunn.errors import ConfigurationError
from gpunn.kernels.formulas.activations import Function


class Loss(ABC):
    """A loss C, the mean over the batch of a loss per example.

    `A`, `Z` and `Y`, all (m, n_L), are a^L, z^L (the logits) and the targets.
    """

    name: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    """Output activations that the loss supports."""
    from_logits: ClassVar[bool]
    """Whether compiled kernels compute the loss from z^L, with the identity as the last layer's activation."""
    factor: ClassVar[float]
    """Constant factor of the derivative (2 for squared error); kernels fold it into the step size."""

    def computed(self, functions: Sequence[str]) -> tuple[str, ...]:
        """Return the activation functions that compiled kernels apply to layers with `functions`."""
        return (*functions[:-1], "identity" if self.from_logits else functions[-1])

    @abstractmethod
    def of_examples(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:
        """Return the loss of each example, (m,)."""

    def value(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:
        """Return C, a 0-d array."""
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
        # Divided by the batch size here once, not in every gradient.
        return 2 / len(A) * (A - Y) * slope(A)


@final
class BinaryCrossEntropy(Loss):
    """C = -mean of sum_j (y_j ln a_j + (1 - y_j) ln(1 - a_j)); delta^L = (a - y) / m, as sigma' cancels.

    Outputs are independent binary decisions. Source: M. Nielsen, "Neural Networks and Deep Learning", chapter 3,
    equations 63 and 68. Computed from z as max(z, 0) - y z + ln(1 + exp(-|z|)), it stays exact when a rounds to 0 or 1.
    """

    name = "binary_cross_entropy"
    outputs = ("sigmoid",)
    from_logits = True
    factor = 1.0

    def of_examples(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:  # noqa: ARG002
        return (xp.maximum(Z, 0) - Y * Z + xp.log1p(xp.exp(-abs(Z)))).sum(axis=1)

    def output_delta(self, A: Array, Y: Array, slope: Function) -> Array:  # noqa: ARG002 - cancels
        return (A - Y) / len(A)


@final
class CrossEntropy(Loss):
    """C = -mean of sum_j y_j ln a_j, with the softmax a; delta^L = (a - y) / m.

    Outputs are the probabilities of mutually exclusive classes. Source: as above, equations 80 and 81. Computed from z
    with ln a_j = z_j - ln sum_k exp(z_k), it stays exact when a rounds to 0.
    """

    name = "cross_entropy"
    outputs = ("softmax",)
    from_logits = True
    factor = 1.0

    def of_examples(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:  # noqa: ARG002
        shifted = Z - Z.max(axis=1, keepdims=True)
        return xp.log(xp.exp(shifted).sum(axis=1)) - (Y * shifted).sum(axis=1)

    def output_delta(self, A: Array, Y: Array, slope: Function) -> Array:  # noqa: ARG002 - softmax's, cancels
        return (A - Y) / len(A)


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (SquaredError(), BinaryCrossEntropy(), CrossEntropy())}


def loss_for(output: str, name: str | None = None) -> str:
    """Return `name`, or if it is None the default loss for the output activation `output`.

    Raises `ConfigurationError` if the loss doesn't support the output activation.
    """
    if name is None:
        return "cross_entropy" if output == "softmax" else "squared_error"
    if name not in LOSSES:
        raise ConfigurationError(f"loss must be one of {', '.join(LOSSES)}, got {name!r}")
    if output not in LOSSES[name].outputs:
        raise ConfigurationError(
            f"loss {name} needs output activation {' or '.join(LOSSES[name].outputs)}, got {output}"
        )
    return name
