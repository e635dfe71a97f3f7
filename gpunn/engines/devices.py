"""The device that "auto" is: the one that is estimated to be done first, the start of a GPU included."""

import logging
from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

from gpunn.backends import Backend, get_backend, usable_gpu
from gpunn.backends.cuda import is_started, may_be_usable
from gpunn.backends.limits import at_most_cores, usable_cores
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

    @cached_property
    def work(self) -> Work:
        """The work of an epoch."""
        inputs, grey = self.examples.inputs, self.examples.grey
        lit = nonzero_share(inputs) if grey and are_sparse(inputs) else 1.0
        return Work.of(self.start, self.recipe, self.examples.n, lit)


@dataclass(frozen=True)
class _Estimate:
    """Seconds that jobs take on a device, and by which engines; or why the device can't do them."""

    seconds: float
    engines: str = ""
    reason: str = ""


def training_device(jobs: Sequence[Job]) -> Backend:
    """Return the backend that "auto" is for `jobs`, and log which, why, and the estimated times.

    Several jobs are done as `gpunn.train_many` does them. A GPU is only started where it would be faster, its start
    included, or where the CPU can't do the jobs.
    """
    cpu = get_backend("cpu")
    if not jobs:
        return cpu
    if not may_be_usable():
        return get_backend("auto")  # logs why it is the CPU
    if any(job.engine not in {"auto", *ENGINES} for job in jobs):
        return cpu  # where it is refused
    table = speeds()
    here, starting = _estimate(jobs, cpu, table), _start(table)
    least = starting + _least_on_gpu(jobs, table)
    what = f"{jobs[0].epochs:,} epoch{'s' * (jobs[0].epochs != 1)}"
    what += f" of {len(jobs):,} networks" * (len(jobs) != 1)
    if not here.reason and here.seconds <= least:
        logger.info(
            "device auto: cpu, estimated at %s for %s (engine %s); a GPU at %s or more, start included",
            *(spoken(here.seconds), what, here.engines, spoken(least)),
        )
        return cpu
    gpu = usable_gpu()
    if gpu is None:
        return cpu
    try:
        there = _estimate(jobs, gpu, speeds(gpu), starting)
    except OutOfMemoryError as error:
        logger.info("device auto: cpu, as %s", error)
        return cpu
    return _better(cpu, here, gpu, there, what)


def evaluation_device(
    device: str | Backend, networks: Sequence[Sequence[int]], n: int, chunks: tuple[int, int]
) -> Backend:
    """Return the backend for `device`; "auto" is that which is estimated to be first to evaluate `n` examples.

    `networks` are the layer sizes of all that are evaluated on them, and `chunks` how many examples the CPU and a GPU
    take at a time. Raises the errors of `get_backend`.
    """
    if device != "auto" or not may_be_usable():
        return get_backend(device)
    table = speeds()
    here, there = (
        sum(table.seconds_to_evaluate(kind, tuple(sizes), n, chunk) for sizes in networks)
        for kind, chunk in zip(("cpu", "gpu"), chunks, strict=True)
    )
    there += _start(table)
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
        *(name if chosen is gpu else cpu.name, spoken(first.seconds), what, first.engines),
        *(other, spoken(second.seconds), second.engines),
    )
    return chosen


def _estimate(jobs: Sequence[Job], backend: Backend, table: Speeds, starting: float = 0.0) -> _Estimate:
    """Return the estimate for the engines that `backend` would train with; `starting` are seconds before."""
    kind = "cpu" if backend.name == "cpu" else "gpu"
    workers = min(usable_cores(), len(jobs))
    seconds: dict[Hashable, list[float]] = {}
    engines: dict[str, None] = {}
    with at_most_cores(usable_cores() // workers) if kind == "cpu" else nullcontext():
        for number, job in enumerate(jobs):
            try:
                with backend.activate():
                    engine, _ = pick_engine(job.engine, backend, job.start, job.recipe, job.examples)
            except ConfigurationError as error:
                return _Estimate(0.0, reason=str(error))
            engines[engine.name] = None
            together = kind == "gpu" and engine.name == "epoch"
            key = (tuple(job.start.sizes), job.recipe.optimizer.rule) if together else number
            seconds.setdefault(key, []).append(_seconds(job, kind, engine.name, table))
    # A launch of a group takes as long as its slowest network.
    groups = (max(found) * -(-len(found) // int(table.gpu_networks)) for found in seconds.values())
    total = sum(groups) / (workers if kind == "cpu" else 1)
    return _Estimate(starting + total, ", ".join(engines))


def _least_on_gpu(jobs: Sequence[Job], table: Speeds) -> float:
    """Return the seconds that `jobs` take at least on a GPU, as if one launch could train any networks."""
    alone = [min(_seconds(job, "gpu", engine, table) for engine in _gpu_engines(job.engine)) for job in jobs]
    return max(*alone, sum(alone) / table.gpu_networks)


def _seconds(job: Job, kind: str, engine: str, table: Speeds) -> float:
    load = table.gpu_load if kind == "gpu" and engine in CUDA_ENGINES else 0.0
    return load + job.epochs * table.seconds(kind, engine, job.work)


def _gpu_engines(name: str) -> list[str]:
    return list(ENGINES) if name == "auto" else [name]


def _start(table: Speeds) -> float:
    return 0.0 if is_started() else table.gpu_start
