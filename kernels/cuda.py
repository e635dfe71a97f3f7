"""The contract of `gpunn.kernels.reference` on GPUs: float32 only, one pass over memory, no temporaries.

Arrays are on the GPU: CuPy's, or handles of them, made once by `as_handle`, with which a launch takes a fraction of the
time. Nothing here waits for the GPU. Whatever breaks the contract is refused before the launch, but for row numbers and
labels, as looking at them would mean waiting: where one is out of range, nothing is read there, and the example's
outputs become NaN, as does a loss that it adds to. The same input gives the same bits every time.
"""

import functools
from typing import Any

import numpy as np

from .activations_cuda import FORMULAS, ONE, ZERO
from .contract_cuda import FLOAT32, check_array, check_output, handles
from .cuda_compilation import as_cuda_array as as_handle
from .cuda_compilation import cuda, kernel
from .launch_cuda import MOST_THREADS, launch, line, rectangles, team

__all__ = [
    "as_handle",
    "bias_sigmoid",
    "descend",
    "descend_sums",
    "gather_scale",
    "hidden_delta",
    "output_delta",
]

F = np.float32
BRIGHTEST = F(255)
NAN = F(np.nan)


def gather_scale(images: Any, rows: Any, *, out: Any) -> None:
    """Put the images of a batch into `out` as activations, see `reference.gather_scale`.

    Where `rows` names no image, the row of `out` becomes NaN.
    """
    images, rows, out = handles(images=images, rows=rows, out=out)
    check_output(out, [images, rows], ndim=2)
    check_array("images", images, np.dtype(np.uint8), (*images.shape[:1], out.shape[1]))
    check_array("rows", rows, np.dtype(np.int64), out.shape[:1])
    if out.size:
        launch(_gather_scale, *rectangles(*out.shape), images, rows, out)


@kernel
def _gather_scale(images: Any, rows: Any, out: Any) -> None:
    x, r = cuda.grid(2)
    width, height = cuda.gridsize(2)
    while r < out.shape[0]:
        row = rows[r]
        there = 0 <= row < images.shape[0]
        c = x
        while c < out.shape[1]:
            out[r, c] = F(images[row, c]) / BRIGHTEST if there else NAN
            c += width
        r += height


def bias_sigmoid(z: Any, bias: Any, *, out: Any) -> None:
    """Compute out = sigma(z + bias), see `reference.bias_sigmoid`."""
    z, bias, out = handles(z=z, bias=bias, out=out)
    check_output(out, [bias], first=z, ndim=2)
    check_array("z", z, FLOAT32, out.shape)
    check_array("bias", bias, FLOAT32, out.shape[1:])
    if out.size:
        launch(_add_and_activate("sigmoid"), *rectangles(*out.shape), z, bias, out)


@functools.cache
def _add_and_activate(activation: str) -> Any:
    activate, _ = FORMULAS[activation]

    @kernel
    def add_and_activate(z: Any, bias: Any, out: Any) -> None:
        c, y = cuda.grid(2)
        width, height = cuda.gridsize(2)
        while c < out.shape[1]:
            b = bias[c]
            r = y
            while r < out.shape[0]:
                out[r, c] = activate(z[r, c] + b)
                r += height
            c += width

    return add_and_activate


def output_delta(activation: Any, labels: Any, factor: float, total: Any, *, out: Any) -> None:
    """Compute out = factor (a - y) a (1 - a) and add the loss to `total`, see `reference.output_delta`.

    Where a label names no output, the row of `out` becomes NaN, and so does `total`.
    """
    activation, labels, total, out = handles(activation=activation, labels=labels, total=total, out=out)
    check_output(out, [labels, total], first=activation, ndim=2)
    check_array("activation", activation, FLOAT32, out.shape)
    check_array("labels", labels, np.dtype(np.uint8), out.shape[:1])
    check_array("total", total, np.dtype(np.float64), (1,))
    if out.size:
        launch(_output_delta("sigmoid"), 1, team(*out.shape), activation, labels, F(factor), total, out)


@functools.cache
def _output_delta(activation: str) -> Any:
    _, slope = FORMULAS[activation]

    # One block does it all: several would add their losses to the total by atomics, in any order, and a floating-point
    # sum in another order has other bits. There are no more than a few outputs an example.
    @kernel
    def output_delta(a: Any, labels: Any, factor: float, total: Any, out: Any) -> None:
        losses = cuda.shared.array(MOST_THREADS, np.float64)
        loss = np.float64(0)
        r = cuda.threadIdx.y
        while r < out.shape[0]:
            label = labels[r]
            c = cuda.threadIdx.x
            while c < out.shape[1]:
                y = ONE if c == label else ZERO
                error = a[r, c] - (y if label < out.shape[1] else NAN)
                out[r, c] = factor * error * slope(a[r, c])
                loss += error * error
                c += cuda.blockDim.x
            r += cuda.blockDim.y
        place = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        losses[place] = loss
        half = cuda.blockDim.x * cuda.blockDim.y // 2
        while half > 0:
            cuda.syncthreads()
            if place < half:
                losses[place] += losses[place + half]
            half //= 2
        if place == 0:
            total[0] += losses[0]

    return output_delta


def hidden_delta(delta: Any, activation: Any, *, out: Any) -> None:
    """Compute out = delta * a (1 - a), see `reference.hidden_delta`."""
    delta, activation, out = handles(delta=delta, activation=activation, out=out)
    check_output(out, [activation], first=delta, ndim=2)
    check_array("delta", delta, FLOAT32, out.shape)
    check_array("activation", activation, FLOAT32, out.shape)
    if out.size:
        launch(_multiply_by_slope("sigmoid"), *line(out.size), delta, activation, out)


@functools.cache
def _multiply_by_slope(activation: str) -> Any:
    _, slope = FORMULAS[activation]

    @kernel
    def multiply_by_slope(delta: Any, a: Any, out: Any) -> None:
        i = cuda.grid(1)
        while i < out.size:
            out.flat[i] = delta.flat[i] * slope(a.flat[i])
            i += cuda.gridsize(1)

    return multiply_by_slope


def descend(parameter: Any, gradient: Any, learning_rate: float, *, out: Any) -> None:
    """Compute out = parameter - learning_rate * gradient, see `reference.descend`."""
    parameter, gradient, out = handles(parameter=parameter, gradient=gradient, out=out)
    check_output(out, [gradient], first=parameter)
    check_array("parameter", parameter, FLOAT32, out.shape)
    check_array("gradient", gradient, FLOAT32, out.shape)
    if out.size:
        launch(_descend, *line(out.size), parameter, gradient, F(learning_rate), out)


@kernel
def _descend(parameter: Any, gradient: Any, learning_rate: float, out: Any) -> None:
    i = cuda.grid(1)
    while i < out.size:
        out.flat[i] = parameter.flat[i] - learning_rate * gradient.flat[i]
        i += cuda.gridsize(1)


def descend_sums(parameter: Any, gradients: Any, learning_rate: float, *, out: Any) -> None:
    """Compute out = parameter - learning_rate * sum of the rows of `gradients`, see `reference.descend_sums`."""
    parameter, gradients, out = handles(parameter=parameter, gradients=gradients, out=out)
    check_output(out, [gradients], first=parameter, ndim=1)
    check_array("parameter", parameter, FLOAT32, out.shape)
    check_array("gradients", gradients, FLOAT32, (*gradients.shape[:1], *out.shape))
    if out.size:
        width, height = team(*gradients.shape)
        launch(_descend_sums, -(-out.size // width), (width, height), parameter, gradients, F(learning_rate), out)


# A block has its own columns; its threads add up rows in turn, then one another's sums in pairs, in the same order
# every time.
@kernel
def _descend_sums(parameter: Any, gradients: Any, learning_rate: float, out: Any) -> None:
    sums = cuda.shared.array(MOST_THREADS, np.float32)
    x, y, width = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockDim.x
    c = cuda.blockIdx.x * width + x
    s = ZERO
    if c < out.size:
        r = y
        while r < gradients.shape[0]:
            s += gradients[r, c]
            r += cuda.blockDim.y
    place = y * width + x
    sums[place] = s
    half = cuda.blockDim.y // 2
    while half > 0:
        cuda.syncthreads()
        if y < half:
            sums[place] += sums[place + half * width]
        half //= 2
    if y == 0 and c < out.size:
        out[c] = parameter[c] - learning_rate * sums[x]
