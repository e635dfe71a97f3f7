"""Conversion of users' arrays and lists to images, labels and targets."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gpunn.errors import DataError
from gpunn.printing import printable

MOST_CLASSES = 256
"""Maximum number of classes, as labels are uint8."""

PLAINLY_GREY, ENOUGH_PIXELS = 128, 16
"""Integers count as grey levels if their maximum is in [`PLAINLY_GREY`, 255] and images have `ENOUGH_PIXELS`."""

UNIT = (-0.5, 1.5)
"""Range of floats that may be grey levels divided by 255, with tolerance for further processing."""


def as_array(what: str, found: ArrayLike) -> NDArray[Any]:
    """Return `found` as an array of numbers on the host; raises `DataError`, naming it `what`."""
    try:
        if np.ma.is_masked(found):
            raise DataError(
                f"found masked values in {what}, expected numbers throughout: fill them in, or leave them out"
            )
        array: NDArray[Any] = np.asarray(found)
    except DataError:
        raise
    except Exception as error:  # lists of unequal lengths, arrays on a GPU, whatever __array__ may raise
        reason = printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise DataError(f"found {what} as {type(found).__name__}, which is not an array ({reason})") from error
    if array.dtype.kind not in "buif":
        advice = ""
        if what == "labels":
            advice = ": number the classes, as numpy.unique(labels, return_inverse=True)[1] does"
        elif array.dtype == object:
            advice = ": expected numbers in rows of one length"
        described = f"{array.dtype} of shape {array.shape}" if array.ndim else type(found).__name__
        raise DataError(f"found {what} as {described}, expected an array or lists of numbers{advice}")
    return array


def as_images(found: ArrayLike) -> NDArray[Any]:
    """Return images as uint8, float32 or float64, with all their dimensions.

    uint8 arrays are grey levels. Floats are unchanged and must be finite. Other integers are grey levels if
    `plainly_grey`, otherwise they become floats.
    """
    array = as_array("images", found)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.uint8) if plainly_grey(array) else array.astype(np.float64)
    if array.dtype.kind == "b":
        return array.astype(np.float32)
    return as_floats("images", array, np.float64 if array.dtype.itemsize > 4 else np.float32)


def as_floats(what: str, array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return `array` as floats of `dtype`, without a copy if possible; raises `DataError` for non-finite results."""
    with np.errstate(over="ignore", invalid="ignore"):
        floats = array.astype(dtype, copy=False)
    if not np.isfinite(floats).all():
        if np.isfinite(array).all():
            largest = np.finfo(floats.dtype).max
            raise DataError(f"found {what} of numbers above {largest:.2g}, more than {floats.dtype} holds: scale them")
        raise DataError(f"found NaN or infinity in {what}, expected finite numbers: fill them in, or leave them out")
    return floats


def plainly_grey(array: NDArray[Any]) -> bool:
    """Whether numbers are evidently grey levels: integers from 0 to 255, some of them bright."""
    if array.ndim < 2 or array[0].size < ENOUGH_PIXELS or not array.size:
        return False
    if not (array.min() >= 0 and PLAINLY_GREY <= array.max() <= 255):
        return False
    return array.dtype.kind in "iu" or bool((array == np.rint(array)).all())


def scaled(array: NDArray[Any]) -> bool:
    """Whether floats may be grey levels divided by 255, see `UNIT`."""
    return not array.size or bool(array.min() >= UNIT[0] and array.max() <= UNIT[1])


def in_rows(array: NDArray[Any]) -> NDArray[Any]:
    """Return images (n, n_pixels) or (n, rows, columns), optionally with one channel, as contiguous (n, n_pixels)."""
    shape = array.shape
    if not (array.ndim in (2, 3) or (array.ndim == 4 and 1 in (shape[1], shape[3]))):
        advice = ""
        if array.ndim == 1:
            advice = ": reshape(1, -1) makes one image of it, reshape(-1, 1) images of one pixel"
        elif array.ndim == 4:
            advice = ": one grey level a pixel, or reshape(n, -1) to take every number as a pixel"
        raise DataError(f"found images of shape {shape}, expected (n, n_pixels) or (n, rows, columns){advice}")
    if array.size == 0:
        raise DataError(f"found images of shape {shape}, expected at least one image and one pixel")
    return np.ascontiguousarray(array).reshape(len(array), -1)


def as_targets(found: ArrayLike) -> NDArray[Any]:
    """Return a copy of classes, uint8 (n,), or of rows of targets, floats (n, n_L).

    The copy is read-only, because kernels use labels as indices unchecked.
    """
    array = as_array("labels", found)
    if array.ndim == 2 and array.shape[1]:
        dtype = np.float32 if array.dtype.kind in "bf" and array.dtype.itemsize <= 4 else np.float64
        targets = as_floats("targets", np.array(array, order="C"), dtype)
    elif array.ndim == 1:
        targets = _classes(array)
    else:
        raise DataError(
            f"found labels of shape {array.shape}, expected classes (n,), or rows of targets (n, n_outputs)"
        )
    targets.flags.writeable = False
    return targets


def _classes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if not array.size:
        raise DataError("found no labels, expected one label per image")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise DataError(
            f"found labels of {array.dtype} and shape {array.shape} that aren't whole numbers, expected classes: "
            "reshape(-1, 1) makes targets of one output of them"
        )
    if array.min() < 0:
        raise DataError(f"found the label {int(array.min())}, expected 0 or more: number the classes from 0")
    if array.max() >= MOST_CLASSES:
        raise DataError(
            f"found the label {int(array.max())}, expected 0 to {MOST_CLASSES - 1}: "
            f"networks tell at most {MOST_CLASSES} classes apart"
        )
    return array.astype(np.uint8)  # a copy


def classes_of(targets: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return the classes (n,) that `targets` encode, or None.

    Targets encode classes if they are classes, a single column of 0 and 1 (or -1 and 1), or rows of non-negative
    numbers that sum to 1 (or of -1 with a single 1): the class is the index of the largest entry.
    """
    if targets.ndim == 1:
        return targets
    if targets.shape[1] > MOST_CLASSES:
        return None
    signs = bool((np.abs(targets) == 1).all())
    if targets.shape[1] == 1:
        is_class = signs or bool(((targets == 0) | (targets == 1)).all())
        positive: NDArray[np.uint8] = (targets[:, 0] > 0).astype(np.uint8)
        return positive if is_class else None
    total = (targets > 0).sum(axis=1) if signs else targets.sum(axis=1)
    if (signs or targets.min() >= 0) and bool((np.abs(total - 1) < 1e-3).all()):
        largest: NDArray[np.uint8] = targets.argmax(axis=1).astype(np.uint8)
        return largest
    return None
