"""Dropout's hash, given once for arrays, vectors of a CPU and threads of a GPU, so that all drop the same activations.

An activation is kept where the hash of its row and column is at least `threshold`. The mixing is the finaliser of
MurmurHash3 (A. Appleby, public domain), which flips each bit of its result for half of the inputs that differ in one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

ROW, COLUMN = 0x9E3779B1, 0x85EBCA77
"""Odd factors that spread neighbours over all 32 bits: primes near the golden ratio, and of xxHash."""


class Operations(NamedTuple):
    """The operations of the hash on unsigned 32-bit numbers, modulo 2^32; elementwise."""

    add: Callable[[Any, Any], Any]
    xor: Callable[[Any, Any], Any]
    multiply: Callable[[Any, int], Any]
    """By a constant."""
    shift: Callable[[Any, int], Any]
    """To the right by a constant number of bits."""


def hash_of(ops: Operations) -> Callable[[Any, Any, Any], Any]:
    """Return the function that hashes row, column and key, unsigned 32-bit numbers, to one."""
    add, xor, multiply, shift = ops.add, ops.xor, ops.multiply, ops.shift

    def hashed(row: Any, column: Any, key: Any) -> Any:
        h = xor(add(multiply(row, ROW), multiply(column, COLUMN)), key)
        h = multiply(xor(h, shift(h, 16)), 0x85EBCA6B)
        h = multiply(xor(h, shift(h, 13)), 0xC2B2AE35)
        return xor(h, shift(h, 16))

    return hashed


def threshold(share: float) -> int:
    """Return the number below which lies a `share`, 0 to 1, of all that a hash can be."""
    return min(round(share * 2**32), 2**32 - 1)
