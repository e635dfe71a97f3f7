"""The pictures of a report, drawn twice each: wide, and narrow for phones."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from gpunn.plots.pages import NARROW, WIDE
from gpunn.report import findings
from gpunn.report.findings import Change, Place
from gpunn.report.results import Entrant, Epochs, Race, Task
from gpunn.report.wording import number_in_words, time_in_words

ENGINES = {"epoch": "#d55e00", "fused": "#0072b2", "plain": "#009e73", "auto": "#aa3377"}
PEERS = ("#666666", "#b08900", "#7a5c99", "#4c8c8c", "#a0522d", "#8a8a3c", "#555599")
"""Colours that can be told apart by those who see fewer of them; gpunn's are the strong ones."""


def draw_throughput(places: Sequence[Place], tasks: Sequence[Task], roomy: bool) -> Any:
    """Images a second over the batch size, log-log: a panel for each device, a line for each engine and peer."""
    figure, panels = _panels(len(places), roomy, height=3.4)
    entrants = _entrants(places, tasks)
    for place, axes in zip(places, panels, strict=True):
        rows = [row for row in findings.right(place) if row.task in tasks]
        for entrant in entrants:
            mine = sorted((row for row in rows if _name(row.entrant) == entrant), key=lambda row: row.task.batch_size)
            if mine:
                _line(axes, mine, [row.speed for row in mine], **_look(entrant, entrants))
        _batch_axis(axes)
        _log(axes, "y")
        axes.set_title(_wrapped(str(place), roomy), loc="left")
    panels[0].set_ylabel("images a second")
    _legend(figure, panels, roomy)
    return figure


def draw_ratios(lines: Sequence[tuple[str, dict[Task, float]]], what: str, roomy: bool) -> Any:
    """Ratios over the batch size, a line each, with the one where nothing is gained."""
    figure, (axes,) = _panels(1, roomy, height=3.0)
    for number, (label, ratios) in enumerate(lines):
        tasks = sorted(ratios, key=lambda task: task.batch_size)
        sizes, heights = [task.batch_size for task in tasks], [ratios[task] for task in tasks]
        colour = [*ENGINES.values(), *PEERS][number % (len(ENGINES) + len(PEERS))]
        axes.plot(sizes, heights, marker="o", markersize=4, color=colour, label=_wrapped(label, roomy))
        for size, height in zip(sizes, heights, strict=True) if len(lines) == 1 else ():
            axes.annotate(
                f"{height:.3g}", (size, height), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8
            )
    axes.axhline(1, color="#444444", linewidth=1)
    axes.margins(y=0.15)
    _batch_axis(axes)
    _log(axes, "y")
    axes.set_ylabel(what)
    if len(lines) > 1:
        _legend(figure, [axes], roomy)
    return figure


def draw_shares(bars: Sequence[tuple[str, float]], what: str, roomy: bool) -> Any:
    """Shares of a limit, a bar each, with the limit itself."""
    labels, shares = [_wrapped(label, roomy) for label, _ in reversed(bars)], [share for _, share in reversed(bars)]
    figure, (axes,) = _panels(1, roomy, height=_height(labels))
    axes.barh(range(len(bars)), shares, color="#0072b2", height=0.7)
    for place, share in enumerate(shares):
        axes.annotate(f"{share:.0%}", (share, place), textcoords="offset points", xytext=(3, -3), fontsize=8)
    axes.axvline(1, color="#444444", linewidth=1)
    axes.set_yticks(range(len(bars)), labels, fontsize=8)
    axes.set_xlim(0, 1.12 * max(1.0, *shares))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(visible=False, axis="y")
    axes.set_ylim(-0.6, len(bars) - 0.4)
    axes.set_xlabel(what)
    return figure


def draw_races(races: Sequence[tuple[str, Race]], roomy: bool) -> Any:
    """Seconds to an accuracy, logarithmic, a bar for each entrant, the fastest on top."""
    labels = [_wrapped(label, roomy) for label, _ in reversed(races)]
    figure, (axes,) = _panels(1, roomy, height=_height(labels, room=0.1))
    for place, (_, race) in enumerate(reversed(races)):
        assert race.times is not None
        spread = [[race.times.median - race.times.low], [race.times.high - race.times.median]]
        colour = "#777777" if race.entrant.is_peer else ENGINES.get(race.entrant.name, ENGINES["auto"])
        axes.errorbar(race.times.median, place, xerr=spread, color=colour, marker="o", markersize=7, linewidth=1.5)
        text = time_in_words(race.times.median)
        axes.annotate(text, (race.times.high, place), textcoords="offset points", xytext=(7, -3), fontsize=8)
    axes.set_yticks(range(len(races)), labels)
    axes.set_ylim(-0.6, len(races) - 0.4)
    highest = max(race.times.high for _, race in races if race.times is not None)
    lowest = min(race.times.low for _, race in races if race.times is not None)
    axes.set_xlim(lowest / 1.3, 1.3 * highest * (highest / lowest) ** (0.12 if roomy else 0.35))
    _log(axes, "x", time_in_words, roomy=roomy)
    return figure


def draw_changes(found: Sequence[Change], roomy: bool) -> Any:
    """Each row's new speed over its old one, with what the quartiles of both allow."""
    labels = [_wrapped(change.label, roomy) for change in reversed(found)]
    figure, (axes,) = _panels(1, roomy, height=_height(labels))
    colours = {"agree": "#888888", "one round": "#bbbbbb", "faster": "#009e73", "slower": "#d55e00"}
    for place, change in enumerate(reversed(found)):
        colour = colours[change.verdict]
        axes.plot([change.low, change.high], [place, place], color=colour, linewidth=1.5)
        axes.plot([change.ratio], [place], color=colour, marker="o", markersize=4)
    axes.axvline(1, color="#444444", linewidth=1)
    _log(axes, "x")
    axes.set_yticks(range(len(found)), labels, fontsize=8)
    axes.set_ylim(-0.8, len(found) - 0.2)
    axes.set_xlabel("new speed / old speed")
    return figure


def _panels(number: int, roomy: bool, height: float) -> tuple[Any, list[Any]]:
    """Return a figure with panels of this height side by side, or one above the other where there is no room."""
    from matplotlib.figure import Figure

    across = min(number, 3) if roomy else 1
    down = -(-number // across)
    figure = Figure(figsize=(WIDE if roomy else NARROW, height * down), layout="constrained")
    panels = figure.subplots(down, across, sharex=number > 1, sharey=number > 1, squeeze=False)
    flat = list(panels.flat)
    for unused in flat[number:]:
        unused.set_visible(False)
    for lowest in flat[max(0, number - across) : number]:
        lowest.tick_params(labelbottom=True)
    return figure, flat[:number]


def _height(labels: Sequence[str], room: float = 0.05) -> float:
    """Return the height of a picture with these labels one above the other, with `room` between them."""
    return 0.7 + len(labels) * (0.14 * max(label.count("\n") + 1 for label in labels) + room)


def _entrants(places: Sequence[Place], tasks: Sequence[Task]) -> list[tuple[bool, str]]:
    """Return who is drawn, the fastest first, so that the legend has the order of the lines."""
    fastest: dict[tuple[bool, str], float] = {}
    for place in places:
        for row in findings.right(place):
            if row.task in tasks:
                name = _name(row.entrant)
                fastest[name] = max(fastest.get(name, 0.0), row.speed)
    return sorted(fastest, key=lambda name: (name[0], -fastest[name]))


def _name(entrant: Entrant) -> tuple[bool, str]:
    return entrant.is_peer, entrant.name


def _look(entrant: tuple[bool, str], entrants: Sequence[tuple[bool, str]]) -> dict[str, Any]:
    is_peer, name = entrant
    if not is_peer:
        return {"label": f"gpunn {name}", "color": ENGINES.get(name, "#222222"), "linewidth": 2.2, "zorder": 3}
    peers = sorted(name for is_peer, name in entrants if is_peer)
    return {"label": name, "color": PEERS[peers.index(name) % len(PEERS)], "linewidth": 1.1, "linestyle": "--"}


def _line(axes: Any, rows: Sequence[Epochs], heights: Sequence[float], **look: Any) -> None:
    axes.plot([row.task.batch_size for row in rows], heights, marker="o", markersize=3.5, **look)


def _batch_axis(axes: Any) -> None:
    _log(axes, "x")
    axes.set_xlabel("batch size")


def _log(axes: Any, which: str, words: Callable[[float], str] = number_in_words, *, roomy: bool = True) -> None:
    """Make the "x" or "y" axis logarithmic, with ticks at powers of ten, and between them where these are few."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    if decades < (2.5 if roomy else 1.2):
        few = decades < 0.5
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]) if few else LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(lambda value, _: words(value))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Any, panels: Sequence[Any], roomy: bool) -> None:
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    longest = max(len(line) for label in handles for line in label.split("\n"))
    columns = min(5, max(1, (120 if roomy else 56) // (longest + 8)))
    lines = max(label.count("\n") + 1 for label in handles) * -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.15 * lines)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, fontsize=8.5)


def _wrapped(text: str, roomy: bool) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 44 if roomy else 26))
