"""The parts that a GPU day is made of: the process that measures, the tests it runs, the ceilings."""

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks import ceilings, gpu_tests
from benchmarks.bars import Row
from benchmarks.ceilings import measure_ceilings
from benchmarks.contest import Contest, DeviceLostError, Watch, hold
from benchmarks.exactness import TOLERANCES
from benchmarks.gpu_rows import ON_CPU, SMALL, Task
from benchmarks.gpu_tests import GpuTests, Outcome, lines_of, run_gpu_tests
from benchmarks.job import A_STEP, Job, do_job, patience_for
from benchmarks.machine import GPU_LIBRARIES, describe_machine
from benchmarks.peers import Place
from benchmarks.worker import PATIENCE, GivenUpError, Worker
from gpunn import get_backend
from gpunn.backends.cuda import COMPILERS

from .conftest import random_split
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
    worker = Worker(do, lambda _job: {"start": 60.0, "prepare": 60.0, "train": 0.2})
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


TESTS = """
import time
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(3))
def test_a(number):
    assert number != 1, "one is wrong"

@pytest.fixture
def broken():
    raise ValueError("no device")

def test_b(broken):
    pass

def test_c():
    pytest.skip("not today")

def test_d():
    Path(__file__).with_name("reached").touch()
    time.sleep(SECONDS)

def test_e():
    pass
"""


@pytest.fixture
def run_tests(tmp_path: Path) -> Callable[[float, float], tuple[GpuTests, list[str]]]:
    """Run tests, one of which takes some seconds, for at most so many; return the outcome and what was told."""

    def run(seconds: float, at_most: float) -> tuple[GpuTests, list[str]]:
        (tmp_path / "test_some.py").write_text(TESTS.replace("SECONDS", str(seconds)))
        said: list[str] = []
        command = [str(tmp_path / "test_some.py") if word == "tests/gpu" else word for word in gpu_tests.TESTS]
        return run_gpu_tests(at_most, said.append, command), said

    return run


def test_failures_are_told_when_they_occur(run_tests: Callable[[float, float], tuple[GpuTests, list[str]]]) -> None:
    tested, said = run_tests(0, 60)
    assert tested.counts == {"passed": 4, "failed": 1, "errors": 1, "skipped": 1}
    assert [name.rpartition("::")[2] for name in tested.failed] == ["test_a[1]", "test_b"]
    assert not tested.passed
    assert str(tested) == "GPU tests: 4 passed, 1 failed, 1 errors, 1 skipped, exit code 1"
    wrong = next(number for number, line in enumerate(said) if "AssertionError: one is wrong" in line)
    assert wrong < next(number for number, line in enumerate(said) if "test_b ERROR" in line)
    assert not any("PASSED" in line for line in said)


def test_tests_that_take_too_long_leave_what_became_of_the_others(
    run_tests: Callable[[float, float], tuple[GpuTests, list[str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class AsSoonAsItSleeps(threading.Thread):
        """A timer whose time is up when `test_d` sleeps; the one that would kill never is."""

        def __init__(self, seconds: float, do: Callable[[], None]) -> None:
            super().__init__(daemon=True)
            self._interrupt = do if seconds == 200 else None

        def run(self) -> None:
            while self._interrupt is not None and not (tmp_path / "reached").exists():
                time.sleep(0.05)
            if self._interrupt is not None:
                self._interrupt()

        def cancel(self) -> None:
            self._interrupt = None

    monkeypatch.setattr("threading.Timer", AsSoonAsItSleeps)
    tested, _ = run_tests(100, 200)
    assert tested.timed_out
    assert tested.counts == {"passed": 2, "failed": 1, "errors": 1, "skipped": 1}
    assert str(tested).endswith("stopped as the time was up")
    assert "test_d" in "".join(tested.tail)


def test_a_gpu_is_required_of_the_tests() -> None:
    said: list[str] = []
    text = "import os; print('GPU required:', os.environ['GPUNN_REQUIRE_GPU'])"
    assert not run_gpu_tests(30, said.append, script(text)).passed
    assert said == ["GPU required: 1"]


def test_a_command_that_ignores_its_interruption_is_stopped_with_all_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (
        "import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); print('begun', flush=True);"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    monkeypatch.setattr(gpu_tests, "GRACE", 0.5)
    started, outcome = time.monotonic(), Outcome()
    assert list(lines_of(script(text), 1.0, outcome, {})) == ["begun"]
    assert time.monotonic() - started < 20
    assert outcome.timed_out


def test_slow_rows_are_given_time_by_their_steps() -> None:
    online, images = Task(Row(SMALL, 1)), 60_000
    assert patience_for(Job(online, "cuda:0", None, 1, 1.0, {}))["train"] == PATIENCE["train"] + images * A_STEP
    assert patience_for(Job(online, "cuda:0", 512, 1, 1.0, {}))["prepare"] == PATIENCE["prepare"] + 512 * A_STEP
    assert patience_for(Job(TASK, "cuda:0", None, 1, 1.0, {})) == pytest.approx(
        PATIENCE | {act: PATIENCE[act] + images / 32 * A_STEP for act in ("prepare", "train")}
    )
    # As long as no row has shown how slow it is, an engine with a launch of 0.3 ms for each of 3 steps may have a turn.
    assert images * 3 * 3e-4 < patience_for(Job(online, "cuda:0", None, 1, 1.0, {}))["train"]


def test_jax_opens_the_gpu_it_is_to_use_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: dict[str, str] = {}
    jax: Any = ModuleType("jax")
    jax.config = SimpleNamespace(update=set_to.__setitem__)
    jax.devices = lambda kind: [f"{kind}:{set_to.get('jax_cuda_visible_devices', 'all of them')}"]
    jax.numpy = jax.lax = ModuleType("jax.numpy")
    for name, module in {"jax": jax, "jax.numpy": jax.numpy}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.delitem(sys.modules, "benchmarks.peers.jax_scan", raising=False)
    peer = importlib.import_module("benchmarks.peers.jax_scan")
    monkeypatch.setitem(sys.modules, "benchmarks.peers.jax_scan", peer)  # and gone afterwards
    assert peer._device(Place("cuda:2")) == "cuda:2"
    assert peer._device(Place("cuda:2")) == "cuda:2"
    with pytest.raises(RuntimeError, match="JAX has opened cuda:2 in this process"):
        peer._device(Place("cuda:0"))


def test_jax_comes_last_and_the_float64_network_first() -> None:
    turns: list[str] = []
    split = random_split(40, 784, 10)
    hold(Row(SMALL, 20), split, ["plain"], ["jax", "numpy"], 1, watch=lambda name, _act: turns.append(name))
    seen = list(dict.fromkeys(turns))
    assert seen[:3] == ["float64", "plain", "numpy"]
    assert seen[3:] in ([], ["jax"])


def test_a_job_on_a_gpu_takes_its_contestants_there_and_leaves_the_cpu_beside_it(install: Any) -> None:
    install(StrictCupy())
    turns: list[tuple[str, str]] = []
    asked = Job(TASK, "cuda:0", 300, 1, 1.0, {"fused": "why not"})
    held = do_job(asked, lambda name, act: turns.append((name, act)))
    assert held.absent["numpy"] == "computes on cpu, and the device is cuda"
    assert held.absent["fused"] == "why not"
    assert {result.name for result in held.results} >= {"plain", ON_CPU}
    assert all(result.problem is None for result in held.results if result.name in {"plain", ON_CPU})
    assert held.deviations["plain"] <= TOLERANCES["float32"]
    assert {("plain", "prepare"), ("float64", "prepare"), ("plain", "train")} <= set(turns)
