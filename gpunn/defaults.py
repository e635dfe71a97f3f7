"""Training defaults: epochs, batch size, and a learning rate derived from the network.

Gradient descent overshoots above a learning rate of 2 / lambda, lambda being the largest curvature of the loss (LeCun
et al., "Efficient BackProp", 1998, section 5.1). With squared errors the neurons then saturate and learning stops. Two
curvatures matter here:

- of the output layer's weights: k n / 4 for n hidden neurons, whose squared activations average 1/4; k is the
  curvature of the squared error in an output's z, 2 f'^2. k = 2 for outputs other than sigmoid. For sigmoid outputs
  k is at most 1/8, at an output of 1/2; half of that is used;
- of the first layer's weights, which grows with the inputs and doesn't follow from the sizes alone; the rates in
  `_HIGHEST` were measured with 784 inputs.
"""

from collections.abc import Sequence

from gpunn.optimizers import SGD, Optimizer

EPOCHS = 15
BATCH_SIZE = 32

_PIXELS = 784
"""Number of inputs for which the rates were measured; more inputs need lower rates."""

_ADAM = 1e-3
"""Kingma and Ba's default; Adam's steps don't depend on the scale of the gradients."""

_HIGHEST = {"sigmoid": (1.0, 0.2), "cross_entropy": (0.5, 0.1), "linear": (0.1, 0.01)}
"""Highest learning rates with sigmoid hidden neurons (slope at most 1/4), and with others."""


def default_batch_size(n_examples: int) -> int:
    """Return `BATCH_SIZE`, or `n_examples` if that is smaller."""
    return min(BATCH_SIZE, n_examples)


def default_learning_rate(sizes: Sequence[int], functions: Sequence[str], loss: str, optimizer: Optimizer) -> float:
    """Return a stable learning rate, rounded down to 1, 2 or 5 times a power of ten.

    `sizes` are n_0 to n_L, `functions` the activation functions of all layers but the input, `loss` a name from
    `gpunn.losses`.
    """
    if not isinstance(optimizer, SGD):
        return _ADAM
    *hidden, output = functions
    kind = "cross_entropy" if loss != "squared_error" else "sigmoid" if output == "sigmoid" else "linear"
    gentle, steep = _HIGHEST[kind]
    rate = gentle if all(name == "sigmoid" for name in hidden) else steep
    rate *= min(1.0, _PIXELS / sizes[0])
    if loss == "squared_error" and hidden:
        curvature = (1 / 16 if output == "sigmoid" else 2) * sizes[-2] / 4
        rate = min(rate, 1 / curvature)
    # Momentum multiplies the effective step by 1 / (1 - momentum).
    return _rounded_down(rate * (1 - optimizer.momentum))


def _rounded_down(rate: float) -> float:
    """Round `rate` down to 1, 2 or 5 times a power of ten."""
    digits = f"{rate * (1 + 1e-9):e}"
    first, exponent = float(digits[0]), int(digits.partition("e")[2])
    return (5 if first >= 5 else 2 if first >= 2 else 1) * 10.0**exponent
