"""Defaults of training: how many epochs, what batch size, and the learning rate that suits a network.

A rate is too high where a step overshoots: for gradient descent, above 2 / lambda, lambda being the greatest curvature
of the loss (LeCun et al., "Efficient BackProp", 1998, section 5.1). Above it squared errors saturate their neurons and
stay there, and nothing is learned. Two curvatures matter in networks of the kinds here:

- that of the output layer's weights, k n / 4 for n hidden neurons, whose squares average 1/4; k is the curvature of
  the squared error in an output's z, 2 f'^2. It is 2 for outputs that aren't sigmoid. Sigmoid outputs reach 1/8, but
  only at 1/2; half of that is taken;
- that of the first layer's weights, which grows with the inputs. It doesn't follow from sizes alone; the rates in
  `_HIGHEST` were measured with 784 inputs.
"""

from collections.abc import Sequence

from gpunn.optimizers import SGD, Optimizer

EPOCHS = 15
BATCH_SIZE = 32

_PIXELS = 784
"""Inputs with which the rates were measured; with more of them a step goes further."""

_ADAM = 1e-3
"""What Kingma and Ba propose: Adam's steps don't depend on how large gradients are."""

_HIGHEST = {"sigmoid": (1.0, 0.2), "cross_entropy": (0.5, 0.1), "linear": (0.1, 0.01)}
"""The rate of networks whose hidden neurons are sigmoid, whose slopes are at most 1/4, and that of others."""


def default_batch_size(n_examples: int) -> int:
    """Return `BATCH_SIZE`, or all examples where there are fewer."""
    return min(BATCH_SIZE, n_examples)


def default_learning_rate(sizes: Sequence[int], functions: Sequence[str], loss: str, optimizer: Optimizer) -> float:
    """Return a learning rate, of two digits at most, that a network trained like this bears.

    `sizes` are n_0 to n_L, `functions` the activation functions of all layers but the inputs, `loss` the name of one of
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
    # A velocity adds up what 1 / (1 - momentum) gradients say.
    return _rounded_down(rate * (1 - optimizer.momentum))


def _rounded_down(rate: float) -> float:
    """Return the nearest of 1, 2, 5, 10, ... times a power of ten that isn't above `rate`."""
    digits = f"{rate * (1 + 1e-9):e}"
    first, exponent = float(digits[0]), int(digits.partition("e")[2])
    return (5 if first >= 5 else 2 if first >= 2 else 1) * 10.0**exponent
