"""Trainings at the same time, one on each core."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from typing import Any, TypeVar

from numpy.typing import NDArray

from gpunn.backends.limits import at_most_cores, usable_cores
from gpunn.engines.cpu.sharing import Shelf, sharing
from gpunn.engines.stopping import stopped_by
from gpunn.engines.threads import blas_threads

T = TypeVar("T")


def on_each_core(train: Callable[[T], None], networks: Sequence[T], arrays: Iterable[NDArray[Any]]) -> None:
    """Call `train` for each of `networks`, in their order, as many at a time as there are cores.

    What engines make of `arrays`, of inputs, is made once for all. After an error, which is raised, or Ctrl-C, the
    other trainings end by `Stopped`, which `train` is to catch; when this returns, all have ended.
    """
    workers = max(1, min(usable_cores(), len(networks)))
    stop, handed_out = threading.Event(), threading.Event()

    def run(network: T) -> None:
        # Ctrl-C while a thread is started leaves one that nobody waits for: it must not have begun to train.
        handed_out.wait()
        train(network)

    with (
        sharing(Shelf(arrays)),
        stopped_by(stop),
        at_most_cores(usable_cores() // workers),
        blas_threads(1),
        ThreadPoolExecutor(workers, "gpunn") as pool,
    ):
        try:
            futures = [pool.submit(copy_context().run, run, network) for network in networks]
            handed_out.set()
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            handed_out.set()
            _end_threads(pool)
            raise


def _end_threads(pool: ThreadPoolExecutor) -> None:
    """Wait until all threads have ended, however often Ctrl-C is pressed: they must not change networks later on."""
    while True:
        try:
            pool.shutdown(cancel_futures=True)
        except KeyboardInterrupt:
            continue
        return
