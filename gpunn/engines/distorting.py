"""Distorted images for each epoch, made on the device that trains; on a CPU ahead of time, where cores are free."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend, get_backend
from gpunn.backends.limits import usable_cores
from gpunn.distortion import Distortion
from gpunn.equations import Array

CHUNKS = 64
"""Parts of the images that threads take one after another, so that one that comes late helps too."""


@dataclass(frozen=True, eq=False)
class Distorted:
    """Images as they are distorted in each epoch.

    `shape` is theirs, (rows, columns), and `ease` (n,), float32, has the factors of their angles. `seed` decides what
    is drawn.
    """

    distortion: Distortion
    shape: tuple[int, int]
    ease: NDArray[np.float32]
    seed: int

    def operation(self, backend: Backend, images: Array) -> Callable[..., None]:
        """Return a function of an epoch's number, from 1, and `out`: it distorts `images` (n, rows x columns), uint8.

        They are on the device of `backend`, as is `out`. On a CPU it takes `thread` and `threads` too, see
        `gpunn.kernels.cpu.distort.distort`.
        """
        kernels, limits, elastic = backend.kernels, self.distortion.limits(), self.distortion.elastic(self.shape)

        def held(array: Array) -> Any:
            return array if backend.name == "cpu" else kernels.as_handle(array)

        down, across, ease = (held(backend.asarray(array)) for array in (elastic.down, elastic.across, self.ease))
        given = held(images), ease, elastic._replace(down=down, across=across), limits

        def distort(epoch: int, out: Array, **share: int) -> None:
            kernels.distort(*given, self.distortion.key(self.seed, epoch), out=held(out), **share)

        return distort

    def on_host(self, images: NDArray[np.uint8], epoch: int) -> NDArray[np.uint8]:
        """Return `images` (n, rows x columns), on the host, as they are distorted in `epoch`, from 1."""
        out = np.empty_like(images)
        self.operation(get_backend("cpu"), images)(epoch, out)
        return out


@contextmanager
def prepared(
    backend: Backend,
    images: Array,
    wanted: Distorted,
    prepare: Callable[[Array], Any],
    *,
    epochs: range,
    busy: int,
) -> Iterator[Callable[[int], Any]]:
    """Yield a function of an epoch's number that returns its distorted `images`, after `prepare`.

    It is called for each of `epochs` in turn. What it returns may be overwritten by its next call but one. `busy` is
    the number of threads that an epoch takes: while one is trained, the other cores make the images of the next.
    """
    distort = wanted.operation(backend, images)
    if backend.name != "cpu":
        out = backend.xp.empty(images.shape, np.uint8)

        def on_gpu(epoch: int) -> Any:
            distort(epoch, out)
            return prepare(out)

        yield on_gpu
        return
    from gpunn.kernels.announcement import announced

    cores = usable_cores()
    ahead = cores > busy
    helpers = cores - busy if ahead else cores - 1
    buffers = [np.empty_like(images) for _ in range(1 + ahead)]
    with announced("distorted images"):
        distort(0, buffers[0], thread=CHUNKS, threads=CHUNKS)  # no part of them: it compiles the kernel
    with ThreadPoolExecutor(max(1, helpers), "gpunn") as pool:
        started: dict[int, _Job] = {}

        def begin(epoch: int) -> "_Job":
            job = _Job(distort, epoch, buffers[epoch % len(buffers)], prepare)
            for _ in range(helpers):
                pool.submit(copy_context().run, job.work)
            return job

        def on_cpu(epoch: int) -> Any:
            job = started[epoch] = started.get(epoch) or begin(epoch)
            job.work()
            found = job.result.result()
            del started[epoch]
            if ahead and epoch + 1 in epochs:
                started[epoch + 1] = begin(epoch + 1)
            return found

        try:
            yield on_cpu
        finally:
            for job in started.values():
                job.stop()


@final
class _Job:
    """The images of one epoch, which any number of threads make together."""

    def __init__(
        self, distort: Callable[..., None], epoch: int, out: NDArray[np.uint8], prepare: Callable[[Array], Any]
    ) -> None:
        self.result: Future[Any] = Future()
        """What `prepare` makes of the images, when all are there."""
        self._distort, self._epoch, self._out, self._prepare = distort, epoch, out, prepare
        self._chunks, self._lock, self._left = itertools.count(), threading.Lock(), CHUNKS

    def work(self) -> None:
        """Make images until none are left to make; the thread that makes the last ones prepares them."""
        try:
            while (chunk := next(self._chunks)) < CHUNKS:
                self._distort(self._epoch, self._out, thread=chunk, threads=CHUNKS)
                with self._lock:
                    self._left -= 1
                    last = not self._left
                if last:
                    self.result.set_result(self._prepare(self._out))
        except Exception as error:
            self.stop()
            with self._lock:
                if not self.result.done():  # by another thread that failed
                    self.result.set_exception(error)

    def stop(self) -> None:
        """Begin with no further images."""
        self._chunks = itertools.count(CHUNKS)
