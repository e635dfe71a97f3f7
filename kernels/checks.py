"""Checks of what kernels are given: arrays of the host, and numbers and names for arrays of all kinds."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FLOAT32 = np.dtype(np.float32)


class Arrays(Protocol):
    """What the contract asks about arrays: on the host, or on a GPU, without waiting for it."""

    def taken(self, **arrays: Any) -> list[Any]:
        """Return the forms of `arrays`, given by their names in messages, that the other functions and kernels take.

        Raises `TypeError` for what isn't an array of the machine.
        """

    def check_array(self, name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Raise `TypeError` or `ValueError` where `array` isn't a C-contiguous array of `dtype` and `shape`."""

    def check_output(self, out: Any, others: Sequence[Any], *, first: Any = None, ndim: int | None = None) -> None:
        """Raise where `out` isn't a floating array that can be written to, of `ndim` dimensions, and C-contiguous.

        It may be `first`, where that is given, and otherwise shares no memory with that or `others`.
        """

    def check_below(self, name: str, numbers: Any, limit: int) -> None:
        """Raise `IndexError` where one of `numbers` isn't in 0 to `limit` - 1, if that can be found out."""


class HostArrays:
    """NumPy's arrays, whose floating numbers are of one of `dtypes`."""

    def __init__(self, dtypes: Sequence[np.dtype[Any]] = (FLOAT32,)) -> None:
        self._dtypes = dtypes

    def taken(self, **arrays: Any) -> list[Any]:
        for name, array in arrays.items():
            check_type(name, array)
        return list(arrays.values())

    def check_array(self, name: str, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        check_array(name, array, dtype, shape)

    def check_output(
        self, out: NDArray[Any], others: Sequence[NDArray[Any]], *, first: Any = None, ndim: int | None = None
    ) -> None:
        if out.dtype not in self._dtypes:
            raise TypeError(f"found out of {out.dtype}, expected a {' or '.join(map(str, self._dtypes))} array")
        if ndim is not None and out.ndim != ndim:
            raise ValueError(f"found out of shape {out.shape}, expected {ndim} dimensions")
        if not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError("found an out that is read-only or not C-contiguous, expected neither")
        if first is not None and first is not out:
            others = [first, *others]
        for other in others:
            if np.may_share_memory(out, other):
                raise ValueError(OVERLAP)

    def check_below(self, name: str, numbers: NDArray[Any], limit: int) -> None:
        check_below(name, numbers, limit)


OVERLAP = "found out overlapping an input, expected one of its own (or exactly the first input)"


def check_type(name: str, array: Any) -> None:
    """Raise `TypeError` where `array` isn't NumPy's; masks would be passed over, and a matrix multiplies otherwise."""
    if type(array) is np.ndarray:
        return
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray | np.matrix):
        raise TypeError(f"found {name} of type {type(array).__name__}, expected a NumPy array")


def check_array(name: str, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise `TypeError` or `ValueError` where `array` isn't a C-contiguous array of `dtype` and `shape`."""
    if type(array) is not np.ndarray:
        check_type(name, array)
    if array.dtype != dtype:
        raise TypeError(f"found {name} of dtype {array.dtype}, expected {dtype}")
    if array.shape != shape:
        raise ValueError(f"found {name} of shape {array.shape}, expected {shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"found {name} with strides {array.strides}, expected a C-contiguous array")


def check_below(name: str, numbers: NDArray[Any], limit: int) -> None:
    """Raise `IndexError` where one of `numbers` isn't in 0 to `limit` - 1."""
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < limit):
        raise IndexError(f"found {name} from {numbers.min()} to {numbers.max()}, expected 0 to {limit - 1}")


# Named, as a union would be made anew at each call.
REALS, WHOLES = (int, np.integer, np.floating), (int, np.integer)


def number(name: str, value: Any) -> float:
    """Return `value` as a float, which may be NaN or infinite; raise `TypeError` where it isn't a number."""
    if isinstance(value, float):
        return value
    if not isinstance(value, REALS) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def share_of_one(name: str, value: Any) -> float:
    """Return `value` as `number` does; raise `ValueError` where it isn't from 0 to below 1."""
    found = number(name, value)
    if not 0 <= found < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {found:g}")
    return found


def word(name: str, value: Any) -> int:
    """Return `value`, a whole number of 32 bits; raise `TypeError` or `ValueError` where it isn't one."""
    if not isinstance(value, WHOLES) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be from 0 to {2**32 - 1}, got {value}")
    return int(value)


def check_name(what: str, name: Any, known: Iterable[str]) -> None:
    """Raise `TypeError` where `name` isn't a text, and `ValueError` where it isn't among those `known`."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a name, got {name!r}")
    if name not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {name!r}")


LARGEST = float(np.finfo(np.float32).max)


def single(name: str, value: Any) -> np.float32:
    """Return `value` rounded to float32, or the infinity that it is there, of which NumPy would warn.

    Raises `TypeError` where it isn't a number.
    """
    if type(value) is float and -LARGEST <= value <= LARGEST:  # which takes no time
        return np.float32(value)
    value = number(name, value)
    if not math.isfinite(value):
        return np.float32(value)
    with np.errstate(over="ignore"):
        return np.float32(value)
