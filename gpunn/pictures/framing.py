"""Ink brought into the form of a data set's images.

MNIST's makers scaled each digit into a box of 20 x 20 pixels, keeping its proportions, and placed it in a field of
28 x 28 so that the centre of mass of its ink lies in the middle (LeCun et al., "Gradient-based learning applied to
document recognition", 1998, section III.A); in their files that is the middle of pixel 14, counted from 0. EMNIST's
put the box itself in the middle, and filled 24 x 24 (Cohen et al., "EMNIST: an extension of MNIST to handwritten
letters", 2017). Ink is light on dark, 0 to 255.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpunn.datasets.framing import FIELD
from gpunn.errors import DataError

BOXES = {"digit": 20, "emnist": 24}
PEN = 1.8
"""Pixels that a stroke is wide at least, where MNIST's are two or three."""


def frame(ink: NDArray[np.float32], framing: str) -> NDArray[np.uint8]:
    """Return the `ink` (rows, columns), 0 to 1, of a digit alone in a field of its own, (784,) uint8."""
    box = BOXES[framing]
    digit = _scaled(ink, box)
    height, width = digit.shape
    field = np.zeros((FIELD, FIELD))
    if framing == "digit":
        top, left = _offset(digit.sum(axis=1)), _offset(digit.sum(axis=0))
    else:
        top, left = (FIELD - height) // 2, (FIELD - width) // 2
    field[top : top + height, left : left + width] = digit
    return field.round().astype(np.uint8).ravel()


def _scaled(ink: NDArray[np.float32], box: int) -> NDArray[Any]:
    """Return the ink, `box` pixels along its longer side, 0 to 255, with strokes as bright as MNIST's and not thin."""
    scale = box / max(ink.shape)
    if scale < 1:
        pen = stroke_width(ink)
        if pen * scale < PEN:
            # The box grows with the strokes.
            ink = _thickened(ink, (PEN / scale - pen) / (1 - PEN / box))
    scale = box / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    picture = Image.fromarray((ink * 255).astype(np.float32))
    digit = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 255)
    if scale < 1:
        # The middle of a stroke is the brightest of its row, or of its column.
        ridge = np.median(np.concatenate([digit.max(axis=0), digit.max(axis=1)]))
        digit = (digit * max(1.0, 255 / max(float(ridge), 1.0))).clip(0, 255)
    return digit


def stroke_width(ink: NDArray[Any]) -> float:
    """Return about how wide strokes are, in pixels: twice their area over the length of their outline."""
    padded = np.pad(ink, 1).astype(np.float32)
    outline = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    # Steps along rows and columns make an outline 4 / pi times as long, over all directions.
    return 2 * float(ink.sum()) / (float(outline) * np.pi / 4)


def _thickened(ink: NDArray[np.float32], by: float) -> NDArray[np.float32]:
    """Return `ink` with strokes wider by about `by` pixels, in a box that is larger by as much: the largest round each.

    Steps by sides and by corners too make an octagon.
    """
    for step in range(max(1, round(by / 2))):
        padded = np.pad(ink, 2)
        near = [padded[1:-1, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
        corners = [padded[:-2, :-2], padded[:-2, 2:], padded[2:, :-2], padded[2:, 2:]]
        ink = np.maximum.reduce([*near, *(corners if step % 2 else [])])
    return ink


def _offset(mass: NDArray[Any]) -> int:
    """Return where to put a digit with this `mass` along one axis so that its centre lies in the middle of the field.

    It stays inside the field, also where that leaves the centre a little off.
    """
    centre = (mass * (np.arange(len(mass)) + 0.5)).sum() / mass.sum()
    return int(np.clip(round((FIELD + 1) / 2 - centre), 0, FIELD - len(mass)))


def shrink_whole(sheet: Image.Image, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return all of `sheet` in `shape` (rows, columns), raveled, uint8; what its edge shows becomes dark.

    Its proportions are kept, and what it leaves of the field is background. Raises `DataError` where it shows nothing.
    """
    grey = sheet if sheet.mode in ("L", "F") else sheet.convert("L")
    low, high = grey.getextrema()
    if low == high:
        raise DataError("found nothing, every pixel has the same level: expected a picture")
    rows, columns = shape
    scale = min(rows / grey.height, columns / grey.width)
    height, width = (min(most, max(1, round(side * scale))) for side, most in zip(grey.size[::-1], shape, strict=True))
    if grey.size != (width, height):
        grey = grey.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)
    levels = np.asarray(grey, dtype=np.float32).clip(0, 255)
    edge = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    paper = float(np.median(edge))
    if paper > 127.5:
        levels, paper = 255 - levels, 255 - paper
    field = np.full(shape, paper, np.float32)
    top, left = (rows - height) // 2, (columns - width) // 2
    field[top : top + height, left : left + width] = levels
    return field.round().astype(np.uint8).ravel()
