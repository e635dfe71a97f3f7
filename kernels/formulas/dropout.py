"""Dropout's hash: numbers that `gpunn.dropout` and the compiled kernels share, so that all drop the same places.

h = (row ROW + column COLUMN) ^ key, with h ^= h >> shift and h *= multiplier for each of `ROUNDS`, and h ^= h >> LAST,
all in unsigned 32-bit numbers; a place is kept where h is at least `threshold`. It is the finaliser of MurmurHash3
(A. Appleby, public domain), which flips each bit of its result for half of the inputs that differ in one.
"""

ROW, COLUMN = 0x9E3779B1, 0x85EBCA77
"""Odd numbers that spread neighbouring places over all 32 bits: primes near the golden ratio, and of xxHash."""

ROUNDS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35))
LAST = 16


def threshold(share: float) -> int:
    """Return the number below which lies a `share`, 0 to 1, of all that a hash can be."""
    return min(round(share * 2**32), 2**32 - 1)
