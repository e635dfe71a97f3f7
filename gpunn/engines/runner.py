"""The training loop: epochs of an engine on a device, each of which leaves the network on the host."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend, get_backend
from gpunn.backends.base import TF32_OVERRIDE
from gpunn.engines.base import Engine, Examples, Parameters, Recipe
from gpunn.engines.devices import Job, training_device
from gpunn.engines.distorting import Distorted, prepared
from gpunn.engines.stopping import check_stopped
from gpunn.engines.threads import blas_threads
from gpunn.equations import Array
from gpunn.errors import OutOfMemoryError
from gpunn.optimizers import OptimizerState

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Trained(NamedTuple):
    """The result of an epoch: its mean loss, its duration, and the network on the host and on the device."""

    loss: float
    seconds: float
    weights: list[NDArray[Any]]
    biases: list[NDArray[Any]]
    on_device: Parameters

    def is_finite(self, *numbers: float) -> bool:
        """Whether the loss, all parameters and `numbers` are finite."""
        arrays = (*self.weights, *self.biases)
        return bool(np.isfinite((self.loss, *numbers)).all()) and all(np.isfinite(array).all() for array in arrays)


class Trainer(Protocol):
    """What runs epochs: an `Engine`, or several of them. See there for the methods."""

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float: ...

    def parameters(self) -> Parameters: ...

    def memory(self) -> OptimizerState: ...


Make = Callable[[type[Engine], Backend, Parameters, Examples, Recipe], Trainer]
"""Returns what trains by engines of a type; the other arguments are those of an engine."""


def alone(engine: type[Engine], backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> Trainer:
    """Return an engine of the type `engine`."""
    return engine(backend, start, examples, recipe)


@final
class Runner:
    """Runs epochs of one engine. Make it by `running`."""

    def __init__(
        self,
        backend: Backend,
        make: Callable[[Parameters, Recipe], Trainer],
        start: Parameters,
        recipe: Recipe,
        inputs: Array,
    ) -> None:
        """Take `start` on the host, `inputs` on the device; `make` returns what trains from its argument on."""
        self._backend, self._make, self._undistorted = backend, make, inputs
        self._engine = make(start, recipe)

    def restart(self, start: Parameters, recipe: Recipe) -> None:
        """Resume from `start`, on the host, by `recipe`."""
        self._engine = self._make(start, recipe)

    def optimizer_state(self) -> OptimizerState:
        """Return a copy of the optimiser's state, on the host: all that an engine has besides the parameters."""
        return self._engine.memory()

    def run(
        self,
        epochs: int,
        begin: Callable[[int], tuple[NDArray[np.int64], NDArray[np.float64] | None]],
        finish: Callable[[int, Trained], bool],
        distorted: Distorted | None = None,
        *,
        done: int = 0,
    ) -> None:
        """Train up to epoch `epochs`, numbered from 1, without the first `done`, or until `finish` returns False.

        `begin` returns the order of an epoch's examples, and the learning rates of its batches, or None for the
        recipe's; `finish` gets the epoch's result. Each epoch trains on images that are `distorted`, if that is given;
        its duration includes waiting for them.
        """
        numbers = range(done + 1, epochs + 1)
        with self._changing(distorted, numbers) as change:
            for number in numbers:
                check_stopped()
                order, rates = begin(number)
                started = time.perf_counter()
                change(number)
                loss = self._engine.run_epoch(order, rates)
                seconds = time.perf_counter() - started
                found = self._engine.parameters()
                if not finish(number, Trained(loss, seconds, *on_host(self._backend, found), found)):
                    return

    @contextmanager
    def _changing(self, distorted: Distorted | None, epochs: range) -> Iterator[Callable[[int], None]]:
        """Yield a function of an epoch's number that gives the engine the epoch's inputs."""
        engine, images = self._engine, self._undistorted
        if distorted is None:
            yield lambda _number: None
            return
        assert isinstance(engine, Engine)  # `Plan.over` refuses what else trains
        with prepared(self._backend, images, distorted, engine.prepare, epochs=epochs, busy=engine.threads) as inputs:
            yield lambda number: engine.use(inputs(number))


def on_host(backend: Backend, found: Parameters) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return the weights and the biases on the host, from a GPU in one transfer."""
    weights, biases = list(found.weights), list(found.biases)
    if backend.name == "cpu":
        return weights, biases
    arrays = [*weights, *biases]
    flat = backend.to_host(backend.xp.concatenate([array.ravel() for array in arrays]))
    parts = np.split(flat, np.cumsum([array.size for array in arrays])[:-1])
    hosts = [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
    return hosts[: len(weights)], hosts[len(weights) :]


@contextmanager
def running(
    backend: Backend, engine: type[Engine], start: Parameters, examples: Examples, recipe: Recipe, *, make: Make = alone
) -> Iterator[Runner]:
    """Copy `examples` to the device, and yield a `Runner` that resumes from `start`; both are on the host.

    `make` returns what trains: the engine, unless several processes train together.
    In the block the device is active, and BLAS has one thread if the engine has its own threads.
    """
    with backend.activate(), blas_threads(1) if engine.own_threads else nullcontext():
        on_gpu = backend.name != "cpu"
        if on_gpu and recipe.precision == "float32" and backend.describe().get(TF32_OVERRIDE) == "1":
            logger.warning("%s is 1: cuBLAS multiplies in TF32, although the precision is float32", TF32_OVERRIDE)
        there = examples.on(backend)

        def made(start: Parameters, recipe: Recipe) -> Trainer:
            return make(engine, backend, start, there, recipe)

        yield Runner(backend, made, start, recipe, there.inputs)


def on_device(
    device: str | Backend,
    run: Callable[[Backend], T],
    may_retry: Callable[[], bool],
    jobs: Callable[[], Sequence[Job]] | None = None,
) -> T:
    """Call `run` with the backend for `device`; if "auto" chose a GPU that runs out of memory, again with the CPU.

    It only retries if `may_retry()` is True at that time. "auto" is the device that is faster for `jobs()`; without
    `jobs`, a GPU that works.
    """
    backend = training_device(jobs()) if device == "auto" and jobs is not None else get_backend(device)
    try:
        return run(backend)
    except OutOfMemoryError as error:
        if device != "auto" or backend.name == "cpu" or not may_retry():
            raise
        logger.info("device auto: cpu, as %s", error)
    return run(get_backend("cpu"))
