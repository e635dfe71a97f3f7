"""Each fused kernel beside its unfused form, over sizes, and what the device can do at most."""

from functools import partial

import pytest

from benchmarks.ceilings import measure_ceilings
from benchmarks.fusion_cases import Arrays
from benchmarks.fusions import FUSIONS, copy_of, difference
from benchmarks.harness import Harness
from benchmarks.turns import time_in_turn
from gpunn.errors import ConfigurationError, OutOfMemoryError

SHARE = 0.25
"""Of an entrant's seconds: these rows are many and short."""


def test_ceilings(harness: Harness, device: str) -> None:
    """Measure how fast the device copies its memory, and multiplies large matrices."""
    found, missing = measure_ceilings(harness.backend(device))
    harness.record_ceilings(device, found, missing)
    assert found


def test_kernel(
    harness: Harness, device: str, kernel: str, shape: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    """Time a kernel, its unfused form and a copy of as many bytes; it fails where the two results differ."""
    backend = harness.backend(device)
    with backend.activate():
        make, _ = FUSIONS[kernel]
        try:
            on = Arrays(backend)
            case = make(on, *shape)
        except (ConfigurationError, OutOfMemoryError) as error:
            harness.skip_kernel(device, kernel, str(error))
            pytest.skip(str(error))
        found = time_in_turn(
            partial(request.getfixturevalue, "benchmark"),
            {"fused": case.fused, "unfused": case.unfused, "copy": copy_of(on, case.n_bytes)},
            backend.synchronize,
            harness.choices.seconds * SHARE,
        )
        problem = difference(case, backend)
    harness.record_kernel(device, kernel, case, found, problem)
    if problem is not None:
        pytest.fail(f"{kernel} {shape}: {problem}", pytrace=False)
