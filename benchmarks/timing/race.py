"""The time from a fresh network to an accuracy: epochs one after the other, until the test images are got right."""

import time
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benchmarks.estimates import p_of_more
from benchmarks.schema import Contestant, Race, RaceRun, Task
from benchmarks.timing.contestants import SETTLE, SHORT, Network, network, thread_choices
from benchmarks.timing.exactness import Problem, accuracy_of, parameters_of
from benchmarks.workloads.accuracy import Goal, Setting

ENOUGH = 8.0
"""Seconds of a peer's runs after which no other begins.

gpunn runs from all seeds: by fewer than five pairs none is worse at a level of 5 %.
"""

PAUSE = 0.05
"""Seconds between an epoch's evaluation and the next epoch."""


class Way(NamedTuple):
    """A setting, the number of threads, and the seconds of an epoch."""

    setting: Setting
    threads: int | None
    epoch: float


def race_to(goal: Goal, contestant: Contestant) -> Race:
    """Return the runs to `goal` in the setting and with the threads that promise the shortest.

    Raises `AbsentError` where the contestant can't train this network.
    """
    way = _best_way(goal, contestant)
    task, runs = goal.task(way.setting), list[RaceRun]()
    for seed, reference in zip(goal.seeds, way.setting.reference, strict=True):
        if contestant.is_peer and sum(run.seconds for run in runs) > ENOUGH:
            break
        made = _network(task, contestant, way.threads, seed)
        seconds, epochs, reached = _run(made, goal, len(Problem(task).split), seed)
        runs.append(RaceRun(seed, epochs, seconds, reached, reference))
    references = [run.reference_epochs or 0 for run in runs]
    race = Race(
        task=task,
        goal=goal.accuracy,
        contestant=replace(contestant, threads=way.threads),
        runs=runs,
        p_value=p_of_more([run.epochs for run in runs], references),
    )
    least = min(run.accuracy for run in runs)
    if least < goal.accuracy:
        what = f"after {goal.most_epochs} epochs {least:.2%} of the test images are right, not {goal.accuracy:.0%}"
        return replace(race, problem=f"wrong: in {task.label} {what}")
    if race.worse:
        took = f"{[run.epochs for run in runs]} epochs, the network of float64 {references}"
        return replace(race, problem=f"wrong: in {task.label} it took {took}")
    return race


def _best_way(goal: Goal, contestant: Contestant) -> Way:
    """Return the setting and the number of threads whose epochs promise the shortest way."""
    found: list[Way] = []
    # From large batches to small ones, until they take longer: with small ones, some would take minutes.
    for setting in sorted(goal.settings, key=lambda setting: -setting.batch_size):
        ways = [_way(goal, setting, contestant, threads) for threads in thread_choices(contestant)]
        found.append(min(ways, key=lambda way: way.epoch))
        expected = [way.setting.epochs * way.epoch for way in found]
        if expected[-1] > 2 * min(expected):
            break
    return min(found, key=lambda way: way.setting.epochs * way.epoch)


def _way(goal: Goal, setting: Setting, contestant: Contestant, threads: int | None) -> Way:
    task = goal.task(setting)
    made = _network(task, contestant, threads, goal.seeds[0])
    order = np.random.default_rng(0).permutation(len(Problem(task).split))
    epoch = _seconds_of(made, order)
    if epoch < SHORT:  # it may have spent the time on starting its threads
        epoch = min(epoch, _seconds_of(made, order))
    return Way(setting, threads, epoch)


def _network(task: Task, contestant: Contestant, threads: int | None, seed: int) -> Network:
    problem = Problem(task)
    return network(contestant, threads, parameters_of(problem.net(seed)), problem, problem.recipe())


def _seconds_of(made: Network, order: NDArray[np.int64]) -> float:
    time.sleep(SETTLE)
    started = time.perf_counter()
    made.run_epoch(order)
    return time.perf_counter() - started


def _run(made: Network, goal: Goal, n_images: int, seed: int) -> tuple[float, int, float]:
    """Return the seconds and the number of epochs until the goal is reached, or is given up, and the accuracy then."""
    rng = np.random.default_rng(seed)
    taken: list[float] = []
    reached = 0.0
    while reached < goal.accuracy and len(taken) < goal.most_epochs:
        order = rng.permutation(n_images)
        time.sleep(PAUSE)
        started = time.perf_counter()
        made.run_epoch(order)
        taken.append(time.perf_counter() - started)
        reached = accuracy_of(made.parameters())
    return sum(taken), len(taken), reached
