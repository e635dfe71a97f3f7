"""The ranks that train one network together: sums over them, agreement among them, and a common end."""

import functools
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend, get_backend
from gpunn.backends.cuda import n_cuda_devices
from gpunn.backends.limits import at_most_cores, usable_cores
from gpunn.checks import check_whole
from gpunn.distributed.local_steps import LocalSteps
from gpunn.distributed.nccl import Nccl, nccl_among
from gpunn.engines import ENGINES, Engine, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.cpu.sharing import Shelf
from gpunn.engines.cpu.sharing import sharing as made_once
from gpunn.engines.data_parallel import Sharing, SharingEngine
from gpunn.engines.runner import Trainer
from gpunn.engines.threads import blas_threads
from gpunn.equations import Array
from gpunn.errors import ConfigurationError, GpunnError
from gpunn.evaluation import Evaluation
from gpunn.printing import one_line

P = ParamSpec("P")
T = TypeVar("T")

GATHERED = 1 << 18
"""Bytes of all ranks' buffers up to which every rank gets all of them, which takes one message less."""

PATIENCE = 3.0
"""Seconds that a failed rank waits for the others to fail likewise, before it ends them."""


@final
class Ranks(Sharing):
    """The ranks of a communicator, one of which is this process. All of them call its methods in the same order.

    Numbers are added up in the order of the ranks, so that the same bits come out in every run and on every rank: MPI
    only recommends that to its own sums. Among GPUs, NCCL adds up in an order of its own. `average_every` is the number
    of steps between two means of the parameters; None adds up gradients, for every step. `interrupted` tells whether
    this rank is to end; all end when one is.
    """

    def __init__(
        self,
        communicator: Any,
        *,
        average_every: int | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take an mpi4py communicator of processes with MPI started; raises `ConfigurationError` for anything else."""
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is None or not isinstance(communicator, mpi.Intracomm):
            raise ConfigurationError(
                f"distributed must be a communicator of mpi4py, such as mpi4py.MPI.COMM_WORLD, got {communicator!r}"
            )
        if average_every is not None:
            check_whole("average_every", average_every, 1)
        self.average_every = average_every
        self.interrupted = interrupted
        # Messages of our own can't be taken for the caller's, nor those about failures for any other.
        self._all, self._ending = communicator.Dup(), communicator.Dup()
        self.rank: int = self._all.Get_rank()
        self.size: int = self._all.Get_size()
        here = self._all.Split_type(mpi.COMM_TYPE_SHARED)
        self._number_here: int = here.Get_rank()
        self._cores = _share_of_cores(here)
        here.Free()
        self._cupy: Any = None
        self._nccl: Nccl | None = None
        self._received: dict[tuple[int, Any], NDArray[Any]] = {}

    @property
    def leads(self) -> bool:
        """Whether this is the rank that prints and saves."""
        return self.rank == 0

    def __repr__(self) -> str:
        return f"Ranks: {self.rank} of {self.size}"

    # Sums

    def own(self, batch: slice) -> slice:
        n = batch.stop - batch.start
        return slice(batch.start + n * self.rank // self.size, batch.start + n * (self.rank + 1) // self.size)

    def buffer(self, xp: Any, n: int, dtype: np.dtype[Any]) -> Array:
        # One more for the wish to end, in a length that all ranks can share.
        found: Array = xp.zeros(-(-(n + 1) // self.size) * self.size, dtype)
        return found

    def add_up(self, buffer: Array) -> None:
        on_host = isinstance(buffer, np.ndarray)
        if not on_host and self._nccl is not None:
            self._nccl.add_up(buffer)  # and whether to end is asked after the epoch, as that would wait for the GPU
            return
        host = buffer if on_host else self._cupy.asnumpy(buffer)
        host[-1] = self.interrupted()
        self._add_up(host)
        if host[-1]:
            raise KeyboardInterrupt
        if not on_host:
            buffer[...] = self._cupy.asarray(host)

    def _add_up(self, buffer: NDArray[Any]) -> None:
        """Replace `buffer`, whose length the ranks divide, by the sum."""
        shared = buffer.nbytes * self.size > GATHERED
        key = (len(buffer) if shared else len(buffer) * self.size, buffer.dtype)
        if key not in self._received:
            self._received[key] = np.empty(*key)
        received = self._received[key].reshape(self.size, -1)
        if not shared:
            self._all.Allgather(buffer, received)
            _sum_in_order(received, out=buffer)
            return
        # Each rank adds up a part of the buffer, and gets the others' parts.
        self._all.Alltoall(buffer, received)
        _sum_in_order(received, out=received[0])
        self._all.Allgather(received[0], buffer)

    def total(self, number: float) -> float:
        return float(self._sums([number])[0])

    def _sums(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        own = np.array(numbers, np.float64)
        received = np.empty((self.size, len(own)))
        self._all.Allgather(own, received)
        _sum_in_order(received, out=own)
        return own

    # Agreement

    def agree(self, *, going_on: bool) -> bool:
        """Return whether all ranks go on; raises `KeyboardInterrupt` in all if one of them is to end."""
        ended, interrupted = self._sums([not going_on, self.interrupted()])
        if interrupted:
            raise KeyboardInterrupt
        return not ended

    def longest(self, seconds: float) -> float:
        """Return the longest of the ranks' times."""
        found: list[float] = self._all.allgather(seconds)
        return max(found)

    def check_alike(
        self, *, network: Sequence[NDArray[Any]], examples: Sequence[NDArray[Any]], settings: Sequence[object]
    ) -> None:
        """Raise `ConfigurationError` in all ranks if one of them has something else than the first one."""
        parts = {"network": network, "examples": examples}
        ours = [functools.reduce(_checksum, arrays, 0) for arrays in parts.values()]
        found = np.array(self._all.allgather([*ours, zlib.crc32(repr(settings).encode())]))
        for name, column in zip([*parts, "settings"], found.T, strict=True):
            others = np.flatnonzero(column != column[0])
            if len(others):
                raise ConfigurationError(
                    f"all ranks must be called alike: rank {others[0]} has another value of {name} than rank 0"
                )

    def placed(self, backend: Backend, device: str | Backend) -> Backend:
        """Return this rank's own GPU if `device` left open which, otherwise `backend`.

        Raises `ConfigurationError` in all ranks if some would train on the CPU, others on GPUs.
        """
        on_gpu = backend.name != "cpu"
        if self.total(float(on_gpu)) not in {0.0, self.size}:
            raise ConfigurationError("only some ranks have a GPU that can be used: choose the device cpu")
        if on_gpu and device in {"auto", "cuda"}:
            return get_backend(f"cuda:{self._number_here % n_cuda_devices()}")
        return backend

    # Training

    def check_enough(self, n_examples: int, batch_size: int) -> None:
        """Raise `ConfigurationError` if there is too little for all ranks."""
        if self.average_every is not None:
            n_batches = -(-n_examples // batch_size)
            if n_batches < self.size:
                raise ConfigurationError(f"found {n_batches} batches for {self.size} ranks: choose smaller ones")
        elif batch_size < self.size:
            raise ConfigurationError(
                f"batch_size must be at least {self.size}, the number of ranks, got {batch_size}; "
                "to train on whole batches in each rank, choose average_every"
            )

    def choose_engine(
        self, name: str, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples
    ) -> type[Engine]:
        """Do what `gpunn.engines.choose_engine` does, among the engines that can train over ranks."""
        if self.average_every is None and name == "auto":
            fused = ENGINES["fused"]
            can = backend.name == "cpu" and fused.unsupported_reason(backend, start, recipe, examples) is None
            name = fused.name if can else "plain"
        found = choose_engine(name, backend, start, recipe, examples)
        if self.average_every is None and not issubclass(found, SharingEngine):
            raise ConfigurationError(
                f"the engine {found.name} on {backend.name} can't share batches over ranks: choose the engine auto, or "
                "average_every"
            )
        return found

    def make(
        self, engine: type[Engine], backend: Backend, start: Parameters, examples: Examples, recipe: Recipe
    ) -> Trainer:
        """Return what trains the ranks' common parameters, `start`; the arguments are those of an engine."""

        def make(start: Parameters, recipe: Recipe) -> Engine:
            # What is made of the images once serves all engines.
            with made_once(shelf):
                return engine(backend, start, examples, recipe)

        if backend.name != "cpu":
            self._cupy, self._nccl = backend.xp, nccl_among(backend.xp, self._all)
        shelf = Shelf([examples.inputs])
        with self._one_before_the_others():
            if self.average_every is not None:
                return LocalSteps(self, backend, make, start, recipe, every=self.average_every)
            own = make(start, recipe)
            if isinstance(own, SharingEngine):
                own.share(self)
            return own

    @contextmanager
    def _one_before_the_others(self) -> Iterator[None]:
        """Let one rank of a machine run the block before the others, which then find its compiled kernels."""
        if self._number_here:
            self._all.Barrier()
        yield
        if not self._number_here:
            self._all.Barrier()

    def evaluator(
        self, evaluate: Callable[[Parameters], Evaluation | None], n: int, n_all: int
    ) -> Callable[[Parameters], Evaluation]:
        """Return a function that evaluates on all ranks' examples, `n_all`; `evaluate` does on `n` of them."""

        def evaluate_all(parameters: Parameters) -> Evaluation:
            own = evaluate(parameters)
            assert own is not None
            loss, *counts = self._sums([own.loss * n, *own.confusion.ravel().tolist()])
            return Evaluation(float(loss) / n_all, np.array(counts, np.int64).reshape(own.confusion.shape))

        return evaluate_all

    @contextmanager
    def own_cores(self) -> Iterator[None]:
        """Use no more than this rank's share of the machine's cores in the block."""
        with at_most_cores(self._cores), blas_threads(self._cores):
            yield

    # The end

    @contextmanager
    def ending_together(self, *, waiting: bool = False) -> Iterator[None]:
        """End all ranks if the block fails in some of them only; if it fails in all, pass the errors on.

        With `waiting`, leave the block when all do.
        """
        try:
            yield
        except BaseException as error:
            if not self._all_end():
                self._abort(error)
            raise
        if waiting:
            self._ending.Ibarrier().Wait()

    def _all_end(self) -> bool:
        """Wait for a while; return whether all ranks have come here."""
        request, deadline = self._ending.Ibarrier(), time.monotonic() + PATIENCE
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _abort(self, error: BaseException) -> NoReturn:
        """Print `error` in one line, and end all ranks."""
        known, code = isinstance(error, GpunnError), 1
        message = "; ".join([str(error), *getattr(error, "__notes__", [])])
        what = message if known else f"{type(error).__name__}{': ' if message else ''}{message}"
        if isinstance(error, KeyboardInterrupt):  # it may have a signal's number
            what, code = "interrupted", 128 + (error.args[0] if error.args else signal.SIGINT)
        line = f"gpunn: rank {self.rank} of {self.size}, which ends the others: {one_line(what)}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - MPI leaves no time for anything else
        self._ending.Abort(2 if known else code)
        raise error  # not reached

    def close(self) -> None:
        """Give the communicators back to MPI."""
        self._all.Free()
        self._ending.Free()


def _sum_in_order(parts: NDArray[Any], *, out: NDArray[Any]) -> None:
    """Write the sum of the rows of `parts`, from the first to the last, to `out`, which may be the first."""
    if len(parts) == 1:
        out[...] = parts[0]
        return
    np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        out += part


def _checksum(before: int, array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data, before)


def _share_of_cores(here: Any) -> int:
    """Return the number of cores for this rank, one of those `here` on its machine."""
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    sharing = sum(not own.isdisjoint(others) for others in here.allgather(own))
    return max(1, usable_cores() // sharing)


def over_ranks(train: Callable[P, T]) -> Callable[P, T]:
    """Let `train` take a communicator as `distributed`, which it gets as `Ranks`; failures end all ranks alike."""

    @functools.wraps(train)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        communicator, every = kwargs.get("distributed"), kwargs.get("average_every")
        if communicator is None:
            if every is not None:
                raise ConfigurationError("average_every needs ranks to average over: see distributed")
            return train(*args, **kwargs)
        ranks = communicator if isinstance(communicator, Ranks) else Ranks(communicator, average_every=every)  # type: ignore[arg-type]
        kwargs["distributed"] = ranks
        try:
            with ranks.own_cores(), ranks.ending_together():
                return train(*args, **kwargs)
        finally:
            if ranks is not communicator:
                ranks.close()

    return run
