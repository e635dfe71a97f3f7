"""Checks of kernels' arguments: arrays on the host, and numbers and names for every device."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

FLOAT32 = np.dtype(np.float32)


# Constants: creating a union at each call would be slow.
REALS, WHOLES = (int, np.integer, np.floating), (int, np.integer)


def number(name: str, value: Any) -> float:
    """Return `value` as a float, which may be NaN or infinite; raise `TypeError` unless it is a number."""
    if isinstance(value, float):
        return value
    if not isinstance(value, REALS) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """Return `value` as `number` does; raise `ValueError` unless it is at least 0 and below 1."""
    found = number(name, value)
    if not 0 <= found < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {found:g}")
    return found


def word(name: str, value: Any) -> int:
    """Return `value`; raise `TypeError` or `ValueError` unless it is an unsigned 32-bit integer."""
    if not isinstance(value, WHOLES) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be from 0 to {2**32 - 1}, got {value}")
    return int(value)


class Arrays(ABC):
    """What the contract asks about arrays, on the host or on a GPU, whose floats are of one of `dtypes`."""

    def __init__(self, dtypes: Sequence[np.dtype[Any]] = (FLOAT32,)) -> None:
        self._dtypes = dtypes

    @abstractmethod
    def accept(self, **arrays: Any) -> list[Any]:
        """Return `arrays`, given by their names in messages, in the form that kernels take.

        Raises `TypeError` for anything that isn't an array of the machine.
        """

    @abstractmethod
    def is_contiguous(self, array: Any) -> bool:
        """Whether `array` is C-contiguous."""

    @abstractmethod
    def is_writable(self, array: Any) -> bool:
        """Whether kernels may change `array`."""

    @abstractmethod
    def are_same(self, left: Any, right: Any) -> bool:
        """Whether two arrays are the same memory."""

    @abstractmethod
    def overlap(self, left: Any, right: Any) -> bool:
        """Whether two C-contiguous arrays share memory."""

    @abstractmethod
    def check_below(self, name: str, numbers: Any, limit: int) -> None:
        """Raise `IndexError` unless all `numbers` are from 0 to `limit` - 1, if that can be found out."""

    @abstractmethod
    def holds_numbers(self, value: Any) -> bool:
        """Whether `value`, given for a number or several, is an array that has them when the kernel runs."""

    def check_number(
        self,
        name: str,
        value: Any,
        check: Callable[[str, Any], object] = number,
        dtype: np.dtype[Any] = FLOAT32,
    ) -> None:
        """Call `check` with `name` and a `value` that is a number; where arrays may hold it, check one (1,)."""
        if self.holds_numbers(value):
            self.check_numbers(name, value, dtype, 1)
        else:
            check(name, value)

    def check_numbers(self, name: str, array: Any, dtype: np.dtype[Any], n: int) -> None:
        """Raise `TypeError` unless an array that holds numbers has `n` of them, of `dtype`."""
        (array,) = self.accept(**{name: array})
        if array.dtype != dtype or array.shape != (n,) or not self.is_contiguous(array):
            found = f"an array of {array.dtype}, {array.shape}"
            raise TypeError(f"{name} must be a number, got {found}; expected {dtype}, ({n},)")

    def check_array(self, name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Raise `TypeError` or `ValueError` unless `array` is a C-contiguous array of `dtype` and `shape`."""
        check_form(name, array, dtype, shape, contiguous=self.is_contiguous(array))

    def check_output(
        self, out: Any, others: Sequence[Any], *, first: Any = None, ndim: int | None = None, name: str = "out"
    ) -> None:
        """Raise unless `out` is a writable, C-contiguous float array of `ndim` dimensions, apart from `others`.

        It may be `first`, if that is given, but must not overlap it otherwise.
        """
        if out.dtype not in self._dtypes:
            raise TypeError(f"found {name} of {out.dtype}, expected a {' or '.join(map(str, self._dtypes))} array")
        if ndim is not None and len(out.shape) != ndim:
            raise ValueError(f"found {name} of shape {out.shape}, expected {ndim} dimensions")
        if not self.is_contiguous(out) or not self.is_writable(out):
            raise ValueError(f"{name} must be writable and C-contiguous")
        if first is not None and not self.are_same(out, first):
            others = [first, *others]
        if any(self.overlap(out, other) for other in others):
            raise ValueError(f"{name} must not overlap an input{', unless it is the first one' * (first is not None)}")


@final
class HostArrays(Arrays):
    """NumPy's arrays."""

    def accept(self, **arrays: Any) -> list[Any]:
        for name, array in arrays.items():
            check_type(name, array)
        return list(arrays.values())

    def is_contiguous(self, array: NDArray[Any]) -> bool:
        return array.flags.c_contiguous

    def is_writable(self, array: NDArray[Any]) -> bool:
        return array.flags.writeable

    def are_same(self, left: NDArray[Any], right: NDArray[Any]) -> bool:
        return left is right

    def overlap(self, left: NDArray[Any], right: NDArray[Any]) -> bool:
        return np.may_share_memory(left, right)

    def check_below(self, name: str, numbers: NDArray[Any], limit: int) -> None:
        check_below(name, numbers, limit)

    def holds_numbers(self, value: Any) -> bool:  # noqa: ARG002 - the caller has the numbers
        return False


def check_type(name: str, array: Any) -> None:
    """Raise `TypeError` unless `array` is a NumPy array: masks would be ignored, and matrices multiply otherwise."""
    if type(array) is np.ndarray:
        return
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray | np.matrix):
        raise TypeError(f"found {name} of type {type(array).__name__}, expected a NumPy array")


def check_array(name: str, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise `TypeError` or `ValueError` unless `array` is a C-contiguous NumPy array of `dtype` and `shape`."""
    check_type(name, array)
    check_form(name, array, dtype, shape, contiguous=array.flags.c_contiguous)


def check_form(name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int, ...], *, contiguous: bool) -> None:
    """Raise `TypeError` or `ValueError` unless `array` has `dtype` and `shape`, and is `contiguous`."""
    if array.dtype != dtype:
        raise TypeError(f"found {name} of dtype {array.dtype}, expected {dtype}")
    if array.shape != shape:
        raise ValueError(f"found {name} of shape {array.shape}, expected {shape}")
    if not contiguous:
        raise ValueError(f"found {name} with strides {array.strides}, expected a C-contiguous array")


def check_below(name: str, numbers: NDArray[Any], limit: int) -> None:
    """Raise `IndexError` unless all `numbers` are from 0 to `limit` - 1."""
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < limit):
        raise IndexError(f"found {name} from {numbers.min()} to {numbers.max()}, expected 0 to {limit - 1}")


def check_name(what: str, name: Any, known: Iterable[str]) -> None:
    """Raise `TypeError` unless `name` is a string, and `ValueError` unless it is one of `known`."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a name, got {name!r}")
    if name not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {name!r}")


LARGEST = float(np.finfo(np.float32).max)


def single(name: str, value: Any) -> np.float32:
    """Return `value` rounded to float32; beyond its range that is infinity, without NumPy's warning.

    Raises `TypeError` unless it is a number.
    """
    if type(value) is float and -LARGEST <= value <= LARGEST:  # the usual case, fast
        return np.float32(value)
    value = number(name, value)
    if not math.isfinite(value):
        return np.float32(value)
    with np.errstate(over="ignore"):
        return np.float32(value)
