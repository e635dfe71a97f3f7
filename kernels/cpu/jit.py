"""How kernels are compiled by Numba, and kept for the next process."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numba
from numba.core.caching import FunctionCache

from ..keeping import keep

OPTIONS: dict[str, Any] = {
    # Division by zero gives inf, as in NumPy; Numba's default check keeps loops from being vectorised.
    "error_model": "numpy",
    "nogil": True,
}


SWITCHED_OFF = bool(numba.config.DISABLE_JIT)
"""Whether Numba has been told to compile nothing. What is written for lanes can't be run by Python."""

REFUSAL = "Numba's compiler is switched off (NUMBA_DISABLE_JIT)"


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called, and keep the machine code where `gpunn.kernels.cache` can.

    Otherwise every process compiles anew.
    """
    if SWITCHED_OFF:
        return _refused(function)
    dispatcher = numba.njit(**OPTIONS)(function)
    keep(dispatcher, FunctionCache)
    return dispatcher


def _refused(function: Callable[..., Any]) -> Any:
    @wraps(function)
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError(f"{REFUSAL}: unset it to use gpunn's kernels")

    return refuse
