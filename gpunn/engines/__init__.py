"""Engines: the ways to run an epoch, and the one rule that chooses among them."""

from gpunn.engines.base import Engine, Parameters, Recipe
from gpunn.engines.plain import PlainEngine
from gpunn.errors import ConfigurationError

__all__ = ["ENGINES", "Engine", "Parameters", "Recipe", "choose_engine"]

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (PlainEngine,)}


def choose_engine(name: str) -> type[Engine]:
    """Return the engine called `name`; "auto" is the fastest that can do the work.

    Raises `ConfigurationError` for a name that no engine has.
    """
    if name == "auto":
        return PlainEngine
    if name not in ENGINES:
        raise ConfigurationError(f"found the engine {name!r}, expected {' or '.join(['auto', *ENGINES])}")
    return ENGINES[name]
