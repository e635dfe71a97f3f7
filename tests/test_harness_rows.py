"""The rows of `pytest --benchmark` besides epochs: fused kernels beside unfused ones, and the time to accuracy."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import fusions
from benchmarks.fusion_cases import Arrays, Case
from benchmarks.fusions import FUSIONS, copy_of, difference
from benchmarks.goals import GOALS, Goal, Setting
from benchmarks.race import race_to
from benchmarks.summary import kernel_lines, race_lines
from benchmarks.turns import time_in_turn
from gpunn import get_backend
from gpunn.engines import Parameters, Recipe


@pytest.mark.parametrize("kernel", FUSIONS)
def test_fused_kernels_and_what_they_replace_compute_the_same(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusions, "N_IMAGES", 100)
    backend, (make, shapes) = get_backend("cpu"), FUSIONS[kernel]
    case = make(Arrays(backend), *shapes[0])
    assert case.shape == shapes[0]
    case.fused()
    case.unfused()
    assert difference(case, backend) is None
    for pair in range(len(case.results())):
        spoilt = case.results()
        found, _ = spoilt[pair]
        found.flat[-1] += 0.01 * np.abs(found).max()
        wrong = difference(replace(case, results=partial(list, spoilt)), backend)
        assert "wrong: differs from the unfused result by 0.01" in (wrong or "")


def test_a_copy_moves_as_many_bytes_as_the_kernel() -> None:
    on = Arrays(get_backend("cpu"))
    copied: list[int] = []
    on.xp = type("xp", (), {"empty_like": np.empty_like, "copyto": lambda target, source: copied.append(source.nbytes)})
    copy_of(on, 4000)()
    assert copied == [2000]


class Pedantic:
    """The part of pytest-benchmark's fixture that is used."""

    def pedantic(
        self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int, warmup_rounds: int, iterations: int
    ) -> None:
        data = []
        for _ in range(warmup_rounds + rounds):
            arguments, _ = setup()
            started = time.perf_counter()
            target(*arguments)
            data.append(time.perf_counter() - started)
        self.stats = type("Stats", (), {"stats": type("Data", (), {"data": data[warmup_rounds:]})})


def test_ways_are_timed_in_turn_and_the_device_is_waited_for() -> None:
    done: list[str] = []
    ways = {name: lambda name=name: done.append(name) for name in ("fused", "unfused", "copy")}
    found = time_in_turn(Pedantic, ways, lambda: done.append("wait"), seconds=0.0)
    assert {name: len(seconds) for name, seconds in found.items()} == {"fused": 5, "unfused": 5, "copy": 5}
    assert all(seconds > 0 for times in found.values() for seconds in times)
    # What follows the preparation goes round and round, each way as often as the first, and then waited for.
    turns = [name for before, name in zip(["wait", *done], done, strict=False) if name not in {before, "wait"}]
    assert turns[-6:] == ["unfused", "copy", "fused"] * 2
    assert done[-1] == "wait"
    assert done.count("unfused") - done.count("copy") == 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that passes by sleeping alone."""
    passed = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: passed[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: passed.__setitem__(0, passed[0] + seconds))


class Student:
    """Learns a tenth of what there is in each epoch, which takes a time of its own."""

    def __init__(self, recipe: Recipe, seconds: float, brightest: float = 1.0) -> None:
        self.recipe, self.seconds, self.brightest, self.known = recipe, seconds, brightest, 0.0

    def run_epoch(self, order: NDArray[Any]) -> float:
        assert sorted(order) == list(range(50))
        time.sleep(self.seconds)
        self.known = min(self.known + 0.1, self.brightest)
        return 0.0

    def parameters(self) -> Parameters:
        return Parameters([np.array([[self.known]])], [np.zeros(1)])


GOAL = Goal("784-16-10", 0.3, (0, 1), (Setting(1, 0.1, 2), Setting(10, 0.5, 4), Setting(100, 1.0, 30)))


def known(parameters: Parameters) -> float:
    return float(parameters.weights[0][0, 0]) + 1e-9


@pytest.mark.usefixtures("clock")
def test_an_entrant_runs_in_the_setting_that_is_fastest_for_it() -> None:
    seconds = {1: 4.0, 10: 0.5, 100: 0.2}
    asked: list[int] = []

    def ways(start: Parameters, recipe: Recipe) -> Any:
        assert [W.shape for W in start.weights] == [(16, 784), (10, 16)]
        asked.append(recipe.batch_size)
        return {None: lambda: Student(recipe, seconds[recipe.batch_size])}

    found = race_to(GOAL, ways, 50, known)
    assert found.setting == GOAL.settings[1]
    assert asked == [100, 10, 1, 10, 10, 10]
    assert found.epochs == [3, 3]
    assert found.seconds == pytest.approx([1.5, 1.5])
    assert found.accuracies == pytest.approx([0.3, 0.3])
    assert found.problem is None


@pytest.mark.usefixtures("clock")
def test_a_goal_that_is_not_reached_is_a_failure() -> None:
    goal = Goal("784-16-10", 0.3, (0, 1), (Setting(10, 0.5, 4),))
    found = race_to(goal, lambda _, recipe: {1: lambda: Student(recipe, 0.0, brightest=0.2)}, 50, known)
    assert found.epochs == [20, 20]
    assert found.problem is not None
    assert found.problem.startswith("wrong: after 20 epochs with batch size 10 and learning rate 0.5, 20.00% of the")


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_every_setting_of_a_goal_is_another_batch_size(goal: Goal) -> None:
    sizes = [setting.batch_size for setting in goal.settings]
    assert len(set(sizes)) == len(sizes)
    assert len(set(goal.seeds)) >= 3


def times(median: float, *, wide: bool = False) -> dict[str, Any]:
    return {"quartiles": [median * 0.9, median, median * 1.1], "wide": wide}


def test_the_summary_tells_of_kernels_and_of_the_time_to_accuracy() -> None:
    kernel = {"what": "kernel", "device": "cpu", "name": "descend", "shape": [16, 784], "bytes": 10**6, "problem": None}
    kernel |= {"fused": times(1e-4, wide=True), "unfused": times(2e-4), "copy": times(0.5e-4)}
    rows = [
        {"what": "ceiling", "device": "cpu", "copied_bytes_per_second": 2e10},
        kernel,
        kernel | {"shape": [1, 2], "problem": "wrong: all of it"},
    ]
    title, _, *lines, _ = kernel_lines(rows)
    assert title == "kernels on cpu, GB/s read and written (large copies 20.0 GB/s)"
    assert [line.split() for line in lines] == [
        ["descend", "16x784", "10.0", "5.0", "20.0", "~2.00", "50%"],
        ["descend", "1x2", "FAILED"],
    ]

    run = {"what": "time to accuracy", "network": "784-16-10", "goal": 0.94, "device": "cpu", "problem": None}
    run |= {"batch_size": 32, "learning_rate": 2.0, "epochs": [4, 5, 9]}
    runs = [run | {"name": "plain"} | times(1.5), run | {"name": "epoch"} | times(0.25)]
    title, _, *lines, _ = race_lines([*runs, {**run, "name": "lost", "problem": "wrong: all of it"}])
    assert title == "784-16-10 to 94% of the test images, each in its best setting"
    assert [line.split() for line in lines] == [
        ["cpu", "epoch", "0.25", "(0.225", "to", "0.275)", "5", "32", "2"],
        ["cpu", "plain", "1.5", "(1.35", "to", "1.65)", "5", "32", "2"],
        ["cpu", "lost", "FAILED"],
    ]


def test_a_case_says_its_bytes() -> None:
    on = Arrays(get_backend("cpu"))
    cases: dict[str, Case] = {name: FUSIONS[name][0](on, 4, 8) for name in ("bias_activate", "descend", "output_delta")}
    assert {name: case.n_bytes for name, case in cases.items()} == {
        "bias_activate": 4 * (32 + 8 + 32),
        "descend": 4 * 3 * 32,
        "output_delta": 4 * 2 * 32 + 4,
    }
