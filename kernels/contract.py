"""What every kernel demands of its arrays: one dtype, fitting shapes, C order, and no overlap with its output."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def check_array(name: str, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise `TypeError` or `ValueError` where `array` isn't a C-contiguous array of `dtype` and `shape`."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"found {name} of type {type(array).__name__}, expected a NumPy array")
    if array.dtype != dtype:
        raise TypeError(f"found {name} of dtype {array.dtype}, expected {dtype}")
    if array.shape != shape:
        raise ValueError(f"found {name} of shape {array.shape}, expected {shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"found {name} with strides {array.strides}, expected a C-contiguous array")


def check_output(
    out: NDArray[Any],
    others: Sequence[NDArray[Any]],
    *,
    ndim: int | None = None,
    dtypes: Sequence[np.dtype[Any]] = FLOATS,
) -> None:
    """Raise where `out` isn't a writable array of `dtypes` and `ndim` dimensions, apart from `others` in memory."""
    if not isinstance(out, np.ndarray) or out.dtype not in dtypes:
        found = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(f"found out of {found}, expected a {' or '.join(map(str, dtypes))} array")
    if ndim is not None and out.ndim != ndim:
        raise ValueError(f"found out of shape {out.shape}, expected {ndim} dimensions")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("found an out that is read-only or not C-contiguous, expected neither")
    for other in others:
        if np.may_share_memory(out, other):
            raise ValueError("found out overlapping an input, expected one of its own (or exactly the first input)")


def check_step(
    parameter: NDArray[Any],
    gradient: NDArray[Any],
    *moments: NDArray[Any],
    out: NDArray[Any],
    dtypes: Sequence[np.dtype[Any]] = FLOATS,
) -> None:
    """Raise where an optimiser's step can't put `out`, of `dtypes`, for `parameter`, and change `moments` in place."""
    others = [gradient, *moments]
    check_output(out, others if parameter is out else [parameter, *others], dtypes=dtypes)
    names = ("parameter", "gradient", "first moment", "second moment")
    for name, array in zip(names, [parameter, *others], strict=False):
        check_array(name, array, out.dtype, out.shape)
    for number, moment in enumerate(moments):
        check_output(moment, [gradient, *moments[:number]], dtypes=dtypes)


def check_below(name: str, numbers: NDArray[Any], limit: int) -> None:
    """Raise `IndexError` where one of `numbers` isn't in 0 to `limit` - 1."""
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < limit):
        raise IndexError(f"found {name} from {numbers.min()} to {numbers.max()}, expected 0 to {limit - 1}")
