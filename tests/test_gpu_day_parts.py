"""The parts that a GPU day is made of: the process that measures, the tests it runs, the ceilings."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks import ceilings
from benchmarks.bars import Row
from benchmarks.ceilings import measure_ceilings
from benchmarks.contest import Contest, DeviceLostError, Watch
from benchmarks.exactness import TOLERANCES
from benchmarks.gpu_rows import ON_CPU, SMALL, Task
from benchmarks.gpu_tests import run_gpu_tests
from benchmarks.job import Job, do_job
from benchmarks.machine import GPU_LIBRARIES, describe_machine
from benchmarks.worker import GivenUpError, Worker
from gpunn import get_backend
from gpunn.backends.cuda import COMPILERS

from .strict_cupy import StrictCupy

TASK = Task(Row(SMALL, 32), peers=("numpy", "torch.graphs"))


def wait_for_ever(job: Job, watch: Watch) -> Contest:
    watch("epoch", "train")
    time.sleep(60)
    return Contest()


def die(job: Job, watch: Watch) -> Contest:
    watch("epoch", "prepare")
    os._exit(7)


def lose_the_device(job: Job, watch: Watch) -> Contest:
    watch("epoch", "train")
    raise DeviceLostError("epoch", "an illegal memory access", "Traceback")


def break_down(job: Job, watch: Watch) -> Contest:
    watch("float64", "prepare")
    raise ValueError("one of\ntwo lines")


def answer(job: Job, watch: Watch) -> Contest:
    if job.images is None:
        watch("jax", "train")
        raise DeviceLostError("jax", "gone", "Traceback")
    return Contest(auto="epoch")


def job(images: int | None = 512) -> Job:
    return Job(TASK, "cpu", images, 1, 1.0, {})


@pytest.mark.parametrize(
    ("do", "name", "reason"),
    [
        (wait_for_ever, "epoch", "did not train within 0.2 s"),
        (die, "epoch", "the process ended with code 7 when it was to prepare"),
        (lose_the_device, "epoch", "the device was lost: an illegal memory access"),
        (break_down, "float64", "ValueError: one of two lines"),
    ],
)
def test_a_worker_that_does_not_answer_says_who_had_its_turn(
    do: Callable[[Job, Watch], Contest], name: str, reason: str
) -> None:
    worker = Worker(do, {"start": 60.0, "prepare": 60.0, "train": 0.2})
    with pytest.raises(GivenUpError, match=reason) as caught:
        worker.ask(job(), 60)
    assert caught.value.name == name
    worker.stop()


def test_a_worker_is_started_again_after_it_was_given_up() -> None:
    worker = Worker(answer)
    try:
        with pytest.raises(GivenUpError, match="the device was lost: gone"):
            worker.ask(job(images=None), 60)
        assert worker.ask(job(), 60).auto == "epoch"
        with pytest.raises(GivenUpError, match="the time was up") as caught:
            Worker(wait_for_ever).ask(job(), 0.0)
        assert caught.value.name is None
    finally:
        worker.stop()


def test_the_ceilings_of_the_cpu_are_measured() -> None:
    found, missing = measure_ceilings(get_backend("cpu"))
    assert missing == {}
    assert all(value > 0 for value in found.values())
    assert set(found) == {"copy in GB/s, read + written", "float32 product in GFLOP/s"}


def test_a_result_names_what_compiles_and_links_kernels() -> None:
    wanted = {package for pair in COMPILERS for package in pair}
    assert wanted | {"numba-cuda", "cuda-bindings", "cuda-core"} <= set(GPU_LIBRARIES)
    assert set(describe_machine(GPU_LIBRARIES)) >= set(GPU_LIBRARIES)


class PretendGpu:
    """A backend whose clock says that everything takes a millisecond."""

    name = "cuda:0"
    xp = SimpleNamespace(
        empty_like=np.empty_like,
        copyto=np.copyto,
        dot=np.dot,
        cuda=SimpleNamespace(
            Event=lambda: SimpleNamespace(record=lambda: None, synchronize=lambda: None),
            get_elapsed_time=lambda _before, _after: 1.0,
        ),
        get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None),
    )
    activate = staticmethod(nullcontext)
    asarray = staticmethod(np.asarray)
    synchronize = staticmethod(lambda: None)


def test_the_ceilings_of_a_gpu_are_timed_by_its_events(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(None)
    monkeypatch.setattr(ceilings, "BYTES", {"cuda": 4000})
    monkeypatch.setattr(ceilings, "SIDE", {"cuda": 100})
    found, missing = measure_ceilings(cast("Any", PretendGpu()))
    # 8,000 bytes, and 2,000,000 operations, a millisecond.
    assert found == pytest.approx({"copy in GB/s, read + written": 0.008, "float32 product in GFLOP/s": 2.0})
    assert list(missing) == ["TF32 product in GFLOP/s"]


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_pytests_counts_are_read_from_its_output() -> None:
    said: list[str] = []
    text = (
        "import os, sys; print('GPU required:', os.environ['GPUNN_REQUIRE_GPU']);"
        "print('2 failed, 12 passed, 1 skipped, 3 warnings in 75.30s (0:01:15)'); sys.exit(1)"
    )
    outcome = run_gpu_tests(30, said.append, script(text))
    assert outcome.counts == {"failed": 2, "passed": 12, "skipped": 1, "warnings": 3}
    assert not outcome.passed
    assert said[0] == "GPU required: 1"
    assert str(outcome) == "GPU tests: 2 failed, 12 passed, 1 skipped, 3 warnings, exit code 1"


def test_tests_that_take_too_long_are_stopped_with_all_they_started() -> None:
    text = (
        "import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', 'input()'], stdin=0)"
    )
    text = text.replace("'input()'], stdin=0", "'import time; time.sleep(60)']")
    started = time.monotonic()
    outcome = run_gpu_tests(1.0, lambda _line: None, script(text))
    assert time.monotonic() - started < 20
    assert outcome.timed_out
    assert not outcome.passed
    assert list(outcome.tail) == ["begun"]


def test_a_job_on_a_gpu_takes_its_contestants_there_and_leaves_the_cpu_beside_it(install: Any) -> None:
    cupy: Any = StrictCupy()
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    install(cupy)
    turns: list[tuple[str, str]] = []
    asked = Job(TASK, "cuda:0", 300, 1, 1.0, {"fused": "why not"})
    held = do_job(asked, lambda name, act: turns.append((name, act)))
    assert held.absent["numpy"] == "computes on cpu, and the device is cuda"
    assert held.absent["fused"] == "why not"
    assert {result.name for result in held.results} >= {"plain", ON_CPU}
    assert all(result.problem is None for result in held.results if result.name in {"plain", ON_CPU})
    assert held.deviations["plain"] <= TOLERANCES["float32"]
    assert {("plain", "prepare"), ("float64", "prepare"), ("plain", "train")} <= set(turns)
