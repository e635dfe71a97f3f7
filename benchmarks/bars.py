"""The rows of the speed table, and how many times faster than the best peer gpunn has to be in each."""

from collections.abc import Sequence
from dataclasses import dataclass

MIXED = (1, 32, 1024)
"""The batch sizes of a network that has no bars."""

_SPARSE = {
    "784-16-10": {1: 15, 10: 10, 32: 5, 128: 2.5, 1024: 2, 60000: 2},
    "784-128-10": {1: 25, 10: 5, 32: 1.8, 128: 1.3, 1024: 1.1},
    "784-100-50-10": {1: 15, 32: 1.3, 1024: 1.1},
    "784-1024-1024-10": {128: 1.1, 1024: 1.05},
}
_DENSE = {"784-16-10": {1: 8, 32: 2, 1024: 1.2}}


@dataclass(frozen=True)
class Row:
    """What is timed: a network, its batch size, and images as they are or, `dense`, without a zero pixel."""

    network: str
    batch_size: int
    dense: bool = False
    bar: float | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The layer sizes."""
        return tuple(map(int, self.network.split("-")))

    @property
    def learning_rate(self) -> float:
        """A rate at which rounding errors stay small over an epoch, so that results can be compared."""
        # Many neurons together overshoot, which a few steps don't magnify.
        overshoots = max(self.sizes[1:]) > 1024 and self.batch_size < 8192
        return 0.02 if self.batch_size == 1 or overshoots else 0.1

    def __str__(self) -> str:
        return f"{self.network}, batch size {self.batch_size}, {'dense' if self.dense else 'sparse'}"


BARS = [
    Row(network, batch_size, dense, bar)
    for dense, table in ((False, _SPARSE), (True, _DENSE))
    for network, bars in table.items()
    for batch_size, bar in bars.items()
]


def chosen_rows(networks: Sequence[str] = (), batch_sizes: Sequence[int] = (), *, dense: bool = False) -> list[Row]:
    """Return the rows of these networks and batch sizes, with their bars where they have one; without any, all bars.

    What isn't given is as in the bars: their networks, or a network's batch sizes.
    """
    if not (networks or batch_sizes or dense):
        return BARS
    known = {(row.network, row.batch_size): row for row in BARS if row.dense == dense}
    rows = []
    for network in networks or dict.fromkeys(network for network, _ in known):
        for batch_size in batch_sizes or [m for with_bar, m in known if with_bar == network] or MIXED:
            rows.append(known.get((network, batch_size), Row(network, batch_size, dense)))  # noqa: PERF401
    return rows
