"""Pictures and curves in characters for standard output, at most 80 columns wide.

They are block characters, or ASCII where the encoding lacks these.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import click
import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from gpunn.plots.sheets import shrunk

COLUMNS = 80

HEIGHTS, PLAIN_HEIGHTS = "▁▂▃▄▅▆▇█", "_.-'"
"""Characters of sparklines, from low to high."""

SHADES, PLAIN_SHADES = " ░▒▓█", " .:-=+*#%@"
"""Characters of pictures without colours, from black to white on a dark terminal."""

UPPER_HALF = "▀"

BLACK, WHITE = 234, 255
"""Greys among a terminal's 256 colours: black is a little lighter than a black terminal, so that edges are seen."""

FULL, PLAIN_FULL = "█", "#"
LONGEST_BAR = 40
LONGEST_NAME = 24
"""Maximum width of a name in `bars`."""


def curves(losses: Sequence[float], accuracies: Sequence[float]) -> Iterator[str]:
    """Yield lines with a sparkline each: the training loss and the test accuracy over epochs, if there are several."""
    for name, values, form in (("loss", losses, ".4f"), ("test accuracy", accuracies, ".2%")):
        if len(values) > 1:
            head, ends = f"{name:13}  ", f"  {values[0]:{form}} to {values[-1]:{form}}"
            yield f"{head}{sparkline(values, max(1, COLUMNS - len(head) - len(ends)))}{ends}"


def sparkline(values: Sequence[float], columns: int) -> str:
    """Return a curve of `values`, which are finite, in at most `columns` characters: means of neighbours if need be."""
    heights = _writable(HEIGHTS, PLAIN_HEIGHTS)
    means = [float(part.mean()) for part in np.array_split(np.array(values), min(len(values), columns))]
    low, spread = min(means), max(means) - min(means)
    return "".join(heights[round((len(heights) - 1) * ((mean - low) / spread if spread else 0.5))] for mean in means)


def picture(pixels: NDArray[np.uint8]) -> Iterator[str]:
    """Yield lines with grey levels `pixels` (rows, columns), on a terminal with colours in these, otherwise in shades.

    If the picture is too large, it is shrunk, which a last line says.
    """
    coloured = _has_greys() and _writable(UPPER_HALF, "") != ""
    factor = math.ceil(max(pixels.shape) / (COLUMNS if coloured else COLUMNS // 2 - 1))
    small = shrunk(pixels, factor)
    yield from _half_blocks(small) if coloured else _shades(small)
    if factor > 1:
        yield f"({pixels.shape[0]} x {pixels.shape[1]} pixels, shown as means of {factor} x {factor})"


def bars(shares: Sequence[tuple[str, float]]) -> Iterator[str]:
    """Yield a line for each name and its share, from 0 to 1: the percentage and a bar."""
    full = _writable(FULL, PLAIN_FULL)
    width = min(LONGEST_NAME, max(cell_len(name) for name, _ in shares))
    for name, share in shares:
        short = name if cell_len(name) <= width else f"{set_cell_size(name, width - 3)}..."
        yield f"{set_cell_size(short, width)} {share:7.1%} {full * round(LONGEST_BAR * share)}".rstrip()


def _half_blocks(levels: NDArray[np.float64]) -> Iterator[str]:
    """Yield two rows of `levels` as a line: one in its characters' colours, and one in that of their background."""
    colours = np.rint(BLACK + (WHITE - BLACK) * levels / 255).astype(int).tolist()
    for upper, lower in zip_longest(colours[::2], colours[1::2]):
        cells = zip_longest(upper, lower or ())
        yield "".join(click.style(UPPER_HALF, fg=over, bg=under) for over, under in cells)


def _shades(levels: NDArray[np.float64]) -> Iterator[str]:
    """Yield each row of `levels` as a line, with two characters a pixel."""
    shades = np.array(list(_writable(SHADES, PLAIN_SHADES)))
    for row in shades[(levels * len(shades) / 256).astype(int)]:
        yield f"|{''.join(np.repeat(row, 2))}|"


def _has_greys() -> bool:
    """Whether standard output is a terminal with 256 colours or more, and colours are welcome."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    console = Console(file=sys.stdout)
    return console.color_system in {"256", "truecolor"} and not console.no_color


def _writable(characters: str, plain: str) -> str:
    """Return `characters` if standard output's encoding has them, otherwise `plain`."""
    try:
        characters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return plain
    return characters
