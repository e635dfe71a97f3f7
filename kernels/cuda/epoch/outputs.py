"""Delta and losses of the last layer for a chunk of images, in the whole-epoch kernel.

Each loss has a function that finishes neuron j for image b, given z, and returns its part of the loss; and further
functions to run after it, like those of `layers`.
"""

import math
from typing import Any

from ..activations import FORMULAS, ONE, ZERO, F, maximum, sigmoid
from ..jit import device_function
from ..outputs import log_loss
from .layout import CudaLayer, CudaLayout
from .tiles import U


def output_steps(layout: CudaLayout, activation: str, loss: str) -> tuple[Any, list[Any]]:
    """Return the function that finishes a neuron of the last layer, and those that follow it."""
    layer = layout.layers[-1]
    if loss == "squared_error":
        return _squared_errors(layer, activation), []
    if loss == "binary_cross_entropy":
        return _log_losses(layer), []
    if loss == "cross_entropy":
        return _keep_logits(layer), [_softmax(layout, layer)]
    raise ValueError(f"found the loss {loss!r}, expected squared_error, binary_cross_entropy or cross_entropy")


def _squared_errors(layer: CudaLayer, activation: str) -> Any:
    activate, slope = FORMULAS[activation]
    n_out, width, d_at = layer.n_out, layer.width, layer.delta

    @device_function
    def finish(z: Any, b: int, j: int, label: int, step: Any, memory: Any) -> Any:
        a = activate(z)
        error = a - (ONE if j == label else ZERO)
        memory[U(d_at + b * width + j)] = step * error * slope(a) if j < n_out else ZERO
        return error * error if j < n_out else ZERO

    return finish


def _log_losses(layer: CudaLayer) -> Any:
    n_out, width, d_at = layer.n_out, layer.width, layer.delta

    @device_function
    def finish(z: Any, b: int, j: int, label: int, step: Any, memory: Any) -> Any:
        y = ONE if j == label else ZERO
        memory[U(d_at + b * width + j)] = step * (sigmoid(z) - y) if j < n_out else ZERO
        return log_loss(z, y) if j < n_out else ZERO

    return finish


def _keep_logits(layer: CudaLayer) -> Any:
    width, a_at = layer.width, layer.activation

    @device_function
    def finish(z: Any, b: int, j: int, label: int, step: Any, memory: Any) -> Any:
        memory[U(a_at + b * width + j)] = z
        return ZERO

    return finish


def _softmax(layout: CudaLayout, layer: CudaLayer) -> Any:
    T, labels, n_out, width = layout.threads, layout.labels, layer.n_out, layer.width

    # A thread has an image to itself.
    @device_function
    def softmax(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        losses = ZERO
        for b in range(t, rows, T):
            label, z_at, d_at = x[U(labels + b)], layer.activation + b * width, layer.delta + b * width
            largest = memory[U(z_at)]
            for j in range(1, n_out):
                largest = maximum(largest, memory[U(z_at + j)])
            exps = ZERO
            for j in range(n_out):
                exps += F(math.exp(memory[U(z_at + j)] - largest))
            log_exps = F(math.log(exps))
            for j in range(n_out):
                shifted = memory[U(z_at + j)] - largest
                memory[U(d_at + j)] = step * (F(math.exp(shifted)) / exps - (ONE if j == label else ZERO))
                losses += log_exps - shifted if j == label else ZERO
            for j in range(n_out, width):
                memory[U(d_at + j)] = ZERO
        return losses

    return softmax
