"""Preprocessing of pictures to match a network's training images."""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpunn.datasets.framing import FIELD
from gpunn.datasets.kind import ImageKind
from gpunn.datasets.padding import padded
from gpunn.errors import DataError
from gpunn.pictures.files import read_sheet, shown_name
from gpunn.pictures.finding import EXPECTED, FILLED, FRAME, NONE, TOUCHING, Digit, find_digit
from gpunn.pictures.framing import BOXES, frame, shrink_whole
from gpunn.pictures.haze import without_haze
from gpunn.pictures.paper import Ink, find_ink
from gpunn.pictures.sheets import sheet_of_levels

__all__ = ["FIELD", "MNIST_KIND", "Prepared", "prepare", "prepare_digit", "read_digit", "read_picture", "shown_name"]

LARGE = 400 * 400
"""Maximum number of pixels of a sheet in the first search; larger sheets are shrunk."""
NEARLY_WHITE = 245
"""Sheets whose brightest level is at least this are not brightened."""
MNIST_KIND = ImageKind("MNIST", (FIELD, FIELD), "digit")


@dataclass(frozen=True)
class Prepared:
    """A preprocessed picture: `image` (rows * columns,) uint8, light on dark; `doubts` in short sentences."""

    image: NDArray[np.uint8]
    shape: tuple[int, int]
    doubts: tuple[str, ...] = ()

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The image as (rows, columns)."""
        return self.image.reshape(self.shape)


def read_digit(path: str | bytes | os.PathLike[Any], kind: ImageKind | None = None) -> NDArray[np.uint8]:
    """Return the digit in the picture at `path` in the format of MNIST, or of `kind`, (n_pixels,) uint8.

    The picture is a PNG, JPEG or other format of Pillow, or a NumPy file (.npy) of grey levels (rows, columns), of any
    size, dark on light or light on dark; "-" is standard input. Raises `DataError` if it can't be read or shows
    nothing.
    """
    return read_picture(path, kind).image


def read_picture(path: str | bytes | os.PathLike[Any], kind: ImageKind | None = None) -> Prepared:
    """Read a picture as `read_digit` does; return it with its doubts."""
    sheet = read_sheet(path)
    try:
        return prepare(sheet, kind)
    except DataError as error:
        raise DataError(f"{shown_name(path)}: {error}") from error


def prepare_digit(levels: NDArray[Any], kind: ImageKind | None = None) -> NDArray[np.uint8]:
    """Convert grey `levels` (rows, columns), of any real dtype and range, to an MNIST image, (784,) uint8.

    With `kind`, to an image of that kind. Raises `DataError` if they show nothing or aren't finite.
    """
    return prepare(sheet_of_levels(levels), kind).image


def prepare(sheet: Image.Image, kind: ImageKind | None = None) -> Prepared:
    """Convert `sheet`, a Pillow image of mode L, RGB or F, to an image of `kind`, by default MNIST's."""
    kind = kind or MNIST_KIND
    if kind.unpadded is not None and kind.shape is not None:
        found = prepare(sheet, kind.original)
        return Prepared(padded(found.image[None], kind)[0], kind.shape, found.doubts)
    if kind.framing not in BOXES:
        if kind.shape is None:
            raise DataError("framing whole needs the shape of the images, got kind.shape None")
        return Prepared(shrink_whole(sheet, kind.shape), kind.shape)
    if kind.shape not in (None, (FIELD, FIELD)):
        raise DataError(
            f"framing {kind.framing} needs images of {FIELD} x {FIELD} pixels, got {kind.shape[0]} x {kind.shape[1]}"
        )
    digit = _found(sheet)
    return Prepared(frame(digit.ink, kind.framing), (FIELD, FIELD), digit.doubts)


def _found(sheet: Image.Image) -> Digit:
    """Return the digit on `sheet`, at a scale of at most about `LARGE` pixels.

    A large sheet is first searched at reduced size, where averaging reduces noise, then cropped around the find, so
    that a small digit on a large sheet keeps its details. A filled patch, such as a sheet lying on a table, is itself
    searched for a digit.
    """
    low, high = _extremes(sheet)
    if low == high:
        raise DataError(f"found no digit, every pixel has the same level: {EXPECTED}")
    if high >= NEARLY_WHITE:
        high = 255
    digit, factor = _seen(sheet, high)
    doubts = digit.doubts
    if FILLED in doubts and min(digit.ink.shape) * factor >= 2 * FIELD:
        with suppress(DataError):
            on_it = _found(_around(sheet, digit, factor, -max(digit.ink.shape) // 16))
            digit = digit if FILLED in on_it.doubts else on_it
        return digit
    while factor > 1:
        closer = _around(sheet, digit, factor, 4 + max(digit.ink.shape) // 3)
        if closer.width * closer.height > 0.5 * sheet.width * sheet.height:
            break
        sheet = closer
        try:
            digit, factor = _seen(sheet, high)
        except DataError:  # keep the digit found at the coarser scale
            break
    return replace(digit, doubts=doubts)


def _seen(sheet: Image.Image, high: float) -> tuple[Digit, int]:
    """Return the digit on `sheet` shrunk to `LARGE` pixels, and the factor."""
    factor = ceil((sheet.width * sheet.height / LARGE) ** 0.5)
    levels = _levels(sheet.reduce(factor) if factor > 1 else sheet, high)
    ink = find_ink(levels)
    digit: Digit | None = None
    missing: DataError | None = None
    try:
        digit = _found_by(levels, ink, factor, reverse=False)
        if FILLED not in digit.doubts:
            return digit, factor
    except DataError as error:
        missing = error
    # A table around the sheet, or the hole of a 0, may be mistaken for ink: try the reverse.
    if not ink.one_way:
        with suppress(DataError):
            other = _found_by(levels, find_ink(levels, reverse=True), factor, reverse=True)
            if not {FILLED, TOUCHING, FRAME}.intersection(other.doubts):
                return other, factor
    if digit is None:
        raise missing or DataError(NONE)
    return digit, factor


def _found_by(levels: NDArray[np.float32], ink: Ink, factor: int, *, reverse: bool) -> Digit:
    """Return the digit in `ink`, found in `levels`, without surrounding shadow."""

    def closer(window: int) -> Digit:
        return find_digit(find_ink(levels, reverse=reverse, window=window), factor)

    return without_haze(find_digit(ink, factor), closer)


def _around(sheet: Image.Image, digit: Digit, factor: int, room: int) -> Image.Image:
    """Crop `sheet` to the `digit` with a margin of `room` pixels at the scale of the search."""
    top, bottom, left, right = digit.box
    return sheet.crop(
        (
            max(0, left - room) * factor,
            max(0, top - room) * factor,
            min(sheet.width, (right + room) * factor),
            min(sheet.height, (bottom + room) * factor),
        )
    )


def _levels(sheet: Image.Image, high: float) -> NDArray[np.float32]:
    """Return the levels of `sheet` (rows, columns, channels), at most 1."""
    levels = np.asarray(sheet, dtype=np.float32) / np.float32(high)
    return levels[:, :, None] if levels.ndim == 2 else levels


def _extremes(sheet: Image.Image) -> tuple[float, float]:
    """Return the lowest and the highest level; equal if all pixels are the same."""
    extremes = sheet.getextrema()
    bands = extremes if isinstance(extremes[0], tuple) else (extremes,)
    if all(low == high for low, high in bands):
        return bands[0][0], bands[0][0]
    return min(band[0] for band in bands), max(band[1] for band in bands)
