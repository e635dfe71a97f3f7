"""Dropout's hash, written once for arrays, CPU vectors and GPU threads, so that all drop the same activations.

An activation is kept if the hash of its row and column is at least `threshold`. The mixing is the finaliser of
MurmurHash3 (A. Appleby, public domain): flipping an input bit flips each output bit with a probability of about 1/2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

ROW, COLUMN = 0x9E3779B1, 0x85EBCA77
"""Odd factors that spread neighbouring indices over 32 bits: primes, near 2^32 / the golden ratio and from xxHash."""


class Operations(NamedTuple):
    """The operations of the hash on unsigned 32-bit numbers, modulo 2^32; elementwise."""

    add: Callable[[Any, Any], Any]
    xor: Callable[[Any, Any], Any]
    multiply: Callable[[Any, int], Any]
    """By a constant."""
    shift: Callable[[Any, int], Any]
    """To the right by a constant number of bits."""


def hash_of(ops: Operations) -> Callable[[Any, Any, Any], Any]:
    """Return a function that hashes row, column and key; all are unsigned 32-bit numbers."""
    add, xor, multiply, shift = ops.add, ops.xor, ops.multiply, ops.shift

    def hashed(row: Any, column: Any, key: Any) -> Any:
        h = xor(add(multiply(row, ROW), multiply(column, COLUMN)), key)
        h = multiply(xor(h, shift(h, 16)), 0x85EBCA6B)
        h = multiply(xor(h, shift(h, 13)), 0xC2B2AE35)
        return xor(h, shift(h, 16))

    return hashed


def threshold(share: float) -> int:
    """Return the number below which a hash lies with probability `share`, 0 to 1."""
    return min(round(share * 2**32), 2**32 - 1)
