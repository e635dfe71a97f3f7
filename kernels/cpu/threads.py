"""Threads that work on one thing together, each inside the same compiled function."""

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
def _count_one(_typing: Any, counter: Any) -> Any:
    """Add 1 to counter[0], in one go and after all that this thread has written."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        start = _address(context, builder, counter, args[0])
        builder.atomic_rmw("add", start, I64(1), "seq_cst")
        return context.get_dummy_value()

    return types.none(counter), generate


@intrinsic
def _count(_typing: Any, counter: Any) -> Any:
    """Return counter[0], and see whatever was written before it was counted up."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        start = _address(context, builder, counter, args[0])
        return builder.load_atomic(start, "seq_cst", CACHE_LINE)

    return types.int64(counter), generate


@compiled
def wait_for_others(counter: Any, expected: int) -> None:
    """Go on when `counter`, a pointer to an int64 at the start of a cache line, has been counted up to `expected`.

    Every one of T threads counts it up by one as it comes here, so that at the k-th barrier `expected` is k T.
    """
    _count_one(counter)
    looks = 0
    while _count(counter) < expected:
        looks += 1
        if HAS_SCHED_YIELD and looks > SPINS_BEFORE_YIELD:
            _yield_core()


@compiled
def share(count: int, unit: int, thread: int, threads: int) -> Any:
    """Return where the part of `thread` in range(count) begins and ends; only the last end may divide a `unit`."""
    if threads == 1:
        return 0, count
    units = (count + unit - 1) // unit
    return min(count, units * thread // threads * unit), min(count, units * (thread + 1) // threads * unit)
