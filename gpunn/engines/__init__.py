"""Engines: ways to run an epoch, and the choice among them."""

import logging

from gpunn.backends import Backend
from gpunn.engines.base import PRECISIONS, Engine, Examples, Parameters, Recipe
from gpunn.engines.cpu.epoch import EpochEngine
from gpunn.engines.cpu.fused import FusedEngine
from gpunn.engines.cuda.epoch import EpochCudaEngine
from gpunn.engines.cuda.fused import FusedCudaEngine
from gpunn.engines.plain import PlainEngine
from gpunn.engines.speed import Work, spoken
from gpunn.engines.tuned import speeds
from gpunn.errors import ConfigurationError
from gpunn.losses import loss_for

__all__ = ["ENGINES", "PRECISIONS", "Engine", "Examples", "Parameters", "Recipe", "choose_engine"]

logger = logging.getLogger(__name__)

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (PlainEngine, FusedEngine, EpochEngine)}

CUDA_ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (FusedCudaEngine, EpochCudaEngine)}
"""Engines with an implementation of their own for GPUs."""


def choose_engine(
    name: str, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
) -> type[Engine]:
    """Return the engine `name` for the parameters `start` (host arrays) on `backend`.

    Of `examples`, the kind and the number matter; None stands for many of them, with grey levels and classes.

    "auto" is the fastest engine that supports them, by measurements; the choice and the reason are logged. Raises
    `ConfigurationError` for an unknown name, and for an engine that can't train these parameters.
    """
    engine, why = pick_engine(name, backend, start, recipe, examples)
    if name == "auto":
        logger.info("engine auto: %s, %s", engine.name, why)
    return engine


def pick_engine(
    name: str, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
) -> tuple[type[Engine], str]:
    """Do what `choose_engine` does, and return the reason for "auto" instead of logging it."""
    loss_for(start.functions[-1], recipe.loss)
    why = ""
    if name == "auto":
        engine, why = _fastest(backend, start, recipe, examples)
        # For float32, `_fastest` has checked this.
        if recipe.precision == "float32" or engine.unsupported_reason(backend, start, recipe, examples) is None:
            return engine, why
    elif name in ENGINES:
        engine = _on(backend, name)
    else:
        raise ConfigurationError(f"engine must be one of {', '.join(['auto', *ENGINES])}, got {name!r}")
    unsupported_reason = engine.unsupported_reason(backend, start, recipe, examples)
    if unsupported_reason is not None:
        advice = "choose the engine auto, or plain" if recipe.precision == "float32" else "choose the precision float32"
        raise ConfigurationError(f"the engine {engine.name} can't train this network: {unsupported_reason}; {advice}")
    return engine, why


def _on(backend: Backend, name: str) -> type[Engine]:
    """Return the engine `name` for the device of `backend`."""
    return ENGINES[name] if backend.name == "cpu" else CUDA_ENGINES.get(name, ENGINES[name])


def _fastest(
    backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None
) -> tuple[type[Engine], str]:
    fused, epoch = _on(backend, "fused"), _on(backend, "epoch")
    if recipe.precision == "tf32":
        return fused, "the only one that multiplies in TF32"
    unsupported_reason = epoch.unsupported_reason(backend, start, recipe, examples)
    other_reason = fused.unsupported_reason(backend, start, recipe, examples)
    if unsupported_reason is not None:
        why = f"as epoch can't train this network: {unsupported_reason}"
        if other_reason is None:
            return fused, why
        return PlainEngine, why if other_reason == unsupported_reason else f"{why}; nor can fused: {other_reason}"
    fused_can = other_reason is None
    table = speeds(backend)
    if backend.name != "cpu":
        n = recipe.batch_size if examples is None else examples.n
        work = Work.of(start, recipe, n)
        seconds = {engine: table.seconds("gpu", engine.name, work) for engine in (epoch, fused)}
        best, other = (fused, epoch) if fused_can and seconds[fused] < seconds[epoch] else (epoch, fused)
        compared = f"{other.name} at {spoken(seconds[other])}" if fused_can else f"as fused can't: {other_reason}"
        return best, f"estimated at {spoken(seconds[best])} for {n:,} examples, {compared}"
    if examples is not None and table.quick(work := Work.of(start, recipe, examples.n)):
        taken = spoken(table.seconds("cpu", "plain", work))
        return PlainEngine, f"as {examples.n:,} examples take it {taken}, less than compiling kernels"
    largest = max((W.size for W in start.weights[1:]), default=0)
    if largest >= table.large_for_blas and fused_can:
        return fused, f"the fastest for hidden layers of {largest:,} weights"
    size = "networks of this size" if largest < table.large_for_blas else "this network of those that can train it"
    return epoch, f"the fastest for {size}"
