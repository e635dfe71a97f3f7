"""Every kernel in plain NumPy: the contract, and the oracle of the compiled forms.

Results go to `out`, which may be the first input and must not overlap another. All floating arrays have the dtype of
`out`, float32 or float64. Wrong dtypes raise `TypeError`; wrong shapes, strides and overlaps raise `ValueError`.
Nothing is cast or copied silently.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import check_array, check_below, check_output


def gather_scale(images: NDArray[np.uint8], rows: NDArray[np.int64], *, out: NDArray[Any]) -> None:
    """Put the images of a batch into `out` as activations: out[r] = images[rows[r]] / 255.

    `images` (n, n_0), `rows` (m,) in 0 to n - 1, `out` (m, n_0). A row out of range raises `IndexError`.
    """
    check_output(out, [images, rows], ndim=2)
    check_array("images", images, np.dtype(np.uint8), (len(images), out.shape[1]))
    check_array("rows", rows, np.dtype(np.int64), (len(out),))
    check_below("rows", rows, len(images))
    np.divide(images[rows].astype(out.dtype), 255, out=out)


def bias_sigmoid(z: NDArray[Any], bias: NDArray[Any], *, out: NDArray[Any]) -> None:
    """Compute out = sigma(z + bias), with sigma(z) = 1 / (1 + exp(-z)); NaN stays NaN, nothing overflows aloud.

    `z` and `out` (m, n), `bias` (n,).
    """
    check_output(out, [bias] if z is out else [z, bias], ndim=2)
    check_array("z", z, out.dtype, out.shape)
    check_array("bias", bias, out.dtype, out.shape[1:])
    with np.errstate(over="ignore"):
        np.reciprocal(1 + np.exp(-(z + bias)), out=out)


def output_delta(
    activation: NDArray[Any], labels: NDArray[np.uint8], factor: float, total: NDArray[np.float64], *, out: NDArray[Any]
) -> None:
    """Compute out = factor (a - y) a (1 - a), the delta of the last layer, and add sum (a - y)^2 to `total[0]`.

    `activation` a and `out` (m, n_L); `labels` (m,), each below n_L, stand for one-hot rows y; `factor` is 2 over the
    size of the batch, of which these may be a part; `total` (1,) float64. A label out of range raises `IndexError`.
    """
    check_output(out, [labels, total] if activation is out else [activation, labels, total], ndim=2)
    check_array("activation", activation, out.dtype, out.shape)
    check_array("labels", labels, np.dtype(np.uint8), (len(out),))
    check_array("total", total, np.dtype(np.float64), (1,))
    check_below("labels", labels, out.shape[1])
    error = activation.copy()
    error[np.arange(len(labels)), labels] -= 1
    total += np.sum(error.astype(np.float64) ** 2)
    out[...] = factor * error * activation * (1 - activation)


def hidden_delta(delta: NDArray[Any], activation: NDArray[Any], *, out: NDArray[Any]) -> None:
    """Compute out = delta * sigma', with sigma' = a (1 - a) taken from the activation a.

    `delta` (W^T of the layer above times its delta), `activation` and `out` (m, n).
    """
    check_output(out, [activation] if delta is out else [delta, activation], ndim=2)
    check_array("delta", delta, out.dtype, out.shape)
    check_array("activation", activation, out.dtype, out.shape)
    out[...] = delta * activation * (1 - activation)


def descend(parameter: NDArray[Any], gradient: NDArray[Any], learning_rate: float, *, out: NDArray[Any]) -> None:
    """Compute out = parameter - learning_rate * gradient; `parameter`, `gradient` and `out` have one shape, any."""
    check_output(out, [gradient] if parameter is out else [parameter, gradient])
    check_array("parameter", parameter, out.dtype, out.shape)
    check_array("gradient", gradient, out.dtype, out.shape)
    out[...] = parameter - learning_rate * gradient


def descend_sums(parameter: NDArray[Any], gradients: NDArray[Any], learning_rate: float, *, out: NDArray[Any]) -> None:
    """Compute out = parameter - learning_rate * sum of the rows of `gradients`, (m, n); the others are (n,)."""
    check_output(out, [gradients] if parameter is out else [parameter, gradients], ndim=1)
    check_array("parameter", parameter, out.dtype, out.shape)
    check_array("gradients", gradients, out.dtype, (len(gradients), len(out)))
    out[...] = parameter - learning_rate * gradients.sum(axis=0)
