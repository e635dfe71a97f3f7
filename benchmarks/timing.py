"""The times of one entrant: warmed up, a fresh network a round, and every network that was timed is compared."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import SETTLE, Network
from benchmarks.entrants import Prepare
from gpunn.engines import Parameters

LEAST, MOST = 3, 25
"""How many rounds there are at least, unless epochs are long, and at most."""

LONG = 5.0
"""Seconds of an epoch after which there is one round alone."""

SHORT = 1.0
"""Seconds of a first epoch after which there is a second one to tell how long an epoch takes.

What takes less may have spent the time on starting its threads.
"""

LATE_SHARE, LATE_SECONDS = 0.05, 1e-3
"""What a device may still be computing when an epoch's time is taken: this share of it, and what a clock can't tell."""

Judge = Callable[[float, Parameters], tuple[float, str | None]]
"""Takes the loss of an epoch and the parameters after it, and returns their deviation and what is wrong with them."""


class Way(NamedTuple):
    """How an entrant prepares a network: with how many threads, and the seconds that this and an epoch take."""

    threads: int | None
    prepare: Prepare
    preparation: float
    epoch: float


@dataclass
class Timing:
    """The rounds of an entrant, in seconds."""

    threads: int | None
    seconds: list[float] = field(default_factory=list)
    preparations: list[float] = field(default_factory=list)
    """Of each round's network, before its time starts; what is compiled once has been compiled."""
    late: list[float] = field(default_factory=list)
    """How much longer reading the parameters took right after an epoch than once more after that."""
    deviation: float = 0.0
    """The largest of all rounds."""
    wrong: str | None = None
    """What is wrong with a network that was timed."""
    parameters: Parameters | None = None
    """Those after the last round."""

    @property
    def problem(self) -> str | None:
        """Why these times count for nothing, or None."""
        if self.wrong is not None:
            return self.wrong
        median, late = statistics.median(self.seconds), statistics.median(self.late)
        if late > LATE_SHARE * median + LATE_SECONDS:
            return (
                f"the device was still computing when the time was taken: after epochs of {median * 1e3:.1f} ms its "
                f"parameters could be read {late * 1e3:.1f} ms later"
            )
        return None


def time_epochs(
    fixture: Callable[[], Any], ways: dict[int | None, Prepare], order: NDArray[Any], judge: Judge, seconds: float
) -> Timing:
    """Return the times of epochs over `order`, in the fastest of the `ways` to prepare a network.

    `fixture` returns pytest-benchmark's, which is asked for when it is needed, as it warns of tests that end without
    having used it. Each round has a network of its own, made outside its time; there are as many as fit into
    `seconds`, but `LEAST` at least, or one where an epoch takes longer than `LONG`.
    """
    way = fastest_way(ways, order)
    least = LEAST if way.epoch < LONG else 1
    rounds = min(max(int(seconds / (way.preparation + SETTLE + way.epoch)), least), MOST)
    timing = Timing(way.threads)
    losses: list[float] = []

    def set_up() -> tuple[tuple[Network], dict[str, Any]]:
        started = time.perf_counter()
        network = way.prepare()
        timing.preparations.append(time.perf_counter() - started)
        time.sleep(SETTLE)
        return (network,), {}

    def epoch(network: Network) -> None:
        losses.append(network.run_epoch(order))

    def compare(network: Network) -> None:
        first, second = _seconds_to_read(network), _seconds_to_read(network)
        timing.late.append(max(0.0, first - second))
        timing.parameters = network.parameters()
        deviation, wrong = judge(losses[-1], timing.parameters)
        timing.deviation = max(timing.deviation, deviation)
        timing.wrong = timing.wrong or wrong

    benchmark = fixture()
    benchmark.pedantic(epoch, setup=set_up, teardown=compare, rounds=rounds, iterations=1)
    timing.seconds += benchmark.stats.stats.data
    return timing


def quartiles(seconds: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return float(low), float(median), float(high)


def fastest_way(ways: dict[int | None, Prepare], order: NDArray[Any]) -> Way:
    """Compile, train once or twice, and return the way with the shortest epoch."""
    found = []
    for threads, prepare in ways.items():
        prepare()  # with what is compiled then, which isn't part of a round
        started = time.perf_counter()
        network = prepare()
        preparation = time.perf_counter() - started
        epoch = _seconds_of(network, order)
        if epoch < SHORT:
            epoch = min(epoch, _seconds_of(network, order))
        found.append(Way(threads, prepare, preparation, epoch))
    return min(found, key=lambda way: way.epoch)


def _seconds_of(network: Network, order: NDArray[Any]) -> float:
    time.sleep(SETTLE)
    started = time.perf_counter()
    network.run_epoch(order)
    return time.perf_counter() - started


def _seconds_to_read(network: Network) -> float:
    started = time.perf_counter()
    network.parameters()
    return time.perf_counter() - started
