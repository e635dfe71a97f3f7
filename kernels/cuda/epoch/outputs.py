"""Delta and losses of the last layer for a chunk of images, in the whole-epoch kernel."""

from typing import Any

from ...formulas.losses import NEEDS_ROW
from ..activations import FORMULAS, ONE, ZERO
from ..jit import device_function
from ..losses import NO_ROW, finish_output, softmax_row
from .layout import CudaLayout
from .tiles import U


def output_steps(layout: CudaLayout, activation: str, loss: str) -> tuple[Any, list[Any]]:
    """Return the function that finishes a neuron of the last layer, and those that follow it, like those of `layers`.

    The first is given z of neuron j for image b, and returns that neuron's part of the loss. `activation` is the
    identity where the loss takes logits.
    """
    if loss in NEEDS_ROW:
        return _keep_logits(layout), [_finish_rows(layout, activation, loss)]
    return _finish(layout, activation, loss), []


def _finish(layout: CudaLayout, activation: str, loss: str) -> Any:
    compute, (activate, _) = finish_output(loss, activation), FORMULAS[activation]
    layer = layout.layers[-1]
    n_out, width, d_at = layer.n_out, layer.width, layer.delta

    @device_function
    def finish(z: Any, b: int, j: int, label: int, step: Any, memory: Any) -> Any:
        delta, loss = compute(activate(z), ONE if j == label else ZERO, NO_ROW, step)
        memory[U(d_at + b * width + j)] = delta if j < n_out else ZERO
        return loss if j < n_out else ZERO

    return finish


def _keep_logits(layout: CudaLayout) -> Any:
    width, a_at = layout.layers[-1].width, layout.layers[-1].activation

    @device_function
    def finish(z: Any, b: int, j: int, label: int, step: Any, memory: Any) -> Any:
        memory[U(a_at + b * width + j)] = z
        return ZERO

    return finish


def _finish_rows(layout: CudaLayout, activation: str, loss: str) -> Any:
    compute, layer = finish_output(loss, activation), layout.layers[-1]
    T, labels, n_out, width = layout.threads, layout.labels, layer.n_out, layer.width

    # A thread has an image to itself.
    @device_function
    def finish_rows(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        losses = ZERO
        for b in range(t, rows, T):
            label, z_at, d_at = x[U(labels + b)], layer.activation + b * width, layer.delta + b * width
            row = softmax_row(memory[z_at:], n_out)
            for j in range(n_out):
                delta, loss = compute(memory[U(z_at + j)], ONE if j == label else ZERO, row, step)
                memory[U(d_at + j)] = delta
                losses += loss
            for j in range(n_out, width):
                memory[U(d_at + j)] = ZERO
        return losses

    return finish_rows
