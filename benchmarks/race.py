"""The time from a fresh network to an accuracy: epochs one after the other, until the test images are got right."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.contest import Network
from benchmarks.entrants import Prepare
from benchmarks.goals import Goal, Setting
from benchmarks.timing import Way, fastest_way
from gpunn import MLP
from gpunn.engines import Parameters, Recipe
from gpunn.engines.threads import blas_threads

ENOUGH = 15.0
"""Seconds of runs after which no other begins."""

PAUSE = 0.05
"""Seconds between an epoch's evaluation and the next epoch."""

Ways = Callable[[Parameters, Recipe], dict[int | None, Prepare]]
"""How networks are prepared from these parameters, by the number of threads."""


@dataclass
class Race:
    """The runs of an entrant to a goal, one from each seed, or from the first ones where they take long."""

    threads: int | None
    setting: Setting
    """With which it gets there first."""
    seconds: list[float] = field(default_factory=list)
    """Of all epochs of a run; preparing the network and evaluating it after each epoch is not part of them."""
    epochs: list[int] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    """Where the runs ended."""
    problem: str | None = None


def race_to(goal: Goal, ways: Ways, n_images: int, accuracy: Callable[[Parameters], float]) -> Race:
    """Return the runs to `goal` in the setting and with the threads that promise the shortest.

    `accuracy` tells which share of the test images a network gets right.
    """
    setting, chosen = _best_setting(goal, ways, n_images)
    race = Race(chosen.threads, setting)
    for seed in goal.seeds:
        if sum(race.seconds) > ENOUGH:
            break
        network = ways(_start(goal, seed), setting.recipe)[chosen.threads]()
        seconds, epochs, reached = _run(network, goal, n_images, seed, accuracy)
        race.seconds.append(seconds)
        race.epochs.append(epochs)
        race.accuracies.append(reached)
    least = min(race.accuracies)
    if least < goal.accuracy:
        race.problem = (
            f"wrong: after {goal.most_epochs} epochs with batch size {setting.batch_size} and learning rate "
            f"{setting.learning_rate:g}, {least:.2%} of the test images are right, not {goal.accuracy:.0%}"
        )
    return race


def _best_setting(goal: Goal, ways: Ways, n_images: int) -> tuple[Setting, Way]:
    """Return the setting whose epochs take the shortest, and the way to prepare a network for it."""
    found: list[tuple[float, Setting, Way]] = []
    start, order = _start(goal, 0), np.random.default_rng(0).permutation(n_images)
    # From large batches to small ones, until they take longer: with small ones, some would take minutes. With how many
    # threads, is found out with the largest, where it matters most, and once more for the setting that is taken.
    threads: list[int | None] = []
    for setting in sorted(goal.settings, key=lambda setting: -setting.batch_size):
        prepared = ways(start, setting.recipe)
        way = fastest_way({each: prepared[each] for each in threads or prepared}, order)
        threads = [way.threads]
        found.append((setting.epochs * way.epoch, setting, way))
        if found[-1][0] > 2 * min(expected for expected, _, _ in found):
            break
    _, setting, _ = min(found, key=lambda each: each[0])
    return setting, fastest_way(ways(start, setting.recipe), order)


def _start(goal: Goal, seed: int) -> Parameters:
    net = MLP(goal.sizes, seed=seed)
    return Parameters(net.weights, net.biases)


def _run(
    network: Network, goal: Goal, n_images: int, seed: int, accuracy: Callable[[Parameters], float]
) -> tuple[float, int, float]:
    """Return the seconds and the number of epochs until the goal is reached, or is given up, and the accuracy then."""
    rng = np.random.default_rng(seed)
    taken: list[float] = []
    reached = 0.0
    while reached < goal.accuracy and len(taken) < goal.most_epochs:
        order = rng.permutation(n_images)
        time.sleep(PAUSE)
        started = time.perf_counter()
        network.run_epoch(order)
        taken.append(time.perf_counter() - started)
        # On one thread, so that no others are awake when the next epoch is timed.
        with blas_threads(1):
            reached = accuracy(network.parameters())
    return sum(taken), len(taken), reached
