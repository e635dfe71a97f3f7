"""Compilation of kernels by Numba, and caching of their machine code in `gpunn.kernels.cache`."""

import functools
import hashlib
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import llvmlite
import numba

from .cache import SUFFIX, Shelf, folder
from .linking import CACHES, ApartCompiler, Kernel, PartCompiler

SHELF = Shelf(folder())

OPTIONS: dict[str, Any] = {
    # Division by zero gives inf, as in NumPy; Numba's default check keeps loops from being vectorised.
    "error_model": "numpy",
    "nogil": True,
    # Kernels neither create arrays nor keep them: without counting references, there is less to compile.
    "_nrt": False,
}

PART: dict[str, Any] = OPTIONS | {
    "pipeline_class": PartCompiler,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
"""Options of functions that only compiled code calls."""

SWITCHED_OFF = bool(numba.config.DISABLE_JIT)
"""Whether Numba's compiler is switched off. Code for lanes can't run as plain Python."""

REFUSAL = "Numba's compiler is switched off (NUMBA_DISABLE_JIT)"

FOLDER = Path(__file__).parent


def _fingerprint() -> str:
    """Return a hash of what, besides the CPU, determines the machine code of every kernel.

    Numba's own caching goes by the stamp of the function's file and by the CPU's name and features. It misses changes
    of functions in other files, and of bounds checking.
    """
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {numba.config.BOUNDSCHECK}".encode())
    for path in sorted(FOLDER.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


FINGERPRINT = _fingerprint()


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called, and cache the machine code if `gpunn.kernels.cache` can.

    Otherwise every process compiles it again. It can be called from Python, and becomes part of compiled code that
    calls it.
    """
    return _compiled(function, PART)


def compiled_apart(function: Callable[..., Any]) -> Any:
    """Do the same, with machine code of its own that compiled code calls: for what many kernels need.

    `function` is in a module, under its name.
    """
    return _compiled(function, PART | {"pipeline_class": ApartCompiler})


def _compiled(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    if SWITCHED_OFF:
        return _refused(function)
    kernel = Kernel(numba.njit(**options)(function))
    for dispatcher in (kernel, kernel.part):
        keep(dispatcher, CACHES[dispatcher._compiler.pipeline_class])
    return kernel


def _refused(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError(f"{REFUSAL}: unset it to use gpunn's kernels")

    return refuse


def keep(dispatcher: Any, cache: type) -> None:
    """Cache the machine code of `dispatcher`; `cache` is Numba's class of caches for its kind.

    Entries depend on the fingerprint, the version of Numba, the function's bytecode, file and argument types, and the
    CPU. Functions without a file aren't cached: nothing tells when they change.
    """
    if Path(inspect.getfile(dispatcher.py_func)).is_file():
        dispatcher._cache = _keeping(cache)(dispatcher.py_func)


@functools.cache
def _keeping(cache: Any) -> Any:
    """Return a subclass of `cache` that stores its files in `SHELF`."""

    class Implementation(cache._impl_class):  # type: ignore[misc, unused-ignore]
        _locator_classes = (_Locator,)

        def rebuild(self, target_context: Any, payload: Any) -> Any:
            try:
                return super().rebuild(target_context, payload)
            except Exception as error:  # whatever it is, the source can be compiled again
                SHELF.complain(f"{type(error).__name__}: {error}")
                return None

    class Keeping(cache):  # type: ignore[misc, unused-ignore]
        _impl_class = Implementation
        _cache_file: Any

        def __init__(self, function: Any) -> None:
            super().__init__(function)
            theirs = self._cache_file
            about = (
                cache.__name__,
                FINGERPRINT,
                theirs._version,
                function.__module__,
                self._impl.locator.get_source_stamp(),
            )
            self._cache_file = _Files(self._impl.filename_base, about, theirs._dump)

    return Keeping


class _Files:
    """Machine code of a function by argument types, in place of Numba's index and numbered files."""

    def __init__(self, name: str, about: tuple[str, ...], dumps: Callable[[Any], bytes]) -> None:
        self._name, self._about, self._dumps = name, about, dumps

    def load(self, key: Any) -> Any:
        content = SHELF.read(self._file(key))
        if content is None:
            return None
        try:
            return pickle.loads(content)
        except Exception as error:  # intact, but not written by this Numba
            SHELF.complain(f"{type(error).__name__}: {error}")
            return None

    def save(self, key: Any, data: Any) -> None:
        SHELF.write(self._file(key), self._dumps(data))

    def flush(self) -> None:
        """Do nothing: entries are never out of date."""

    def _file(self, key: Any) -> str:
        # The key has the types, the CPU and the function's bytecode; a type's name determines it.
        digest = hashlib.sha256(repr((key, self._about)).encode()).hexdigest()[:24]
        return f"{self._name}-{digest}{SUFFIX}"


class _Locator:
    """Location of a cache, as Numba's interface has it; `_Files` uses only its source stamp."""

    def __init__(self, function: Any, file: str) -> None:
        self._function, self._py_file = function, file

    @classmethod
    def from_function(cls, function: Any, file: str) -> Self:
        return cls(function, file)

    def get_cache_path(self) -> str:
        return str(SHELF.folder)

    def ensure_cache_path(self) -> None:
        """Do nothing: the shelf creates its folder before the first file."""

    def get_source_stamp(self) -> str:
        """Return the hash of the function's file, or "" for files of `kernels/`, which are in the fingerprint."""
        path = Path(self._py_file)
        return "" if path.is_relative_to(FOLDER) else _hash_of(path)

    def get_disambiguator(self) -> str:
        return str(self._function.__code__.co_firstlineno)


@functools.cache
def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
