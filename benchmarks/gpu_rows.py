"""What is measured on a GPU, the most important first, and what is aimed at."""

from dataclasses import dataclass, field

from benchmarks.bars import Row
from benchmarks.peers import peers_on
from gpunn.engines import ENGINES

SMALL, WIDE, LARGE = "784-16-10", "784-128-10", "784-2048-2048-10"

ON_CPU = "auto on cpu"
"""The contestant that shows from where on a GPU is faster than the CPU beside it."""

_ORDER = (
    (SMALL, 32),
    (LARGE, 1024),
    (WIDE, 32),
    (SMALL, 1024),
    (LARGE, 8192),
    (LARGE, 60000),
    (SMALL, 128),
    (SMALL, 60000),
    (WIDE, 1024),
    (WIDE, 128),
    (LARGE, 128),
    (LARGE, 32),
    (SMALL, 8192),
    (WIDE, 60000),
    (WIDE, 8192),
)
_ONLINE = ((SMALL, 1), (WIDE, 1))
"""Batch size 1: 60,000 steps an epoch, the slowest rows."""


@dataclass(frozen=True)
class Task:
    """A row, how its matrices are multiplied, and the longest that an epoch of gpunn should take."""

    row: Row
    precision: str = "float32"
    at_most: float | None = None
    """In seconds."""
    peers: tuple[str, ...] = field(default_factory=lambda: tuple(peers_on("cuda")))

    @property
    def engines(self) -> list[str]:
        """The engines on the device, `auto` among them by another name, and that of the CPU."""
        return [*ENGINES, ON_CPU]

    @property
    def left_out(self) -> dict[str, str]:
        """Those who don't take part, and why."""
        if self.row.network != LARGE:
            return {}
        why = "takes minutes for a network of this size"
        return {"epoch": f"on one multiprocessor, {why}", ON_CPU: why}

    def __str__(self) -> str:
        return f"{self.row.network}, batch size {self.row.batch_size}, {self.precision}"


def tasks(*, with_targets: bool) -> list[Task]:
    """Return everything to be measured, the most important first, with the targets of a GPU or without any."""
    found = [_task(network, batch_size, with_targets=with_targets) for network, batch_size in _ORDER]
    found += [Task(Row(LARGE, batch_size), "tf32") for batch_size in (1024, 8192)]
    return found + [_task(network, batch_size, with_targets=with_targets) for network, batch_size in _ONLINE]


def _task(network: str, batch_size: int, *, with_targets: bool) -> Task:
    if with_targets and (network, batch_size) == (SMALL, 32):
        return Task(Row(network, batch_size, bar=8), at_most=5e-3)
    if with_targets and network == LARGE and batch_size >= 1024:
        return Task(Row(network, batch_size, bar=1))
    return Task(Row(network, batch_size))
