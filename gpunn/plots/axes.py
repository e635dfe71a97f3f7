"""Matplotlib's axes with histories, evaluations and networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.errors import ConfigurationError, DataError
from gpunn.plots.curves import MOST_DOTS, Curves
from gpunn.plots.sheets import GREEN, MOST_COUNTED, RED, WeightSheet, coloured, confusion_levels

LINES = ("-", "--", ":")
"""Styles of lines, the first one that of training."""


def check_matplotlib(asker: str) -> None:
    """Raise `ConfigurationError`, which says that `asker` needs it and how to get it, if Matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401 - to be sure that it is there
    except ImportError as error:
        raise ConfigurationError(f"{asker} needs Matplotlib ({error}): pip install 'gpunn[plot]'") from error


def draw_history(ax: Any, panels: Sequence[Curves], kept: int | None) -> Any:
    """Draw `panels` on `ax`, the second on a twin with an axis on the right, and an epoch that was `kept`; return `ax`.

    For `ax` None, here and below, new axes are made by `pyplot`: notebooks show its figures, and `plt.show()` does.
    """
    ax = _axes(ax, "history.plot()", (6.4, 3.8))
    drawn, own = [], ax
    for number, panel in enumerate(panels):
        own = ax if number == 0 else ax.twinx()
        colour = f"C{number}"
        own.set_ylabel(panel.quantity, color=colour)
        if panel.quantity == "accuracy":
            _in_percent(own.yaxis)
        for style, curve in zip(LINES, panel.curves, strict=False):
            label, marker = f"{panel.quantity}, {curve.label}", "." if len(curve.points) <= MOST_DOTS else ""
            drawn += own.plot(
                *zip(*curve.points, strict=True), linestyle=style, marker=marker, color=colour, label=label
            )
    if kept is not None:
        ax.axvline(kept, color="grey", linewidth=1)
        ax.text(kept, 0.99, "kept ", rotation=90, ha="right", va="top", transform=ax.get_xaxis_transform())
    ax.set_xlabel("epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if drawn:
        own.legend(handles=drawn, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(panels), frameon=False)
    return ax


def draw_evaluation(ax: Any, says: str, confusion: NDArray[np.int64]) -> Any:
    """Draw the confusion matrix (n_classes, n_classes) on `ax` below what the evaluation `says`; return `ax`.

    Raises `DataError` if there are no classes.
    """
    if not confusion.size:
        raise DataError(
            "evaluation.plot() draws the confusion matrix: expected classes, found targets that encode none"
        )
    n_classes = len(confusion)
    ax = _axes(ax, "evaluation.plot()", (5.6, 5.6))
    ax.imshow(coloured(confusion_levels(confusion)))
    ax.set_xlabel("prediction")
    ax.set_ylabel("true class")
    ax.set_title(says, fontsize="medium")
    if n_classes <= MOST_COUNTED:
        ax.set_xticks(range(n_classes))
        ax.set_yticks(range(n_classes))
        size = 9 if n_classes <= 10 else 6
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                ax.text(column, row, str(count), ha="center", va="center", fontsize=size)
    return ax


def draw_network(ax: Any, says: str, sheet: WeightSheet) -> Any:
    """Draw the first layer's weights on `ax`, below what the network `says`, with their scale beside; return `ax`."""
    rows, columns = sheet.levels.shape
    ax = _axes(ax, "net.plot()", (7.2, 1.2 + min(4.4, max(1.0, 6.0 * rows / columns))))
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    ax.imshow(coloured(sheet.levels), interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(f"{says}\n{sheet.caption}", fontsize="medium")
    ends = [(*np.divide(colour, 255), opacity) for colour, opacity in ((RED, 1), (RED, 0), (GREEN, 0), (GREEN, 1))]
    colours = LinearSegmentedColormap.from_list("weights", list(zip((0, 0.5, 0.5, 1), ends, strict=True)))
    scale = Normalize(-sheet.scale, sheet.scale)
    ax.figure.colorbar(ScalarMappable(scale, colours), ax=ax, extend="both", shrink=0.9)
    return ax


def _axes(ax: Any, asker: str, size: tuple[float, float]) -> Any:
    """Return `ax`, or new axes of `size` in inches; raises the error of `check_matplotlib`."""
    check_matplotlib(asker)
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def _in_percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0))
