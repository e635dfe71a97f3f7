"""Curves over epochs, for HTML and for Matplotlib."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

MOST_DOTS = 40
"""Maximum number of points of a curve whose points are marked."""


class Curve(NamedTuple):
    """What is drawn as one line: its `label`, and `points` (epoch, value), all of finite values."""

    label: str
    points: list[tuple[int, float]]


class Curves(NamedTuple):
    """A panel: the curves of one `quantity`, "loss" or "accuracy"."""

    quantity: str
    curves: list[Curve]


def curves(quantity: str, series: Mapping[str, Iterable[tuple[int, float]]]) -> Curves:
    """Return the curves of `series`, points (epoch, value) by label.

    Values that aren't finite are left out, and so are series that have no others.
    """
    found = [
        Curve(label, [(epoch, value) for epoch, value in points if math.isfinite(value)])
        for label, points in series.items()
    ]
    return Curves(quantity, [curve for curve in found if curve.points])
