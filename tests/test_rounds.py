"""A row's contestants take turns, and nobody gains by skipping work, not waiting, hanging or dying."""

import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pebble", reason='needs pebble: pip install -e ".[bench]"')

from benchmarks.schema import Contestant, Recipe, Task
from benchmarks.timing import contestants
from benchmarks.timing.budget import LONGEST, PREPARATION, Budget
from benchmarks.timing.contestants import AbsentError, Entry, Outcome, Seat
from benchmarks.timing.exactness import Problem, Trained
from benchmarks.timing.isolation import GivenUpError, IsolatedSeat, Process
from benchmarks.timing.rounds import LEAST, MOST, TRIES, RowOfRounds
from benchmarks.workloads.epochs import Work
from gpunn.engines import Parameters

TASK = Task("784-4-10", 50, images=100)
EXACT = Problem(TASK).exact("cpu")
LOSS, RIGHT = EXACT[0]

WRONG = [Trained(LOSS, Parameters([W * 1.01 for W in RIGHT.weights], RIGHT.biases))]


class FakeSeat:
    """Takes `seconds` a round, as it says itself; in round `bad` it does what is given."""

    def __init__(self, log: list[str], name: str, *seconds: float, **others: Any) -> None:
        self.log, self.name, self.seconds, self.others = log, name, seconds, others
        self.number, self.closed = 0, False

    def outcome(self, seconds: float) -> Outcome:
        found = self.others.get("found", EXACT)
        return Outcome(seconds, found, self.others.get("late", 0.0), 1.0, self.others.get("disturbed"))

    def enter(self, limit: float) -> Entry:
        self.log.append(f"limit {limit:g}") if "told" in self.others else None
        if "absent" in self.others:
            raise AbsentError(self.others["absent"])
        return Entry(None, 0.1, self.outcome(self.seconds[0]), self.seconds[0])

    def round(self) -> Outcome:
        self.log.append(self.name)
        if "error" in self.others:
            raise self.others["error"]
        self.number += 1
        if self.number > self.others.get("last", math.inf):
            raise RuntimeError("it breaks down")
        return self.outcome(self.seconds[self.number % len(self.seconds)])

    def close(self) -> None:
        self.closed = True


def held(bar: float | None = None, seconds: float = 0.0, **seats: Callable[[list[str], str], FakeSeat]) -> Any:
    """Return a row after its only visit, and who had a turn."""
    log: list[str] = []
    who = [Contestant(name, "cpu", is_peer=name not in {"epoch", "fused"}) for name in seats]
    row = RowOfRounds(
        Work(TASK, bar),
        who,
        autos={"cpu": "epoch"},
        seats=lambda each: seats[each.name](log, each.name),
        exact=lambda: EXACT,
    )
    row.visit(seconds, 0)
    return row.row(), log


def takes(*seconds: float, **others: Any) -> Callable[[list[str], str], FakeSeat]:
    return lambda log, name: FakeSeat(log, name, *seconds, **others)


def test_everyone_has_a_turn_in_every_round_in_changing_order() -> None:
    row, log = held(epoch=takes(0.1), jax=takes(0.2), numpy=takes(0.3))
    turns = [tuple(log[n : n + 3]) for n in range(0, len(log), 3)]
    assert len(turns) == LEAST
    assert all(set(turn) == {"epoch", "jax", "numpy"} for turn in turns)
    assert len(set(turns)) > 2
    (comparison,) = row.comparisons
    assert (comparison.ours, comparison.best_peer) == ("epoch", "jax")
    assert comparison.ratio.median == pytest.approx(2.0)
    assert [result.accuracy is not None for result in row.results] == [True] * 3


def test_bars_are_judged_and_undecided_ones_take_more_rounds() -> None:
    def verdict(bar: float, **seats: Any) -> tuple[str, int]:
        row, log = held(bar, **seats)
        return row.comparisons[0].targets[0].verdict, len(log) // 2

    steady = {"epoch": takes(0.1), "jax": takes(0.3)}
    assert verdict(2.9, **steady) == ("met", LEAST)
    assert verdict(3.1, **steady) == ("missed", LEAST)
    assert verdict(3, epoch=takes(0.1), jax=takes(0.2, 0.4)) == ("undecided", MOST)
    # The others decide nothing, and disturbed rounds don't either.
    _, log = held(3, epoch=takes(0.1), jax=takes(0.2, 0.4), numpy=takes(0.39))
    assert (log.count("epoch"), log.count("jax"), log.count("numpy")) == (MOST, MOST, LEAST)
    assert verdict(3, epoch=takes(0.1), jax=takes(0.3, disturbed="others")) == ("undecided", LEAST + TRIES * MOST)
    _, log = held(3, epoch=takes(0.1), jax=takes(0.3, disturbed="others", last=LEAST + 2))
    assert log.count("epoch") == log.count("jax") == LEAST + 3
    assert verdict(3, epoch=takes(0.1), jax=takes(0.3, found=WRONG))[0] == "no result"
    assert verdict(3, epoch=takes(0.1, found=WRONG), fused=takes(0.1), jax=takes(0.3))[0] == "no result"


def test_slow_contestants_run_one_round_and_wrong_ones_none() -> None:
    row, log = held(epoch=takes(0.5), fused=takes(1.1), jax=takes(2.0), numpy=takes(3.9), torch=takes(4.1))
    assert set(log) == {"epoch", "jax", "numpy"}
    assert {each.contestant.name: each.reason[:8] for each in row.absent} == {"fused": "too slow", "torch": "too slow"}
    assert [len(each.rounds) > 0 for each in row.results] == [True, False, True, True, False]
    row, _ = held(epoch=takes(0.01), jax=takes(0.01), numpy=takes(0.25))  # it may have spent that on starting
    assert all(each.rounds for each in row.results)


def test_what_would_be_too_slow_is_told_by_a_part_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contestants, "MANY_STEPS", 2)
    seat = Seat(TASK, Contestant("plain", "cpu"))
    with pytest.raises(AbsentError, match="too slow: a round would take about 0 s"):
        seat.enter(limit=0.0)
    assert Problem(TASK).judge(seat.enter(limit=60.0).first.networks, EXACT)[1] is None
    _, log = held(epoch=takes(0.5, told=True), jax=takes(2.0, told=True), numpy=takes(3.0, told=True))
    assert log[:3] == ["limit inf", "limit inf", "limit 4"]


def test_nobody_wins_with_a_wrong_answer_nor_a_late_one() -> None:
    row, _ = held(
        epoch=takes(0.1),
        jax=takes(0.2),
        numpy=takes(0.01, found=WRONG),
        torch=takes(0.01, late=0.1),
        busy=takes(0.25, late=0.1, disturbed="other processes"),
        torch_compile=takes(0.01, absent="not installed"),
        sklearn=takes(0.01, error=GivenUpError("hung: did not end within 30 s, and was stopped")),
    )
    problems = {each.contestant.name: each.problem for each in row.results if each.problem}
    assert problems["numpy"].startswith("wrong: found parameters of shape")
    assert problems["torch"].startswith("the device was still computing when the time was taken: after 10.0 ms")
    assert problems["sklearn"] == "hung: did not end within 30 s, and was stopped"
    assert set(problems) == {"numpy", "torch", "sklearn"}
    assert [each.reason for each in row.absent] == ["not installed"]
    assert row.comparisons[0].best_peer == "jax"


def test_rounds_are_spread_over_visits_and_seats_are_given_up_between_them() -> None:
    log: list[str] = []
    seats: list[FakeSeat] = []

    def seat(each: Contestant) -> FakeSeat:
        seats.append(FakeSeat(log, each.name, 0.1))
        return seats[-1]

    row = RowOfRounds(Work(TASK), [Contestant("epoch", "cpu")], autos={}, seats=seat, exact=lambda: EXACT)
    row.visit(0.0, 1)
    assert len(log) == LEAST / 2
    row.visit(0.0, 0)
    assert [each.number for each in row.row().results[0].rounds] == list(range(LEAST))
    assert len(seats) == 2
    assert all(each.closed for each in seats)


def test_who_is_far_behind_is_prepared_for_the_first_visit_alone() -> None:
    log: list[str] = []
    everyone = {"epoch": 0.1, "jax": 0.15, "numpy": 0.2, "torch": 0.24}
    seats: list[str] = []

    def seat(each: Contestant) -> FakeSeat:
        seats.append(each.name)
        return FakeSeat(log, each.name, everyone[each.name])

    who = [Contestant(name, "cpu", is_peer=name != "epoch") for name in everyone]
    row = RowOfRounds(Work(TASK), who, autos={"cpu": "epoch"}, seats=seat, exact=lambda: EXACT)
    row.visit(0.0, 1)
    row.visit(0.0, 0)
    assert sorted(seats) == ["epoch", "epoch", "jax", "jax", "numpy", "numpy", "torch"]
    assert {name: log.count(name) for name in everyone} == dict.fromkeys(everyone, LEAST) | {"torch": LEAST / 2}
    ratio = row.row().comparisons[0].ratio
    assert ratio is not None
    assert ratio.sure
    assert ratio.median == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("seconds", "rounds"),
    [
        ({1: [0.2], 2: [0.5]}, 2),  # clear at once
        ({1: [0.2, 0.3], 2: [0.21, 0.1]}, 4),  # alike: again
        ({1: [2.0], 2: [2.1]}, 2),  # alike, and long enough to tell
    ],
)
def test_the_number_of_threads_is_tried_again_where_it_is_in_doubt(
    seconds: dict[int, list[float]], rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def took(_seat: Seat, threads: int) -> Outcome:
        taken.append(threads)
        return Outcome(seconds[threads].pop(0), EXACT, 0.0, 1.0, None)

    monkeypatch.setattr(contestants, "thread_choices", lambda _contestant: [1, 2])
    monkeypatch.setattr(Seat, "_prepared", lambda _seat, threads: (threads, 0.1))
    monkeypatch.setattr(Seat, "_round", took)
    entry = Seat(TASK, Contestant("numpy", "cpu", is_peer=True)).enter()
    assert len(taken) == rounds
    assert entry.threads == (2 if rounds == 4 else 1)


def test_a_seat_starts_each_round_again() -> None:
    seat = Seat(TASK, Contestant("plain", "cpu"))
    first = seat.enter().first
    again = seat.round()
    assert again.networks[0].loss == first.networks[0].loss == pytest.approx(LOSS, rel=1e-5)
    np.testing.assert_array_equal(again.networks[0].parameters.weights[0], first.networks[0].parameters.weights[0])
    assert Problem(TASK).judge(again.networks, EXACT)[1] is None


def test_many_networks_are_compared_first_and_last() -> None:
    task = Task("784-4-10", 50, images=100, networks=3, epochs=2)
    exact = Problem(task).exact("cpu")
    for name in ("train_many", "train in turn"):
        found = Seat(task, Contestant(name, "cpu")).enter().first.networks
        assert len(found) == 2
        assert Problem(task).judge(found, exact)[1] is None
        assert "network 2: " in (Problem(task).judge([found[0], found[0]], exact)[1] or "")


def test_a_wrong_gradient_is_seen_even_where_it_hardly_moves_the_weights() -> None:
    problem, start = Problem(TASK), Problem(TASK).starts[0]
    nan = Parameters([np.full_like(W, np.nan) for W in start.weights], start.biases)
    assert problem.judge([Trained(LOSS, RIGHT)], EXACT) == (0.0, None)
    assert problem.judge([Trained(LOSS, start)], EXACT)[0] > 0.9
    assert problem.judge([Trained(LOSS, nan)], EXACT)[0] == np.inf
    assert problem.judge([Trained(float("nan"), RIGHT)], EXACT)[0] == np.inf
    assert "found the loss" in (problem.judge([Trained(LOSS * 1.01, RIGHT)], EXACT)[1] or "")


def test_what_float32_may_do_to_a_network_is_no_fault() -> None:
    adam = Task("784-4-10", 50, Recipe("relu", "softmax", "cross_entropy", "adam", 1e-4), images=100)
    problem, (start,) = Problem(adam), Problem(adam).starts
    ((loss, right),) = exact = Problem(adam).exact("cpu")
    (W, *more), (before, *_) = right.weights, start.weights
    kinked = Parameters([W + 0.01 * (W - before), *more], right.biases)
    assert problem.judge([Trained(loss, kinked)], exact)[1] is None
    assert "found the loss" in (problem.judge([Trained(loss * 1.0015, right)], exact)[1] or "")  # a batch is left out
    # The sums of a batch of 60,000, term by term.
    (_, small), (_, large) = (Problem(Task("784-16-10", m)).tolerances for m in (1, 60_000))
    assert small == pytest.approx(1e-3, rel=1e-3)
    assert large > 0.0053


def test_processes_that_hang_or_die_are_given_up() -> None:
    """It takes its seconds: three processes start."""
    process = Process()
    try:
        assert process.call(max, 1, 2, seconds=60) == 2
        with pytest.raises(GivenUpError, match=r"hung: did not end within 0\.5 s, and was stopped"):
            process.call(time.sleep, 60, seconds=0.5)
        with pytest.raises(GivenUpError, match="died: its process ended with code 3"):
            process.call(os._exit, 3, seconds=60)
    finally:
        process.stop()


def test_a_seat_in_a_process_of_its_own_does_the_same() -> None:
    """It takes its seconds: a process starts."""
    seat = IsolatedSeat(TASK, Contestant("plain", "cpu"))
    try:
        assert Problem(TASK).judge(seat.enter(60.0).first.networks, EXACT)[1] is None
        assert Problem(TASK).judge(seat.round().networks, EXACT)[1] is None
    finally:
        seat.close()


def test_what_does_not_fit_into_the_time_is_known_from_the_rows_before() -> None:
    now = [0.0]
    budget = Budget(103.0, clock=lambda: now[0])
    task, who = Task("784-16-10", 32), Contestant("jax", "cpu", is_peer=True)
    assert budget.left() == 100.0
    assert budget.needed(task, [who], 5.0) == PREPARATION + 0.5 + 5.0
    assert budget.too_slow(task, who) is None
    row, _ = held(epoch=takes(0.5), jax=takes(4.0))
    budget._preparation.clear()
    budget.note(row)
    known = row.task
    assert budget.needed(known, [who], 5.0) == pytest.approx(1.0 + 4.0 + 5.0)
    smaller = Task(known.network, 10, images=100)
    assert budget.too_slow(smaller, who) == "would take about 20 s an epoch"
    assert LONGEST < 4.0 * 50 / 10
    assert Budget().too_slow(smaller, who) is None
    now[0] = 200.0
    assert budget.left() == 0.0
