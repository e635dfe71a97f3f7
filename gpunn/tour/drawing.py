"""The pictures of the tour: charts as SVG that follow the reader's light or dark, and pixels as PNG."""

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.network import MLP
from gpunn.plots.pages import NARROW, WIDE, Picture, picture
from gpunn.tour.digits import Descent, Digits, Walk
from gpunn.tour.layers import FUNCTIONS, Shift, Solved, Toy, apply
from gpunn.tour.origins import PAIRS, XOR, Learning

GREEN, RED, BLUE, ORANGE = "#009e73", "#d55e00", "#0072b2", "#cc7a00"

PIXEL_GREEN, PIXEL_RED = (0, 150, 90), (215, 45, 45)

FULL = 0.98
"""Share of the weights that have less than the full colour; a few are far larger than the rest."""

COLOURS = {
    "#ffffff": ("transparent", "transparent"),
    "#000000": ("#1a1a1a", "#e8e6e3"),
    "#888888": ("#888888", "#8a8a8a"),
    "#e4e4e4": ("#e4e4e4", "#37393e"),
    GREEN: (GREEN, "#2fc79b"),
    RED: (RED, "#ff8a4a"),
    BLUE: (BLUE, "#5ab0ea"),
    ORANGE: (ORANGE, "#f0b04a"),
}
"""Colours of the charts, each with what it becomes on a light and on a dark page."""


def chart(name: str, says: str, draw: Callable[[bool], Any]) -> Picture:
    """Draw a chart in both widths, in colours that follow the reader's choice of light or dark."""
    drawn = picture(name, "", says, draw)
    return replace(drawn, wide=_themed(drawn.wide), narrow=_themed(drawn.narrow))


def _themed(svg: bytes) -> bytes:
    """Return an SVG file with the colours of `COLOURS` as variables, set by a style sheet of its own."""
    text = svg.decode()
    names = {colour: f"--c{number}" for number, colour in enumerate(COLOURS)}
    text = re.sub("|".join(COLOURS), lambda found: f"var({names[found[0]]})", text)
    light, dark = ("".join(f"{names[each]}:{COLOURS[each][which]};" for each in COLOURS) for which in range(2))
    style = f"svg{{{light}}}text{{fill:var({names['#000000']})}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return re.sub(r"(<svg[^>]*>)", rf"\1<style>{style}</style>", text, count=1).encode()


def weight_pixels(weights: NDArray[Any], largest: float) -> str:
    """Return weights (rows, columns) as a data URI of a PNG: green if positive, red if negative, clear at zero.

    A weight of size `largest` or more has the full colour.
    """
    pixels = np.empty((*weights.shape, 4), np.uint8)
    pixels[..., :3] = np.where(weights[..., np.newaxis] > 0, PIXEL_GREEN, PIXEL_RED)
    pixels[..., 3] = np.rint(255 * np.minimum(np.abs(weights) / largest, 1))
    return _png(pixels)


def grey_pixels(levels: NDArray[np.uint8]) -> str:
    """Return grey levels (rows, columns) as a data URI of a PNG."""
    return _png(levels)


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _panels(number: int, roomy: bool, across: int, height: float, **options: Any) -> tuple[Any, list[Any]]:
    """Return a figure with `number` panels of this height, `across` side by side where there is no room."""
    from matplotlib.figure import Figure

    columns = number if roomy else across
    rows = -(-number // columns)
    figure = Figure(figsize=(WIDE if roomy else NARROW, height * rows), layout="constrained")
    flat = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for unused in flat[number:]:
        unused.set_visible(False)
    for lowest in flat[max(0, number - columns) : number]:
        lowest.tick_params(labelbottom=True)
    return figure, flat[:number]


def _legend(figure: Any, axes: Any, **options: Any) -> None:
    """Put the legend of `axes` below the figure, where no curve is."""
    figure.set_figheight(figure.get_figheight() + 0.25)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, **options)


def draw_learning(found: Learning, roomy: bool) -> Any:
    """Draw the perceptron's line after some corrections: a panel each, the side that fires shaded."""
    figure, panels = _panels(len(found.shown), roomy, 2, 2.3, sharex=True, sharey=True)
    for number, axes in zip(found.shown, panels, strict=True):
        update = found.updates[number - 1]
        grid = np.linspace(-1.1, 1.1, 60)
        heights = update.weights[0] * grid + update.weights[1] * grid[:, np.newaxis] + update.bias
        axes.contourf(grid, grid, heights, levels=[0, np.inf], colors=[GREEN], alpha=0.15)
        axes.contour(grid, grid, heights, levels=[0], colors=["#000000"], linewidths=1.2)
        for label, marker, colour in ((0, "s", RED), (1, "o", GREEN)):
            own = found.points[found.labels == label]
            axes.plot(own[:, 0], own[:, 1], linestyle="", marker=marker, markersize=4.5, color=colour)
        axes.set_title(f"correction {number}: {found.mistakes[number - 1]} wrong", loc="left")
        axes.set_xlim(-1.1, 1.1)
        axes.set_ylim(-1.1, 1.1)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def draw_functions(roomy: bool) -> Any:
    """Draw the step and the other activation functions, with their slopes dashed."""
    names = ("step", *FUNCTIONS)
    figure, panels = _panels(len(names), roomy, 3, 1.9, sharex=True, sharey=True)
    z = np.linspace(-4, 4, 161)
    for name, axes in zip(names, panels, strict=True):
        values, slopes = apply(name, z)
        axes.axhline(0, color="#888888", linewidth=0.8)
        axes.plot(z, slopes, color=ORANGE, linewidth=1.6, linestyle="--", label="slope")
        axes.plot(z, values, color=BLUE, linewidth=2, label="value")
        axes.set_title({"relu": "ReLU", "elu": "ELU"}.get(name, name), loc="left")
        axes.set_ylim(-1.2, 2.2)
        axes.set_xticks([-3, 0, 3])
    _legend(figure, panels[0])
    return figure


def draw_shift(found: Shift, roomy: bool) -> Any:
    """Draw the sigmoid of a sum, and the same with the bias: shifted to the right."""
    figure, (axes,) = _panels(1, roomy, 1, 2.4)
    sums = np.linspace(-10, 35, 226)
    axes.plot(sums, apply("sigmoid", sums)[0], color="#888888", linewidth=1.6, label="without a bias")
    axes.plot(sums, apply("sigmoid", sums - found.goal)[0], color=BLUE, linewidth=2, label=f"bias {-found.goal:g}")
    axes.axvline(found.goal, color=ORANGE, linewidth=1.2, linestyle="--")
    axes.plot([found.total], [found.answer], marker="o", color=GREEN, label="the neuron above", linestyle="")
    axes.set_xlabel("weighted sum of the inputs")
    axes.set_ylabel("output")
    _legend(figure, axes)
    return figure


def draw_toy(found: Toy, roomy: bool) -> Any:
    """Draw output and loss of the toy network, step by step."""
    figure, (outputs, losses) = _panels(2, roomy, 1, 2.2)
    numbers = [step.number for step in found.steps]
    outputs.plot(numbers, [step.output for step in found.steps], color=BLUE, linewidth=2)
    outputs.axhline(found.target, color=GREEN, linewidth=1.2, linestyle="--")
    outputs.set_title("output, and what it should be (dashed)", loc="left")
    losses.plot(numbers, [step.loss for step in found.steps], color=RED, linewidth=2)
    losses.set_yscale("log")
    losses.minorticks_off()
    losses.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    losses.set_title("loss, on a logarithmic scale", loc="left")
    for axes in (outputs, losses):
        axes.set_xlabel("steps")
    return figure


def draw_xor(found: Solved, roomy: bool) -> Any:
    """Draw what both hidden neurons and the output make of each place of the plane."""
    figure, panels = _panels(3, roomy, 2, 2.7 if roomy else 2.1, sharex=True, sharey=True)
    grid = np.linspace(-0.4, 1.4, 61)
    places = np.array([[x, y] for y in grid for x in grid])
    _, hidden, outputs = found.net.activations(places)
    shown = [("hidden neuron 1", hidden[:, 0]), ("hidden neuron 2", hidden[:, 1]), ("output", outputs[:, 0])]
    for (title, heights), axes in zip(shown, panels, strict=True):
        square = heights.reshape(len(grid), len(grid))
        axes.contourf(grid, grid, square, levels=[0.5, 1.1], colors=[GREEN], alpha=0.2)
        lines = axes.contour(grid, grid, square, levels=[0.1, 0.5, 0.9], colors=["#888888", "#000000", "#888888"])
        axes.clabel(lines, fontsize=7)
        for label, marker, colour in ((0, "s", RED), (1, "o", GREEN)):
            own = PAIRS[label == XOR]
            axes.plot(own[:, 0], own[:, 1], linestyle="", marker=marker, markersize=9, color=colour)
        axes.set_title(title, loc="left")
        axes.set_aspect("equal")
        axes.set_xticks([0, 1])
        axes.set_yticks([0, 1])
    return figure


def draw_walk(found: Walk, roomy: bool) -> Any:
    """Draw the surface as a map with contours, and the path from its start to its end."""
    figure, (axes,) = _panels(1, roomy, 1, 4.0)
    # The losses of a path differ by factors.
    levels = np.geomspace(found.heights.min(), found.heights.max(), 21)
    shades = axes.contourf(found.across, found.along, found.heights, levels=levels, cmap="viridis_r", alpha=0.55)
    shades.set_edgecolor("face")
    lines = axes.contour(
        found.across, found.along, found.heights, levels=levels[::2], colors=["#000000"], linewidths=0.5
    )
    axes.clabel(lines, fontsize=7, fmt="%.2f")
    axes.plot(found.path[:, 0], found.path[:, 1], color=RED, marker="o", markersize=3.5, linewidth=1.6)
    for place, text in ((found.path[0], "start"), (found.path[-1], "end")):
        axes.annotate(
            text, place, textcoords="offset points", xytext=(6, 6), fontsize=10, fontweight="bold", color="#000000"
        )
    axes.grid(visible=False)
    axes.set_xlabel("first direction")
    axes.set_ylabel("second direction")
    return figure


def draw_descents(found: Sequence[Descent], roomy: bool) -> Any:
    """Draw the test loss over examples seen, and over estimated time: a line for each batch size."""
    figure, panels = _panels(2, roomy, 1, 2.8)
    for descent, colour in zip(found, (BLUE, GREEN, RED), strict=True):
        losses = [point.loss for point in descent.points[1:]]
        label = f"{descent.name} ({descent.batch_size:,})"
        look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3.5, "linewidth": 1.8, "label": label}
        panels[0].plot([point.seen for point in descent.points[1:]], losses, **look)
        panels[1].plot([point.seconds for point in descent.points[1:]], losses, **look)
    for axes, title in zip(panels, ("over examples seen", "over time in seconds, estimated"), strict=True):
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.set_ylim(0, 1)
        axes.set_title(f"test loss {title}", loc="left")
    _legend(figure, panels[0])
    return figure


def draw_accuracies(found: Digits, roomy: bool) -> Any:
    """Draw the accuracy on test and training images after each epoch."""
    figure, (axes,) = _panels(1, roomy, 1, 2.6)
    numbers = [epoch.number for epoch in found.history.epochs]
    axes.plot(numbers, found.history.train_accuracies, color="#888888", linewidth=1.6, label="training images")
    axes.plot(numbers, found.history.accuracies, color=BLUE, linewidth=2, marker="o", markersize=4, label="test images")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epochs")
    axes.set_ylabel("right")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def pixels_of(net: MLP) -> tuple[list[str], float]:
    """Return the weights into each neuron of the first layer of `net` as pictures, and the weight of full colour."""
    largest = float(np.quantile(np.abs(net.weights[0]), FULL))
    return [weight_pixels(row.reshape(28, 28), largest) for row in net.weights[0]], largest
