"""Barriers and work sharing for threads that run the same compiled function."""

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compilation import compiled
from .memory import CACHE_LINE

I64 = ir.IntType(64)

SPINS_BEFORE_YIELD = 2000
"""Spins before a waiting thread calls sched_yield."""

HAS_SCHED_YIELD = hasattr(os, "sched_yield")
"""Whether a waiting thread can yield its core."""

_yield_core = types.ExternalFunction("sched_yield", types.int32())


def _address(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return array if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, array).data


@intrinsic
def _increment(_typing: Any, counter: Any) -> Any:
    """Add 1 to counter[0] atomically, after all of this thread's writes."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        start = _address(context, builder, counter, args[0])
        builder.atomic_rmw("add", start, I64(1), "seq_cst")
        return context.get_dummy_value()

    return types.none(counter), generate


@intrinsic
def _read_counter(_typing: Any, counter: Any) -> Any:
    """Return counter[0]; writes that were made before it was incremented are visible afterwards."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        start = _address(context, builder, counter, args[0])
        return builder.load_atomic(start, "seq_cst", CACHE_LINE)

    return types.int64(counter), generate


@compiled
def wait_for_others(counter: Any, expected: int) -> None:
    """Wait until `counter`, a pointer to an int64 at the start of a cache line, has reached `expected`.

    Each of T threads increments it on arrival, so that `expected` is k T at the k-th barrier.
    """
    _increment(counter)
    spins = 0
    while _read_counter(counter) < expected:
        spins += 1
        if HAS_SCHED_YIELD and spins > SPINS_BEFORE_YIELD:
            _yield_core()


@compiled
def share(count: int, unit: int, thread: int, threads: int) -> Any:
    """Return start and end of the part of `thread` in range(count): multiples of `unit`, except the last end."""
    if threads == 1:
        return 0, count
    units = (count + unit - 1) // unit
    return min(count, units * thread // threads * unit), min(count, units * (thread + 1) // threads * unit)
