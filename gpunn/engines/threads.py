"""Limit on the threads of BLAS while engines compute."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

logger = logging.getLogger(__name__)


@contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """Set the number of threads of NumPy's BLAS in the block; restore it afterwards.

    Its threads keep their cores busy for about a tenth of a second after a product, waiting for the next one; meanwhile
    two threads of ours are slower than one. Without threadpoolctl nothing is changed, and that is logged.

    The number is mostly a setting of the whole process: if blocks overlap, in whatever threads and order, the smallest
    number applies, and the original one is restored after the last block.
    """
    try:
        holder = _BLAS.enter(threads)
    except ImportError as error:
        logger.info("BLAS keeps its own threads, which may slow training down: %s", error)
        yield
        return
    try:
        yield
    finally:
        _BLAS.leave(holder)


Before = list[tuple[Any, int]]
"""Libraries, and the number of threads that each had."""


@final
class _Holder:
    """A block that limits the threads of BLAS, and the thread that runs it."""

    def __init__(self, limit: int, own: Before) -> None:
        self.limit, self.own, self.thread = limit, own, threading.get_ident()


@final
class _Blas:
    """The BLAS libraries of the process, and the blocks that limit their threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: list[_Holder] = []
        self._before: Before = []
        """Libraries with one number of threads for the process; for others, each thread has its own."""
        self._limit = 0

    def enter(self, limit: int) -> _Holder:
        with self._lock:
            # Searched every time, as libraries may be loaded at any time.
            found = [(library, library.num_threads) for library in _libraries()]
            holder = _Holder(limit, [pair for pair in found if _is_threads_own(pair[0])])
            if not self._holders:
                self._before = [pair for pair in found if not _is_threads_own(pair[0])]
            self._holders.append(holder)
            self._set()
        for library, _ in holder.own:
            library.set_num_threads(limit)
        return holder

    def leave(self, holder: _Holder) -> None:
        for library, before in holder.own:
            library.set_num_threads(before)
        with self._lock:
            if holder in self._holders:  # False if it was dropped after a fork
                self._holders.remove(holder)
                self._set()

    def _set(self) -> None:
        """Apply the smallest limit of the holders, or restore the original numbers if there are none."""
        if self._holders:
            self._limit = min(holder.limit for holder in self._holders)
            for library, _ in self._before:
                _set_for_all(library, self._limit)
            return
        for library, before in self._before:
            # A number that someone else has set meanwhile stays.
            if library.num_threads == self._limit:
                _set_for_all(library, before)
        self._before, self._limit = [], 0

    def forget_other_threads(self) -> None:
        """After a fork, drop the holders whose threads don't exist in the child process."""
        self._lock = threading.Lock()  # one of them may have held it
        here = [holder for holder in self._holders if holder.thread == threading.get_ident()]
        if len(here) < len(self._holders):
            self._holders = here
            self._set()


_BLAS = _Blas()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_BLAS.forget_other_threads)


def _libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController

    found: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return found


def _is_threads_own(library: Any) -> bool:
    """Whether the number of threads is set for the calling thread only, as with OpenBLAS built for OpenMP."""
    return bool(library.internal_api == "openblas" and hasattr(library, "clear_controlling_thread")) and (
        library.threading_layer == "openmp"
    )


def _set_for_all(library: Any, threads: int) -> None:
    """Set the number of threads of the process; since threadpoolctl 3.8 one thread must first give up control of it."""
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(threads)
    if release is not None:
        release()
