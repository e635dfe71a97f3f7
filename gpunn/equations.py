r"""The equations of a multi-layer perceptron, for the arrays of any namespace `xp` (NumPy, CuPy).

    z^l = W^l a^(l-1) + b^l                               forward
    a^l = sigma(z^l),  sigma(z) = 1 / (1 + exp(-z))
    C   = mean over the batch of sum_j (a^L_j - y_j)^2    the loss
    delta^L = 2 (a^L - y) * sigma'(z^L)                   backward, with sigma'(z) = a (1 - a)
    delta^l = (W^(l+1)^T delta^(l+1)) * sigma'(z^l)
    dC/dW^l = delta^l (a^(l-1))^T,   dC/db^l = delta^l    averaged over the batch

A batch of m examples is row-major, `X` of shape (m, n_0), so column vectors of the formulas are rows here and
`W a` reads `A @ W.T`. Source: M. Nielsen, "Neural Networks and Deep Learning", chapter 2, equations BP1 to BP4.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any
"""An array of `xp`: `numpy.ndarray` or `cupy.ndarray`."""


def sigmoid(xp: Any, z: Array, *, out: Array | None = None) -> Array:
    """sigma(z) = 1 / (1 + exp(-z)), elementwise, in the dtype of `z`; NaN stays NaN. `out` may be `z`.

    Far below zero exp(-z) overflows to infinity and the result is 0, as it should be. NumPy warns of that unless it is
    told otherwise, `np.errstate(over="ignore")`; saying so at every call would cost as much as the function itself.
    """
    # The formula from the inside out, in one array: for a small batch, making arrays costs more than the arithmetic.
    a = xp.negative(z, out=out)
    xp.exp(a, out=a)
    a += 1
    return xp.reciprocal(a, out=a)


def scale(images: Array, dtype: np.typing.DTypeLike) -> Array:
    """Turn grey levels (m, n_0), uint8, into activations in [0, 1] of `dtype`, the same shape."""
    X = images.astype(dtype)
    X /= 255
    return X


def forward(xp: Any, weights: Sequence[Array], biases: Sequence[Array], X: Array) -> list[Array]:
    """Return the activations of every layer, a^0 = `X` (m, n_0) to a^L (m, n_L)."""
    A = [X]
    for W, b in zip(weights, biases, strict=True):
        Z = A[-1] @ W.T
        Z += b
        A.append(sigmoid(xp, Z, out=Z))
    return A


def loss(xp: Any, error: Array) -> Array:
    """C of `error` = a^L - y, (m, n_L): the mean over the batch of the sum of squares, without dimensions."""
    return xp.vdot(error, error) / len(error)


def backpropagate(
    xp: Any, weights: Sequence[Array], biases: Sequence[Array], X: Array, Y: Array
) -> tuple[Array, list[Array], list[Array]]:
    """Return the loss of the batch and its gradients, shaped like `weights` and `biases`.

    `X` (m, n_0) are inputs, `Y` (m, n_L) one-hot targets, all of one floating dtype. Nothing is changed in place.
    """
    A = forward(xp, weights, biases, X)
    error = A[-1] - Y
    # The average over the batch enters here, once, instead of into every gradient.
    delta = 2 / len(X) * error * A[-1] * (1 - A[-1])
    dW, db = [], []
    for layer in reversed(range(len(weights))):
        dW.append(delta.T @ A[layer])
        db.append(delta.sum(axis=0))
        if layer > 0:
            delta = (delta @ weights[layer]) * A[layer] * (1 - A[layer])
    return loss(xp, error), dW[::-1], db[::-1]
