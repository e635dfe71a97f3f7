"""Functions of vectors besides arithmetic: roots, rounding, signs, sums, maxima and transposition."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import I32, LANES, VECTOR, LanesType, pack, splat, unpack

SMALL = np.float32(1e-30)
"""Means of gradients below this are set to zero, see `flushed`."""

SUBNORMAL = np.finfo(np.float32).tiny
"""Mean squares below this are set to zero; a larger limit would change steps, which are divided by their roots."""


def _each(builder: Any, name: str, vectors: list[Any]) -> list[Any]:
    """Apply LLVM's unary function `name` to each of `vectors`."""
    kind = ir.FunctionType(VECTOR, [VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v16f32")
    return [builder.call(function, [vector]) for vector in vectors]


@intrinsic
def square_root(_typing: Any, lanes: Any) -> Any:
    """Return the square root of every lane; NaN for negative numbers."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return pack(builder, _each(builder, "sqrt", unpack(builder, args[0], lanes.vectors)))

    return lanes(lanes), generate


@intrinsic
def rounded(_typing: Any, lanes: Any) -> Any:
    """Return every lane rounded to the nearest integer; NaN stays NaN."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return pack(builder, _each(builder, "rint", unpack(builder, args[0], lanes.vectors)))

    return lanes(lanes), generate


@intrinsic
def transposed(_typing: Any, square: Any) -> Any:
    """Return the transpose of 16 rows of 16 lanes."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        rows = unpack(builder, args[0], LANES)
        half = LANES // 2
        # Interleaving rows i and i + 8 moves one of the four bits of the row index into the lane index.
        low, high = (
            ir.Constant(ir.VectorType(I32, LANES), [lane // 2 + lane % 2 * LANES + start for lane in range(LANES)])
            for start in (0, half)
        )
        for _ in range(half.bit_length()):
            pairs = [(rows[number], rows[number + half]) for number in range(half)]
            rows = [builder.shuffle_vector(*pair, order) for pair in pairs for order in (low, high)]
        return pack(builder, rows)

    return square(square), generate


@intrinsic
def one_hot(_typing: Any, number: Any) -> Any:
    """Return one vector with 1 in lane `number` and 0 in the others; all 0 if there is no such lane."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        numbers = ir.VectorType(ir.IntType(64), LANES)
        undefined = ir.Constant(numbers, ir.Undefined)
        first = builder.insert_element(undefined, args[0], I32(0))
        wanted = builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))
        here = builder.icmp_signed("==", ir.Constant(numbers, list(range(LANES))), wanted)
        one, zero = (ir.Constant(VECTOR, [number] * LANES) for number in (1.0, 0.0))
        return pack(builder, [builder.select(here, one, zero)])

    return LanesType(1)(types.int64), generate


@intrinsic
def positive(_typing: Any, lanes: Any) -> Any:
    """Return 1 in the lanes that are above 0, else 0."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        one, zero = (ir.Constant(VECTOR, [number] * LANES) for number in (1.0, 0.0))
        vectors = unpack(builder, args[0], lanes.vectors)
        return pack(builder, [builder.select(builder.fcmp_ordered(">", x, zero), one, zero) for x in vectors])

    return lanes(lanes), generate


@intrinsic
def flushed(_typing: Any, lanes: Any, limit: Any) -> Any:
    """Return `lanes` with numbers below `limit`, a float32, in magnitude replaced by 0; NaN stays NaN.

    Values that decay at every step would otherwise become subnormal, which makes arithmetic slow.
    """

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        zero, least = ir.Constant(VECTOR, [0.0] * LANES), splat(builder, args[1])
        vectors = unpack(builder, args[0], lanes.vectors)
        small = [builder.fcmp_ordered("<", x, least) for x in _each(builder, "fabs", vectors)]
        return pack(builder, [builder.select(gone, zero, x) for gone, x in zip(small, vectors, strict=True)])

    return lanes(lanes, types.float32), generate


@intrinsic
def saturated(_typing: Any, lanes: Any, x: Any, limit: Any) -> Any:
    """Return `lanes`, replaced by copysign(1, `x`) where abs(x) > `limit`, a float32."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        one, most = ir.Constant(VECTOR, [1.0] * LANES), splat(builder, args[2])
        kind = ir.FunctionType(VECTOR, [VECTOR] * 2)
        signed = cgutils.get_or_insert_function(builder.module, kind, "llvm.copysign.v16f32")
        values, vectors = (unpack(builder, arg, lanes.vectors) for arg in args[:2])
        beyond = [builder.fcmp_ordered(">", x, most) for x in _each(builder, "fabs", vectors)]
        ones = [builder.call(signed, [one, x]) for x in vectors]
        return pack(builder, [builder.select(*choice) for choice in zip(beyond, ones, values, strict=True)])

    return lanes(lanes, x, types.float32), generate


def _reduced(builder: Any, vectors: list[Any], operation: Callable[[Any, Any], Any]) -> Any:
    """Reduce all lanes of `vectors` by `operation` on two LLVM values."""
    value, *others = vectors
    for other in others:
        value = operation(value, other)
    half = LANES // 2
    while half:
        undefined = ir.Constant(value.type, ir.Undefined)
        low, high = (
            builder.shuffle_vector(
                value, undefined, ir.Constant(ir.VectorType(I32, half), list(range(start, start + half)))
            )
            for start in (0, half)
        )
        value = operation(low, high)
        half //= 2
    return builder.extract_element(value, I32(0))


@intrinsic
def lane_sum(_typing: Any, lanes: Any) -> Any:
    """Return the sum of all lanes, a float32."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _reduced(builder, unpack(builder, args[0], lanes.vectors), builder.fadd)

    return types.float32(lanes), generate


@intrinsic
def lane_max(_typing: Any, lanes: Any) -> Any:
    """Return the largest of all lanes, a float32; an arbitrary lane if any is NaN."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def larger(x: Any, y: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", y, x), y, x)

        return _reduced(builder, unpack(builder, args[0], lanes.vectors), larger)

    return types.float32(lanes), generate


@intrinsic
def power_of_two(_typing: Any, lanes: Any) -> Any:
    """Return 2^n for integers n from -126 to 127, by setting the exponent bits; undefined for others."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        whole = ir.VectorType(I32, LANES)
        bias, bits = (ir.Constant(whole, [number] * LANES) for number in (127, 23))
        powers = []
        for vector in unpack(builder, args[0], lanes.vectors):
            exponent = builder.add(builder.fptosi(vector, whole), bias)
            powers.append(builder.bitcast(builder.shl(exponent, bits), VECTOR))
        return pack(builder, powers)

    return lanes(lanes), generate
