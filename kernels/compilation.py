"""Compilation of kernels by Numba, and how its machine code is kept, in `gpunn.kernels.cache`."""

import functools
import hashlib
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import llvmlite
import numba
from numba.core.caching import FunctionCache

from .cache import SUFFIX, Shelf, folder

SHELF = Shelf(folder())

OPTIONS: dict[str, Any] = {
    # Division by zero gives inf, as in NumPy; Numba's default check keeps loops from being vectorised.
    "error_model": "numpy",
    "nogil": True,
}

SWITCHED_OFF = bool(numba.config.DISABLE_JIT)
"""Whether Numba has been told to compile nothing. What is written for lanes can't be run by Python."""

REFUSAL = "Numba's compiler is switched off (NUMBA_DISABLE_JIT)"

FOLDER = Path(__file__).parent


def _fingerprint() -> str:
    """Return what, besides the CPU, decides the machine code of every kernel.

    Numba keeps machine code with a stamp of the file that holds the function and with the CPU's name and features. It
    sees no change in functions called from another file, nor whether bounds were checked.
    """
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {numba.config.BOUNDSCHECK}".encode())
    for path in sorted(FOLDER.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


FINGERPRINT = _fingerprint()


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
    @functools.wraps(function)
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError(f"{REFUSAL}: unset it to use gpunn's kernels")

    return refuse


def keep(dispatcher: Any, cache: type) -> None:
    """Let `dispatcher` keep its machine code; `cache` is the class that Numba has for its kind.

    With another fingerprint it is other code, as it is with another version of Numba, bytecode, types and CPU, or
    when the file with the function has changed. Functions without a file aren't kept: nothing tells when they change.
    """
    if Path(inspect.getfile(dispatcher.py_func)).is_file():
        dispatcher._cache = _keeping(cache)(dispatcher.py_func)


@functools.cache
def _keeping(cache: Any) -> Any:
    """Return a class like `cache`, whose files are on the shelf."""

    class Implementation(cache._impl_class):  # type: ignore[misc, unused-ignore]
        _locator_classes = (_Locator,)

        def rebuild(self, target_context: Any, payload: Any) -> Any:
            try:
                return super().rebuild(target_context, payload)
            except Exception as error:  # whatever it is, there is the source to go back to
                SHELF.complain(f"{type(error).__name__}: {error}")
                return None

    class Keeping(cache):  # type: ignore[misc, unused-ignore]
        _impl_class = Implementation
        _cache_file: Any

        def __init__(self, function: Any) -> None:
            super().__init__(function)
            theirs = self._cache_file
            about = FINGERPRINT, theirs._version, function.__module__, self._impl.locator.get_source_stamp()
            self._cache_file = _Files(self._impl.filename_base, about, theirs._dump)

    return Keeping


class _Files:
    """The machine code of a function by its types: what Numba has an index and numbered files for."""

    def __init__(self, name: str, about: tuple[str, ...], dumps: Callable[[Any], bytes]) -> None:
        self._name, self._about, self._dumps = name, about, dumps

    def load(self, key: Any) -> Any:
        content = SHELF.read(self._file(key))
        if content is None:
            return None
        try:
            return pickle.loads(content)
        except Exception as error:  # it is whole, but not made by this Numba
            SHELF.complain(f"{type(error).__name__}: {error}")
            return None

    def save(self, key: Any, data: Any) -> None:
        SHELF.write(self._file(key), self._dumps(data))

    def flush(self) -> None:
        """Nothing: what is kept is never out of date."""

    def _file(self, key: Any) -> str:
        # The key has the types, the CPU and the function's bytecode; a type's name says all of it.
        digest = hashlib.sha256(repr((key, self._about)).encode()).hexdigest()[:24]
        return f"{self._name}-{digest}{SUFFIX}"


class _Locator:
    """What Numba asks for a place; `_Files` needs no more of it than what changes with the source."""

    def __init__(self, function: Any, file: str) -> None:
        self._function, self._py_file = function, file

    @classmethod
    def from_function(cls, function: Any, file: str) -> Self:
        return cls(function, file)

    def get_cache_path(self) -> str:
        return str(SHELF.folder)

    def ensure_cache_path(self) -> None:
        """Nothing: the shelf makes its folder when it has something to put there."""

    def get_source_stamp(self) -> str:
        """Return what changes with the function's file; those of `kernels/` are in the fingerprint."""
        path = Path(self._py_file)
        return "" if path.is_relative_to(FOLDER) else _hash_of(path)

    def get_disambiguator(self) -> str:
        return str(self._function.__code__.co_firstlineno)


@functools.cache
def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
