"""The time to an accuracy: everyone in its best setting, and in no more epochs than the float64 network takes."""

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("msgspec")

from benchmarks.schema import Contestant
from benchmarks.timing import race
from benchmarks.timing.exactness import Problem
from benchmarks.timing.race import race_to
from benchmarks.workloads.accuracy import GOALS, Goal, Setting
from gpunn.engines import Parameters, Recipe

WHO = Contestant("jax", "cpu", is_peer=True)


class Student:
    """Learns a tenth of what there is in each epoch, which takes a time of its own."""

    def __init__(self, recipe: Recipe, seconds: float, brightest: float) -> None:
        self.recipe, self.seconds, self.brightest, self.known = recipe, seconds, brightest, 0.0

    def run_epoch(self, order: NDArray[Any]) -> float:
        assert len(set(order.tolist())) == 60_000
        time.sleep(self.seconds)
        self.known = min(self.known + 0.1, self.brightest)
        return 0.0

    def parameters(self) -> Parameters:
        return Parameters([np.array([[self.known]])], [np.zeros(1)])


GOAL = Goal(
    "784-16-10",
    0.3,
    (0, 1, 2, 3, 4),
    (Setting(1, 0.1, (3,) * 5), Setting(10, 0.5, (3,) * 5), Setting(100, 1.0, (30,) * 5)),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes that were asked for; time passes by sleeping alone."""
    passed, found = [0.0], list[int]()
    monkeypatch.setattr(time, "perf_counter", lambda: passed[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: passed.__setitem__(0, passed[0] + seconds))
    monkeypatch.setattr(race, "accuracy_of", lambda net: float(net.weights[0][0, 0]) + 1e-9)
    monkeypatch.setattr(race, "thread_choices", lambda _who: [None])
    return found


def students(monkeypatch: pytest.MonkeyPatch, asked: list[int], brightest: float = 1.0, slower: float = 1.0) -> None:
    seconds = {1: 4.0, 10: 0.5, 100: 0.2}

    def made(_who: Contestant, _threads: int | None, start: Parameters, _problem: Problem, recipe: Recipe) -> Student:
        assert [W.shape for W in start.weights] == [(16, 784), (10, 16)]
        asked.append(recipe.batch_size)
        return Student(recipe, seconds[recipe.batch_size] * slower, brightest)

    monkeypatch.setattr(race, "network", made)


def test_a_contestant_runs_in_the_setting_that_is_fastest_for_it(
    monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    students(monkeypatch, asked)
    found = race_to(GOAL, WHO)
    assert found.task.batch_size == 10
    assert asked == [100, 10, 1, *[10] * 5]
    assert [(run.seed, run.epochs, run.reference_epochs) for run in found.runs] == [(n, 3, 3) for n in range(5)]
    assert [run.seconds for run in found.runs] == pytest.approx([1.5] * 5)
    assert (found.p_value, found.worse, found.problem) == (1.0, False, None)


def test_who_takes_more_epochs_than_float64_is_wrong(monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    students(monkeypatch, asked)
    fewer = Goal(GOAL.network, 0.3, GOAL.seeds, (Setting(10, 0.5, (2,) * 5),))
    found = race_to(fewer, WHO)
    assert found.p_value == pytest.approx(1 / 32)
    assert (found.problem or "").endswith("it took [3, 3, 3, 3, 3] epochs, the network of float64 [2, 2, 2, 2, 2]")


def test_a_goal_that_is_not_reached_is_a_failure(monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    students(monkeypatch, asked, brightest=0.2, slower=0.0)
    found = race_to(Goal(GOAL.network, 0.3, (0, 1), (Setting(10, 0.5, (4, 4)),)), WHO)
    assert [run.epochs for run in found.runs] == [20, 20]
    assert "after 20 epochs 20.00% of the test images are right, not 30%" in (found.problem or "")


def test_who_takes_long_runs_from_the_first_seeds(monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    students(monkeypatch, asked, slower=20.0)
    assert len(race_to(GOAL, WHO).runs) == 1


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_every_setting_of_a_goal_is_another_batch_size(goal: Goal) -> None:
    sizes = [setting.batch_size for setting in goal.settings]
    assert len(set(sizes)) == len(sizes)
    assert len(set(goal.seeds)) == 5
    assert all(len(setting.reference) == len(goal.seeds) for setting in goal.settings)
