"""From a fresh network to 94 % and to 98 % of the test images, with each entrant's best setting."""

from functools import partial

import pytest

from benchmarks.entrants import AbsentError, Entrant
from benchmarks.goals import Goal
from benchmarks.harness import Harness
from benchmarks.race import race_to
from benchmarks.words import in_a_line


def test_time_to_accuracy(harness: Harness, goal: Goal, entrant: Entrant) -> None:
    """Time an entrant's epochs until its network is as accurate as the goal says; it fails where that doesn't come."""
    try:
        race = race_to(goal, partial(harness.ways, entrant), len(harness.data.train), harness.accuracy)
    except AbsentError as absence:
        harness.skip(goal, entrant, str(absence))
        pytest.skip(str(absence))
    except Exception as error:
        harness.record_failure(goal, entrant, in_a_line(error))
        raise
    harness.record_race(goal, entrant, race)
    if race.problem is not None:
        pytest.fail(f"{goal}: {entrant} {race.problem}", pytrace=False)
