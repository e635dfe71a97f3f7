"""Measuring the table of speeds on this machine: what `gpunn tune` does."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend, get_backend, usable_gpu
from gpunn.backends.cuda import is_started
from gpunn.datasets import load_mnist
from gpunn.engines import Engine, Examples, Parameters, Recipe, pick_engine
from gpunn.engines.devices import Job
from gpunn.engines.speed import BUILT_IN, TIMES, Cost, Work, threads_of
from gpunn.engines.threads import blas_threads
from gpunn.errors import ConfigurationError, DeviceError
from gpunn.network import MLP

logger = logging.getLogger(__name__)

SECONDS = 40.0
"""Time after which no further measurement begins; each takes a few seconds, if kernels have to be compiled for it."""

NETWORKS = ((784, 16, 10), (784, 128, 10), (784, 512, 512, 10))

BATCH_SIZES = (32, 1, 1024)

WIDTHS = (2048, 1448, 1024, 724)
"""Neurons of both hidden layers of networks that `epoch` and `fused` train in turn, from the largest down."""

ENOUGH = 0.05
"""Seconds, by the built-in constants, of work for a measurement."""

ROUNDS, LONG = 3, 1.0
"""How often an epoch is timed, of which the shortest counts; and seconds after which it isn't timed again."""

PULL = 0.1
"""Weight of the assumption that all constants of an engine differ from the built-in ones by the same factor.

It decides on constants that hardly matter for what was measured.
"""

LEAST = 0.1
"""Smallest constant, relative to that assumption."""

FASTER = 1.05
"""How much faster than `epoch` `fused` must be, to count."""

Say = Callable[[str], None]


@dataclass
class Measurements:
    """The measured constants, by the names of `gpunn.engines.speed.constants`, and the GPU they are of, if any.

    Constants that aren't there weren't measured: no GPU, no such engine, or no time.
    """

    values: dict[str, float] = field(default_factory=dict)
    gpu: Backend | None = None


@final
class _Tuner:
    """One run: its images, its deadline, and whom to tell what is measured."""

    def __init__(self, say: Say, seconds: float) -> None:
        train = load_mnist().train
        self._images, self._labels = train.images, train.labels
        self._say, self._deadline = say, perf_counter() + seconds
        self.preparing = np.inf
        """The shortest time, in seconds, that it took to make an engine of the last kind, kernels included."""

    @property
    def over(self) -> bool:
        return perf_counter() >= self._deadline

    def samples(self, backend: Backend, engine: str) -> Iterator[tuple[Mapping[str, float], float]]:
        """Yield for each network and batch size what an epoch's time is made of, and the time, until time is over."""
        kind = "cpu" if backend.name == "cpu" else "gpu"
        self.preparing = np.inf
        for sizes in NETWORKS:
            for batch_size in BATCH_SIZES:
                if self.over:
                    return
                n_images = len(self._images)
                seconds = BUILT_IN.seconds(kind, engine, Work(sizes, n_images, batch_size))
                n = max(1, round(n_images * min(1.0, ENOUGH / seconds) / batch_size)) * batch_size
                job = self._job(sizes, engine, batch_size, min(n, n_images))
                took = self.seconds_of(backend, job)
                if took is None:
                    return
                work = job.work
                threads = threads_of(engine, work) if kind == "cpu" else 1
                yield BUILT_IN.cost(kind, engine).counts(work, threads), took

    def large_for_blas(self, backend: Backend) -> float | None:
        """Return the weights between hidden layers from which `fused` is faster than `epoch`; None without time."""
        above: int | None = None
        for width in WIDTHS:
            times = []
            for engine in ("epoch", "fused"):
                took = None if self.over else self.seconds_of(backend, self._job((784, width, width, 10), engine, 128))
                if took is None:
                    return None
                times.append(took)
            if times[0] <= times[1] * FASTER:
                return float(width * (2 * width if above is None else above))
            above = width
        return float(WIDTHS[-1] ** 2)

    def _job(self, sizes: Sequence[int], engine: str, batch_size: int, n: int = 256) -> Job:
        net = MLP(sizes)
        examples = Examples(self._images[:n], self._labels[:n])
        return Job(Parameters(net.weights, net.biases), examples, Recipe(batch_size, 0.01), engine, 1)

    def seconds_of(self, backend: Backend, job: Job) -> float | None:
        """Return the seconds of an epoch of `job`, kernels compiled before; None if its engine can't do it."""
        sizes = "-".join(map(str, job.start.sizes))
        self._say(f"{job.engine} on {backend.name}: {sizes}, batch size {job.recipe.batch_size:,}")
        with backend.activate():
            try:
                engine, _ = pick_engine(job.engine, backend, job.start, job.recipe, job.examples)
            except ConfigurationError:
                return None
            return self._timed(backend, engine, job)

    def _timed(self, backend: Backend, engine: type[Engine], job: Job) -> float:
        """Return the seconds of the shortest epoch."""
        order = np.random.default_rng(0).permutation(len(job.examples.inputs))
        examples = Examples(backend.asarray(job.examples.inputs), backend.asarray(job.examples.targets))
        times: list[float] = []
        with blas_threads(1) if engine.own_threads else nullcontext():
            begun = perf_counter()
            made = engine(backend, job.start, examples, job.recipe)
            self.preparing = min(self.preparing, perf_counter() - begun)
            made.run_epoch(order[: job.recipe.batch_size])
            while len(times) < ROUNDS and sum(times) < LONG:
                begun = perf_counter()
                made.run_epoch(order)
                times.append(perf_counter() - begun)
        return min(times)


def measure(say: Say = lambda _: None, seconds: float = SECONDS) -> Measurements:
    """Measure the constants on the CPU, and on the first GPU if there is one; `say` gets a line before each step.

    No step begins after `seconds`.
    """
    found, cpu, tuner = Measurements(), get_backend("cpu"), _Tuner(say, seconds)

    def fit(backend: Backend, kind: str, engine: str) -> None:
        samples = list(tuner.samples(backend, engine))
        cost = BUILT_IN.cost(kind, engine)
        if len(samples) >= len(BATCH_SIZES):
            found.values |= {f"{kind}_{engine}.{name}": value for name, value in fitted(cost, samples).items()}

    for engine in ("epoch", "fused"):
        fit(cpu, "cpu", engine)
    _measure_gpu(found, tuner, say, fit)
    large = tuner.large_for_blas(cpu)
    if large is not None:
        found.values["large_for_blas"] = large
    fit(cpu, "cpu", "plain")
    found.values = {name: float(f"{value:.4g}") for name, value in found.values.items()}
    return found


def _measure_gpu(found: Measurements, tuner: _Tuner, say: Say, fit: Callable[[Backend, str, str], None]) -> None:
    """Measure the first GPU's constants; one that fails on the way is left out, which is logged."""
    if tuner.over:
        return
    say("start of a GPU")
    fresh, begun = not is_started(), perf_counter()
    gpu = usable_gpu()
    if gpu is None:
        return
    found.gpu = gpu
    if fresh:
        found.values["gpu_start"] = perf_counter() - begun
    try:
        for engine in ("fused", "plain", "epoch"):
            fit(gpu, "gpu", engine)
    except DeviceError as error:
        logger.warning("the GPU is left out: %s", error)
        found.values = {name: value for name, value in found.values.items() if not name.startswith("gpu_")}
        found.gpu = None
        return
    found.values["gpu_networks"] = float(gpu.describe()["multiprocessors"])
    if np.isfinite(tuner.preparing):
        found.values["gpu_load"] = tuner.preparing


def fitted(cost: Cost, samples: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float]:
    """Return the times of `cost` that fit the measured `samples` best: what each counts (`Cost.counts`), and seconds.

    It is the least-squares fit of relative errors, with all times positive. Times that `cost` has as 0 aren't fitted.
    """
    names = [name for name in TIMES if getattr(cost, name)]
    before = np.array([getattr(cost, name) for name in names])
    seconds = np.array([took for _, took in samples])
    counts = np.array([[each[name] for name in names] for each, _ in samples]) * before / 1e9
    factor = float(np.median(seconds / counts.sum(axis=1)))
    A = np.vstack([counts / seconds[:, np.newaxis], PULL / factor * np.eye(len(names))])
    factors = _at_least(A, np.concatenate([np.ones(len(seconds)), np.full(len(names), PULL)]), LEAST * factor)
    return dict(zip(names, map(float, factors * before), strict=True))


def _at_least(A: NDArray[Any], y: NDArray[Any], least: float) -> NDArray[Any]:
    """Return the x that makes A x closest to `y` where each element is `least` or more; A has full column rank.

    Elements that come out smaller are set to `least` one by one, the smallest first, and the others fitted again.
    """
    x = np.full(A.shape[1], least)
    free = np.ones(len(x), bool)
    while free.any():
        x[free] = np.linalg.lstsq(A[:, free], y - A[:, ~free] @ x[~free], rcond=None)[0]
        if x[free].min() >= least:
            break
        smallest = np.flatnonzero(free)[x[free].argmin()]
        free[smallest], x[smallest] = False, least
    return x
