"""Threads: their number, their shares, and what they hand back."""

import threading
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from gpunn import MLP, Split, train
from gpunn.backends.cpu import usable_cores
from gpunn.engines import threads
from gpunn.engines.threads import blas_threads, part
from gpunn.kernels.compilation import compiled
from gpunn.kernels.team import Team
from gpunn.kernels.threads import share


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
def test_a_failure_in_one_thread_is_everybodys(failing: int) -> None:
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


@pytest.fixture(autouse=True)
def _found_anew() -> None:
    """Let libraries count that other tests have loaded."""
    threads._controller.cache_clear()


def blas() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_gets_its_threads_back() -> None:
    before = blas()
    assert before
    with blas_threads(1):
        assert set(blas()) == {1}
    assert blas() == before


def test_there_is_a_core_to_use() -> None:
    assert usable_cores() >= 1


def test_training_leaves_the_cores_to_an_engine_with_threads_of_its_own(small: Split) -> None:
    seen: list[set[int]] = []
    for engine in ("epoch", "fused", "plain"):
        train(
            MLP([12, 5, 3]), small, epochs=1, batch_size=32, learning_rate=0.1, test=small, device="cpu", engine=engine,
            on_epoch=lambda _: seen.append(set(blas())),
        )  # fmt: skip
    assert seen == [{1}, {1}, set(blas())]
