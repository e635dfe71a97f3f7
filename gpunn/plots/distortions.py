"""Images and distorted ones side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.plots.files import in_format

SIDE = 0.55
"""Inches of an image's height."""


def distortion_picture(
    originals: NDArray[np.uint8], distorted: NDArray[np.uint8], names: Sequence[str], title: str, suffix: str
) -> bytes:
    """Return a picture: a row for each of the `originals` (n, rows, columns), with its name and distorted ones.

    `distorted` is (n, m, rows, columns), and `suffix` one of `gpunn.plots.files.FORMATS`.
    """
    return in_format(suffix, lambda: _figure(originals, distorted, names, title))


def _figure(originals: NDArray[np.uint8], distorted: NDArray[np.uint8], names: Sequence[str], title: str) -> Any:
    from matplotlib.figure import Figure

    n, m, rows, columns = distorted.shape
    # Lines between images, and a wider one after the originals.
    gap = max(1, columns // 4)
    sheet = np.full((n, rows + 1, (m + 1) * (columns + 1) + gap), 255, np.uint8)
    for place in range(m + 1):
        left = place * (columns + 1) + (gap if place else 0)
        sheet[:, :rows, left : left + columns] = 255 - (distorted[:, place - 1] if place else originals)
    width = SIDE * sheet.shape[2] / rows
    figure = Figure(figsize=(width + 0.8, SIDE * n * (rows + 1) / rows + 0.7), layout="constrained")
    panel = figure.subplots()
    panel.imshow(sheet.reshape(-1, sheet.shape[2])[:-1], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    panel.set_yticks([number * (rows + 1) + (rows - 1) / 2 for number in range(n)], names)
    middles = ((columns - 1) / 2, (columns + 1) + gap + (m * (columns + 1) - 1) / 2)
    panel.set_xticks(middles, ("original", "distorted"))
    panel.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.set_title(title, loc="left")
    return figure
