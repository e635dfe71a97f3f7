"""The contract of `gpunn.kernels.reference` compiled for CPUs: float32 only, one pass over memory, no temporaries.

Whatever breaks the contract is refused before the compiled code, which checks nothing, is entered.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import activate, slope, static
from .compilation import compiled
from .contract import check_array, check_below, check_output, check_type
from .dense import Chunk, Matrix
from .dropout_cpu import drop
from .gather import gather
from .memory import load_part, pointer, store_part
from .output_cpu import output_delta
from .simd import LANES
from .steps_cpu import adam_step, column_sums, descend, descend_sums, momentum_step

__all__ = [
    "adam_step",
    "bias_activate",
    "column_sums",
    "descend",
    "descend_sums",
    "drop",
    "gather_scale",
    "hidden_delta",
    "momentum_step",
    "output_delta",
]

FLOAT32 = np.dtype(np.float32)


def gather_scale(images: NDArray[Any], rows: NDArray[np.int64], *, out: NDArray[np.float32]) -> None:
    """Put the images of a batch into `out` as activations, see `reference.gather_scale`."""
    check_type("images", images)
    check_output(out, [images, rows], ndim=2, dtypes=[FLOAT32])
    kind = FLOAT32 if images.dtype == FLOAT32 else np.dtype(np.uint8)
    check_array("images", images, kind, (*images.shape[:1], out.shape[1]))
    check_array("rows", rows, np.dtype(np.int64), (len(out),))
    check_below("rows", rows, len(images))
    _gather_scale(images.ravel(), rows, out.ravel(), out.shape[1])


@compiled
def _gather_scale(images: Any, rows: Any, out: Any, n_pixels: int) -> None:
    gather(images, n_pixels, Chunk(rows, rows.size, 0, 0, rows.size), Matrix(out, 0, n_pixels, 1))


def bias_activate(
    z: NDArray[np.float32], bias: NDArray[np.float32], activation: str = "sigmoid", *, out: NDArray[np.float32]
) -> None:
    """Compute out = f(z + bias), see `reference.bias_activate`."""
    check_output(out, [bias] if z is out else [z, bias], ndim=2, dtypes=[FLOAT32])
    check_array("z", z, FLOAT32, out.shape)
    check_array("bias", bias, FLOAT32, out.shape[1:])
    _add_and_activate(static(activation), z.ravel(), bias, out.ravel())


@compiled
def _add_and_activate(activation: Any, z: Any, bias: Any, out: Any) -> None:
    columns, size = bias.size, z.size
    z, bias, out = pointer(z), pointer(bias), pointer(out)
    for row in range(0, size, max(1, columns)):
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            sums = load_part(z, row + c, count) + load_part(bias, c, count)
            store_part(out, row + c, activate(activation, sums), count)


def hidden_delta(
    delta: NDArray[np.float32],
    activations: NDArray[np.float32],
    activation: str = "sigmoid",
    *,
    out: NDArray[np.float32],
) -> None:
    """Compute out = delta * f'(z), see `reference.hidden_delta`."""
    check_output(out, [activations] if delta is out else [delta, activations], ndim=2, dtypes=[FLOAT32])
    check_array("delta", delta, FLOAT32, out.shape)
    check_array("activations", activations, FLOAT32, out.shape)
    _multiply_by_slope(static(activation), delta.ravel(), activations.ravel(), out.ravel())


@compiled
def _multiply_by_slope(activation: Any, delta: Any, a: Any, out: Any) -> None:
    size = delta.size
    delta, a, out = pointer(delta), pointer(a), pointer(out)
    for place in range(0, size, LANES):
        count = min(LANES, size - place)
        product = load_part(delta, place, count) * slope(activation, load_part(a, place, count))
        store_part(out, place, product, count)
