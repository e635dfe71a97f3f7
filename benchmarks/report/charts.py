"""The charts of the page: lines that are labelled at their ends, and dots with whiskers in rows."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle, groupby
from typing import Any

from benchmarks.report.wording import mark_in_words
from gpunn.plots.pages import NARROW, WIDE, Picture, picture

INK, SOFT, PEER, GRID, PAPER = "#1a1a1a", "#595959", "#8c8c8c", "#e4e4e4", "#ffffff"

GPUNN, BEST, BAD = "#0b62c4", "#b04a00", "#b3261e"

VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    PEER: "--peer",
    GRID: "--line",
    PAPER: "--paper",
    GPUNN: "--gpunn",
    BEST: "--best",
    BAD: "--bad",
}
"""The page's names of the colours, which are others when it is dark."""

THEME = {
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": PEER,
    "xtick.color": PEER,
    "ytick.color": PEER,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}

Words = Callable[[float], str]
"""How numbers on an axis are written."""

SMALL = 8.5
"""Points of the labels."""

GAP = 12.0
"""Points between the middles of labels one above the other."""

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

LINE_HEIGHT = 17.0
"""Points of a row of dots."""

STRENGTHS = {"ours": (2.4, GPUNN, 3.5), "other": (1.3, GPUNN, 3), "best": (1.8, BEST, 3.2), "peer": (1.0, PEER, 2.5)}
"""Of each kind of lines: width, colour, and which is above which."""

LOOKS: dict[str, Sequence[tuple[Any, str]]] = {
    "ours": [("-", "o")],
    "other": [((0, (1, 1.2)), "^"), ((0, (5, 1.5)), "v"), ("-.", "P")],
    "best": [((0, (4, 2)), "s")],
    "peer": [((0, (1.5, 1.5)), "D"), ("-.", "v"), ((0, (6, 2)), "^"), ((0, (3, 1, 1, 1, 1, 1)), "X"),
             ("-", "P"), (":", "d")],
}  # fmt: skip
"""Dashes and markers of each kind, by which lines can be told apart without their colours."""


@dataclass(frozen=True)
class Line:
    """A line: who it is about, and points of batch size, height, and whether that is a rough one."""

    label: str
    """Without what there may be no room for: that it is the best peer."""
    points: Sequence[tuple[int, float, bool]]
    kind: str
    """"ours", the strong one of gpunn's; "other", its others; "best", the best peer; or "peer"."""


@dataclass(frozen=True)
class Dot:
    """A row of a chart of dots: a dot, its whisker from `low` to `high`, and what is said at the right."""

    group: str
    label: str
    x: float
    low: float
    high: float
    text: str
    colour: str = GPUNN
    marker: str = "o"
    hollow: bool = False
    bar: float | None = None
    """What was to be reached: a stroke."""


def lines_chart(title: str, lines: Sequence[Line]) -> Picture:
    """Draw images per second over the batch size, log-log."""
    says = f"{title}: images per second over the batch size, for {', '.join(line.label for line in lines)}"
    return picture("lines", title, says, partial(_draw_lines, lines))


def dots_chart(title: str, dots: Sequence[Dot], words: Words, one: str = "") -> Picture:
    """Draw rows of dots on a logarithmic axis, whose numbers `words` spells; `one` says what a ratio of 1 means."""
    says = f"{title}: " + "; ".join(f"{dot.group}, {dot.label}: {dot.text}" for dot in dots)
    return picture("dots", title, says, partial(_draw_dots, dots, words, one))


def inlined(svg: bytes, name: str) -> str:
    """Return an SVG for inside a page: `name` keeps its ids apart; colours are variables, and styles attributes."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', rf'\1 class="{name.rpartition("-")[2]}"', text, count=1)
    text = re.sub(r' style="([^"]*)"', _as_attributes, text)
    text = re.sub(r' id="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick|[A-Z])[^"]*"', "", text)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub("|".join(VARIABLES), lambda found: f"var({VARIABLES[found[0]]})", text)
    return re.sub(r"\s*\n\s*", "\n", text)


def _as_attributes(style: re.Match[str]) -> str:
    pairs = [each.split(":", 1) for each in style[1].split(";") if each.strip()]
    kept = [(name.strip(), value.strip()) for name, value in pairs if name.strip() != "font-family"]
    return "".join(f' {name}="{value}"' for name, value in kept)


def _figure(roomy: bool, height: float, margins: tuple[float, float, float, float]) -> Any:
    """Return a figure and its axes; `height` is that of the axes, and margins are as in CSS, in points."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(THEME)  # until what `picture` has set is set back
    top, right, bottom, left = margins
    width, whole = 72 * (WIDE if roomy else NARROW), height + bottom + top
    figure = Figure(figsize=(width / 72, whole / 72), dpi=72)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / width, bottom / whole, (width - left - right) / width, height / whole))
    return figure, axes


@cache
def _width(text: str, bold: bool = False) -> float:
    """Return the width of a label in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(size=SMALL, weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, prop=font).get_extents().width) if text.strip() else 0.0


def _fitted(text: str, share: float, roomy: bool) -> str:
    """Return a label, shortened where it would take more than this share of the figure's width."""
    room = share * 72 * (WIDE if roomy else NARROW)
    while _width(text) > room:
        text = text.removesuffix(ELLIPSIS)[:-1] + ELLIPSIS
    return text


def _draw_lines(lines: Sequence[Line], roomy: bool) -> Any:
    labels = [f"{line.label}, best peer" if roomy and line.kind == "best" else line.label for line in lines]
    labels = [_fitted(label, 0.36, roomy) for label in labels]
    right = 22 + max(_width(label, bold=line.kind == "ours") for label, line in zip(labels, lines, strict=True))
    height = max(230 if roomy else 210, GAP * len(lines) + 30)
    figure, axes = _figure(roomy, height, (20, right, 36, 42))
    for line, look in _looks(lines):
        sizes, heights, rough = zip(*line.points, strict=True)
        axes.plot(sizes, heights, **look, markersize=4.5 if line.kind == "ours" else 3.5)
        if any(rough):
            some = [(x, y) for x, y, is_rough in line.points if is_rough]
            marks = {"marker": look["marker"], "markersize": 4.5, "markerfacecolor": PAPER, "color": look["color"]}
            axes.plot(*zip(*some, strict=True), **marks, linestyle="", zorder=4)
    every = sorted({size for line in lines for size, _, _ in line.points})
    _log_axis(axes, "y", mark_in_words)
    axes.set_xscale("log")
    _marks(axes, every, "{:,}".format)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("batch size", fontsize=SMALL)
    axes.text(-38, height + 8, "images per second", transform=_points(axes), fontsize=SMALL, color=SOFT)
    _label_ends(axes, labels, _looks(lines), height)
    return figure


def _looks(lines: Sequence[Line]) -> list[tuple[Line, dict[str, Any]]]:
    """Return how each line is drawn, as Matplotlib's options."""
    names = ("linewidth", "color", "zorder", "linestyle", "marker")
    looks = {kind: cycle(each) for kind, each in LOOKS.items()}
    return [(line, dict(zip(names, (*STRENGTHS[line.kind], *next(looks[line.kind])), strict=True))) for line in lines]


def _label_ends(axes: Any, labels: Sequence[str], looks: Sequence[tuple[Line, dict[str, Any]]], height: float) -> None:
    """Write each label beside its line's end, moved up or down so that none is on another, with a hair to its end."""
    points = _points(axes)
    ends = []
    for label, (line, look) in zip(labels, looks, strict=True):
        x, y, _ = max(line.points)
        ends.append((points.inverted().transform(axes.transData.transform((x, y))), label, line, look))
    ends.sort(key=lambda end: float(end[0][1]))
    places = spread([y for (_, y), *_ in ends], GAP, 4, height - 4)
    edge = points.inverted().transform(axes.transAxes.transform((1, 0)))[0]
    for ((x, y), label, line, look), place in zip(ends, places, strict=True):
        axes.plot([x + 4, edge + 6, edge + 12], [y, place, place], transform=points, color=look["color"], linewidth=0.5,
                  clip_on=False)  # fmt: skip
        shade = {"peer": SOFT}.get(line.kind, look["color"])
        weight = "bold" if line.kind == "ours" else "normal"
        axes.text(edge + 15, place, label, transform=points, va="center_baseline", fontsize=SMALL, color=shade,
                  fontweight=weight)  # fmt: skip


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places as near as may be to those `wanted`, which rise, at least `gap` apart and within low to high."""
    blocks: list[list[float]] = []  # of the sum of where first places are wanted, and how many there are
    for place in wanted:
        blocks.append([place, 1])
        # Two blocks that would overlap become one, whose middle stays.
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] + blocks[-2][1] * gap > blocks[-1][0] / blocks[-1][1]:
            total, n = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total - n * blocks[-1][1] * gap, blocks[-1][1] + n]
    found = [total / n + gap * number for total, n in blocks for number in range(int(n))]
    for number in range(len(found)):
        found[number] = max(found[number], low + gap * number)
    for number in range(len(found)):
        found[-1 - number] = min(found[-1 - number], high - gap * number)
    return found


def _points(axes: Any) -> Any:
    """Return the transformation of points from the axes' lower left corner."""
    from matplotlib.transforms import Affine2D

    return Affine2D().translate(*axes.transAxes.transform((0, 0)))


def _marks(axes: Any, values: Sequence[float], words: Words) -> None:
    """Put ticks on the x axis, with labels as far as they have room."""
    labels: list[str] = []
    free = float("inf")
    for value in reversed(values):  # the last one has its label
        label = words(value)
        middle, half = axes.transData.transform((value, 1))[0], _width(label) / 2
        labels.insert(0, label if middle + half < free else "")
        free = middle - half - 6 if labels[0] else free
    axes.set_xticks(values, labels, fontsize=SMALL)
    axes.minorticks_off()


def _log_axis(axes: Any, which: str, words: Words) -> None:
    """Make an axis logarithmic, with ticks at powers of ten, and between them where these are few."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_view_interval()
    subs = (1,) if high / low > 300 else (1, 3) if high / low > 20 else (1, 2, 5)
    axis.set_major_locator(
        MaxNLocator(4, steps=[1, 2, 5, 10]) if high / low < 5 else LogLocator(subs=subs, numticks=20)
    )
    axis.set_major_formatter(lambda value, _: words(value))
    axis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis=which, labelsize=SMALL)


def _draw_dots(dots: Sequence[Dot], words: Words, one: str, roomy: bool) -> Any:
    places: list[int] = []
    headings: list[tuple[int, str]] = []
    for group, mine in groupby(dots, key=lambda dot: dot.group):
        headings.append((len(places) + len(headings), group))
        places += [len(places) + len(headings) + number for number, _ in enumerate(mine)]
    row = len(places) + len(headings)
    labels, texts = [_fitted(dot.label, 0.4, roomy) for dot in dots], [_fitted(dot.text, 0.4, roomy) for dot in dots]
    left, right = (16 + max(map(_width, them)) for them in (labels, texts))
    figure, axes = _figure(roomy, LINE_HEIGHT * row, (18 if one else 6, right, 24, left))
    axes.set_ylim(row - 0.5, -0.5)
    shown = [x for dot in dots for x in (dot.x, dot.low, dot.high, dot.bar or dot.x)]
    low, high = min(shown + [1.0] * bool(one)), max(shown + [1.0] * bool(one))
    margin = (high / low) ** 0.05 if high > low else 1.1
    axes.set_xlim(low / margin, high * margin)
    _log_axis(axes, "x", words)
    _marks(axes, [value for value in axes.get_xticks() if low / margin <= value <= high * margin], words)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    sides = axes.get_yaxis_transform()
    if one:
        axes.axvline(1, color=INK, linewidth=1)
        axes.annotate(one, (1, 1), xycoords=axes.get_xaxis_transform(), xytext=(0, 5), textcoords="offset points",
                      fontsize=SMALL, color=SOFT, ha="center" if low < 0.8 else "left")  # fmt: skip
    plate = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
    for place, group in headings:
        heading = _fitted(group, 0.85, roomy)
        axes.annotate(heading, (0, place), xycoords=sides, xytext=(-left, 0), textcoords="offset points", va="center",
                      fontsize=SMALL, fontweight="bold", bbox=plate)  # fmt: skip
    for place, dot, *sayings in zip(places, dots, labels, texts, strict=True):
        _draw_dot(axes, place, dot)
        for text, x, offset, side in zip(sayings, (0, 1), (-8, 8), ("right", "left"), strict=True):
            axes.annotate(text, (x, place), xycoords=sides, xytext=(offset, 0), textcoords="offset points", ha=side,
                          va="center", fontsize=SMALL, color=SOFT if x == 0 else INK)  # fmt: skip
    return figure


def _draw_dot(axes: Any, place: int, dot: Dot) -> None:
    if dot.low < dot.high:
        axes.plot([dot.low, dot.high], [place, place], color=dot.colour, linewidth=1.4, solid_capstyle="butt")
    if dot.bar is not None:
        axes.plot([dot.bar], [place], marker="|", markersize=11, color=INK, markeredgewidth=1.4)
    face = PAPER if dot.hollow else dot.colour
    axes.plot([dot.x], [place], marker=dot.marker, markersize=6, color=dot.colour, markerfacecolor=face, zorder=4)
