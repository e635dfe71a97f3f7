"""Vectors of float32 in registers, for Numba-compiled code on CPUs.

Numba vectorises plain loops badly here, so vectors are explicit. `Lanes` is a multiple of 16 numbers, as LLVM's
<16 x float>, which becomes one AVX-512 register, two of AVX2, four of NEON. `+`, `-`, `*`, `/`, `minimum` and `maximum`
work lane by lane, also between lanes and a number, and round after every operation; `fma`, `add_scaled` and `add_outer`
round once. The number of lanes is part of the type, so that everything unrolls; a caller chooses it, or a formula, by
passing a `Static`. `gpunn.kernels.cpu.memory` moves lanes to and from arrays.
"""

import operator
from collections.abc import Callable
from typing import Any, final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_builtin,
    models,
    register_model,
    type_callable,
    typeof_impl,
    unbox,
)

LANES = 16
"""Numbers in one vector; widths are padded to multiples of it."""

VECTOR = ir.VectorType(ir.FloatType(), LANES)
I32 = ir.IntType(32)


@final
class Static:
    """A compile-time constant: a value that is part of its type, such as a number of vectors or a formula's name."""

    def __init__(self, value: Any) -> None:
        """Take a value that its `repr` determines."""
        self.value = value
        self.type = StaticType(value)
        """Stored, as Numba asks for it at every call from Python."""


class StaticType(types.Type):
    """The Numba type of `Static(value)`."""

    def __init__(self, value: Any) -> None:
        self.value = value
        super().__init__(name=f"Static({value!r})")


class LanesType(types.Type):
    """The Numba type of `vectors` times 16 float32 numbers."""

    def __init__(self, vectors: int) -> None:
        self.vectors = vectors
        super().__init__(name=f"Lanes({vectors})")


register_model(StaticType)(models.OpaqueModel)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: LanesType) -> None:
        super().__init__(manager, lanes, ir.ArrayType(VECTOR, lanes.vectors))


@typeof_impl.register(Static)
def _typeof_static(value: Static, _: Any) -> StaticType:
    return value.type


@unbox(StaticType)
def _unbox_static(_typ: Any, _obj: Any, c: Any) -> NativeValue:
    return NativeValue(c.context.get_dummy_value())


@lower_constant(StaticType)
def _lower_static(context: Any, _builder: Any, _typ: Any, _value: Any) -> Any:
    return context.get_dummy_value()


def unpack(builder: Any, lanes: Any, count: int) -> list[Any]:
    """Return the `count` vectors of `lanes`, as LLVM values."""
    return [builder.extract_value(lanes, number) for number in range(count)]


def pack(builder: Any, vectors: list[Any]) -> Any:
    """Return lanes made of LLVM `vectors`."""
    lanes = ir.Constant(ir.ArrayType(VECTOR, len(vectors)), ir.Undefined)
    for number, vector in enumerate(vectors):
        lanes = builder.insert_value(lanes, vector, number)
    return lanes


def splat(builder: Any, number: Any) -> Any:
    """Return a vector with the LLVM float `number` in every lane."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def _as_vectors(context: Any, builder: Any, kind: Any, value: Any, count: int) -> list[Any]:
    """Return the vectors of lanes, or `count` vectors filled with a number."""
    if isinstance(kind, LanesType):
        return unpack(builder, value, count)
    return [splat(builder, context.cast(builder, value, kind, types.float32))] * count


def multiply_add(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Return the vector x * y + z, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v16f32"), [x, y, z])


@intrinsic
def zeros(_typing: Any, rows: Any, vectors: Any) -> Any:
    """Return `rows` times `vectors` vectors of zeros; both are `Static`."""
    count = rows.value * vectors.value

    def generate(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        return pack(builder, [ir.Constant(VECTOR, [0.0] * LANES)] * count)

    return LanesType(count)(rows, vectors), generate


@intrinsic
def n_lanes(_typing: Any, vectors: Any) -> Any:
    """Return the number of lanes in `vectors`, a `Static`, as a compile-time constant."""

    def generate(context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return context.get_constant(types.int64, LANES * vectors.value)

    return types.int64(vectors), generate


@intrinsic
def add_scaled(_typing: Any, lanes: Any, number: Any, others: Any) -> Any:
    """Return lanes + number * others; `number` is one float32."""
    count = lanes.vectors

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        factor = splat(builder, args[1])
        pairs = zip(unpack(builder, args[0], count), unpack(builder, args[2], count), strict=True)
        return pack(builder, [multiply_add(builder, factor, other, value) for value, other in pairs])

    return lanes(lanes, types.float32, others), generate


@intrinsic
def total_of_four(_typing: Any, sums: Any) -> Any:
    """Return the sum of the four parts of `sums`, added in pairs."""
    count = sums.vectors // 4

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        vectors = unpack(builder, args[0], 4 * count)
        parts = [vectors[part * count : (part + 1) * count] for part in range(4)]
        halves = [[builder.fadd(*pair) for pair in zip(*parts[half : half + 2], strict=True)] for half in (0, 2)]
        return pack(builder, [builder.fadd(*pair) for pair in zip(*halves, strict=True)])

    return LanesType(count)(sums), generate


@intrinsic
def fma(_typing: Any, left: Any, right: Any, summand: Any) -> Any:
    """Return left * right + summand, lane by lane, rounded once; `left` are lanes, the others lanes or numbers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        terms = zip(
            *(_as_vectors(context, builder, *pair, left.vectors) for pair in zip(signature.args, args, strict=True)),
            strict=True,
        )
        return pack(builder, [multiply_add(builder, *term) for term in terms])

    return left(left, right, summand), generate


def minimum(left: Any, right: Any) -> Any:
    """Return the smaller one, lane by lane; `left` where either is NaN."""
    raise NotImplementedError("for compiled code only")


def maximum(left: Any, right: Any) -> Any:
    """Return the larger one, lane by lane; `left` where either is NaN."""
    raise NotImplementedError("for compiled code only")


def _lane_by_lane(function: Callable[..., Any], operation: Callable[[Any, Any, Any], Any]) -> None:
    """Implement `function` for lanes, and for lanes and a number, by `operation` on two LLVM vectors."""

    def typer(_context: Any) -> Any:
        def typed(left: Any, right: Any) -> Any:
            if isinstance(left, LanesType) and isinstance(right, LanesType | types.Number):
                return left
            return right if isinstance(left, types.Number) and isinstance(right, LanesType) else None

        return typed

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count = signature.return_type.vectors
        left, right = (
            _as_vectors(context, builder, kind, value, count) for kind, value in zip(signature.args, args, strict=True)
        )
        return pack(builder, [operation(builder, x, y) for x, y in zip(left, right, strict=True)])

    type_callable(function)(typer)
    for kinds in ((LanesType, LanesType), (LanesType, types.Number), (types.Number, LanesType)):
        lower_builtin(function, *kinds)(generate)


_lane_by_lane(operator.add, lambda builder, x, y: builder.fadd(x, y))
_lane_by_lane(operator.sub, lambda builder, x, y: builder.fsub(x, y))
_lane_by_lane(operator.mul, lambda builder, x, y: builder.fmul(x, y))
_lane_by_lane(operator.truediv, lambda builder, x, y: builder.fdiv(x, y))
# Comparisons with NaN are false.
_lane_by_lane(minimum, lambda builder, x, y: builder.select(builder.fcmp_ordered("<", y, x), y, x))
_lane_by_lane(maximum, lambda builder, x, y: builder.select(builder.fcmp_ordered(">", y, x), y, x))
