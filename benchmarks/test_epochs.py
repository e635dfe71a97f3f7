"""One epoch of MNIST: every engine and peer, on every device, at every batch size. Run with `pytest --benchmark`."""

from functools import partial

import pytest

from benchmarks.bars import Row
from benchmarks.contest import recipe_of
from benchmarks.entrants import AbsentError, Entrant
from benchmarks.harness import PRECISION, Harness
from benchmarks.timing import time_epochs
from benchmarks.words import in_a_line
from gpunn.equations import Array

TRANSFERS = 10


def test_transfer(harness: Harness, device: str, request: pytest.FixtureRequest) -> None:
    """Time how long the images and labels take to a device."""
    if device == "cpu":
        pytest.skip("nothing is copied to the CPU")
    backend, train = harness.backend(device), harness.data.train
    benchmark = request.getfixturevalue("benchmark")

    def transfer() -> tuple[Array, Array]:
        arrays = backend.asarray(train.images), backend.asarray(train.labels)
        backend.synchronize()
        return arrays

    with backend.activate():
        benchmark.pedantic(transfer, rounds=TRANSFERS, warmup_rounds=1, iterations=1)
    harness.record_transfer(device, list(benchmark.stats.stats.data))


def test_epoch(harness: Harness, row: Row, entrant: Entrant, request: pytest.FixtureRequest) -> None:
    """Time an entrant's epochs; it fails where its network isn't that of float64."""
    try:
        start, recipe = harness.exact(row).start, recipe_of(row, PRECISION)
        ways = harness.ways(entrant, start, recipe)
        fixture = partial(request.getfixturevalue, "benchmark")
        timing = time_epochs(
            fixture, ways, harness.exact(row).order, partial(harness.judge, row), harness.choices.seconds
        )
    except AbsentError as absence:
        harness.skip(row, entrant, str(absence))
        pytest.skip(str(absence))
    except Exception as error:
        harness.record_failure(row, entrant, in_a_line(error))
        raise
    record = harness.record_epochs(row, entrant, timing)
    if record["problem"] is not None:
        pytest.fail(f"{row}: {entrant} {record['problem']}", pytrace=False)
