"""A row: gpunn's engines and their peers train the same network, in turn, round by round, in random order."""

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.estimates import at_least, at_most, estimate, ratio, steady
from benchmarks.schema import Absent, Comparison, Contestant, Result, Round, Row, Target, Verdict
from benchmarks.timing.contestants import AbsentError, Entry, Outcome
from benchmarks.timing.device import in_a_line
from benchmarks.timing.exactness import Problem, Trained, accuracy_of
from benchmarks.timing.interference import usual_share
from benchmarks.timing.isolation import GivenUpError
from benchmarks.workloads.epochs import Work
from gpunn.errors import GpunnError

LEAST, MOST = 6, 25
"""How many rounds a row has: six are needed for an interval of 95 %; more than `MOST` decide nothing."""

DECIDING, TRIES = 20.0, 3
"""Seconds of further rounds where a target is undecided, of those whom it compares; and how many, times `MOST`."""

LONG = 20.0
"""Seconds of a round of all after which there is one alone, which decides nothing."""

BEHIND = 1.5
"""Who takes so many times as long as the fastest of its kind in the first visit isn't prepared again for the others.

That would take longer than the rounds, and decide nothing.
"""

TOO_SLOW, WORTH_SAVING = 2, 0.3
"""Who takes `TOO_SLOW` times as long as the fastest of its kind, and so many seconds, runs the first round alone."""


class AnySeat(Protocol):
    """What `Seat` and `IsolatedSeat` have in common."""

    def enter(self, limit: float) -> Entry: ...

    def round(self) -> Outcome: ...

    def close(self) -> None: ...


@dataclass
class Standing:
    """What is known of a contestant in a row."""

    contestant: Contestant
    is_auto: bool = False
    seat: AnySeat | None = None
    first: float | None = None
    fastest: float = 0.0
    """Seconds of its faster first round."""
    preparation: float | None = None
    deviation: float | None = None
    accuracy: float | None = None
    rounds: list[Round] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    problem: str | None = None
    slow: bool = False
    behind: bool = False

    def like(self, other: "Standing") -> bool:
        """Whether both are engines, or both peers, of one device."""
        mine, its = self.contestant, other.contestant
        return (mine.is_peer, mine.device) == (its.is_peer, its.device)

    def result(self, rounds: list[Round]) -> Result:
        """Return all of it, with its rounds as they were marked in the end."""
        return Result(
            contestant=self.contestant,
            rounds=rounds,
            steady=steady(rounds),
            first=self.first,
            preparation=self.preparation,
            deviation=self.deviation,
            accuracy=self.accuracy,
            is_auto=self.is_auto,
            problem=self.problem,
        )


class RowOfRounds:
    """A row that is visited several times, so that its rounds are spread over the run.

    `seats` makes a contestant's seat; `exact` returns the float64 networks; `autos` are the engines that gpunn chooses
    by itself, by device.
    """

    def __init__(
        self,
        work: Work,
        contestants: Sequence[Contestant],
        *,
        autos: dict[str, str],
        seats: Callable[[Contestant], AnySeat],
        exact: Callable[[], list[Trained]],
        tell: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self.work, self._seats, self._tell = work, seats, tell
        # Who is probably the fastest comes first: by it others are told to be too slow.
        first = sorted(contestants, key=lambda each: (each.is_peer, each.name not in {autos.get(each.device), "jax"}))
        self.standings = [Standing(each, not each.is_peer and autos.get(each.device) == each.name) for each in first]
        self.absent: list[Absent] = []
        self._contested = {each.device for each in contestants if each.is_peer}
        self._problem, self._exact = Problem(work.task), exact
        self._random = random.Random(0)
        self._number, self.seconds = 0, 0.0
        self._known: list[Trained] = []

    def leave_out(self, contestant: Contestant, reason: str) -> None:
        """Note why a contestant isn't there."""
        self.absent.append(Absent(contestant, reason))
        self.standings = [each for each in self.standings if each.contestant != contestant]

    def visit(self, seconds: float, visits_left: int) -> None:
        """Prepare everyone, and run rounds for about `seconds`; in the last visit more, where targets are undecided."""
        started = time.perf_counter()
        self._known = self._known or self._exact()
        try:
            for standing in list(self.standings):
                if standing.problem is None and not standing.slow and not standing.behind:
                    self._enter(standing)
            self._leave_slow()
            self._rounds(seconds, visits_left)
            if visits_left:
                self._leave_those_behind()
        finally:
            for standing in self.standings:
                if standing.seat is not None:
                    standing.seat.close()
                    standing.seat = None
        self.seconds += time.perf_counter() - started

    def _rounds(self, seconds: float, visits_left: int) -> None:
        runners = self._runners()
        of_all = sum(each.fastest for each in runners)
        known = min((len(each.rounds) for each in runners), default=LEAST)
        least = -(-(LEAST - known) // (visits_left + 1)) if of_all < LONG else 1
        started = time.perf_counter()
        for number in range(max(least, (MOST - self._number) // (visits_left + 1))):
            if number >= least and time.perf_counter() - started > seconds:
                break
            self._round(self._runners())
        if visits_left == 0:
            self._decide()

    def _decide(self) -> None:
        """Run rounds of those whom undecided targets compare, until there are `MOST` that count, or the time is up.

        Verdicts are looked at once: who looks after each round, and stops when it suits, is wrong more often than 1 in
        20.
        """
        undecided = [each for each in self.comparisons() if any(it.verdict == "undecided" for it in each.targets)]
        who = {(each.device, name) for each in undecided for name in (each.ours, each.best_peer)}
        compared = [each for each in self.standings if (each.contestant.device, each.contestant.name) in who]
        started = time.perf_counter()
        for _ in range(TRIES * MOST):
            count = min((sum(it.disturbed is None for it in self._marked(each)) for each in compared), default=MOST)
            runners = [each for each in self._runners() if each in compared]
            if count >= MOST or len(runners) < len(compared) or time.perf_counter() - started > DECIDING:
                break
            self._round(runners)

    def _leave_those_behind(self) -> None:
        """Note who is far behind."""
        runners = self._runners()
        for standing in runners:
            best = min(_median(each) for each in runners if each.rounds and each.like(standing))
            standing.behind = not standing.is_auto and bool(standing.rounds) and _median(standing) > BEHIND * best

    def _enter(self, standing: Standing) -> None:
        self._tell(f"{standing.contestant}, preparing")
        standing.seat = self._seats(standing.contestant)
        try:
            entry = standing.seat.enter(self._limit(standing))
        except AbsentError as absence:
            self.leave_out(standing.contestant, str(absence))
            standing.seat.close()
            return
        except Exception as error:
            self._fail(standing, error)
            return
        if standing.first is None:
            about = standing.contestant
            standing.contestant = Contestant(about.name, about.device, about.is_peer, entry.threads)
            standing.first, standing.preparation = entry.first.seconds, entry.preparation
            standing.fastest = entry.seconds
        self._judge(standing, entry.first)

    def _limit(self, standing: Standing) -> float:
        """Return the seconds of a round above which a contestant is too slow, by those of its kind before it."""
        known = [each.fastest for each in self._runners() if each.first is not None and each.like(standing)]
        if not known or standing.is_auto or standing.rounds:
            return math.inf
        return max(TOO_SLOW * min(known), WORTH_SAVING)

    def _judge(self, standing: Standing, outcome: Outcome) -> None:
        deviation, wrong = self._problem.judge(outcome.networks, self._known)
        finite = min(deviation, 1e18)  # files have no infinity
        standing.deviation = max(standing.deviation or 0.0, finite)
        standing.problem = standing.problem or wrong or outcome.problem
        if standing.accuracy is None and wrong is None:
            standing.accuracy = accuracy_of(outcome.networks[0].parameters, dense=self.work.task.dense)

    def _fail(self, standing: Standing, error: Exception) -> None:
        plain = isinstance(error, GivenUpError | GpunnError)
        standing.problem = str(error) if plain else f"failed: {in_a_line(error)}"

    def _leave_slow(self) -> None:
        for standing in self._runners():
            standing.slow = standing.fastest > self._limit(standing)

    def _runners(self) -> list[Standing]:
        return [each for each in self.standings if each.problem is None and not each.slow and not each.behind]

    def _round(self, runners: list[Standing]) -> None:
        self._random.shuffle(runners)
        for standing in runners:
            self._tell(f"{standing.contestant}, round {self._number + 1}")
            assert standing.seat is not None
            try:
                outcome = standing.seat.round()
            except Exception as error:
                self._fail(standing, error)
                continue
            self._judge(standing, outcome)
            standing.rounds.append(Round(self._number, outcome.seconds, outcome.disturbed))
            standing.cores.append(outcome.cores)
        self._number += 1

    def _marked(self, standing: Standing) -> list[Round]:
        """Return the rounds, those marked too in which the process had fewer cores than usual."""
        known = [cores for cores in standing.cores if cores > 0]
        if standing.contestant.device != "cpu" or not known:
            return standing.rounds
        usual = statistics.median(known)
        pairs = zip(standing.rounds, standing.cores, strict=True)
        return [
            each if each.disturbed else Round(each.number, each.seconds, usual_share(cores, usual))
            for each, cores in pairs
        ]

    def comparisons(self) -> list[Comparison]:
        """Return how gpunn stands on each device."""
        found = []
        for device in dict.fromkeys(each.contestant.device for each in self.standings):
            here = [each for each in self.standings if each.contestant.device == device]
            right = [each for each in here if each.problem is None and each.rounds]
            mine = [each for each in right if not each.contestant.is_peer]
            ours = next((each for each in mine if each.is_auto), None)
            if ours is None and not any(each.is_auto for each in here):
                ours = min(mine, key=_median, default=None)
            best = min((each for each in right if each.contestant.is_peer), key=_median, default=None)
            times = ratio(self._marked(ours), self._marked(best)) if ours and best else None
            both = ours is not None and best is not None
            targets = []
            bar = self.work.bar if device == "cpu" else self.work.gpu_bar
            if bar is not None and device in self._contested:
                # Rounds without a single undisturbed one decide nothing.
                verdict: Verdict = "undecided" if both and times is None else at_least(times, bar)
                targets.append(Target("times the best peer", bar, verdict))
            if self.work.gpu_seconds is not None and device != "cpu":
                taken = steady(self._marked(ours)) if ours else None
                targets.append(Target("seconds", self.work.gpu_seconds, at_most(taken, self.work.gpu_seconds)))
            names = [each.contestant.name if each else None for each in (ours, best)]
            found.append(Comparison(device, names[0], names[1], times, targets))
        return found

    def row(self) -> Row:
        """Return what was found so far."""
        results = [each.result(self._marked(each)) for each in self.standings]
        slow = "too slow for more than a first round beside the others"
        absent = [*self.absent, *(Absent(each.contestant, slow) for each in self.standings if each.slow)]
        return Row(self.work.task, results, absent, self.comparisons(), self.seconds)


def _median(standing: Standing) -> float:
    seconds = [each.seconds for each in standing.rounds if each.disturbed is None]
    return estimate(seconds or [each.seconds for each in standing.rounds]).median
