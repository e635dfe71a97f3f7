"""Loss functions: value, and derivative at the output layer."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpunn.activations import HIDDEN, Array, sigmoid, softmax_row
from gpunn.errors import ConfigurationError
from gpunn.kernels.formulas import losses as formulas
from gpunn.kernels.formulas.activations import Function, Row


@dataclass(frozen=True)
class Loss:
    """A loss C, the mean over the batch of a loss per example.

    `A`, `Z` and `Y`, all (m, n_L), are a^L, z^L (the logits) and the targets.
    """

    name: str
    outputs: tuple[str, ...]
    """Output activations that the loss supports."""
    from_logits: bool
    """Whether compiled kernels compute the loss from z^L, with the identity as the last layer's activation."""
    largest: float = math.inf
    """What the loss of an output is at most, if it is clipped."""

    def computed(self, functions: Sequence[str]) -> tuple[str, ...]:
        """Return the activation functions that compiled kernels apply to layers with `functions`."""
        return (*functions[:-1], "identity" if self.from_logits else functions[-1])

    def of_examples(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:
        """Return the loss of each example, (m,)."""
        row = softmax_row(xp, Z) if self.name in formulas.NEEDS_ROW else NO_ROW
        losses: Array = _formula(xp, self.name, None).value(Z if self.from_logits else A, Y, row)
        if self.largest < math.inf:
            losses = xp.minimum(losses, self.largest)
        return losses.sum(axis=1)

    def value(self, xp: Any, A: Array, Z: Array, Y: Array) -> Array:
        """Return C, a 0-d array."""
        return self.of_examples(xp, A, Z, Y).mean()

    def output_delta(self, xp: Any, A: Array, Y: Array, slope: Function) -> Array:
        """Return delta^L = dC / dz^L, (m, n_L); `slope` is f' of the output layer, in terms of its activations."""
        # Divided by the batch size here once, not in every gradient.
        return _formula(xp, self.name, slope).gradient(A, Y, 1 / len(A))


NO_ROW = Row(0.0, 1.0, 0.0)


@functools.cache
def _formula(xp: Any, name: str, slope: Function | None) -> formulas.Loss:
    """Return the formula of a loss on arrays of `xp`; `slope` is only needed for gradients."""
    operations = formulas.Operations(
        number=float,  # adopts the precision of the array operand
        minimum=xp.minimum,
        maximum=xp.maximum,
        exp=xp.exp,
        log1p=xp.log1p,
        sigmoid=functools.partial(sigmoid, xp),
    )
    return formulas.LOSSES[name](operations, slope or _no_slope)


def _no_slope(_: Array) -> Array:
    raise NotImplementedError("only gradients take a slope")


SQUARED_ERROR = Loss("squared_error", HIDDEN, from_logits=False)
"""C = mean of sum_j (a_j - y_j)^2; delta^L = 2 (a - y) f'(z) / m."""

BINARY_CROSS_ENTROPY = Loss("binary_cross_entropy", ("sigmoid",), from_logits=True)
"""C = -mean of sum_j (y_j ln a_j + (1 - y_j) ln(1 - a_j)); delta^L = (a - y) / m, as sigma' cancels.

Outputs are independent binary decisions. Source: M. Nielsen, "Neural Networks and Deep Learning", chapter 3, equations
63 and 68. Computed from z as max(z, 0) - y z + ln(1 + exp(-|z|)), it stays exact when a rounds to 0 or 1.
"""

CROSS_ENTROPY = Loss("cross_entropy", ("softmax",), from_logits=True)
"""C = -mean of sum_j y_j ln a_j, with the softmax a; delta^L = (a - y) / m.

Outputs are the probabilities of mutually exclusive classes. Source: as above, equations 80 and 81. Computed from z with
ln a_j = z_j - ln sum_k exp(z_k), it stays exact when a rounds to 0.
"""

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (SQUARED_ERROR, BINARY_CROSS_ENTROPY, CROSS_ENTROPY)}


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


def smoothed(targets: NDArray[Any], n_outputs: int, share: float, dtype: DTypeLike) -> NDArray[Any]:
    """Return rows of `dtype` (n, `n_outputs`), in which a `share` of each target is spread evenly over all classes.

    `targets` are classes (n,), or for one output rows of 0 and 1, (n, 1). Source: Szegedy et al., "Rethinking the
    Inception architecture for computer vision", 2016, section 7.
    """
    rows = np.eye(n_outputs)[targets] if targets.ndim == 1 else targets.astype(np.float64)
    return ((1 - share) * rows + share / max(2, n_outputs)).astype(dtype)
