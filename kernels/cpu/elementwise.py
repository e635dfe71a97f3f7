"""Elementwise operations of the contract: images to activations, activation functions, their slopes, and dropout."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ..checks import single
from ..compilation import compiled
from ..contract import ON_HOST
from ..formulas.dropout import Operations, hash_of, threshold
from .activations import STATICS, activate, slope
from .gather import gather
from .matmul import Chunk, Matrix
from .memory import load_part, pointer, store_part
from .vectors import I32, LANES, VECTOR, LanesType, pack, splat

WHOLE = ir.VectorType(I32, LANES)


def gather_scale(images: NDArray[Any], rows: NDArray[np.int64], *, out: NDArray[np.float32]) -> None:
    """Put the images of a batch into `out` as activations, see `Kernels.gather_scale`."""
    ON_HOST.gather_scale(images, rows, out)
    _gather_scale(images.ravel(), rows, out.ravel(), out.shape[1])


@compiled
def _gather_scale(images: Any, rows: Any, out: Any, n_pixels: int) -> None:
    gather(images, n_pixels, Chunk(rows, rows.size, 0, 0, rows.size), Matrix(out, 0, n_pixels, 1))


def bias_activate(
    z: NDArray[np.float32], bias: NDArray[np.float32], activation: str = "sigmoid", *, out: NDArray[np.float32]
) -> None:
    """Compute out = f(z + bias), see `Kernels.bias_activate`."""
    ON_HOST.bias_activate(z, bias, activation, out)
    _add_and_activate(STATICS[activation], z.ravel(), bias, out.ravel())


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
    ON_HOST.hidden_delta(delta, activations, activation, out)
    _multiply_by_slope(STATICS[activation], delta.ravel(), activations.ravel(), out.ravel())


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
    ON_HOST.drop(activations, key, first, share, out)
    numbers = np.int64(key), np.int64(first), np.int64(threshold(share))
    _drop(activations.ravel(), *numbers, single("scale", 1 / (1 - share)), out.shape[1], out.ravel())


@compiled
def _drop(a: Any, key: int, first: int, least: int, scale: float, columns: int, out: Any) -> None:
    size = a.size
    a, out = pointer(a), pointer(out)
    row = first
    for start in range(0, size, max(1, columns)):
        for c in range(0, columns, LANES):
            count = min(LANES, columns - c)
            kept = mask(row, c, key, least, scale)
            store_part(out, start + c, load_part(a, start + c, count) * kept, count)
        row += 1


@intrinsic
def mask(_typing: Any, row: Any, column: Any, key: Any, least: Any, scale: Any) -> Any:
    """Return the mask of 16 columns from `column` on: `scale` where activations are kept, else 0."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kept = builder.icmp_unsigned(">=", hashes(builder, *args[:3]), _whole(builder, args[3]))
        return pack(builder, [builder.select(kept, splat(builder, args[4]), ir.Constant(VECTOR, [0.0] * LANES))])

    return LanesType(1)(types.int64, types.int64, types.int64, types.int64, types.float32), generate


def hashes(builder: Any, row: Any, column: Any, key: Any) -> Any:
    """Return the hashes of a row, 16 columns from `column` on, and a key, all LLVM int64; the result is of int32."""

    def multiply(numbers: Any, factor: int) -> Any:
        return builder.mul(numbers, constants(factor))

    def shift(numbers: Any, bits: int) -> Any:
        return builder.lshr(numbers, constants(bits))

    rows, first, keys = (_whole(builder, number) for number in (row, column, key))
    columns = builder.add(first, constants(*range(LANES)))
    return hash_of(Operations(builder.add, builder.xor, multiply, shift))(rows, columns, keys)


def constants(*numbers: int) -> Any:
    """Return a vector of 16 int32: one number in all lanes, or 16."""
    return ir.Constant(WHOLE, [number % 2**32 for number in numbers] * (LANES // len(numbers)))


def _whole(builder: Any, number: Any) -> Any:
    first = builder.insert_element(ir.Constant(WHOLE, ir.Undefined), builder.trunc(number, I32), I32(0))
    return builder.shuffle_vector(first, first, constants(0))
