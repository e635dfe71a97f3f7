"""Location of the digit on a sheet, and reasons for doubt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpunn.errors import DataError
from gpunn.pictures import marks
from gpunn.pictures.components import Components, components, dilated
from gpunn.pictures.paper import SMALL, Ink

EXPECTED = "expected a dark digit on light, or the reverse"
NONE = f"found no digit: {EXPECTED}, larger than dust and off the border"
FAINT = 0.05
"""Ink below this fraction of the strongest is background."""
LEVELS = (0.5, 0.25, 0.1, FAINT)
"""Thresholds, as fractions of the strongest ink, tried in turn until one shows a digit."""
STRONG = (0.35, 0.5, 0.65)
"""Thresholds for ink connected to the digit, as fractions of the digit's strongest ink.

The first that doesn't connect it to the border is used.
"""
FAINTER = (FAINT, 0.1, 0.18, 0.25)
"""Lower thresholds for further ink of the digit, unless they connect it to the border."""
FEWEST = 5
"""Longer side in pixels below which a spot is dust, unless the sheet is small."""
SPECK = 0.03
"""Fraction of the sheet's side below which a mark may be dust."""
LEGIBLE = 10
"""Longer side in pixels below which a digit is barely legible."""
LEAST_CONTRAST = 0.035
"""Minimum contrast of ink with the paper; 1 is black on white."""
LOW_CONTRAST = 0.12
"""Contrast below which a result is doubtful."""

MOST_CONTACTS = 10
"""Maximum number of places where a digit touches the border."""
SPECKS = 3
"""Number of similar small marks from which they count as dust."""

SEVERAL = "several marks of similar size, the largest was read"
TOUCHING = "the mark touches the picture's border, part of it may be missing"
FILLED = "the mark is a filled patch or fills its box"
FAINT_INK = "low contrast between ink and paper"
FRAME = "the mark may be a frame"
TINY = "the mark is small, it may be a speck"


@dataclass(frozen=True)
class Digit:
    """The digit's `ink` (rows, columns), 0 to 1, cut out of the sheet at `box` (top, bottom, left, right); `doubts`."""

    ink: NDArray[np.float32]
    box: tuple[int, int, int, int]
    doubts: tuple[str, ...]


def find_digit(ink: Ink, factor: int = 1) -> Digit:
    """Return the digit in the `ink` of a sheet shrunk by `factor`; raises `DataError` if there is none."""
    strength = ink.strength
    floor = max(LEAST_CONTRAST, 6 * ink.noise)
    strongest = float(strength.max())
    for share in LEVELS:
        level = share * strongest
        if level < floor / 2:
            break
        parts = components(strength > level)
        main = _main(parts, ink, floor, FEWEST if ink.noise else FEWEST / factor)
        if main is not None:
            return _cut_out(ink, parts.mask(np.array([main])), factor)
    raise DataError(
        "found no digit: expected a dark digit on light, or the reverse, larger than dust and off the border"
    )


def _main(parts: Components, ink: Ink, floor: float, fewest: float) -> int | None:
    """Return the number of the digit among `parts`, or None."""
    if not len(parts):
        return None
    strength = ink.strength
    rows, columns = strength.shape
    gain = parts.sums(ink.gain) / parts.area
    contact = marks.contact(parts)
    boxes = marks.boxes(parts, strength.shape)
    few = parts.extent < min(fewest, max(1, round(0.04 * min(rows, columns))))
    none = few | (parts.peaks(strength) < np.maximum(floor, 6 * ink.noise * gain))
    none |= marks.lines(parts, strength.shape) | marks.bands(parts, strength.shape)
    none |= marks.soft(parts, strength, ink.noise * gain)
    # Edges of the sheet and objects beside it touch most of a side; tightly cropped digits don't.
    none |= (marks.longest_contact(parts) > 0.6 * max(rows, columns)) | (marks.contacts(parts) > MOST_CONTACTS)
    none |= boxes & (contact > 0)
    if min(rows, columns) >= SMALL:  # no digit is a horizontal line
        none |= parts.height < 0.12 * parts.width
    score = np.where(none, 0, parts.sums(strength))
    score[contact > 0] *= 0.1
    score[boxes] *= 0.01
    main = int(score.argmax())
    return main if score[main] > 0 else None


def _cut_out(ink: Ink, core: NDArray[np.bool_], factor: int) -> Digit:
    """Return the digit whose strongest part is `core`, with its other strokes."""
    strength = ink.strength
    # With noise, a quantile, as single pixels of grain may be stronger than the ink.
    peak = float(strength[core].max()) if ink.noise == 0 else float(np.quantile(strength[core], 0.97))
    floor = 4 * ink.noise
    for share in STRONG:
        parts = components(strength > max(share * peak, floor))
        certain = _touched(parts, core) | core
        if _touching(certain) <= _touching(core):
            break
    strong, digit = parts, certain
    for share in FAINTER:
        parts = components(strength > max(share * peak, floor))
        digit = _touched(parts, certain)
        # Fainter ink connected to the border is something else that the digit crosses.
        if digit.any() and _touching(digit) <= _touching(core):
            break
    else:
        parts, digit = strong, certain
    boxes = marks.boxes(parts, strength.shape) | marks.lines(parts, strength.shape)
    free = ~boxes & (marks.contact(parts) == 0) & (parts.peaks(strength) > STRONG[0] * peak)
    digit = _with_its_parts(parts, digit, free, strength)
    noise = ink.noise * float(ink.gain[core].mean())
    faint = peak < max(LOW_CONTRAST, 10 * noise)
    tiny = _extent(digit) * factor < LEGIBLE or _extent(digit) < SPECK * max(strength.shape)
    like = _like(parts, digit, boxes, strength)
    doubts = (*_doubts(parts, digit, boxes, like), *([FAINT_INK] if faint else []), *([TINY] if tiny else []))
    along_border = _touching(digit) > _extent(digit) // 2 and min(strength.shape) >= SMALL
    # The core may have been grain on a shadow, and the result the whole shadow.
    whole = components(digit)
    shadows = marks.soft(whole, strength, np.full(len(whole), noise)) | marks.bands(whole, strength.shape)
    if shadows[whole.area.argmax()]:
        raise DataError(NONE)
    dust = tiny or _extent(digit) < 2 * SPECK * max(strength.shape)
    if (faint and (tiny or along_border)) or (like >= SPECKS and (faint or dust)):
        raise DataError(NONE)

    radius = max(1, round(max(strength.shape) / 200)) if ink.noise else 2
    near = dilated(digit, radius)
    foreign = (parts.labels >= 0) & ~digit
    alone = np.where(near & ~foreign, strength, 0)
    if ink.noise:
        alone = (alone - 2 * ink.noise).clip(0) * (peak / max(peak - 2 * ink.noise, 1e-6))
    alone = (alone / peak).clip(0, 1)
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return Digit(alone[box[0] : box[1], box[2] : box[3]].astype(np.float32), box, doubts)


def _touched(parts: Components, core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    numbers = np.unique(parts.labels[core & (parts.labels >= 0)])
    return parts.mask(numbers)


def _touching(mask: NDArray[np.bool_]) -> int:
    return int(mask[0].sum() + mask[-1].sum() + mask[1:-1, 0].sum() + mask[1:-1, -1].sum())


def _extent(mask: NDArray[np.bool_]) -> int:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1 if len(rows) else 0


def _with_its_parts(
    parts: Components, digit: NDArray[np.bool_], free: NDArray[np.bool_], strength: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return `digit` with its separate strokes: close by, and larger than dust."""
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    size = _extent(digit)
    gap = 0.15 * size
    apart_down = np.maximum(parts.top - (rows[-1] + 1), rows[0] - parts.bottom).clip(0)
    apart_across = np.maximum(parts.left - (columns[-1] + 1), columns[0] - parts.right).clip(0)
    inside = np.maximum(apart_down, apart_across) <= gap
    # The total stays digit-sized, and a mark of the same height beside it is another digit.
    height = np.maximum(parts.bottom, rows[-1] + 1) - np.minimum(parts.top, rows[0])
    width = np.maximum(parts.right, columns[-1] + 1) - np.minimum(parts.left, columns[0])
    beside = (apart_across > 0) & (parts.height > 0.7 * (rows[-1] + 1 - rows[0]))
    fits = (np.maximum(height, width) <= 1.6 * size) & ~beside
    mass = parts.sums(strength)
    large = (parts.extent >= 0.12 * size) | (mass > 0.04 * mass[np.unique(parts.labels[digit])].sum())
    return digit | parts.mask(free & inside & fits & large)


def _like(parts: Components, digit: NDArray[np.bool_], boxes: NDArray[np.bool_], strength: NDArray[np.float32]) -> int:
    """Return the number of other marks about as large and strong as the `digit`."""
    others = np.ones(len(parts), bool)
    others[np.unique(parts.labels[digit & (parts.labels >= 0)])] = False
    like = others & ~boxes & (marks.contact(parts) == 0) & (parts.extent > 0.5 * _extent(digit))
    return int((like & (parts.peaks(strength) > 0.4 * strength[digit].max())).sum())


def _doubts(parts: Components, digit: NDArray[np.bool_], boxes: NDArray[np.bool_], like: int) -> tuple[str, ...]:
    """Return the doubts about the `digit` among the `parts` of a sheet, given the number of similar marks `like`."""
    height, width = digit.any(axis=1).sum(), digit.any(axis=0).sum()
    slender = min(height, width) < 0.4 * max(height, width)
    found = {
        SEVERAL: like > 0,
        TOUCHING: _touching(digit) > 2,
        FILLED: digit.sum() > 0.8 * height * width and not slender,
        FRAME: boxes[np.unique(parts.labels[digit & (parts.labels >= 0)])].any(),
    }
    return tuple(doubt for doubt, true in found.items() if true)
