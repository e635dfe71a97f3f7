"""Scaling and centring of ink as in MNIST or EMNIST.

MNIST's digits are scaled into a box of 20 x 20 pixels, preserving the aspect ratio, and centred by mass in a field of
28 x 28 (LeCun et al., "Gradient-based learning applied to document recognition", 1998, section III.A); in the files,
the centre is the middle of pixel 14, counted from 0. EMNIST's fill a box of 24 x 24, which is centred itself (Cohen et
al., "EMNIST: an extension of MNIST to handwritten letters", 2017). Ink is light on dark, 0 to 255.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpunn.datasets.framing import FIELD
from gpunn.errors import DataError

BOXES = {"digit": 20, "emnist": 24}
PEN = 1.8
"""Minimum stroke width in pixels; MNIST's strokes are two or three wide."""


def frame(ink: NDArray[np.float32], framing: str) -> NDArray[np.uint8]:
    """Place the `ink` (rows, columns), 0 to 1, of a single digit in a field, (784,) uint8."""
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
    """Scale the ink to a longer side of `box` pixels, 0 to 255, with strokes as bright as MNIST's and not too thin."""
    scale = box / max(ink.shape)
    if scale < 1:
        pen = stroke_width(ink)
        if pen * scale < PEN:
            # Thickening also enlarges the box.
            ink = _thickened(ink, (PEN / scale - pen) / (1 - PEN / box))
    scale = box / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    picture = Image.fromarray((ink * 255).astype(np.float32))
    digit = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 255)
    if scale < 1:
        # Brightness along the middle of strokes, from the maxima of rows and columns.
        ridge = np.median(np.concatenate([digit.max(axis=0), digit.max(axis=1)]))
        digit = (digit * max(1.0, 255 / max(float(ridge), 1.0))).clip(0, 255)
    return digit


def stroke_width(ink: NDArray[Any]) -> float:
    """Return the approximate stroke width in pixels: twice the area over the outline length."""
    padded = np.pad(ink, 1).astype(np.float32)
    outline = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    # Averaged over directions, counting axis-aligned steps overestimates the length by 4 / pi.
    return 2 * float(ink.sum()) / (float(outline) * np.pi / 4)


def _thickened(ink: NDArray[np.float32], by: float) -> NDArray[np.float32]:
    """Dilate `ink` so that strokes, and the box, grow by about `by` pixels.

    Alternating 4- and 8-neighbour steps approximate a disc by an octagon.
    """
    for step in range(max(1, round(by / 2))):
        padded = np.pad(ink, 2)
        near = [padded[1:-1, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
        corners = [padded[:-2, :-2], padded[:-2, 2:], padded[2:, :-2], padded[2:, 2:]]
        ink = np.maximum.reduce([*near, *(corners if step % 2 else [])])
    return ink


def _offset(mass: NDArray[Any]) -> int:
    """Return the offset that centres `mass`, a digit's ink along one axis, in the field.

    The digit stays inside the field, even if its centre is then slightly off.
    """
    centre = (mass * (np.arange(len(mass)) + 0.5)).sum() / mass.sum()
    return int(np.clip(round((FIELD + 1) / 2 - centre), 0, FIELD - len(mass)))


def shrink_whole(sheet: Image.Image, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale the whole `sheet` to `shape` (rows, columns), flattened, uint8; the level at its edge becomes dark.

    The aspect ratio is kept, and the rest is background. Raises `DataError` if all pixels are equal.
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
