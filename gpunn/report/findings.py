"""What follows from the results: machines, who is best where, when a GPU overtakes, and what changed between runs."""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gpunn.report.results import Ceiling, Entrant, Epochs, Kernel, Race, Run, Task, Times

Row = TypeVar("Row")

FULL = 60_000
"""The images of all of MNIST."""


@dataclass(frozen=True)
class Machine:
    """All that is known of one machine: of rows that several of its runs have, the newest."""

    runs: tuple[Run, ...]
    """The oldest first."""
    epochs: tuple[Epochs, ...]
    kernels: tuple[Kernel, ...]
    races: tuple[Race, ...]
    ceilings: tuple[Ceiling, ...]

    @property
    def name(self) -> str:
        """The processor, with its cores."""
        about = self.runs[-1].machine
        return f"{_short(about.get('name', 'unknown machine'))}, {about.get('cores', '?')} cores"

    @property
    def devices(self) -> list[str]:
        """Those on which something was timed."""
        trained = [row.entrant.device for row in self.epochs] + [race.entrant.device for race in self.races]
        return list(dict.fromkeys([*trained, *(kernel.device for kernel in self.kernels)]))

    def describe(self, device: str) -> str:
        """Return what `device` is: the name of a GPU, or of the processor."""
        if device == "cpu":
            return self.name
        names = [run.devices[device]["name"] for run in reversed(self.runs) if "name" in run.devices.get(device, {})]
        return _short(names[0]) if names else device


@dataclass(frozen=True)
class Place:
    """A device of a machine."""

    machine: Machine
    device: str

    def __str__(self) -> str:
        return f"{self.device}: {self.machine.describe(self.device)}"


def machines(runs: Iterable[Run]) -> list[Machine]:
    """Return the machines of `runs`, told apart by processor, cores and GPUs, in the order in which they come up."""
    found: list[list[Run]] = []
    for run in runs:
        same = next((mine for mine in found if all(_may_be_one(run, other) for other in mine)), None)
        if same is None:
            found.append([run])
        else:
            same.append(run)
    return [_machine(sorted(mine, key=lambda run: run.started)) for mine in found]


def places(found: Sequence[Machine]) -> list[Place]:
    """Return the devices on which something was timed."""
    return [Place(machine, device) for machine in found for device in machine.devices]


def right(place: Place, *, peers: bool | None = None) -> list[Epochs]:
    """Return the epochs on `place` without a problem: of all entrants, or of peers alone, or of gpunn alone."""
    return [
        row
        for row in place.machine.epochs
        if row.entrant.device == place.device and row.times is not None and peers in {None, row.entrant.is_peer}
    ]


def best(rows: Iterable[Epochs]) -> dict[Task, Epochs]:
    """Return the fastest entrant of each task."""
    found: dict[Task, Epochs] = {}
    for row in rows:
        if row.times is not None and (row.task not in found or row.speed > found[row.task].speed):
            found[row.task] = row
    return found


def speed_ups(place: Place) -> dict[Task, tuple[float, Entrant]]:
    """Return how many times the best peer's speed gpunn's best engine has on each task, and who that peer is.

    Both are of one run, the newest that has both: speeds of different days don't compare.
    """
    found: dict[Task, tuple[float, Entrant]] = {}
    for run in place.machine.runs:
        here = [row for row in run.epochs if row.entrant.device == place.device]
        ours, theirs = (best(row for row in here if row.entrant.is_peer == peers) for peers in (False, True))
        for task in ours:
            if task in theirs:
                found[task] = ours[task].speed / theirs[task].speed, theirs[task].entrant
    return found


def overtakings(gpu: Place, cpu: Place) -> dict[Task, float]:
    """Return how many times the speed of gpunn on `cpu` it has on `gpu`."""
    there, here = best(right(gpu, peers=False)), best(right(cpu, peers=False))
    return {task: there[task].speed / here[task].speed for task in there if task in here}


def crossing(ratios: dict[Task, float]) -> int | None:
    """Return the smallest batch size from which on no ratio is below 1, or None where there is none."""
    found = None
    for task, ratio in sorted(ratios.items(), key=lambda item: -item[0].batch_size):
        if ratio < 1:
            break
        found = task.batch_size
    return found


@dataclass(frozen=True)
class Change:
    """A row of two runs: `ratio` is the new speed over the old one, `low` to `high` what their quartiles allow."""

    label: str
    ratio: float
    low: float
    high: float
    known: bool = True
    """Whether both have a spread: one round has none."""

    @property
    def verdict(self) -> str:
        """Whether the two agree within their spreads, or the new one is faster or slower; or that isn't known."""
        if not self.known:
            return "one round"
        if self.low <= 1 <= self.high:
            return "agree"
        return "faster" if self.ratio > 1 else "slower"


def changes(old: Run, new: Run) -> list[Change]:
    """Return how each row that both runs have has changed, the most first."""
    earlier = dict(_labelled(old))
    found = [_change(label, earlier[label], times) for label, times in _labelled(new) if label in earlier]
    return sorted(found, key=lambda change: -abs(math.log(change.ratio)))


def _labelled(run: Run) -> Iterator[tuple[str, Times]]:
    """Yield the rows that can be compared with those of another run."""
    for row in run.epochs:
        if row.times is not None:
            dense = ", dense" if row.task.dense else ""
            few = "" if row.task.images == FULL else f", {row.task.images:,} images"
            yield f"{row.entrant}, {row.task.network}{dense}{few}, batch {row.task.batch_size}", row.times
    for race in run.races:
        if race.times is not None:
            yield f"{race.entrant}, {race.network} to {race.goal:.0%}", race.times
    for kernel in run.kernels:
        if kernel.fused is not None:
            yield f"{kernel.label} on {kernel.device}", kernel.fused


def _change(label: str, before: Times, after: Times) -> Change:
    ratio = before.median / after.median
    spread = _spread(before) * _spread(after)
    known = all(times.low < times.high for times in (before, after))
    return Change(label, ratio, ratio / spread, ratio * spread, known)


def _spread(times: Times) -> float:
    """Return the factor between the median and the quartile that is farther from it."""
    return max(times.high / times.median, times.median / times.low)


def _short(name: str) -> str:
    """Return a processor's name without its marks."""
    return re.sub(r"\((R|TM|C)\)", "", name, flags=re.IGNORECASE)


def _may_be_one(run: Run, other: Run) -> bool:
    """Whether two runs may be of one machine: nothing that both tell of differs."""
    processors = [(each.machine.get("name"), each.machine.get("cores")) for each in (run, other)]
    both = [device for device in run.devices if device in other.devices]
    names = [(run.devices[device].get("name"), other.devices[device].get("name")) for device in both]
    return processors[0] == processors[1] and all(mine == its for mine, its in names)


def _machine(runs: Sequence[Run]) -> Machine:
    return Machine(
        runs=tuple(runs),
        epochs=_newest((run.epochs for run in runs), lambda row: (row.task, row.entrant)),
        kernels=_newest((run.kernels for run in runs), lambda row: (row.device, row.label)),
        races=_newest((run.races for run in runs), lambda row: (row.network, row.goal, row.entrant)),
        ceilings=_newest((run.ceilings for run in runs), lambda row: row.device),
    )


def _newest(of_runs: Iterable[Sequence[Row]], key: Callable[[Row], Hashable]) -> tuple[Row, ...]:
    found: dict[Hashable, Row] = {}
    for rows in of_runs:
        found |= {key(row): row for row in rows}
    return tuple(found.values())
