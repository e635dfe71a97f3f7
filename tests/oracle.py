"""The operations of `gpunn.kernels.contract` in plain NumPy: the oracle of the compiled forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.kernels.contract import (
    check_array,
    check_below,
    check_name,
    check_output,
    check_step,
    check_type,
    number,
    number_above,
    share_of_one,
    truth,
    word,
)

Function = Callable[[NDArray[Any]], NDArray[Any]]


def _sigmoid(z: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        a: NDArray[Any] = np.reciprocal(1 + np.exp(-z))
    return a


FORMULAS: dict[str, tuple[Function, Function]] = {
    "sigmoid": (_sigmoid, lambda a: a * (1 - a)),
    "tanh": (np.tanh, lambda a: 1 - a * a),
    "relu": (lambda z: np.maximum(z, 0), lambda a: np.where(a > 0, 1, 0).astype(a.dtype)),
    "leaky_relu": (lambda z: np.maximum(z, 0.01 * z), lambda a: np.where(a > 0, 1, 0.01).astype(a.dtype)),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda a: np.where(a > 0, 1, a + 1)),
    "identity": (lambda z: z, np.ones_like),
}
"""f(z) and f'(z), the latter in terms of a = f(z)."""

LOSSES = ("squared_error", "binary_cross_entropy", "cross_entropy")

ROW, COLUMN = 0x9E3779B1, 0x85EBCA77
"""What dropout's hash spreads rows and columns by, see `gpunn.dropout`."""


def gather_scale(images: NDArray[Any], rows: NDArray[np.int64], *, out: NDArray[Any]) -> None:
    check_type("images", images)
    check_output(out, [images, rows], ndim=2)
    kind = out.dtype if images.dtype == out.dtype else np.dtype(np.uint8)
    check_array("images", images, kind, (*images.shape[:1], out.shape[1]))
    check_array("rows", rows, np.dtype(np.int64), (len(out),))
    check_below("rows", rows, len(images))
    np.divide(images[rows].astype(out.dtype), 255 if images.dtype == np.uint8 else 1, out=out)


def bias_activate(z: NDArray[Any], bias: NDArray[Any], activation: str = "sigmoid", *, out: NDArray[Any]) -> None:
    check_output(out, [bias] if z is out else [z, bias], ndim=2)
    check_array("z", z, out.dtype, out.shape)
    check_array("bias", bias, out.dtype, out.shape[1:])
    activate, _ = _formula(activation)
    with np.errstate(over="ignore"):
        out[...] = activate(z + bias)


def hidden_delta(
    delta: NDArray[Any], activations: NDArray[Any], activation: str = "sigmoid", *, out: NDArray[Any]
) -> None:
    check_output(out, [activations] if delta is out else [delta, activations], ndim=2)
    check_array("delta", delta, out.dtype, out.shape)
    check_array("activations", activations, out.dtype, out.shape)
    _, slope = _formula(activation)
    out[...] = delta * slope(activations)


def output_delta(
    output: NDArray[Any],
    targets: NDArray[Any],
    factor: float,
    total: NDArray[np.float64],
    activation: str = "sigmoid",
    loss: str = "squared_error",
    *,
    out: NDArray[Any],
) -> None:
    check_type("targets", targets)
    check_output(out, [targets, total] if output is out else [output, targets, total], ndim=2)
    check_array("output", output, out.dtype, out.shape)
    check_array("total", total, np.dtype(np.float64), (1,))
    if targets.ndim == 1:
        check_array("labels", targets, np.dtype(np.uint8), (len(out),))
        check_below("labels", targets, out.shape[1])
        targets = np.eye(out.shape[1], dtype=out.dtype)[targets]
    check_array("targets", targets, out.dtype, out.shape)
    factor, (_, slope) = number("factor", factor), _formula(activation)
    check_name("loss", loss, LOSSES)
    if loss == "squared_error":
        error = output - targets
        losses, delta = error.astype(np.float64) ** 2, error * slope(output)
    elif loss == "binary_cross_entropy":
        z = output.astype(np.float64)
        losses = np.maximum(z, 0) - targets * z + np.log1p(np.exp(-abs(z)))
        delta = _sigmoid(output) - targets
    else:
        shifted = output - output.max(axis=1, keepdims=True)
        exps = np.exp(shifted)
        sums = exps.sum(axis=1, keepdims=True)
        losses = targets * (np.log(sums.astype(np.float64)) - shifted)
        delta = exps / sums - targets
    total += np.sum(losses)
    out[...] = factor * delta


def drop(activations: NDArray[Any], key: int, first: int, share: float, *, out: NDArray[Any]) -> None:
    check_output(out, [] if activations is out else [activations], ndim=2)
    check_array("activations", activations, out.dtype, out.shape)
    key, first, share = word("key", key), word("first", first), share_of_one("share", share)
    rows = np.arange(first, first + len(out), dtype=np.uint32)[:, None] * np.uint32(ROW)
    h = (rows + np.arange(out.shape[1], dtype=np.uint32) * np.uint32(COLUMN)) ^ np.uint32(key)
    for shift, multiplier in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h ^= h >> np.uint32(shift)
        h *= np.uint32(multiplier)
    kept = h >= min(round(share * 2**32), 2**32 - 1)
    out[...] = activations * (kept / (1 - share)).astype(out.dtype)


def descend(
    parameter: NDArray[Any], gradient: NDArray[Any], learning_rate: float, l2: float = 0.0, *, out: NDArray[Any]
) -> None:
    check_output(out, [gradient] if parameter is out else [parameter, gradient])
    check_array("parameter", parameter, out.dtype, out.shape)
    check_array("gradient", gradient, out.dtype, out.shape)
    out[...] = parameter - number("learning rate", learning_rate) * (gradient + number("l2", l2) * parameter)


def descend_sums(parameter: NDArray[Any], gradients: NDArray[Any], learning_rate: float, *, out: NDArray[Any]) -> None:
    check_output(out, [gradients] if parameter is out else [parameter, gradients], ndim=1)
    check_array("parameter", parameter, out.dtype, out.shape)
    check_type("gradients", gradients)
    check_array("gradients", gradients, out.dtype, (*gradients.shape[:1], len(out)))
    out[...] = parameter - number("learning rate", learning_rate) * gradients.sum(axis=0)


def column_sums(rows: NDArray[Any], *, out: NDArray[Any]) -> None:
    check_type("rows", rows)
    check_output(out, [rows], ndim=1)
    check_array("rows", rows, out.dtype, (*rows.shape[:1], len(out)))
    out[...] = rows.sum(axis=0)


def momentum_step(
    parameter: NDArray[Any],
    gradient: NDArray[Any],
    velocity: NDArray[Any],
    learning_rate: float,
    momentum: float,
    l2: float = 0.0,
    nesterov: bool = False,
    *,
    out: NDArray[Any],
) -> None:
    check_step(parameter, gradient, velocity, out=out)
    learning_rate, momentum = number("learning rate", learning_rate), number("momentum", momentum)
    l2, nesterov = number("l2", l2), truth("nesterov", nesterov)
    g = gradient + l2 * parameter
    velocity[...] = momentum * velocity + g
    out[...] = parameter - learning_rate * (g + momentum * velocity if nesterov else velocity)


def adam_step(
    parameter: NDArray[Any],
    gradient: NDArray[Any],
    mean: NDArray[Any],
    square: NDArray[Any],
    learning_rate: float,
    root: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    l2: float = 0.0,
    decay: float = 0.0,
    *,
    out: NDArray[Any],
) -> None:
    check_step(parameter, gradient, mean, square, out=out)
    learning_rate, root = number("learning rate", learning_rate), number_above("root", root, 0)
    beta1, beta2, epsilon = number("beta1", beta1), number("beta2", beta2), number("epsilon", epsilon)
    l2, decay = number("l2", l2), number("decay", decay)
    g = gradient + l2 * parameter
    mean[...] = beta1 * mean + (1 - beta1) * g
    square[...] = beta2 * square + (1 - beta2) * g * g
    out[...] = (1 - decay) * parameter - learning_rate * mean / (np.sqrt(square) / root + epsilon)


def _formula(activation: str) -> tuple[Function, Function]:
    check_name("activation", activation, FORMULAS)
    return FORMULAS[activation]
