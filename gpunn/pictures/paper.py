"""Separation of ink and paper.

The paper is estimated locally, so that shadows and uneven light count as paper. Colours are projected on the direction
in which ink and paper differ most, as red on green may have the same brightness.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gpunn.pictures.components import windowed

GRID = 32
"""Longer side, in pixels, to which a sheet is reduced for the median of its surroundings."""
WINDOW = 0.4
"""Window for estimating the paper, wider than any stroke, as a fraction of the longer side."""
DARKEST = 0.15
"""Minimum illumination of paper in shadow, as a fraction of the brightest."""
SURROUNDINGS = 0.5
"""Window for telling ink from paper, as a fraction of the longer side."""
NEAR = 0.05
"""Window for separating noise from slow variation, as a fraction of the longer side."""
UNSURE = 0.1
"""Absolute balance of lighter and darker up to which a second measure decides."""
RULED = 0.8
"""Minimum visible fraction of the length of a ruled line, or of a frame's side."""
THICKEST_RULE = 0.03
"""Maximum thickness of such a line, as a fraction of the sheet."""
GRAINY = 0.004
"""Standard deviation of the paper's grain above which the sheet is smoothed."""
SMALL = 40
"""Shorter side, in pixels, below which a sheet is not searched for ruled lines."""


@dataclass(frozen=True)
class Ink:
    """Ink on a sheet: `strength` (rows, columns) float32 is each pixel's difference from the paper, at most about 1.

    `gain` is the factor that compensates for weak light, included in `strength`; `noise` is the standard deviation on
    blank paper in full light. `one_way`: hardly any pixels differ from the paper in the opposite direction.
    """

    strength: NDArray[np.float32]
    gain: NDArray[np.float32]
    noise: float
    one_way: bool


def find_ink(levels: NDArray[np.float32], *, reverse: bool = False, window: int | None = None) -> Ink:
    """Return the ink on a sheet with `levels` (rows, columns, channels) from 0 to 1.

    Ink is dark on light or light on dark, whichever stands out from its surroundings; with `reverse` the opposite.
    `window` is a size in pixels wider than any stroke, if known.
    """
    grey, light = _along_ink(levels)
    grain = _grain(grey)
    if grain > GRAINY:
        grey = _blurred(grey, 0.7 if grain < 0.02 else 1.2)
    balance = _balance(grey)
    on_dark = (balance > 0) != reverse
    if on_dark:
        grey = -grey
    grey = _without_rules(grey)
    size = max(3, (window or round(max(grey.shape) * WINDOW)) | 1)
    smooth = _blurred(grey, 1.5) if grain > GRAINY else grey
    paper = windowed(np.minimum, windowed(np.maximum, smooth, size), size)
    strength = paper - grey
    # The estimated paper follows the brightest grain, so blank paper has positive strength too. If much of the sheet
    # has none, ink may cover more of it than paper does, as in a tightly cropped digit.
    much = float(np.quantile(strength, 0.25)) < 0.1 * float(strength.max())
    blank = strength <= 0.3 * strength.max() if much else np.ones_like(strength, bool)
    middle = float(np.median(strength[blank]))
    # Slow variation, such as uneven light, counts less as noise.
    slow = _averaged(strength, max(3, round(max(grey.shape) * NEAR) | 1))
    near, overall = (float(np.median(np.abs(strength[blank] - other))) for other in (slow[blank], middle))
    noise = 1.4826 * min(overall, max(near, overall / 2))
    strength = (strength - np.float32(middle)).clip(0)
    gain = np.ones_like(strength)
    if not on_dark:  # in weaker light, ink and paper differ less
        bright = windowed(np.maximum, _blurred(light, 1.5) if grain > GRAINY else light, size)
        bright = windowed(np.minimum, bright, size)
        gain /= np.maximum(bright / np.float32(max(float(bright.max()), 1e-6)), np.float32(DARKEST))
    strength *= gain
    if min(grey.shape) < SMALL:  # may be mostly strokes
        gain = np.ones_like(gain)
    return Ink(strength, gain, noise, abs(balance) > 0.9)


def _along_ink(levels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the levels projected on the colour direction in which ink and paper differ most, and the brightness."""
    light: NDArray[np.float32] = levels.mean(axis=2, dtype=np.float32)
    if levels.shape[2] == 1 or (levels == levels[:, :, :1]).all():
        return light, light
    usual = np.dstack([_usual(levels[:, :, k]) for k in range(levels.shape[2])])
    away = (levels - usual).reshape(-1, levels.shape[2]).astype(np.float64)
    # Weighting by the squared distance lets ink outweigh the paper's grain.
    squares = (away**2).sum(axis=1, keepdims=True)
    axis = np.linalg.eigh((away * squares).T @ away)[1][:, -1]
    axis *= np.sign(axis.sum()) or 1
    along: NDArray[np.float32] = levels @ (axis / np.abs(axis).sum()).astype(np.float32)
    return along, light


def _balance(grey: NDArray[np.float32]) -> float:
    """Return the balance of marks lighter (1) and darker (-1) than their surroundings.

    Differences from the local average are cubed: strokes are few and far from it, paper is close to it, and gradients
    and steps of light cancel.
    """
    size = round(max(grey.shape) * SURROUNDINGS) | 1
    away = grey - _averaged(grey, size)
    cubes = away**3
    whole = float(np.abs(cubes).sum(dtype=np.float64))
    balance = float(cubes.sum(dtype=np.float64)) / whole if whole else 0.0
    if abs(balance) > UNSURE:
        return balance
    # There may be more ink than paper, as in a tightly cropped digit: compare with the local median.
    away = grey - _usual(grey)
    away[np.abs(away) < float(np.ptp(grey)) / 64] = 0  # the median is quantised to 256 steps
    return float(away.sum(dtype=np.float64)) / max(float(np.abs(away).sum(dtype=np.float64)), 1e-9)


def _averaged(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the moving average of `values` in a window of `size` pixels (odd), cut off at the border."""
    for axis in (0, 1):
        n = values.shape[axis]
        sums = np.zeros((n + 1, values.shape[1 - axis]))
        np.cumsum(np.moveaxis(values, axis, 0), axis=0, dtype=np.float64, out=sums[1:])
        places = np.arange(n)
        first, last = np.maximum(places - size // 2, 0), np.minimum(places + size // 2 + 1, n)
        values = np.moveaxis(((sums[last] - sums[first]) / (last - first)[:, None]).astype(np.float32), 0, axis)
    return values


def _usual(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of `values` in a wide window around each pixel, which preserves the edges of shadows."""
    rows, columns = values.shape
    low, high = float(values.min()), float(values.max())
    if high == low:
        return values
    image = Image.fromarray(((values - low) * (255 / (high - low))).round().astype(np.uint8))
    factor = -(-max(rows, columns) // GRID)
    small = np.asarray(image.reduce(factor) if factor > 1 else image)
    reach = max(small.shape) // 4
    padded = np.pad(small, reach, mode="symmetric")
    median = np.asarray(Image.fromarray(padded).filter(ImageFilter.MedianFilter(2 * reach + 1)))
    median = median[reach : reach + small.shape[0], reach : reach + small.shape[1]]
    wide = np.asarray(Image.fromarray(median).resize((columns, rows), Image.Resampling.NEAREST), dtype=np.float32)
    return wide * ((high - low) / 255) + np.float32(low)


def _grain(grey: NDArray[np.float32]) -> float:
    """Return the standard deviation of the noise, from differences of neighbouring pixels, mostly paper."""
    if min(grey.shape) < 2:
        return 0.0
    return 1.4826 / 2**0.5 * float(np.median(np.abs(np.diff(grey, axis=1))))


def _blurred(values: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Blur `values` with a Gaussian of standard deviation `radius` pixels."""
    reach = max(1, round(3 * radius))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        room = [(0, 0), (0, 0)]
        room[axis] = (reach, reach)
        padded = np.moveaxis(np.pad(values, room, mode="edge"), axis, 0)
        n = values.shape[axis]
        values = np.moveaxis(sum(weight * padded[k : k + n] for k, weight in enumerate(kernel)), 0, axis)
    return values


def _without_rules(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Remove dark lines from side to side by interpolating between the pixels on either side of each."""
    if min(grey.shape) < SMALL:
        return grey
    wide = round(max(grey.shape) * WINDOW) | 1
    dark = windowed(np.minimum, windowed(np.maximum, grey, wide), wide) - grey
    for _ in range(2):
        rows, columns = grey.shape
        size = 2 * round(rows * THICKEST_RULE) + 1
        raised = windowed(np.minimum, windowed(np.maximum, grey, size, (0,)), size, (0,)) - grey
        thin, any_ink = (_above_grain(depth) > max(0.015, 0.05 * float(raised.max())) for depth in (raised, dark))
        end = max(1, columns // 50)
        # A line isn't thin where strokes or perpendicular lines cross it.
        ruled = (any_ink.mean(axis=1) > RULED) & (thin.mean(axis=1) > RULED / 2)
        ruled &= any_ink[:, :end].any(axis=1) & any_ink[:, -end:].any(axis=1)
        ruled[1:-1] |= ruled[:-2] | ruled[2:]  # its blurred edges
        kept = np.flatnonzero(~ruled)
        if rows // 2 < len(kept) < rows:
            grey = _drawn_through(grey, kept)
        grey, dark = grey.T, dark.T
    return grey


def _above_grain(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the excess of `depth` over a threshold above the sheet's grain."""
    middle = np.median(depth)
    above: NDArray[np.float32] = depth - (middle + 4.5 * np.median(np.abs(depth - middle)))
    return above


def _drawn_through(grey: NDArray[np.float32], kept: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return `grey` with the rows that aren't `kept` interpolated between those that are."""
    rows = np.arange(len(grey))
    after = np.searchsorted(kept, rows).clip(0, len(kept) - 1)
    above, below = kept[(after - (kept[after] > rows)).clip(0)], kept[after]
    weight = ((rows - above) / np.maximum(below - above, 1)).clip(0, 1)[:, None].astype(np.float32)
    drawn: NDArray[np.float32] = grey[above] * (1 - weight) + grey[below] * weight
    return drawn
