"""A fused kernel, its unfused form and a copy of as many bytes, timed in turn.

Whatever slows the machine down then slows down all of them.
"""

import random
import time
from collections.abc import Callable, Mapping

from benchmarks.estimates import estimate
from benchmarks.schema import Kernel
from benchmarks.timing.device import give_memory_back
from benchmarks.workloads.unfused import FUSIONS, Arrays, copy_of, difference
from gpunn import get_backend

Work = Callable[[], object]

ROUND = 4e-3
"""Seconds that a round of the first way takes at least, by doing it several times: what a clock can tell apart."""

LEAST, MOST = 6, 40
"""How many rounds there are."""


def time_kernel(
    device: str, name: str, shape: tuple[int, int], seconds: float
) -> tuple[Kernel, dict[str, list[float]]]:
    """Return a kernel's times, and its rounds by "fused", "unfused" and "copy"; it has a problem if results differ.

    Raises `ConfigurationError` or `OutOfMemoryError` where the device can't do it.
    """
    backend = get_backend(device)
    with backend.activate():
        on = Arrays(backend)
        case = FUSIONS[name][0](on, *shape)
        ways = {"fused": case.fused, "unfused": case.unfused, "copy": copy_of(on, case.n_bytes)}
        found = time_in_turn(ways, backend.synchronize, seconds)
        problem = difference(case.results(), shape[0], backend)
    give_memory_back(backend)
    times = {way: estimate(each) for way, each in found.items()}
    ratio = estimate([slow / fast for fast, slow in zip(found["fused"], found["unfused"], strict=True)])
    return Kernel(device, name, shape, case.n_bytes, **times, ratio=ratio, problem=problem), found


def time_in_turn(ways: Mapping[str, Work], synchronize: Callable[[], None], seconds: float) -> dict[str, list[float]]:
    """Return the seconds that each way took in each round, of which there are as many as fit into `seconds`.

    Each is done once before, with what is compiled then. `synchronize` waits for the device.
    """
    for work in ways.values():
        work()
    order, shuffled = list(ways), random.Random(0)
    repeats, found = 1, dict[str, list[float]]()
    while _seconds_of(ways[order[0]], repeats, synchronize) * repeats < ROUND:
        repeats *= 2
    started = time.perf_counter()
    for number in range(MOST + 1):
        if number > LEAST and time.perf_counter() - started > seconds:
            break
        shuffled.shuffle(order)
        for way in order:
            taken = _seconds_of(ways[way], repeats, synchronize)
            if number > 0:  # the first round warms up
                found.setdefault(way, []).append(taken)
    return found


def _seconds_of(work: Work, repeats: int, synchronize: Callable[[], None]) -> float:
    synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize()
    return (time.perf_counter() - started) / repeats
