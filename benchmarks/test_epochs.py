"""Epochs of MNIST: a test is a row, in which gpunn's engines and their peers train in turn on every device."""

from typing import Any

import pytest

from benchmarks.harness import Harness, keep, use
from benchmarks.schema import Contestant, Start
from benchmarks.timing.contestants import AbsentError
from benchmarks.timing.device import in_a_line
from benchmarks.timing.fresh import first_epochs
from benchmarks.workloads.epochs import Work


def test_row(harness: Harness, benchmark: Any, work: Work, visit: int) -> None:
    """Time a row's rounds; it fails where a network isn't that of float64, or a contestant breaks down."""
    use(benchmark)
    found = harness.visit(work, visit)
    row = found.row()
    for result in row.results:
        if result.problem is None and visit == harness.visits - 1:
            seconds = [each.seconds for each in result.rounds if each.disturbed is None]
            about = {
                "disturbed": len(result.rounds) - len(seconds),
                "threads": result.contestant.threads,
                "deviation": result.deviation,
                "accuracy": result.accuracy,
            }
            who = f"{result.contestant.device}-{result.contestant.name}"
            keep(benchmark, work.name, who, seconds, **about)
    wrong = [f"{result.contestant}, {result.problem}" for result in row.results if result.problem is not None]
    if wrong:
        pytest.fail(f"{work.task.label}: " + "; ".join(wrong), pytrace=False)


def test_first_epochs(harness: Harness, contestant: Contestant) -> None:
    """Time fresh processes to the end of their first epoch, with an empty and with a full kernel cache."""
    task = harness.small_task().task
    try:
        found = first_epochs(task, contestant)
    except AbsentError as absence:
        harness.skip(f"first epochs: {contestant}: {absence}")
    except Exception as error:
        harness.found["starts"].append(Start(task, contestant, problem=in_a_line(error)))
        raise
    else:
        harness.found["starts"].append(found)
