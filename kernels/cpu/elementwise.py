"""Elementwise operations of the contract: images to activations, activation functions, their slopes, and dropout."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ..compilation import compiled
from ..contract import check_array, check_below, check_output, check_type, share_of_one, single, word
from ..formulas.dropout import COLUMN, LAST, ROUNDS, ROW, threshold
from .activations import activate, slope, static
from .gather import gather
from .matmul import Chunk, Matrix
from .memory import load_part, pointer, store_part
from .vectors import I32, LANES, VECTOR, LanesType, pack, splat

FLOAT32 = np.dtype(np.float32)

WHOLE = ir.VectorType(I32, LANES)


def gather_scale(images: NDArray[Any], rows: NDArray[np.int64], *, out: NDArray[np.float32]) -> None:
    """Put the images of a batch into `out` as activations, see `Kernels.gather_scale`."""
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
    """Compute out = f(z + bias), see `Kernels.bias_activate`."""
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
    """Compute out = delta * f'(z), see `Kernels.hidden_delta`."""
    check_output(out, [activations] if delta is out else [delta, activations], ndim=2, dtypes=[FLOAT32])
    check_array("delta", delta, FLOAT32, out.shape)
    check_array("activations", activations, FLOAT32, out.shape)
    _multiply_by_slope(static(activation), delta.ravel(), activations.ravel(), out.ravel())


@compiled
def _multiply_by_slope(activation: Any, delta: Any, a: Any, out: Any) -> None:
    size = delta.size
    delta, a, out = pointer(delta), pointer(a), pointer(out)
    for offset in range(0, size, LANES):
        count = min(LANES, size - offset)
        product = load_part(delta, offset, count) * slope(activation, load_part(a, offset, count))
        store_part(out, offset, product, count)


def drop(activations: NDArray[np.float32], key: int, first: int, share: float, *, out: NDArray[np.float32]) -> None:
    """Compute out = activations times dropout's mask, see `Kernels.drop`."""
    check_output(out, [] if activations is out else [activations], ndim=2, dtypes=[FLOAT32])
    check_array("activations", activations, FLOAT32, out.shape)
    share = share_of_one("share", share)
    numbers = np.int64(word("key", key)), np.int64(word("first", first)), np.int64(threshold(share))
    _drop(activations.ravel(), *numbers, single("scale", 1 / (1 - share)), out.shape[1], out.ravel())


@compiled
def _drop(a: Any, key: int, first: int, least: int, scale: float, columns: int, out: Any) -> None:
    size = a.size
    a, out = pointer(a), pointer(out)
    row = first
    for start in range(0, size, max(1, columns)):
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            kept = _mask(row * ROW + c * COLUMN, key, least, scale)
            store_part(out, start + c, load_part(a, start + c, count) * kept, count)
        row += 1


@intrinsic
def _mask(_typing: Any, start: Any, key: Any, least: Any, scale: Any) -> Any:
    """Return `scale` in the lanes that are kept, else 0; `start` is row ROW + column COLUMN of the first of them."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def whole(number: Any) -> Any:
            nothing = ir.Constant(WHOLE, ir.Undefined)
            first = builder.insert_element(nothing, builder.trunc(number, I32), I32(0))
            return builder.shuffle_vector(first, nothing, ir.Constant(WHOLE, [0] * LANES))

        def constant(*numbers: int) -> Any:
            return ir.Constant(WHOLE, [number % 2**32 for number in numbers] * (LANES // len(numbers)))

        h = builder.add(whole(args[0]), constant(*(lane * COLUMN for lane in range(LANES))))
        h = builder.xor(h, whole(args[1]))
        for shift, multiplier in ROUNDS:
            h = builder.xor(h, builder.lshr(h, constant(shift)))
            h = builder.mul(h, constant(multiplier))
        h = builder.xor(h, builder.lshr(h, constant(LAST)))
        kept = builder.icmp_unsigned(">=", h, whole(args[2]))
        return pack(builder, [builder.select(kept, splat(builder, args[3]), ir.Constant(VECTOR, [0.0] * LANES))])

    return LanesType(1)(types.int64, types.int64, types.int64, types.float32), generate
