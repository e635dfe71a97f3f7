r"""The equations of a multi-layer perceptron, for the arrays of any namespace `xp` (NumPy, CuPy).

    z^l = W^l a^(l-1) + b^l,  a^l = f(z^l)                forward; f may differ by layer, sigma by default,
                                                          sigma(z) = 1 / (1 + exp(-z))
    C   = mean over the batch of sum_j (a^L_j - y_j)^2    squared error; for other losses see `gpunn.losses`
    delta^L = 2 (a^L - y) * f'(z^L)                       backward, with sigma'(z) = a (1 - a)
    delta^l = (W^(l+1)^T delta^(l+1)) * f'(z^l)
    dC/dW^l = delta^l (a^(l-1))^T,   dC/db^l = delta^l    averaged over the batch

A batch of m examples is row-major, `X` of shape (m, n_0), so column vectors of the formulas are rows here and
`W a` reads `A @ W.T`. Source: M. Nielsen, "Neural Networks and Deep Learning", chapter 2, equations BP1 to BP4.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunn.activations import Array, activation, sigmoid, softmax_row
from gpunn.losses import LOSSES, Loss

__all__ = [
    "Array",
    "backpropagate",
    "decided",
    "forward",
    "is_csr",
    "mean",
    "mean_logits",
    "outputs",
    "propagate",
    "scale",
    "sigmoid",
]

SQUARED_ERROR = LOSSES["squared_error"]

CHUNK = 1 << 22
"""Activations that `outputs` computes at a time."""


def scale(images: Array, dtype: np.typing.DTypeLike) -> Array:
    """Scale grey levels (m, n_0), uint8, to [0, 1] in `dtype`."""
    X = images.astype(dtype)
    X /= 255
    return X


def is_csr(X: Any) -> bool:
    """Whether `X` is a SciPy matrix in compressed sparse row form; nothing else has to import SciPy."""
    return getattr(X, "format", None) == "csr"


def decided(output: Array) -> Array:
    """Return the predicted classes (m,) of output activations (m, n_L).

    That is the index of the largest output; a single output predicts 1 if it is above 0.5, otherwise 0.
    """
    return output.argmax(axis=1) if output.shape[1] > 1 else (output[:, 0] > 0.5).astype(np.intp)


class Pass(NamedTuple):
    """Intermediate results of a forward pass."""

    activations: list[Array]
    """Activations a^0 (m, n_0) to a^L (m, n_L)."""
    inputs: list[Array]
    """Inputs of each layer: the activations of the layer below, after dropout."""
    logits: Array
    """z^L, (m, n_L)."""


def propagate(
    xp: Any,
    weights: Sequence[Array],
    biases: Sequence[Array],
    X: Array,
    *,
    functions: Sequence[str] = (),
    masks: Sequence[Array] = (),
) -> Pass:
    """Return the forward pass of `X` (m, n_0).

    `functions` are the activation function names of all layers but the input; all sigmoid if empty. `masks` are
    dropout masks, one for each hidden layer and shaped like its activations, or none.
    """
    A, inputs = [X], [X]
    for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
        activate, _ = activation(xp, functions[layer] if functions else "sigmoid")
        Z = inputs[-1] @ W.T
        Z += b
        # The activation may overwrite Z.
        logits = Z.copy() if layer == len(weights) - 1 else None
        A.append(activate(Z))
        inputs.append(A[-1] * masks[layer] if layer < len(masks) else A[-1])
    return Pass(A, inputs, logits)


def forward(
    xp: Any, weights: Sequence[Array], biases: Sequence[Array], X: Array, functions: Sequence[str] = ()
) -> list[Array]:
    """Return the activations of every layer, a^0 = `X` (m, n_0) to a^L (m, n_L); `functions` as in `propagate`."""
    return propagate(xp, weights, biases, X, functions=functions).activations


def outputs(xp: Any, weights: Sequence[Array], biases: Sequence[Array], X: Any, functions: Sequence[str] = ()) -> Array:
    """Return a^L (n, n_L), computed for a part of `X` at a time, so that hidden layers take little memory.

    `X` (n, n_0) is an array of `xp`, or a sparse matrix in CSR form on the host; all are of one floating dtype.
    """
    inputs = 0 if is_csr(X) else weights[0].shape[1]
    rows = max(1, CHUNK // (inputs + sum(map(len, biases))))
    found = xp.empty((X.shape[0], len(biases[-1])), biases[-1].dtype)
    # Overflowing exponentials still give the right result.
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, X.shape[0], rows):
            own = slice(first, first + rows)
            found[own] = forward(xp, weights, biases, X[own], functions)[-1]
    return found


def mean(found: Sequence[Array]) -> Array:
    """Return the mean of the output activations a^L, (m, n_L) each, of several networks, added up in their order."""
    return functools.reduce(operator.add, found) / len(found)


def mean_logits(xp: Any, logits: Sequence[Array], function: str) -> Array:
    """Return the z^L, (m, n_L), of which `function`, sigmoid or softmax, makes the mean of the networks' a^L.

    `logits` are z^L of each network. Softmax makes a of ln a, or of ln a plus a constant; sigmoid makes it of
    ln a - ln(1 - a). These come from the networks' ln a and ln(1 - a), which are exact even where a rounds to 0 or 1.
    The number of networks cancels.
    """
    if len(logits) == 1:
        return logits[0]
    add = functools.partial(functools.reduce, xp.logaddexp)
    if function == "softmax":
        rows = [softmax_row(xp, Z) for Z in logits]
        return add([Z - row.largest - row.log_total for Z, row in zip(logits, rows, strict=True)])
    # ln a = -ln(1 + exp(-z)), and ln(1 - a) = -ln(1 + exp(z)).
    return add([-xp.logaddexp(0, -Z) for Z in logits]) - add([-xp.logaddexp(0, Z) for Z in logits])


def backpropagate(
    xp: Any,
    weights: Sequence[Array],
    biases: Sequence[Array],
    X: Array,
    Y: Array,
    *,
    functions: Sequence[str] = (),
    loss: Loss = SQUARED_ERROR,
    masks: Sequence[Array] = (),
    weights_of_examples: Array | None = None,
) -> tuple[Array, list[Array], list[Array]]:
    """Return the loss of the batch and its gradients, shaped like `weights` and `biases`.

    `X` (m, n_0) are inputs, an array of `xp` or a sparse matrix as in `outputs`, `Y` (m, n_L) targets, all of one
    floating dtype; `functions` and `masks` as in `propagate`.
    `weights_of_examples` (m,), non-negative, weight the averages over the batch, which are 0 if all weights are 0.
    Nothing is changed in place.
    """
    A, inputs, Z = propagate(xp, weights, biases, X, functions=functions, masks=masks)
    slopes = [activation(xp, name)[1] for name in functions or ["sigmoid"] * len(weights)]
    delta = loss.output_delta(xp, A[-1], Y, slopes[-1])
    if weights_of_examples is None:
        value = loss.value(xp, A[-1], Z, Y)
    else:
        shares = weights_of_examples / xp.maximum(weights_of_examples.sum(), float(np.finfo(delta.dtype).tiny))
        value = xp.vdot(shares, loss.of_examples(xp, A[-1], Z, Y))
        delta *= len(delta) * shares[:, None]
    dW, db = [], []
    for layer in reversed(range(len(weights))):
        dW.append(delta.T @ inputs[layer])
        db.append(delta.sum(axis=0))
        if layer > 0:
            delta = (delta @ weights[layer]) * slopes[layer - 1](A[layer])
            if masks:
                delta *= masks[layer - 1]
    return value, dW[::-1], db[::-1]
