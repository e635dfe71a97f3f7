"""Dropout compiled for CPUs: the mask is hashed in registers, and never in memory."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .compilation import compiled
from .contract import check_array, check_output, share_of_one, single, word
from .hashing import COLUMN, LAST, ROUNDS, ROW, threshold
from .memory import load_part, pointer, store_part
from .simd import I32, LANES, VECTOR, LanesType, pack, spread

FLOAT32 = np.dtype(np.float32)
WHOLE = ir.VectorType(I32, LANES)


def drop(activations: NDArray[np.float32], key: int, first: int, share: float, *, out: NDArray[np.float32]) -> None:
    """Compute out = activations times dropout's mask, see `reference.drop`."""
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
def _mask(_typing: Any, start: Any, key: Any, least: Any, scale: Any) -> Any:  # noqa: ARG001 - Numba's form
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
        return pack(builder, [builder.select(kept, spread(builder, args[3]), ir.Constant(VECTOR, [0.0] * LANES))])

    return LanesType(1)(types.int64, types.int64, types.int64, types.float32), generate
