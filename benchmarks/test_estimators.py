"""gpunn's estimators beside scikit-learn's: what they learn, and the time that an epoch of `fit` takes.

pytest --benchmark benchmarks/test_estimators.py [--seeds 10] [--batch-sizes 32,128] [--engines epoch]
"""

from typing import Any

import pytest

from benchmarks.harness import Harness, keep, use
from benchmarks.timing import estimators
from benchmarks.timing.estimators import Case

SECONDS = 10.0
"""Of an epoch that may be timed on all images."""


def test_accuracies(harness: Harness, case: Case, device: str) -> None:
    """Compare what both learn from the same seeds; it fails where they differ by more than chance."""
    seeds = max(2, harness.options.seeds)
    found = estimators.accuracies(case, seeds, device, _engine(harness))
    harness.found["estimator_accuracies"].append(found)
    if found.problem is not None:
        pytest.fail(found.problem, pytrace=False)


def test_times(harness: Harness, benchmark: Any, hidden: int, solver: str, device: str) -> None:
    """Time an epoch of `fit`, both in turn; it fails where their losses differ."""
    use(benchmark)
    for batch_size in harness.options.batch_sizes or (1, 32, 128):
        harness.tell(f"batch size {batch_size}")
        found, rounds = estimators.times(
            hidden, batch_size, solver, device=device, engine=_engine(harness), seconds=SECONDS
        )
        harness.found["estimator_times"].append(found)
        for who, seconds in rounds.items():
            keep(benchmark, f"fit-{hidden}-batch-{batch_size}-{solver}", who, seconds)
        if found.problem is not None:
            pytest.fail(found.problem, pytrace=False)


def _engine(harness: Harness) -> str:
    return harness.options.engines[0] if harness.options.engines else "auto"
