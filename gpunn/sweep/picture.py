"""The picture of a sweep: parallel coordinates, a line for each network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gpunn.plots.files import in_format
from gpunn.sweep.runs import Run, ranked
from gpunn.sweep.space import Configuration
from gpunn.sweep.tables import TITLES, spelled, varying

LOGARITHMIC = ("learning_rate", "batch_size", "l2")

MOST_NAMED = 12
"""Maximum number of different values that each get a place and a name of their own, on axes of words."""

ERRORS = (0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Shares of errors at which the axis of the accuracy may have ticks."""

BELOW = -0.1
"""Place below the axis of the accuracy, where networks without one end."""

SPREAD = 0.3
"""Share of an axis with named places over which lines are spread, a part of it at each place."""

LONGEST = 16
"""Maximum number of characters in the name of a place."""

SMOOTH = 24
"""Points of a line between two axes."""


@dataclass(frozen=True)
class Axis:
    """An axis: its `title`, the `place` of a run on it, from 0 to 1 or None if it has none, and `ticks` by place.

    Lines through one place are spread over `spread`.
    """

    title: str
    place: Callable[[Run], float | None]
    ticks: Sequence[tuple[float, str]]
    spread: float = 0.0


def picture(runs: Sequence[Run], title: str, suffix: str) -> bytes:
    """Return a picture of `runs` in the format of `suffix`, one of `gpunn.plots.files.FORMATS`.

    Lines go through what varies and end at the held-out accuracy, or loss. Its axis and the colours follow the
    logarithm of the errors, as that tells good networks apart. The best one is drawn thick, failed ones are dotted.
    """
    return in_format(suffix, lambda: _figure(runs, title))


def _figure(runs: Sequence[Run], title: str) -> Any:
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    order = ranked(runs)
    axes = [_setting_axis(name, order) for name in varying([run.configuration for run in order]) or ["hidden"]]
    score = _score_axis(order)
    figure = Figure(figsize=(max(6.0, 1.6 * (len(axes) + 1)), 4.4), layout="constrained")
    panel = figure.subplots()
    finished = [run for run in order if run.failure is None]
    # The better ones are higher where lines meet, and drawn later.
    heights = {run.number: 0.5 - rank / max(1, len(order) - 1) for rank, run in enumerate(order)}
    lines = {run.number: _line(run, heights[run.number], axes, score) for run in reversed(order)}
    failed = [lines[run.number] for run in order[len(finished) :]]
    panel.add_collection(LineCollection(failed, colors="#999999", linestyles="dotted", linewidths=1))
    opacity = max(0.25, min(0.9, 40 / max(1, len(finished))))
    drawn = LineCollection(
        [lines[run.number] for run in reversed(finished)], cmap="viridis_r", alpha=opacity, linewidths=1.2
    )
    drawn.set_array([score.place(run) or 0.0 for run in reversed(finished)])
    drawn.set_clim(0, 1)
    panel.add_collection(drawn)
    if finished:
        panel.plot(*zip(*lines[finished[0].number], strict=True), color="#d55e00", linewidth=2.5)
    for x, axis in enumerate([*axes, score]):
        _draw_axis(panel, x, axis, on_the_right=axis is score)
    panel.set_xlim(-0.5, len(axes) + 0.5)
    panel.set_ylim(BELOW - 0.06, 1.06)
    panel.set_axis_off()
    panel.set_title(title, loc="left", pad=22)
    return figure


def _draw_axis(panel: Any, x: int, axis: Axis, *, on_the_right: bool) -> None:
    panel.plot([x, x], [0, 1], color="#444444", linewidth=1, zorder=3)
    panel.text(x, 1.07, axis.title, ha="center", va="bottom", fontweight="bold")
    side, offset = ("left", 6) if on_the_right else ("right", -6)
    for place, text in axis.ticks:
        panel.plot([x], [place], marker="_", color="#444444", zorder=3)
        panel.annotate(
            text,
            (x, place),
            xytext=(offset, 0),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=8,
            zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )


def _line(run: Run, height: float, axes: Sequence[Axis], score: Axis) -> list[tuple[float, float]]:
    """Return the points of a run's line, level at each axis; `height` is its place among others, -0.5 to 0.5."""
    heights = [(axis.place(run) or 0.0) + axis.spread * height for axis in axes]
    end = score.place(run)
    heights.append(BELOW if end is None else end)
    points = []
    for x, (y, following) in enumerate(pairwise(heights)):
        shares = [step / SMOOTH for step in range(SMOOTH + 1)]
        points += [(x + t, y + (following - y) * t * t * (3 - 2 * t)) for t in shares]
    return points


def _setting_axis(name: str, runs: Sequence[Run]) -> Axis:
    """Return the axis of a setting: named places for words and few numbers, otherwise a scale."""
    values = sorted({_sortable(name, run.configuration) for run in runs})
    if len(values) <= MOST_NAMED:
        names = {_sortable(name, run.configuration): _named(name, run.configuration) for run in runs}
        places = {value: (k / (len(values) - 1) if len(values) > 1 else 0.5) for k, value in enumerate(values)}
        ticks = [(places[value], names[value]) for value in values]
        spread = min(0.1, SPREAD / len(values))
        return Axis(TITLES[name], lambda run: places[_sortable(name, run.configuration)], ticks, spread)
    if name == "hidden":
        return _scale("parameters", lambda run: float(run.n_parameters), runs, logarithmic=True)
    return _scale(
        TITLES[name], lambda run: float(getattr(run.configuration, name)), runs, logarithmic=name in LOGARITHMIC
    )


def _score_axis(runs: Sequence[Run]) -> Axis:
    """Return the axis of held-out accuracy, or of loss if there are no classes; the best network is on top."""
    finished = [run for run in runs if run.held_out_loss is not None]
    by_accuracy = all(run.held_out_accuracy is not None for run in finished)
    title = "held-out accuracy" if by_accuracy else "held-out loss"
    failed = [(BELOW, "diverged")] if len(finished) < len(runs) else []
    if not finished:
        return Axis(title, lambda _: None, failed)
    errors = {run.number: _error(run) for run in finished}
    least = min((error for error in errors.values() if error > 0), default=1.0)
    logs = {number: math.log(error or least / 2) for number, error in errors.items()}
    high, low = max(logs.values()), min(logs.values())

    def place(log: float) -> float:
        return (high - log) / (high - low) if high > low else 1.0

    def place_of(run: Run) -> float | None:
        return place(logs[run.number]) if run.number in logs else None

    ticks = [(place(end), _in_words(math.exp(end), by_accuracy)) for end in {high, low}]
    if by_accuracy and high > low:
        # Near an end there is no room beside that end's own.
        between = [(place(math.log(error)), f"{1 - error:.4g}") for error in ERRORS]
        ticks += [(at, f"{float(text):.1%}".replace(".0%", "%")) for at, text in between if 0.06 < at < 0.94]
    return Axis(title, place_of, [*failed, *ticks])


def _error(run: Run) -> float:
    """Return the share of errors, or the loss if there are no classes."""
    assert run.held_out_loss is not None
    return run.held_out_loss if run.held_out_accuracy is None else 1 - run.held_out_accuracy


def _in_words(error: float, by_accuracy: bool) -> str:
    return f"{1 - error:.2%}" if by_accuracy else f"{error:.3g}"


def _scale(title: str, number: Callable[[Run], float], runs: Sequence[Run], *, logarithmic: bool) -> Axis:
    """Return an axis on which numbers have their places, a logarithmic one with 0 at its foot."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    numbers = [number(run) for run in runs]
    scaled = [each for each in numbers if each > 0] if logarithmic else numbers
    low, high = min(scaled), max(scaled)
    foot = 0.1 if min(numbers) < low else 0.0

    def place(value: float) -> float:
        if value < low:
            return 0.0
        if low == high:
            return 1.0
        share = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return foot + (1 - foot) * share

    ratio = high / low if logarithmic else 1.0
    subs = (1,) if ratio > 1e3 else (1, 3) if ratio > 1e2 else (1, 2, 5)
    locator = LogLocator(subs=subs, numticks=20) if ratio > 8 else MaxNLocator(5)
    inside = [value for value in locator.tick_values(low, high) if low <= value <= high]
    ticks = [(place(value), f"{value:,.6g}") for value in [*([0.0] if foot else []), *inside]]
    return Axis(title, lambda run: place(number(run)), ticks)


def _sortable(name: str, configuration: Configuration) -> Any:
    value = getattr(configuration, name)
    return (len(value), value) if name == "hidden" else value


def _named(name: str, configuration: Configuration) -> str:
    text = spelled(name, configuration)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
