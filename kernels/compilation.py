"""How kernels are compiled by Numba, and kept for the next process."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import event

logger = logging.getLogger(__name__)

OPTIONS: dict[str, Any] = {
    # Division by zero gives inf, as in NumPy; Numba's default check keeps loops from being vectorised.
    "error_model": "numpy",
    "nogil": True,
}


def _fingerprint() -> str:
    """Return what, besides Numba's version and the CPU, decides the machine code of every kernel.

    Numba keeps machine code with a stamp of the file that holds the function and with the CPU's name and features. It
    sees no change in functions called from another file, nor whether bounds were checked.
    """
    digest = hashlib.sha256(f"{llvmlite.__version__} {numba.config.BOUNDSCHECK}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


FINGERPRINT = _fingerprint()

_kept = True


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called, and keep the machine code where Numba finds a place for it.

    That is `__pycache__` beside the source, else the user's cache folder, or NUMBA_CACHE_DIR where it is set. Without
    any of them every process compiles anew.
    """
    global _kept  # noqa: PLW0603 - a fact about the file system, found out once
    # It is a part of the name of the file in the cache.
    function.__qualname__ += f"-{FINGERPRINT}"
    if _kept:
        try:
            return guarded(numba.njit(cache=True, **OPTIONS)(function))
        except RuntimeError as error:
            if "cannot cache function" not in str(error):
                raise
            _kept = False
    return numba.njit(**OPTIONS)(function)


def guarded(dispatcher: Any) -> Any:
    """Let a full disk, on which the machine code of `dispatcher` can't be kept, be no reason not to run it."""
    cache = dispatcher._cache
    save = cache.save_overload

    def save_overload(signature: Any, compiled_code: Any) -> None:
        global _kept  # noqa: PLW0603 - see above
        try:
            save(signature, compiled_code)
        except OSError as error:
            if _kept:
                logger.info("compiled kernels can't be kept, and will be compiled again: %s", error)
            _kept = False

    cache.save_overload = save_overload
    return dispatcher


class _Announcement(event.Listener):
    """Says once a process that kernels are being compiled, as that takes seconds."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: Any) -> None:
        if not self._said and FINGERPRINT in event.data["dispatcher"].py_func.__qualname__:
            self._said = True
            kept = "once" if _kept else "for this run, as no folder for them can be written (set NUMBA_CACHE_DIR)"
            logger.info("compiling kernels for this CPU, %s: a few seconds", kept)

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Announcement())
