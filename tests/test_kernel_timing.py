"""Fused kernels beside unfused ones."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("msgspec")

from benchmarks.timing.device import LIBRARIES, describe_machine
from benchmarks.timing.kernels import LEAST, MOST, time_in_turn, time_kernel
from benchmarks.workloads import unfused
from benchmarks.workloads.unfused import FUSIONS, Arrays, Case, copy_of, difference
from gpunn import get_backend
from gpunn.backends.cuda import COMPILERS


@pytest.mark.parametrize("kernel", FUSIONS)
def test_fused_kernels_and_what_they_replace_compute_the_same(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfused, "N_IMAGES", 100)
    backend, (make, shapes) = get_backend("cpu"), FUSIONS[kernel]
    shape = shapes[0]
    case = make(Arrays(backend), *shape)
    results = case.results()
    assert difference(results, shape[0], backend) is None
    for found, expected in results:
        spoilt = found.copy()
        spoilt.flat[-1] += 0.01 * np.abs(found).max()
        assert "wrong: differs from the unfused result by 0.01" in (
            difference([(spoilt, expected)], shape[0], backend) or ""
        )


def test_a_copy_moves_as_many_bytes_as_the_kernel() -> None:
    on = Arrays(get_backend("cpu"))
    copied: list[int] = []
    on.xp = type("xp", (), {"empty_like": np.empty_like, "copyto": lambda target, source: copied.append(source.nbytes)})
    copy_of(on, 4000)()
    assert copied == [2000]


def test_ways_are_timed_in_turn_and_the_device_is_waited_for() -> None:
    done: list[str] = []
    ways = {name: partial(done.append, name) for name in ("fused", "unfused", "copy")}
    found = time_in_turn(ways, lambda: done.append("wait"), 0.0)
    assert {name: len(seconds) for name, seconds in found.items()} == dict.fromkeys(ways, LEAST)
    assert all(seconds > 0 for times in found.values() for seconds in times)
    assert done[-1] == "wait"
    assert done.count("unfused") == done.count("copy")
    assert LEAST < MOST


def test_a_kernel_has_its_times_its_ratio_and_its_bytes() -> None:
    found, rounds = time_kernel("cpu", "descend", (4, 8), 0.0)
    assert found.n_bytes == 4 * 3 * 32
    assert found.fused is not None
    assert found.fused.rounds == LEAST == len(rounds["copy"])
    assert found.ratio is not None
    assert found.ratio.low <= found.ratio.median <= found.ratio.high
    assert found.problem is None


def test_a_case_says_its_bytes() -> None:
    on = Arrays(get_backend("cpu"))
    cases: dict[str, Case] = {name: FUSIONS[name][0](on, 4, 8) for name in ("bias_activate", "output_delta")}
    assert {name: case.n_bytes for name, case in cases.items()} == {
        "bias_activate": 4 * (32 + 8 + 32),
        "output_delta": 4 * 2 * 32 + 4,
    }


def test_a_result_names_what_compiles_and_links_kernels() -> None:
    wanted = {package for pair in COMPILERS for package in pair}
    assert wanted | {"numba-cuda", "cuda-bindings", "cuda-core"} <= set(LIBRARIES)
    machine = describe_machine([get_backend("cpu")], {})
    assert set(machine.versions) >= {*LIBRARIES, "numpy", "numba", "python"}
    assert machine.devices["cpu"]["name"] == machine.name
