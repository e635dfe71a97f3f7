"""Engines: ways to run an epoch, and the choice among them."""

import logging

from gpunn.backends import Backend
from gpunn.engines.base import PRECISIONS, Engine, Examples, Parameters, Recipe
from gpunn.engines.cpu.epoch import EpochEngine
from gpunn.engines.cpu.fused import FusedEngine
from gpunn.engines.cuda.epoch import EpochCudaEngine
from gpunn.engines.cuda.fused import FusedCudaEngine
from gpunn.engines.plain import PlainEngine
from gpunn.errors import ConfigurationError
from gpunn.losses import loss_for

__all__ = ["ENGINES", "PRECISIONS", "Engine", "Examples", "Parameters", "Recipe", "choose_engine"]

logger = logging.getLogger(__name__)

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (PlainEngine, FusedEngine, EpochEngine)}

CUDA_ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (FusedCudaEngine, EpochCudaEngine)}
"""Engines with an implementation of their own for GPUs."""

LARGE_FOR_BLAS = 2_000_000
"""Weights between two hidden layers from which BLAS is faster.

Measured with one and two threads at batch sizes from 1 to 60,000: up to 1024 x 1024 `epoch` is faster than `fused`, by
1.1 times (1024 x 1024, batch size 1024) to a hundred (784-16-10, batch size 1); with 2048 x 2048, `fused` by up to 1.3.
"""


MIN_PRODUCTS_PER_LAUNCH = 200_000
"""Multiplications that one multiprocessor of a GPU does while a kernel is launched (estimated, not measured)."""


def choose_engine(
    name: str, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
) -> type[Engine]:
    """Return the engine `name` for the parameters `start` (host arrays) on `backend`.

    Only the kind of `examples` matters; None stands for grey levels and classes.

    "auto" is the fastest engine that supports them, by measurements; the choice and the reason are logged. Raises
    `ConfigurationError` for an unknown name, and for an engine that can't train these parameters.
    """
    loss_for(start.functions[-1], recipe.loss)
    if name == "auto":
        engine, why = _fastest(backend, start, recipe, examples)
        # For float32, `_fastest` has checked this.
        if recipe.precision == "float32" or engine.unsupported_reason(backend, start, recipe, examples) is None:
            logger.info("engine auto: %s, %s", engine.name, why)
            return engine
    elif name in ENGINES:
        engine = _on(backend, name)
    else:
        raise ConfigurationError(f"engine must be one of {', '.join(['auto', *ENGINES])}, got {name!r}")
    unsupported_reason = engine.unsupported_reason(backend, start, recipe, examples)
    if unsupported_reason is not None:
        advice = "choose the engine auto, or plain" if recipe.precision == "float32" else "choose the precision float32"
        raise ConfigurationError(f"the engine {engine.name} can't train this network: {unsupported_reason}; {advice}")
    return engine


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
    if backend.name != "cpu":
        # `fused` launches about six kernels and products per layer for each batch.
        launches = 6 * len(start.weights)
        products = recipe.batch_size * start.n_weights
        if products >= launches * MIN_PRODUCTS_PER_LAUNCH and fused_can:
            return fused, f"the fastest for batches of {products:,} multiplications"
        return epoch, f"the fastest for batches of {products:,} multiplications"
    largest = max((W.size for W in start.weights[1:]), default=0)
    if largest >= LARGE_FOR_BLAS and fused_can:
        return fused, f"the fastest for hidden layers of {largest:,} weights"
    size = "networks of this size" if largest < LARGE_FOR_BLAS else "this network of those that can train it"
    return epoch, f"the fastest for {size}"
