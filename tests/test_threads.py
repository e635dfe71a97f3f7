"""Threads: their number, their shares, and their results."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 - Numba loads it sooner or later, and with it another BLAS
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

import gpunn.engines.threads
from gpunn import MLP, Split, train
from gpunn.engines.cpu.threads import Team, part
from gpunn.engines.threads import blas_threads
from gpunn.kernels.compilation import compiled
from gpunn.kernels.cpu.threads import share

ROOT = Path(__file__).parent.parent


@compiled
def shares(count: int, unit: int, threads: int, out: Any) -> None:
    for thread in range(threads):
        out[thread, 0], out[thread, 1] = share(count, unit, thread, threads)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 8, 9, 100, 128])
@pytest.mark.parametrize("unit", [8, 32])
def test_shares_cover_everything_once_at_multiples_of_the_unit(threads: int, count: int, unit: int) -> None:
    out = np.zeros((threads, 2), np.int64)
    shares(count, unit, threads, out)
    assert [i for begin, end in out for i in range(begin, end)] == list(range(count))
    assert all(begin % unit == 0 or begin == count for begin, _ in out)
    found = [part(count, thread, threads) for thread in range(threads)]
    assert [i for piece in found for i in range(piece.start, piece.stop)] == list(range(count))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_team_works_at_the_same_time_and_hands_back_in_order(threads: int) -> None:
    together = threading.Barrier(threads, timeout=30)

    def work(thread: int) -> int:
        together.wait()
        return 10 * thread

    team = Team(threads)
    for _ in range(3):
        assert team.run(work) == [10 * thread for thread in range(threads)]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_in_one_thread_is_raised(failing: int) -> None:
    def work(thread: int) -> None:
        if thread == failing:
            raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        Team(2).run(work)


def test_a_team_handles_floating_point_errors_as_its_caller_does() -> None:
    with np.errstate(over="raise", invalid="ignore"):
        found = Team(3).run(lambda _: np.geterr())
    assert [(each["over"], each["invalid"]) for each in found] == [("raise", "ignore")] * 3
    assert Team(2).run(lambda _: np.geterr()) == [np.geterr()] * 2


def blas() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def two_blas_threads() -> Iterator[None]:
    """NumPy's BLAS with two threads, so that limits show on any machine."""
    with threadpool_limits(2, user_api="blas"):
        assert set(blas()) == {2}
        yield


def entered(stack: ExitStack, limit: int) -> ExitStack:
    """Enter a block that limits BLAS; it ends when the result is closed, or at the latest with `stack`."""
    block = stack.enter_context(ExitStack())
    block.enter_context(blas_threads(limit))
    return block


@pytest.mark.usefixtures("two_blas_threads")
def test_blas_gets_its_threads_back() -> None:
    with blas_threads(1):
        assert set(blas()) == {1}
    assert set(blas()) == {2}
    with pytest.raises(KeyboardInterrupt), blas_threads(1):
        raise KeyboardInterrupt
    assert set(blas()) == {2}


@pytest.mark.usefixtures("two_blas_threads")
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_blas_gets_its_threads_back_in_whatever_order_blocks_are_left(order: tuple[int, ...]) -> None:
    with ExitStack() as stack:
        blocks = [entered(stack, 1) for _ in range(3)]
        for number in order:
            assert set(blas()) == {1}
            blocks[number].close()
        assert set(blas()) == {2}


@pytest.mark.usefixtures("two_blas_threads")
@pytest.mark.parametrize("first_out", [0, 1])
def test_blas_gets_its_threads_back_whichever_thread_is_the_last(first_out: int) -> None:
    inside, leave = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]
    left, end = [threading.Event() for _ in range(2)], threading.Event()

    def hold(number: int) -> None:
        with blas_threads(1):
            inside[number].set()
            leave[number].wait(30)
        left[number].set()
        end.wait(30)  # alive, as it may be the one that is to change the number

    threads = [threading.Thread(target=hold, args=[number]) for number in range(2)]
    for thread, event in zip(threads, inside, strict=True):
        thread.start()
        event.wait(30)
    for number in (first_out, 1 - first_out):
        assert set(blas()) == {1}
        leave[number].set()
        left[number].wait(30)
    assert set(blas()) == {2}
    end.set()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("two_blas_threads")
def test_the_smallest_requested_number_of_blas_threads_applies() -> None:
    with ExitStack() as stack:
        outer = entered(stack, 2)
        inner = entered(stack, 1)
        with blas_threads(2):
            assert set(blas()) == {1}
        outer.close()
        assert set(blas()) == {1}
        inner.close()
        assert set(blas()) == {2}


@pytest.mark.usefixtures("two_blas_threads")
def test_blas_threads_set_by_others_meanwhile_stay() -> None:
    with blas_threads(1):
        for library in ThreadpoolController().select(user_api="blas").lib_controllers:
            library.set_num_threads(3)
    assert set(blas()) == {3}


class PerThread:
    """A library that counts threads for each of its callers, as OpenBLAS does with OpenMP."""

    internal_api, threading_layer = "openblas", "openmp"

    def __init__(self) -> None:
        self._found = threading.local()

    @property
    def num_threads(self) -> int:
        return getattr(self._found, "number", 2)

    def set_num_threads(self, number: int) -> None:
        self._found.number = number

    def clear_controlling_thread(self, force: bool = False) -> None:
        pass


def test_if_each_thread_has_its_own_number_each_gets_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    library, seen = PerThread(), []
    monkeypatch.setattr(gpunn.engines.threads, "_libraries", lambda: [library])

    def other() -> None:
        library.set_num_threads(4)
        with blas_threads(1):
            seen.append(library.num_threads)
        seen.append(library.num_threads)

    with blas_threads(1):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        seen.append(library.num_threads)
    assert [*seen, library.num_threads] == [1, 4, 1, 2]


def test_without_threadpoolctl_a_message_says_that_blas_keeps_its_threads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    caplog.set_level("INFO", "gpunn")
    with blas_threads(1):
        assert "BLAS keeps its own threads, which may slow training down" in caplog.text


FORKED = """
import os, sys, threading
import numpy
from threadpoolctl import threadpool_info
from gpunn.engines.threads import blas_threads

def now():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

entered, leave = threading.Event(), threading.Event()
def hold():
    with blas_threads(1):
        entered.set()
        leave.wait()

other = threading.Thread(target=hold)
if "other" in sys.argv:
    other.start()
    entered.wait()
    child = os.fork()
    if child == 0:
        seen = now()
        with blas_threads(1):
            assert now() == {1}
        os._exit(0 if (seen, now()) == ({2}, {2}) else 1)
    leave.set()
    other.join()
else:
    with blas_threads(1):
        child = os.fork()
        if child == 0:
            assert now() == {1}
    if child == 0:
        os._exit(0 if now() == {2} else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or now() != {2})
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system can't fork")
@pytest.mark.parametrize("holder", ["other", "own"])
def test_a_forked_process_has_the_blas_threads_that_its_own_thread_asks_for(holder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, holder],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("two_blas_threads")
def test_overlapping_trainings_leave_blas_as_it_was(small: Split) -> None:
    inside, over = threading.Event(), threading.Event()

    def run(on_epoch: Callable[[object], None]) -> None:
        net = MLP([12, 5, 3])
        train(net, small, epochs=1, batch_size=32, learning_rate=0.1, device="cpu", engine="epoch", on_epoch=on_epoch)

    def begin_the_longer_one(_: object) -> None:
        longer.start()
        inside.wait(30)

    def outlast_the_other(_: object) -> None:
        inside.set()
        over.wait(30)

    shorter = threading.Thread(target=run, args=[begin_the_longer_one])
    longer = threading.Thread(target=run, args=[outlast_the_other])
    shorter.start()
    shorter.join()
    assert set(blas()) == {1}
    over.set()
    longer.join()
    assert set(blas()) == {2}


def test_training_leaves_the_cores_to_an_engine_with_threads_of_its_own(small: Split) -> None:
    seen: list[set[int]] = []
    for engine in ("epoch", "fused", "plain"):
        train(
            MLP([12, 5, 3]), small, epochs=1, batch_size=32, learning_rate=0.1, test=small, device="cpu", engine=engine,
            on_epoch=lambda _: seen.append(set(blas())),
        )  # fmt: skip
    assert seen == [{1}, {1}, set(blas())]
