"""Products on tensor cores that are as accurate as float32, and what else a warp needs for them in kernels.

A tensor core multiplies bfloat16 numbers and adds up in float32. A float32 number is exactly the sum of three bfloat16
ones, its significand's upper, middle and lower eight bits, and grey levels from 0 to 255 are bfloat16 numbers. So three
products with the parts of a factor are the product with the factor.

Numba has none of these instructions: products are inline PTX, and loads, stores and casts LLVM's. Importing this needs
the compiler, not the simulator.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.types.containers import UniTuple

from .jit import device_function, intrinsic

U32 = np.uint32

MULTIPLY_ADD = (
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
)
PERMUTE = "prmt.b32 $0, $1, $2, $3;"

BEYOND = U32(0x4B000000)
"""Bits of 2**23, the float32 number whose lowest byte counts ones."""
LOWER_HALVES, UPPER_HALVES = U32(0x5410), U32(0x7632)
"""`permute` puts these 16 bits of two words into one."""
UPPER_BITS = U32(0xFFFF0000)
"""The bits of a float32 number that make a bfloat16 one."""


def _words(context: Any, builder: Any, array_type: Any, array: Any, index: Any, n: int) -> Any:
    """Return the pointer to `n` 4-byte numbers from `index` on, as a vector."""
    data = context.make_array(array_type)(context, builder, array).data
    element = context.get_data_type(array_type.dtype)
    return builder.bitcast(builder.gep(data, [index]), ir.VectorType(element, n).as_pointer(data.type.addrspace))


def _load(n: int) -> Any:
    @intrinsic
    def load(typing_context: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, index = arguments
            at = _words(context, builder, signature.args[0], array, index, n)
            loaded = builder.load(at, align=4 * n)
            numbers = [builder.extract_element(loaded, ir.Constant(ir.IntType(32), k)) for k in range(n)]
            return cgutils.pack_array(builder, numbers)

        return UniTuple(array.dtype, n)(array, index), generate

    return load


load_2, load_4 = _load(2), _load(4)
"""Return 2 or 4 numbers of 4 bytes from `index` of an array on, in one access; it must be a multiple of 2, or 4."""


@intrinsic
def store_4(typing_context: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Store four numbers of 4 bytes from `index` of an array on, a multiple of 4, in one access."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, *numbers = arguments
        at = _words(context, builder, signature.args[0], array, index, 4)
        vector: Any = ir.Constant(at.type.pointee, ir.Undefined)
        for k, number in enumerate(numbers):
            vector = builder.insert_element(vector, number, ir.Constant(ir.IntType(32), k))
        builder.store(vector, at, align=16)
        return context.get_dummy_value()

    element = array.dtype
    return types.void(array, index, element, element, element, element), generate


def _same_bits(of: Any, to: Any) -> Any:
    @intrinsic
    def same_bits(typing_context: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(to))

        return to(of), generate

    return same_bits


bits_of, float_of = _same_bits(types.float32, types.uint32), _same_bits(types.uint32, types.float32)
"""Return the bits of a float32 number; return the number that has these bits."""


@intrinsic
def permute(typing_context: Any, a: Any, b: Any, selector: Any) -> Any:
    """Return four of the bytes 0 to 3, those of `a`, and 4 to 7, of `b`: one for each digit, base 16, of `selector`."""
    u32 = types.uint32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        return builder.call(ir.InlineAsm(ir.FunctionType(word, [word] * 3), PERMUTE, "=r,r,r,r"), arguments)

    return u32(u32, u32, u32), generate


@intrinsic
def multiply_add(
    typing_context: Any, a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, c0: Any, c1: Any, c2: Any, c3: Any
) -> Any:
    """Return a thread's part of A B + C, given its parts of A (16, 16), B (16, 8), bfloat16, and C (16, 8), float32.

    All threads of a warp call it together. Which elements are a thread's says the PTX manual, "Matrix Fragments for
    mma.m16n8k16 with floating point type".
    """
    u32, f32 = types.uint32, types.float32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, single = ir.IntType(32), ir.FloatType()
        shape = ir.FunctionType(ir.LiteralStructType([single] * 4), [word] * 6 + [single] * 4)
        instruction = ir.InlineAsm(shape, MULTIPLY_ADD, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", side_effect=True)
        result = builder.call(instruction, arguments, attrs=("convergent",))
        return cgutils.pack_array(builder, [builder.extract_value(result, k) for k in range(4)])

    return UniTuple(f32, 4)(*[u32] * 6, *[f32] * 4), generate


@device_function
def split(number: Any) -> Any:
    """Return the three bfloat16 numbers, as bits of float32 ones, whose sum a float32 `number` is.

    Each is what the ones before leave, cut off after 8 bits, so that nothing is rounded. Below 2**-110 some is lost.
    """
    first = bits_of(number) & UPPER_BITS
    rest = number - float_of(first)
    second = bits_of(rest) & UPPER_BITS
    return first, second, bits_of(rest - float_of(second))


@device_function
def split_2(low: Any, high: Any) -> Any:
    """Return the three parts of two numbers as pairs of bfloat16 numbers."""
    low1, low2, low3 = split(low)
    high1, high2, high3 = split(high)
    return permute(low1, high1, UPPER_HALVES), permute(low2, high2, UPPER_HALVES), permute(low3, high3, UPPER_HALVES)


@device_function
def grey_levels(word: Any) -> Any:
    """Return the four bytes of a word as two pairs of bfloat16 numbers."""
    beyond = float_of(BEYOND)
    a = bits_of(float_of(permute(word, BEYOND, U32(0x7440))) - beyond)
    b = bits_of(float_of(permute(word, BEYOND, U32(0x7441))) - beyond)
    c = bits_of(float_of(permute(word, BEYOND, U32(0x7442))) - beyond)
    d = bits_of(float_of(permute(word, BEYOND, U32(0x7443))) - beyond)
    return permute(a, b, UPPER_HALVES), permute(c, d, UPPER_HALVES)
