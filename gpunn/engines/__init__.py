"""Engines: the ways to run an epoch, and the one rule that chooses among them."""

import logging

from gpunn.backends import Backend
from gpunn.engines.base import Engine, Parameters, Recipe
from gpunn.engines.epoch import EpochEngine
from gpunn.engines.fused import FusedEngine
from gpunn.engines.plain import PlainEngine
from gpunn.errors import ConfigurationError

__all__ = ["ENGINES", "Engine", "Parameters", "Recipe", "choose_engine"]

logger = logging.getLogger(__name__)

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (PlainEngine, FusedEngine, EpochEngine)}

LARGE_FOR_BLAS = 2_000_000
"""Weights between two hidden layers from which BLAS pays.

Measured with one and two threads at batch sizes from 1 to 60,000: up to 1024 x 1024 `epoch` is faster than `fused`, by
1.1 times (1024 x 1024, batch size 1024) to a hundred (784-16-10, batch size 1); with 2048 x 2048, `fused` by up to 1.3.
"""


def choose_engine(name: str, backend: Backend, start: Parameters) -> type[Engine]:
    """Return the engine called `name` for the parameters `start` (host arrays) on `backend`.

    "auto" is the fastest that can train them, by what was measured; it is logged which and why. Raises
    `ConfigurationError` for a name that no engine has, and for an engine that can't train these parameters.
    """
    if name == "auto":
        engine, why = _fastest(backend, start)
        logger.info("engine auto: %s, %s", engine.name, why)
        return engine
    if name not in ENGINES:
        raise ConfigurationError(f"found the engine {name!r}, expected {' or '.join(['auto', *ENGINES])}")
    refusal = ENGINES[name].refusal(backend, start)
    if refusal is not None:
        raise ConfigurationError(
            f"the engine {name} can't train this network: {refusal}; choose the engine plain, or auto"
        )
    return ENGINES[name]


def _fastest(backend: Backend, start: Parameters) -> tuple[type[Engine], str]:
    refusal = EpochEngine.refusal(backend, start)
    if refusal is not None:
        return PlainEngine, f"as epoch can't train this network: {refusal}"
    largest = max((W.size for W in start.weights[1:]), default=0)
    if largest >= LARGE_FOR_BLAS and FusedEngine.refusal(backend, start) is None:
        return FusedEngine, f"the fastest for hidden layers of {largest:,} weights"
    return EpochEngine, "the fastest for networks of this size"
