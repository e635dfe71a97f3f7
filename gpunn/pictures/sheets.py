"""Conversion of arrays and pictures to sheets: opaque Pillow images of mode L, RGB or F."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpunn.errors import DataError

MOST_PIXELS = 50_000_000
"""Maximum number of pixels; larger pictures are refused before decoding."""
ROWS_AT_ONCE = 2**20
"""Number of values converted at once, to limit temporary memory."""
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def sheet_of_levels(levels: object) -> Image.Image:
    """Convert `levels` (rows, columns) or (rows, columns, 3 or 4) of a real dtype to a sheet.

    Levels other than uint8 are scaled to a maximum of 255. Raises `DataError` unless `levels` is an array of finite
    numbers of this shape.
    """
    if not isinstance(levels, np.ndarray) or levels.dtype.kind not in "buif":
        found = levels.dtype if isinstance(levels, np.ndarray) else type(levels).__name__
        raise DataError(f"found {found}, expected an array of grey levels")
    if levels.ndim not in (2, 3) or (levels.ndim == 3 and levels.shape[2] not in (3, 4)) or levels.size == 0:
        raise DataError(f"found the shape {_short(levels.shape)}, expected (rows, columns) of grey levels")
    if levels.shape[0] * levels.shape[1] > MOST_PIXELS:
        raise DataError(too_large(levels.shape[1], levels.shape[0]))
    if levels.dtype == np.uint8:
        return opaque(Image.fromarray(np.ascontiguousarray(levels)))
    if levels.ndim == 3:
        # Colours are reduced to 8 bits.
        return opaque(Image.fromarray(_scaled(levels.reshape(len(levels), -1)).reshape(levels.shape).astype(np.uint8)))
    return Image.fromarray(_scaled(levels))


def sheet_of_picture(picture: Image.Image) -> Image.Image:
    """Convert a Pillow image to a sheet."""
    if picture.mode in DEEP:
        # Converting 16-bit levels to 8 would clip them.
        return sheet_of_levels(np.asarray(picture))
    if picture.has_transparency_data:
        return opaque(picture if picture.mode == "RGBA" else picture.convert("RGBA"))
    if picture.mode in ("L", "RGB"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def opaque(picture: Image.Image) -> Image.Image:
    """Remove the transparency of an RGBA `picture`; others are returned unchanged.

    A window screenshot is cropped to the window, without its shadow. A drawing is laid on white, or on black if it is
    light.
    """
    if picture.mode != "RGBA":
        return picture
    colours, opacity = picture.convert("RGB"), picture.getchannel("A")
    low, high = opacity.getextrema()
    if high == 0:
        raise DataError("found no digit, every pixel is transparent: expected a dark digit on light, or the reverse")
    if low == 255:
        return colours
    solid = opacity.point([255 * (level >= 250) for level in range(256)])
    box = solid.getbbox()
    if box is not None:
        window = colours.crop(box)
        inside = solid.crop(box)
        # A window may lack its rounded corners. A drawing that is one solid patch has a single colour.
        if inside.histogram()[255] > 0.9 * window.width * window.height and _varies(window, inside):
            usual = tuple(int(np.median(np.asarray(band.reduce(4)))) for band in window.split())
            return Image.composite(window, Image.new("RGB", window.size, usual), inside)
    weights = np.asarray(opacity, dtype=np.float32)
    shades = np.asarray(colours.convert("L"), dtype=np.float32)
    light = float((weights * shades).sum(dtype=np.float64)) > 127.5 * float(weights.sum(dtype=np.float64))
    return Image.composite(colours, Image.new("RGB", picture.size, "black" if light else "white"), opacity)


def too_large(width: int, height: int) -> str:
    """Return the message for a picture with too many pixels."""
    return f"{width} x {height} pixels are more than {MOST_PIXELS // 10**6} million: reduce the picture"


def _varies(window: Image.Image, inside: Image.Image) -> bool:
    for band in window.split():
        seen = np.flatnonzero(band.histogram(inside))
        if len(seen) and seen[-1] - seen[0] > 12:
            return True
    return False


def _scaled(levels: NDArray[Any]) -> NDArray[np.float32]:
    """Scale `levels` (rows, n) to float32 from 0 to 255; negative ranges are shifted."""
    rows = max(1, ROWS_AT_ONCE // max(1, levels.shape[1]))
    pieces = [slice(start, start + rows) for start in range(0, len(levels), rows)]
    low, high = 0.0, 0.0
    for piece in pieces:
        with np.errstate(over="ignore", invalid="ignore"):
            part = levels[piece].astype(np.float64)
        if not np.isfinite(part).all():
            raise DataError("found levels that aren't finite, expected grey levels: replace NaN and infinity")
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    largest = max(-low, high) or 1.0  # scaled to at most 1 first: the range itself may overflow
    low, span = low / largest, high / largest - low / largest
    scaled = np.empty(levels.shape, np.float32)
    for piece in pieces:
        scaled[piece] = (levels[piece].astype(np.float64) / largest - low) * (255 / (span or 1.0))
    return scaled


def _short(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 4 else f"of {len(shape)} dimensions"
