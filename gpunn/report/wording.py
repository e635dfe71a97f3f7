"""Numbers, places and groups of rows in words."""

from collections.abc import Sequence

from gpunn.report.findings import FULL, Place
from gpunn.report.results import Task

Group = tuple[str, bool, int]
"""Rows that make a picture: of one network, on images that are dense or not, and so many."""


def group_of(task: Task) -> Group:
    """Return the group of a task: all tasks that differ in batch size alone."""
    return task.network, task.dense, task.images


def group_title(group: Group) -> str:
    """Return what a group is, for a heading."""
    network, dense, images = group
    parts = [network, "images without a zero pixel" if dense else "", f"{images:,} images" if images < FULL else ""]
    return ", ".join(part for part in parts if part)


def group_file_name(kind: str, group: Group) -> str:
    """Return what a group's picture of this kind is called."""
    network, dense, images = group
    return f"{kind}-{network}{'-dense' if dense else ''}{f'-{images}-images' if images < FULL else ''}"


def placed(text: str, place: Place, places: Sequence[Place]) -> str:
    """Return `text` with as much of its place as tells it from the others."""
    if len({id(other.machine) for other in places}) > 1:
        return f"{text} on {place}"
    return f"{text} on {place.device}" if len(places) > 1 else text


def place_file_name(kind: str, place: Place, places: Sequence[Place]) -> str:
    """Return what a picture of this kind is called for this place."""
    return kind if len(places) == 1 else f"{kind}-{places.index(place) + 1}-{place.device.replace(':', '-')}"


def speed_in_words(speed: float) -> str:
    """Return images a second in three digits: 950, 24.1k, 3.75M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if speed >= size * 0.9995:
            return f"{speed / size:#.3g}".rstrip(".") + unit
    return f"{speed:.0f}"


def number_in_words(number: float) -> str:
    """Return a round number as short as it can be: 0.5, 20, 10k, 1M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def time_in_words(seconds: float) -> str:
    """Return a time in three digits, with its unit."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"


def range_in_words(values: Sequence[float]) -> str:
    """Return the smallest and the largest value, or the one that both are."""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
