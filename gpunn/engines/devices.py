"""The device that "auto" is: the one that is estimated to be done first, the start of a GPU included."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from gpunn.backends import Backend, get_backend, usable_gpu
from gpunn.backends.cuda import is_started, may_be_usable
from gpunn.engines import CUDA_ENGINES, ENGINES, pick_engine
from gpunn.engines.base import Examples, Parameters, Recipe
from gpunn.engines.cpu.first_layer import are_sparse, nonzero_share
from gpunn.engines.speed import Speeds, Work, spoken
from gpunn.engines.tuned import speeds
from gpunn.errors import ConfigurationError, OutOfMemoryError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A training: parameters and examples on the host, an engine's name or "auto", and the most epochs there can be."""

    start: Parameters
    examples: Examples
    recipe: Recipe
    engine: str
    epochs: int

    def work(self) -> Work:
        """Return the work of an epoch."""
        inputs, grey = self.examples.inputs, self.examples.grey
        lit = nonzero_share(inputs) if grey and are_sparse(inputs) else 1.0
        return Work.of(self.start, self.recipe, len(inputs), lit)


@dataclass(frozen=True)
class _Estimate:
    """Seconds that a job takes on a device, and by which engine; or why the device can't do it."""

    seconds: float
    engine: str = ""
    reason: str = ""


def training_device(job: Job) -> Backend:
    """Return the backend that "auto" is for `job`, and log which, why, and the estimated times.

    A GPU is only started where it would be faster, its start included, or where the CPU can't do the job.
    """
    cpu = get_backend("cpu")
    if not may_be_usable():
        return get_backend("auto")  # logs why it is the CPU
    if job.engine not in {"auto", *ENGINES}:
        return cpu  # where it is refused
    work, table = job.work(), speeds()
    here, starting = _estimate(job, cpu, table, work), _start(table)
    least = starting + min(_seconds(job, "gpu", engine, table, work) for engine in _gpu_engines(job.engine))
    what = f"{job.epochs:,} epoch{'s' * (job.epochs != 1)}"
    if not here.reason and here.seconds <= least:
        logger.info(
            "device auto: cpu, estimated at %s for %s (engine %s); a GPU at %s or more, start included",
            *(spoken(here.seconds), what, here.engine, spoken(least)),
        )
        return cpu
    gpu = usable_gpu()
    if gpu is None:
        return cpu
    try:
        there = _estimate(job, gpu, speeds(gpu), work, starting)
    except OutOfMemoryError as error:
        logger.info("device auto: cpu, as %s", error)
        return cpu
    return _better(cpu, here, gpu, there, what)


def evaluation_device(device: str | Backend, sizes: Sequence[int], n: int, chunks: tuple[int, int]) -> Backend:
    """Return the backend for `device`; "auto" is that which is estimated to evaluate `n` examples first.

    `chunks` are how many examples the CPU and a GPU take at a time. Raises the errors of `get_backend`.
    """
    if device != "auto" or not may_be_usable():
        return get_backend(device)
    table = speeds()
    here = table.seconds_to_evaluate("cpu", tuple(sizes), n, chunks[0])
    there = _start(table) + table.seconds_to_evaluate("gpu", tuple(sizes), n, chunks[1])
    if here > there:
        return get_backend(device)
    logger.info("device auto: cpu, estimated at %s, a GPU at %s, start included", spoken(here), spoken(there))
    return get_backend("cpu")


def _better(cpu: Backend, here: _Estimate, gpu: Backend, there: _Estimate, what: str) -> Backend:
    """Return the device with the better estimate, and log why."""
    name = f"{gpu.name}, {gpu.describe()['name']}"
    if there.reason and not here.reason:
        logger.info("device auto: cpu, as %s can't do it: %s", name, there.reason)
        return cpu
    if here.reason:
        logger.info("device auto: %s, as the CPU can't do it: %s", name, here.reason)
        return gpu
    chosen, first, second, other = (gpu, there, here, "the CPU")
    if here.seconds <= there.seconds:
        chosen, first, second, other = (cpu, here, there, name)
    logger.info(
        "device auto: %s, estimated at %s for %s (engine %s); %s at %s (engine %s); the GPU's start included",
        *(name if chosen is gpu else cpu.name, spoken(first.seconds), what, first.engine),
        *(other, spoken(second.seconds), second.engine),
    )
    return chosen


def _estimate(job: Job, backend: Backend, table: Speeds, work: Work, starting: float = 0.0) -> _Estimate:
    """Return the estimate for the engine that `backend` would train with; `starting` are seconds before."""
    try:
        with backend.activate():
            engine, _ = pick_engine(job.engine, backend, job.start, job.recipe, job.examples)
    except ConfigurationError as error:
        return _Estimate(0.0, reason=str(error))
    kind = "cpu" if backend.name == "cpu" else "gpu"
    return _Estimate(starting + _seconds(job, kind, engine.name, table, work), engine.name)


def _seconds(job: Job, kind: str, engine: str, table: Speeds, work: Work) -> float:
    load = table.gpu_load if kind == "gpu" and engine in CUDA_ENGINES else 0.0
    return load + job.epochs * table.seconds(kind, engine, work)


def _gpu_engines(name: str) -> list[str]:
    return list(ENGINES) if name == "auto" else [name]


def _start(table: Speeds) -> float:
    return 0.0 if is_started() else table.gpu_start
