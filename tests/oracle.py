"""The operations of `gpunn.kernels.contract` in plain NumPy: the oracle of the compiled forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.kernels.checks import HostArrays
from gpunn.kernels.contract import Contract
from gpunn.kernels.formulas.steps import Numbers

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

CONTRACT = Contract(HostArrays((np.dtype(np.float32), np.dtype(np.float64))))

ROW, COLUMN = 0x9E3779B1, 0x85EBCA77
"""Factors of rows and columns in dropout's hash, see `gpunn.dropout`."""


def gather_scale(images: NDArray[Any], rows: NDArray[np.int64], *, out: NDArray[Any]) -> None:
    CONTRACT.gather_scale(images, rows, out)
    np.divide(images[rows].astype(out.dtype), 255 if images.dtype == np.uint8 else 1, out=out)


def bias_activate(z: NDArray[Any], bias: NDArray[Any], activation: str = "sigmoid", *, out: NDArray[Any]) -> None:
    CONTRACT.bias_activate(z, bias, activation, out)
    activate, _ = FORMULAS[activation]
    with np.errstate(over="ignore"):
        out[...] = activate(z + bias)


def hidden_delta(
    delta: NDArray[Any], activations: NDArray[Any], activation: str = "sigmoid", *, out: NDArray[Any]
) -> None:
    CONTRACT.hidden_delta(delta, activations, activation, out)
    _, slope = FORMULAS[activation]
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
    CONTRACT.output_delta(output, targets, factor, total, activation, loss, out)
    if targets.ndim == 1:
        targets = np.eye(out.shape[1], dtype=out.dtype)[targets]
    _, slope = FORMULAS[activation]
    if loss == "squared_error":
        error = output - targets
        losses, delta = error.astype(np.float64) ** 2, 2 * error * slope(output)
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
    CONTRACT.drop(activations, key, first, share, out)
    rows = np.arange(first, first + len(out), dtype=np.uint32)[:, None] * np.uint32(ROW)
    h = (rows + np.arange(out.shape[1], dtype=np.uint32) * np.uint32(COLUMN)) ^ np.uint32(key)
    for shift, multiplier in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h ^= h >> np.uint32(shift)
        h *= np.uint32(multiplier)
    kept = h >= min(round(share * 2**32), 2**32 - 1)
    out[...] = activations * (kept / (1 - share)).astype(out.dtype)


def optimizer_step(
    parameter: NDArray[Any],
    gradient: NDArray[Any],
    numbers: Numbers,
    rule: str = "descent",
    *moments: NDArray[Any],
    out: NDArray[Any],
) -> None:
    CONTRACT.optimizer_step(parameter, gradient, numbers, rule, *moments, out=out)
    c = numbers
    g = gradient + c.l2 * parameter
    if rule == "descent":
        out[...] = parameter - c.rate * g
    elif rule == "adam":
        mean, square = moments
        mean[...] = c.beta1 * mean + c.rest1 * g
        square[...] = c.beta2 * square + c.rest2 * g * g
        out[...] = c.keep * parameter - c.rate * mean / (np.sqrt(square) * c.correction + c.epsilon)
    else:
        (velocity,) = moments
        velocity[...] = c.beta1 * velocity + g
        out[...] = parameter - c.rate * (g + c.beta1 * velocity if rule == "nesterov" else velocity)


def descend_sums(parameter: NDArray[Any], gradients: NDArray[Any], learning_rate: float, *, out: NDArray[Any]) -> None:
    CONTRACT.descend_sums(parameter, gradients, learning_rate, out)
    out[...] = parameter - learning_rate * gradients.sum(axis=0)


def column_sums(rows: NDArray[Any], *, out: NDArray[Any]) -> None:
    CONTRACT.column_sums(rows, out)
    out[...] = rows.sum(axis=0)
