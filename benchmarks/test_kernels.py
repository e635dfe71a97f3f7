"""Each fused kernel beside its unfused form, over sizes."""

from typing import Any

import pytest

from benchmarks.harness import Harness, keep, use
from benchmarks.timing.isolation import PREPARE
from benchmarks.timing.kernels import time_kernel
from gpunn.errors import ConfigurationError, OutOfMemoryError

SHARE = 0.15
"""Of a row's seconds: these rows are many and short."""


def test_kernel(harness: Harness, benchmark: Any, device: str, kernel: str, shape: tuple[int, int]) -> None:
    """Time a kernel, its unfused form and a copy of as many bytes; it fails where the two results differ."""
    use(benchmark)
    try:
        seconds = harness.options.seconds * SHARE
        found, rounds = harness.call(time_kernel, device, kernel, shape, seconds, seconds=PREPARE)
    except (ConfigurationError, OutOfMemoryError) as error:
        harness.skip(f"{kernel} {shape} on {device}: {error}")
    harness.found["kernels"].append(found)
    if found.problem is not None:
        pytest.fail(f"{found.label}: {found.problem}", pytrace=False)
    for way, taken in rounds.items():
        keep(benchmark, found.label.replace(" ", "-"), f"{device}-{way}", taken)
