"""From a fresh network to 94 % and to 98 % of the test images, in each contestant's best setting."""

from typing import Any

import pytest

from benchmarks.harness import Harness, keep, use
from benchmarks.schema import Contestant, Race, Task
from benchmarks.timing.contestants import AbsentError
from benchmarks.timing.device import in_a_line
from benchmarks.timing.isolation import PREPARE
from benchmarks.timing.race import race_to
from benchmarks.workloads.accuracy import Goal


def test_time_to_accuracy(harness: Harness, benchmark: Any, goal: Goal, contestant: Contestant) -> None:
    """Time epochs until the network is as accurate as the goal says.

    It fails where that doesn't come, or takes more epochs than the float64 networks of the same seeds.
    """
    use(benchmark)
    try:
        race = harness.call(race_to, goal, contestant, seconds=2 * PREPARE)
    except AbsentError as absence:
        harness.skip(f"{goal}: {contestant}: {absence}")
    except Exception as error:
        task = Task(goal.network, goal.settings[0].batch_size)
        harness.found["races"].append(Race(task, goal.accuracy, contestant, problem=in_a_line(error)))
        raise
    harness.found["races"].append(race)
    keep(benchmark, str(goal), f"{contestant.device}-{contestant.name}", [run.seconds for run in race.runs])
    if race.problem is not None:
        pytest.fail(f"{contestant}: {race.problem}", pytrace=False)
