"""What follows from the results: machines, who is best where, what can be told, and what changed between runs."""

import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.report.wording import kind_of, listed, name_of, some
from benchmarks.schema import Comparison, Contestant, Estimate, Race, Result, Row, Run, Start, Task

ROUGH = 0.1
"""Of the median: a wider interval makes a time a rough one."""


@dataclass(frozen=True)
class Timed:
    """The seconds of a contestant's epochs, or of its first one where that is all there is."""

    contestant: Contestant
    seconds: float
    rough: bool
    """Whether the interval is wide, or there are too few rounds for one."""
    variation: float | None
    """The coefficient of variation of the rounds, where there are several."""

    @property
    def label(self) -> str:
        """Who it is, without the device."""
        return label_of(self.contestant)


def label_of(contestant: Contestant) -> str:
    """Return who a contestant is, without the device."""
    return contestant.name if contestant.is_peer else f"gpunn {contestant.name}"


def timed(result: Result) -> Timed | None:
    """Return how long a contestant took; None where that counts for nothing. Too slow ones have their first epoch."""
    if result.problem is not None:
        return None
    steady = result.steady
    if steady is None:
        first = result.first
        return None if not first else Timed(result.contestant, first, True, None)
    rough = not steady.sure or steady.high - steady.low > ROUGH * steady.median
    variation = steady.variation if steady.rounds > 1 else None
    return Timed(result.contestant, steady.median, rough, variation)


@dataclass(frozen=True, eq=False)  # told apart by identity
class Machine:
    """A machine, and its runs, the oldest first."""

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The processor, with its cores."""
        about = self.runs[-1].machine
        return f"{_short(about.name)}, {about.cores} core{'s' * (about.cores > 1)}"

    def describe(self, device: str) -> str:
        """Return what `device` is: the name of a GPU, or of the processor."""
        if device == "cpu":
            return self.name
        known = [run.machine.devices.get(device, {}).get("name") for run in reversed(self.runs)]
        return _short(next(filter(None, known), device))


@dataclass(frozen=True)
class Place:
    """A device of a machine."""

    machine: Machine
    device: str

    def __str__(self) -> str:
        return self.machine.describe(self.device)


@dataclass(frozen=True, eq=False)
class Part:
    """A row on one device: all of one run, so that speeds compare."""

    place: Place
    row: Row
    run: Run

    @property
    def task(self) -> Task:
        """What was timed."""
        return self.row.task

    @property
    def results(self) -> list[Result]:
        """The results of this device."""
        return [result for result in self.row.results if result.contestant.device == self.place.device]

    @cached_property
    def timed(self) -> list[Timed]:
        """All who have a time, the fastest first."""
        found = map(timed, self.results)
        return sorted(filter(None, found), key=lambda each: each.seconds)

    @property
    def comparison(self) -> Comparison:
        """How gpunn compares with the best peer."""
        found = [each for each in self.row.comparisons if each.device == self.place.device]
        return found[0] if found else Comparison(device=self.place.device)

    @property
    def ours(self) -> Timed | None:
        """The engine that gpunn is compared by; the fastest without one."""
        mine = [each for each in self.timed if not each.contestant.is_peer]
        return next((each for each in mine if each.contestant.name == self.comparison.ours), mine[0] if mine else None)

    @property
    def best_peer(self) -> Timed | None:
        """The fastest peer."""
        theirs = [each for each in self.timed if each.contestant.is_peer]
        chosen = self.comparison.best_peer
        return next((each for each in theirs if each.contestant.name == chosen), theirs[0] if theirs else None)

    def speed(self, seconds: float) -> float:
        """Return images per second."""
        return self.task.examples / seconds

    def point(self, each: Timed) -> tuple[int, float, bool]:
        """Return what a chart shows of a time: batch size, speed, and whether it is rough."""
        return self.task.batch_size, self.speed(each.seconds), each.rough


def machines(runs: Iterable[Run]) -> list[Machine]:
    """Return the machines of `runs`, told apart by processor, cores and GPUs, in the order in which they come up."""
    found: list[list[Run]] = []
    for run in runs:
        same = next((mine for mine in found if all(_may_be_one(run, other) for other in mine)), None)
        if same is None:
            found.append([run])
        else:
            same.append(run)
    return [Machine(tuple(sorted(mine, key=lambda run: run.started))) for mine in found]


def parts_of(found: Iterable[Machine]) -> list[Part]:
    """Return what was timed on each device of the machines; of a task that several runs have, the newest."""
    parts: dict[tuple[Any, ...], Part] = {}
    for number, machine in enumerate(found):
        for run in machine.runs:
            for row in run.rows:
                for device in dict.fromkeys(result.contestant.device for result in row.results):
                    part = Part(Place(machine, device), row, run)
                    if part.timed:
                        parts[number, device, name_of(row.task)] = part
    return list(parts.values())


KEYS: dict[str, Callable[[Any], Any]] = {
    "races": lambda it: (goal_of(it), it.contestant.key),
    "starts": lambda it: (name_of(it.task), it.contestant.key),
    "kernels": lambda it: (it.device, it.label),
    "published": lambda it: (it.network, it.source, it.recipe, it.device),
    "estimator_times": lambda it: (it.hidden, it.batch_size, it.solver, it.device),
    "estimator_accuracies": lambda it: (it.data, it.hidden, it.solver, it.device),
}
"""What tells items of a run's lists apart."""


def newest(found: Machine, what: str) -> list[Any]:
    """Return the items of a machine's runs in the list called `what`: of those that several runs have, the newest.

    Those on all images; where there are none, all.
    """
    items = {KEYS[what](item): item for run in found.runs for item in getattr(run, what)}
    full = [item for item in items.values() if not hasattr(item, "task") or item.task.full]
    return full or list(items.values())


def races(found: Machine) -> list[Race]:
    """Return the ways to an accuracy that came to their goal, the fastest of each goal first."""
    done = [race for race in newest(found, "races") if race.runs and race.problem is None]
    return sorted(done, key=lambda race: (goal_of(race), median_seconds(race)))


def goal_of(race: Race) -> str:
    """Return what a race is about: a network, and a share of the test images."""
    few = "" if race.task.full else f", {race.task.images:,} images"
    return f"{race.task.network} to {100 * race.goal:g} % of the test images{few}"


def median_seconds(race: Race) -> float:
    """Return the median of the seeds' seconds."""
    return statistics.median(run.seconds for run in race.runs)


def starts(found: Machine, parts: Iterable[Part]) -> list[tuple[Start, Timed | None]]:
    """Return the first epochs of fresh processes, each with the contestant's steady time, where it has one."""
    here = [part for part in parts if part.place.machine is found]
    steady = {(name_of(part.task), each.contestant.key): each for part in here for each in part.timed}
    right = [start for start in newest(found, "starts") if start.problem is None]
    return [(start, steady.get((name_of(start.task), start.contestant.key))) for start in right]


def bars_in_words(parts: Iterable[Part]) -> str:
    """Return how many bars are met, and which are not; "" without any."""
    verdicts: dict[str, list[str]] = {}
    for part in parts:
        for target in part.comparison.targets:
            verdicts.setdefault(target.verdict, []).append(f"{name_of(part.task)} on {part.place.device}")
    n = sum(map(len, verdicts.values()))
    if not n:
        return ""
    counts = [f"{len(names)} {verdict}" for verdict, names in sorted(verdicts.items())]
    others = [name for verdict in ("missed", "undecided") for name in verdicts.get(verdict, [])]
    return f"Of {some(n, 'bar')}: {listed(counts)}{f' ({listed(others)})' if 0 < len(others) < 3 else ''}."


def full_or_all(parts: Sequence[Part]) -> list[Part]:
    """Return those on all images; where there are none, all: tries on fewer images aren't mixed with full runs."""
    return [part for part in parts if part.task.full] or list(parts)


def by_kind(parts: Iterable[Part]) -> dict[tuple[Place, str], list[Part]]:
    """Return the parts that differ in batch size alone, the smallest batches first."""
    found: dict[tuple[Place, str], list[Part]] = {}
    for part in parts:
        found.setdefault((part.place, kind_of(part.task)), []).append(part)
    # The longest first, which is the one to begin with; those of one length in the order of the rows.
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return {key: sorted(mine, key=lambda part: part.task.batch_size) for key, mine in ordered}


def best_of(parts: Sequence[Part]) -> str | None:
    """Return the peer that is the best in most of the parts."""
    names = [part.best_peer.contestant.name for part in parts if part.best_peer]
    return statistics.mode(names) if names else None


@dataclass(frozen=True)
class Change:
    """A contestant in two runs: `ratio` is the new speed over the old one, within `low` to `high`."""

    kind: str
    label: str
    is_peer: bool
    ratio: float
    low: float
    high: float
    known: bool
    """Whether both have a sure interval."""

    @property
    def verdict(self) -> str:
        """Whether the two agree within their intervals, or the new one is faster or slower; or that isn't known."""
        if not self.known:
            return "too few rounds to tell"
        if self.low <= 1 <= self.high:
            return "agree"
        return "faster" if self.ratio > 1 else "slower"


def changes(old: Run, new: Run) -> list[Change]:
    """Return how each time that both runs have has changed."""
    earlier = {key: steady for key, _, steady in _steady(old)}
    found = []
    for key, who, steady in _steady(new):
        before = earlier.get(key)
        if before is not None:
            ratio, low, high = before.median / steady.median, before.low / steady.high, before.high / steady.low
            found.append(Change(*who, ratio, low, high, before.sure and steady.sure))
    return found


def _steady(run: Run) -> Iterator[tuple[tuple[Any, ...], tuple[str, str, bool], Estimate]]:
    """Yield key, the first fields of `Change`, and estimate of all that can be compared with another run."""
    for row in run.rows:
        for it in row.results:
            if it.steady is not None and it.steady.low > 0 and it.problem is None:
                kind, label = f"{kind_of(row.task)} on {it.contestant.device}", label_of(it.contestant)
                who = (kind, f"{row.task.batch_size:,}: {label}", it.contestant.is_peer)
                yield (name_of(row.task), it.contestant.key), who, it.steady
    for kernel in run.kernels:
        if kernel.fused is not None and kernel.fused.low > 0 and kernel.problem is None:
            yield (kernel.device, kernel.label), (f"Kernels on {kernel.device}", kernel.label, False), kernel.fused


def disturbed_share(runs: Iterable[Run]) -> float:
    """Return the share of rounds that were disturbed."""
    rounds = [each for run in runs for row in run.rows for result in row.results for each in result.rounds]
    return sum(each.disturbed is not None for each in rounds) / len(rounds) if rounds else 0.0


def _short(name: str) -> str:
    """Return a processor's name without its marks."""
    return " ".join(re.sub(r"\((R|TM|C)\)", "", name, flags=re.IGNORECASE).split())


def _may_be_one(run: Run, other: Run) -> bool:
    """Whether two runs may be of one machine: nothing that both tell of differs."""
    processors = [(each.machine.name, each.machine.cores) for each in (run, other)]
    devices = (run.machine.devices, other.machine.devices)
    both = [(devices[0][device], devices[1][device]) for device in devices[0] if device in devices[1]]
    return processors[0] == processors[1] and all(mine.get("name") == its.get("name") for mine, its in both)
