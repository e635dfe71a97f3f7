"""Pictures of one digit, prepared the way MNIST's were.

MNIST's makers scaled each digit into a box of 20 x 20 pixels, keeping its proportions, and placed it in a field of
28 x 28 so that the centre of mass of its ink lies in the middle (LeCun et al., "Gradient-based learning applied to
document recognition", 1998, section III.A); in their files that is the middle of pixel 14, counted from 0. Ink is
light on dark, 0 to 255.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpunn.errors import DataError

FIELD = 28
BOX = 20
LARGE = 400
"""Pixels along the longer side to which larger pictures are averaged down."""
MARGIN = 4
"""Pixels of background kept around a digit that was found in a picture averaged down."""
FAINT = 0.05
"""Ink below this share of the darkest is taken for a blemish when the digit is cropped."""


def read_digit(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Return the digit in the picture at `path` as MNIST would have it, (784,) uint8.

    The picture is a PNG, a JPEG or whatever else Pillow reads, or a NumPy file (.npy) of grey levels (rows, columns);
    of any size, dark on light or light on dark. Raises `DataError` where it can't be read or shows nothing.
    """
    name = os.fspath(path)
    levels = _read_npy(name) if name.lower().endswith(".npy") else _read_picture(name)
    try:
        return prepare_digit(levels)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def prepare_digit(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return grey `levels` (rows, columns), of any real dtype and range, as an MNIST image, (784,) uint8."""
    # Any range, into one that float32 holds.
    levels = levels.astype(np.float64)
    ink = _crop(levels / (np.abs(levels).max() or 1))
    height, width = (max(1, round(side * BOX / max(ink.shape))) for side in ink.shape)
    crop = Image.fromarray((ink * 255).astype(np.float32))
    digit = np.asarray(crop.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 255)

    field = np.zeros((FIELD, FIELD))
    top, left = _offset(digit.sum(axis=1)), _offset(digit.sum(axis=0))
    field[top : top + height, left : left + width] = digit
    return field.round().astype(np.uint8).ravel()


def _crop(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ink of the digit alone, at most `LARGE` pixels high and wide.

    A large picture is looked through in a smaller form, whose averages have less noise, and then cut down around what
    was found, so that a small digit on a large sheet keeps its details.
    """
    factor = -(-max(levels.shape) // LARGE)
    smaller = levels
    if factor > 1:
        smaller = np.asarray(Image.fromarray(levels.astype(np.float32)).reduce(factor), dtype=np.float64)
    ink = _ink(smaller)
    seen = ink > FAINT
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    around = levels[
        max(0, rows[0] - MARGIN) * factor : (rows[-1] + 1 + MARGIN) * factor,
        max(0, columns[0] - MARGIN) * factor : (columns[-1] + 1 + MARGIN) * factor,
    ]
    if factor > 1 and max(around.shape) < max(levels.shape):
        return _crop(around)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _ink(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much ink is where, 0 (background) to 1: the background is what most of the picture's edge shows."""
    edge = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    background = np.median(edge)
    lighter, darker = (levels - background).clip(0), (background - levels).clip(0)
    ink = lighter if lighter.sum() > darker.sum() else darker
    if ink.max() == 0:
        raise DataError(
            "found no digit, every pixel has the same level: expected a dark digit on light, or the reverse"
        )
    # What the background varies by is no ink. Three quarters of the edge are background, also where a digit touches it.
    noise = 3 * np.quantile(np.abs(edge - background), 0.75)
    if noise < ink.max() / 2:
        ink = np.where(ink > noise, ink, 0)
    strength: NDArray[np.float64] = ink / ink.max()
    return strength


def _offset(mass: NDArray[Any]) -> int:
    """Return where to put a digit with this `mass` along one axis so that its centre lies in the middle of the field.

    It stays inside the field, also where that leaves the centre a little off.
    """
    centre = (mass * (np.arange(len(mass)) + 0.5)).sum() / mass.sum()
    return int(np.clip(round((FIELD + 1) / 2 - centre), 0, FIELD - len(mass)))


def _read_npy(name: str) -> NDArray[Any]:
    try:
        with Path(name).open("rb") as file:
            levels: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error
    except Exception as error:  # damaged headers fail in more ways than NumPy lists
        raise DataError(f"{name} is no NumPy file of numbers: expected one written by numpy.save") from error
    if levels.dtype.kind not in "buif":
        raise DataError(f"{name} holds {levels.dtype}: expected an array of grey levels")
    if levels.shape == (FIELD * FIELD,):
        levels = levels.reshape(FIELD, FIELD)
    if levels.ndim != 2 or levels.size == 0:
        raise DataError(f"{name} has the shape {levels.shape}: expected (rows, columns), or ({FIELD * FIELD},)")
    if not np.isfinite(levels).all():
        raise DataError(f"{name} holds levels that aren't finite: expected grey levels")
    return levels


def _read_picture(name: str) -> NDArray[Any]:
    try:
        # A large or oddly made picture is none of the user's concern as long as it can be read.
        with warnings.catch_warnings(action="ignore"), Image.open(Path(name)) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data:
                return _flatten(upright.convert("RGBA"))
            # Converting 16-bit levels to 8 would clip them; their range doesn't matter here.
            deep = upright.mode in ("I", "F", "I;16", "I;16B")
            levels: NDArray[Any] = np.asarray(upright if deep else upright.convert("L"))
            return levels
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is no picture that can be read: expected a PNG, a JPEG or a .npy file") from error
    except Exception as error:  # damaged pictures fail in more ways than Pillow lists
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {name}: {reason}; expected a PNG, a JPEG or a .npy file") from error


def _flatten(picture: Image.Image) -> NDArray[Any]:
    """Lay a transparent picture on white, or on black where what is opaque is light."""
    levels = np.asarray(picture.convert("RGB").convert("L"), dtype=np.float64)
    opacity = np.asarray(picture.getchannel("A"), dtype=np.float64) / 255
    light = (levels * opacity).sum() > 127.5 * opacity.sum()
    return levels * opacity + (0 if light else 255) * (1 - opacity)
