"""Several ways to do one thing, timed in turn, so that whatever slows the machine down slows down all of them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

Work = Callable[[], object]

ROUND = 4e-3
"""Seconds that a round of the first way takes at least, by doing it several times: what a clock can tell apart."""

LEAST, MOST = 5, 40
"""How many rounds there are."""


def time_in_turn(
    fixture: Callable[[], Any], ways: Mapping[str, Work], synchronize: Callable[[], None], seconds: float
) -> dict[str, list[float]]:
    """Return the seconds that each of the `ways` took in each round, of which there are as many as fit into `seconds`.

    The first way is timed by pytest-benchmark's fixture, which `fixture` returns, the others before it in each round.
    Each is done once before, with what is compiled then. `synchronize` waits for the device.
    """
    (name, first), *others = ways.items()
    for work in ways.values():
        work()
    repeats, round_of_all = _repeats(first, [work for _, work in others], synchronize)
    found: dict[str, list[float]] = {name: [] for name in ways}

    def repeat(work: Work) -> None:
        for _ in range(repeats):
            work()
        synchronize()

    def time_others() -> tuple[tuple[Work], dict[str, Any]]:
        for other, work in others:
            started = time.perf_counter()
            repeat(work)
            found[other].append((time.perf_counter() - started) / repeats)
        return (first,), {}

    benchmark = fixture()
    rounds = min(max(int(seconds / round_of_all), LEAST), MOST)
    benchmark.pedantic(repeat, setup=time_others, rounds=rounds, warmup_rounds=1, iterations=1)
    for other in found.values():
        del other[: len(other) - rounds]  # that of warming up
    found[name] = [taken / repeats for taken in benchmark.stats.stats.data]
    return found


def _repeats(first: Work, others: list[Work], synchronize: Callable[[], None]) -> tuple[int, float]:
    """Return how often a round does each thing, and the seconds that a round of all will take."""
    repeats, taken = 1, 0.0
    synchronize()
    while True:
        started = time.perf_counter()
        for _ in range(repeats):
            first()
        synchronize()
        taken = time.perf_counter() - started
        if taken >= ROUND:
            break
        repeats *= 2
    started = time.perf_counter()
    for work in others:
        work()
    synchronize()
    return repeats, taken + (time.perf_counter() - started) * repeats
