"""Compile the kernels that the tests here and the GPU benchmarks need, on all cores; no GPU is needed, nor used.

    python -m tests.gpu.compile_ahead [--capability 9.0] [--shared 232448] [--processes N] [--first N]

They go into the cache, `gpunn.kernels.cache`, where the tests find them; what is missing here they compile themselves.
Each failure is printed when it occurs, and makes the exit code 1.
"""

import importlib
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import cache
from typing import NamedTuple

import click
import numpy as np
import pytest

from benchmarks.timing.device import in_a_line
from benchmarks.timing.exactness import Problem
from benchmarks.workloads.epochs import LARGE, chosen
from gpunn.backends.limits import usable_cores
from gpunn.engines import Examples, Recipe
from gpunn.engines.cuda.epoch import EpochCudaEngine
from gpunn.losses import loss_for

from ..cuda_compiler import compiling_for, cuda_compiler
from ..host_gpu import HostGpu
from ..kernel_cases import CASES
from ..recipes import OPTIMIZERS, drawn
from . import test_engines_cuda, test_recipes_cuda


class Network(NamedTuple):
    """A network that `epoch` trains, and how."""

    sizes: tuple[int, ...]
    functions: tuple[str, ...]
    recipe: Recipe

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))} {' '.join(self.functions)}, {self.recipe}"


def networks() -> list[Network]:
    """Return the networks that the GPU tests and benchmarks train by `epoch`."""
    return list(dict.fromkeys((*_benchmarked(), *_tested(), *_tested_with_recipes())))


def _sigmoid(sizes: Sequence[int], recipe: Recipe) -> Network:
    return Network(tuple(sizes), ("sigmoid",) * (len(sizes) - 1), recipe)


def _benchmarked() -> Iterator[Network]:
    for problem in (Problem(work.task) for work in chosen(gpu_only=True) if work.task.network != LARGE):
        start = problem.starts[0]
        yield Network(tuple(start.sizes), tuple(start.functions), problem.recipe())


def _tested() -> Iterator[Network]:
    from_lists = [(sizes, m) for sizes in test_engines_cuda.SIZES for m in test_engines_cuda.BATCH_SIZES]
    from_lists += [(sizes, m) for _, sizes, m in test_engines_cuda.SHAPES]
    for sizes, m in (*from_lists, ((784, 32, 10), 100), ((784, 16, 10), 500), ((784, 16, 10), 50)):
        yield _sigmoid(sizes, Recipe(m, 0.5))


def _tested_with_recipes() -> Iterator[Network]:
    for hidden, loss, output in test_recipes_cuda.FUNCTIONS:
        yield Network((12, 9, 6, 3), (hidden, "tanh", output), Recipe(15, 0.02, loss=loss))
    for name in test_recipes_cuda.RESUMED:
        recipe = Recipe(7, 0.005, loss="cross_entropy", optimizer=OPTIMIZERS[name])
        yield Network((12, 9, 3), ("relu", "softmax"), recipe)
    softmax = loss_for("softmax")
    for engine, sizes, options in test_recipes_cuda.MNIST_RECIPES:
        if engine == "epoch":
            recipe = Recipe(learning_rate=0.02, loss=softmax, **options)
            yield Network(sizes, ("tanh",) * (len(sizes) - 2) + ("softmax",), recipe)
    for optimizer, rate, engine in test_recipes_cuda.LEARNERS:
        if engine == "epoch":
            yield Network((784, 64, 10), ("relu", "softmax"), Recipe(64, rate, loss=softmax, optimizer=optimizer))


@cache
def _gpu(shared: int) -> HostGpu:
    """Return this process's GPU, which lists launches."""
    gpu = HostGpu(pytest.MonkeyPatch())
    gpu.runs, gpu.shared_memory = False, shared
    return gpu


def compile_one(what: Network | int, capability: tuple[int, int], shared: int) -> list[str]:
    """Compile the kernels of a network, or of the case of that number in `CASES`; return their names."""
    gpu = _gpu(shared)
    gpu.launches.clear()
    if isinstance(what, Network):
        images, labels = np.zeros((2, what.sizes[0]), np.uint8), np.zeros(2, np.uint8)
        examples = Examples(gpu.backend.asarray(images), gpu.backend.asarray(labels))
        EpochCudaEngine(gpu.backend, drawn(what.sizes, what.functions), examples, what.recipe)
    else:
        case = CASES[what]
        arguments, _, shape, _ = case.draw(np.random.default_rng(0), 3, 5)
        kernel = getattr(importlib.import_module("gpunn.kernels.cuda.contract"), case.name)
        kernel(*arguments, out=np.empty(shape, np.float32))
        if case.name == "optimizer_step":  # of arrays of one dimension, as the engine `fused` has them
            flat = [value.ravel() if isinstance(value, np.ndarray) else value for value in arguments]
            kernel(*flat, out=np.empty(int(np.prod(shape)), np.float32))
    with compiling_for(capability):
        for launch in gpu.launches:
            launch.kernel.compile(launch.types)
    return [launch.kernel.py_func.__name__ for launch in gpu.launches]


@click.command()
@click.option("--capability", default="9.0", show_default=True, help="The GPU's compute capability.")
@click.option("--shared", default=227 * 1024, show_default=True, help="Bytes of shared memory that a block may have.")
@click.option("--processes", default=usable_cores(), show_default=True, type=click.IntRange(min=1))
@click.option("--first", type=click.IntRange(min=1), help="Compile only so many.")
def main(capability: str, shared: int, processes: int, first: int | None) -> None:
    """Compile all of them."""
    try:
        cuda_compiler()
    except pytest.skip.Exception as absent:
        click.echo(f"nothing is compiled: {absent}")
        raise click.exceptions.Exit(1) from absent
    major, minor = map(int, capability.split("."))
    wanted: list[Network | int] = [*networks(), *range(len(CASES))][:first]
    # Forked processes would share what libraries don't expect to be shared.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        compilations = {pool.submit(compile_one, what, (major, minor), shared): what for what in wanted}
        try:
            failed = _followed(compilations)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    if failed:
        raise click.exceptions.Exit(1)


def _followed(compilations: dict[Future[list[str]], Network | int]) -> int:
    """Print failures when they occur, and how far it is, until all is done; return how many have failed."""
    started, failed = time.monotonic(), 0
    for number, future in enumerate(as_completed(compilations), start=1):
        what, error = compilations[future], future.exception()
        if error is not None:
            failed += 1
            name = what if isinstance(what, Network) else CASES[what]
            click.echo(f"{name}: {in_a_line(error)}")
        if number % 10 == 0 or number == len(compilations):
            took = time.monotonic() - started
            click.echo(f"{number - failed} of {len(compilations)} compiled in {took:.0f} s, {failed} failed")
    return failed


if __name__ == "__main__":
    main()
