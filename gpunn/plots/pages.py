"""Charts as SVG for pages in one file, drawn twice each: wide, and narrow for phones; and Jinja's environment."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpunn.errors import ConfigurationError
from gpunn.printing import printable

Draw = Callable[[bool], Any]
"""Takes whether there is room, and returns a figure of Matplotlib's."""

WIDE, NARROW = 8.6, 4.3
"""Widths in inches, of 72 points."""

STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "gpunn",
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Picture:
    """A picture in both widths, as SVG; `name` for its file, `title` above it, `says` for those who can't see it."""

    name: str
    title: str
    says: str
    wide: bytes
    narrow: bytes


def picture(name: str, title: str, says: str, draw: Draw) -> Picture:
    """Draw a picture in both widths."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return Picture(name, title, says, _svg(draw(True)), _svg(draw(False)))


def page_environment(command: str) -> Any:
    """Return a Jinja environment for pages: everything is escaped, and what is missing is an error.

    Raises `ConfigurationError`, naming the `command`, where the libraries that draw are missing.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401 - to be sure that it is there
    except ImportError as error:
        raise ConfigurationError(
            f"{command} needs Matplotlib and Jinja ({error}): pip install 'gpunn[report]'"
        ) from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"data_uri": _data_uri, "printable": printable}
    return environment


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _svg(figure: Any) -> bytes:
    file = io.BytesIO()
    # Without the date, so that the same results make the same file.
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
