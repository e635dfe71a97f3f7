"""HTML of histories, evaluations and networks, in one piece each: what notebooks show.

Text and axes take the page's colour and nothing has a background, so that it suits pages light and dark. All text is
escaped.
"""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunn.plots.curves import MOST_DOTS, Curve, Curves
from gpunn.plots.sheets import MOST_COUNTED, WeightSheet, coloured, confusion_levels

COLOURS = ("#2a85c8", "#d55e00", "#009e73")
"""Colours of curves, the first one that of training."""

WIDTH, HEIGHT = 360, 210
"""Size of a panel with curves, in CSS pixels."""

LEFT, RIGHT, TOP, BOTTOM = 52, 18, 34, 34
"""Margins of a panel."""

MOST_POINTS = 300
"""Maximum number of points of a curve: there are no more pixels."""

WIDEST = 720
"""Width up to which pictures are enlarged, in CSS pixels."""


def history(says: str, panels: Sequence[Curves], kept: int | None, notes: Sequence[str]) -> str:
    """Return a history: what it `says`, its `panels`, an epoch that was `kept` before the last one, and `notes`."""
    drawn = "".join(_panel(panel, kept) for panel in panels if panel.curves)
    return _block(_line(says), drawn, *(_line(note) for note in notes))


def evaluation(says: str, confusion: NDArray[np.int64]) -> str:
    """Return an evaluation: what it `says` and its confusion matrix (n_classes, n_classes), if it has classes."""
    if not confusion.size:
        return _block(_line(says))
    about = (
        f"{len(confusion)} classes: rows are true classes, columns predictions; colours by the root of a row's shares"
    )
    if len(confusion) <= MOST_COUNTED:
        return _block(_line(says), _table(confusion), _line(about, small=True))
    levels = confusion_levels(confusion)
    picture = _picture(levels, about, max(1, WIDEST // 2 // len(levels)))
    return _block(_line(says), picture, _line(about, small=True))


def network(says: str, sheet: WeightSheet) -> str:
    """Return a network: what it `says`, and its first layer's weights."""
    scale = f"green is positive, red negative, full colour from {sheet.scale:.3g} on"
    enlarged = max(1, min(16, WIDEST // sheet.levels.shape[1]))
    return _block(
        _line(says),
        _picture(sheet.levels, f"{sheet.caption}; {scale}", enlarged),
        _line(f"{sheet.caption}; {scale}", small=True),
    )


def _block(*parts: str) -> str:
    return f'<div style="max-width:{WIDEST + 20}px;overflow-x:auto">{"".join(parts)}</div>'


def _line(text: str, *, small: bool = False) -> str:
    style = "margin:.3em 0;overflow-wrap:anywhere" + (";opacity:.75;font-size:85%" if small else "")
    return f'<div style="{style}">{escape(text)}</div>'


def _picture(levels: NDArray[np.float64], says: str, enlarged: int) -> str:
    """Return `levels` (rows, columns) as a picture, `enlarged` times."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(coloured(levels)).save(file, format="PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    style = f"width:{levels.shape[1] * enlarged}px;max-width:100%;image-rendering:pixelated;margin:.3em 0"
    return f'<img alt="{escape(says)}" style="{style}" src="data:image/png;base64,{data}">'


def _table(confusion: NDArray[np.int64]) -> str:
    """Return the confusion matrix as a table, each row with the share of right answers at its end."""
    padded = "padding:.2em .5em;text-align:right;font-variant-numeric:tabular-nums"
    rows = []
    for label, (counts, levels) in enumerate(zip(confusion, confusion_levels(confusion), strict=True)):
        cells = "".join(
            f'<td style="{padded};{_css(level)}">{count:,}</td>' for count, level in zip(counts, levels, strict=True)
        )
        share = f"{counts[label] / counts.sum():.1%}" if counts.sum() else "-"
        rows.append(f'<tr><th scope="row">{label}</th>{cells}<td style="{padded}">{share}</td></tr>')
    heads = "".join(f'<th scope="col" style="{padded}">{label}</th>' for label in range(len(confusion)))
    head = f'<tr><th></th>{heads}<th scope="col" style="{padded}">right</th></tr>'
    return f'<table style="border-collapse:collapse"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _css(level: float) -> str:
    """Return the style of a table's cell: zeros are faint, and colours are such that text is readable on them."""
    if not level:
        return "opacity:.4"
    red, green, blue, opacity = coloured(np.array([[level]]))[0, 0]
    return f"background:rgba({red},{green},{blue},{min(0.6, opacity / 255):.2f})"


class _Range(NamedTuple):
    """What a panel spans: epochs `first` to `last` from the left, values `bottom` to `top`."""

    first: int
    last: int
    bottom: float
    top: float

    def x(self, epoch: float) -> float:
        share = (epoch - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return LEFT + (WIDTH - LEFT - RIGHT) * share

    def y(self, value: float) -> float:
        share = (value - self.bottom) / (self.top - self.bottom) if self.top > self.bottom else 0.5
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _panel(panel: Curves, kept: int | None) -> str:
    """Return the curves of one quantity over epochs as SVG."""
    epochs, values = zip(*(point for curve in panel.curves for point in curve.points), strict=True)
    is_share = panel.quantity == "accuracy"
    ticks = _ticks(min(values) if is_share else min(0.0, *values), max(values))
    spans = _Range(min(epochs), max(epochs), min(ticks[0], *values), max(ticks[-1], *values))
    parts = [_text(LEFT, 12, panel.quantity, bold=True), *_frame(spans, ticks, is_share=is_share)]
    if kept is not None:
        parts.append(_stroke(spans.x(kept), TOP, spans.x(kept), HEIGHT - BOTTOM, opacity=0.5, dashes="4 3"))
        parts.append(_text(spans.x(kept), TOP - 4, "kept", anchor="middle"))
    at = LEFT + 60.0
    for colour, curve in zip(COLOURS, panel.curves, strict=False):
        parts.append(_text(at, 12, curve.label, fill=colour))
        at += 7.5 * len(curve.label) + 12
        parts.extend(_curve(colour, [(spans.x(epoch), spans.y(value)) for epoch, value in _thinned(curve)]))
    ends = [f"{curve.label} {curve.points[0][1]:.4g} to {curve.points[-1][1]:.4g}" for curve in panel.curves]
    says = f"{panel.quantity} over epochs {spans.first} to {spans.last}: {', '.join(ends)}"
    return (
        f'<svg role="img" aria-label="{escape(says)}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'style="max-width:100%;height:auto;font:11px sans-serif">{"".join(parts)}</svg>'
    )


def _frame(spans: _Range, ticks: Sequence[float], *, is_share: bool) -> Iterator[str]:
    """Yield grid lines and the labels of both axes."""
    for tick in ticks:
        label = f"{100 * tick:.4g}%" if is_share else f"{tick:.4g}"
        yield _stroke(LEFT, spans.y(tick), WIDTH - RIGHT, spans.y(tick), opacity=0.15)
        yield _text(LEFT - 5, spans.y(tick) + 4, label, anchor="end")
    for epoch in _whole(spans.first, spans.last):
        yield _text(spans.x(epoch), HEIGHT - BOTTOM + 14, f"{epoch:,}", anchor="middle")
    yield _text(WIDTH - RIGHT, HEIGHT - 4, "epoch", anchor="end")


def _curve(colour: str, points: Sequence[tuple[float, float]]) -> Iterator[str]:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>'
    if len(points) <= MOST_DOTS:
        for x, y in points:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>'


def _thinned(curve: Curve) -> list[tuple[int, float]]:
    """Return at most about `MOST_POINTS` of its points, the last one among them."""
    step = math.ceil(len(curve.points) / MOST_POINTS)
    return curve.points[::-step][::-1]


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = "currentColor", bold: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"{weight}>{escape(text)}</text>'


def _stroke(x1: float, y1: float, x2: float, y2: float, *, opacity: float, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    line = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {line} stroke="currentColor" stroke-opacity="{opacity}"{dashed}/>'


def _ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers from `low`, or just below it, to `high`, or just above it."""
    if not high - low > 1e-300:
        return [low]
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _whole(first: int, last: int) -> list[int]:
    """Return round epochs from `first` to `last`, which are among them."""
    step = next(
        10**power * factor for power in range(20) for factor in (1, 2, 5) if 5 * 10**power * factor >= last - first
    )
    inside = [tick for tick in range(step, last, step) if first + step / 2 <= tick <= last - step / 2]
    return sorted({first, *inside, last})
