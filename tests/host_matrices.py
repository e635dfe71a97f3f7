"""The matrix instruction of a GPU on the host: mma.sync.m16n8k16 on bfloat16 numbers, with float32 sums.

Which thread of a warp has which elements is the PTX ISA's, section "Matrix Fragments for mma.m16n8k16 with floating
point type" (9.7.14.5.8 in PTX ISA 8.7). That manual says of the arithmetic that products have the precision of their
factors, that sums have at least float32's, and that neither their order nor their rounding is specified. So here they
are what has been measured on tensor cores (Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor
cores", PeerJ Computer Science 7:e330, 2021): numbers are aligned with the largest, two bits more are kept than
float32 has, and what is beyond is cut off, as it is from the sum. Any GPU that is as precise as that does as well.
"""

import functools
import math
from typing import Any

import numpy as np
from numba import carray, cfunc, types

M, N, K = 16, 8, 16
WARP = 32
EXTRA_BITS = 2
"""Bits that are kept beyond float32's when numbers are aligned."""


def _multiply_add(given_at: Any, results_at: Any) -> None:
    given, results = carray(given_at, (WARP, 10), np.uint32), carray(results_at, (WARP, 4), np.float32)
    starts = carray(given_at, (WARP, 10), np.float32)
    a, b, words = np.empty((M, K)), np.empty((K, N)), np.empty(2, np.uint32)
    numbers = words.view(np.float32)
    for lane in range(WARP):
        group, member = lane // 4, lane % 4
        for i in range(8):
            # Two elements a register, the first in the lower half.
            words[0] = given[lane, i // 2] >> np.uint32(16 * (i % 2)) << np.uint32(16)
            row = group if i < 2 or 4 <= i < 6 else group + 8
            column = member * 2 + i % 2 + (0 if i < 4 else 8)
            a[row, column] = numbers[0]
        for i in range(4):
            words[0] = given[lane, 4 + i // 2] >> np.uint32(16 * (i % 2)) << np.uint32(16)
            b[member * 2 + i % 2 + (0 if i < 2 else 8), group] = numbers[0]
    for lane in range(WARP):
        for i in range(4):
            row, column = lane // 4 + (0 if i < 2 else 8), lane % 4 * 2 + i % 2
            start = np.float64(starts[lane, 6 + i])
            largest = abs(start)
            for k in range(K):
                largest = max(largest, abs(a[row, k] * b[k, column]))
            if not largest < np.inf or largest == 0:  # the sum of what has no end, or is none
                total = start
                for k in range(K):
                    total += a[row, k] * b[k, column]
                results[lane, i] = total
                continue
            _, exponent = math.frexp(largest)
            bits = min(24 + EXTRA_BITS - exponent, 1000)
            scale = math.ldexp(1.0, bits)
            total = np.trunc(start * scale)
            for k in range(K):
                total += np.trunc(a[row, k] * b[k, column] * scale)
            total *= math.ldexp(1.0, -bits)
            numbers[0] = total
            if abs(np.float64(numbers[0])) > abs(total):
                words[0] -= np.uint32(1)
            results[lane, i] = numbers[0]


@functools.cache
def multiply_add() -> Any:
    """Return the compiled function: it is given what the threads of a warp give, (32, 10) words, and makes (32, 4)."""
    return cfunc(types.void(types.voidptr, types.voidptr))(_multiply_add)
