"""Pictures as files, in the formats that Matplotlib draws here."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpunn.errors import ConfigurationError
from gpunn.plots.axes import check_matplotlib
from gpunn.plots.pages import STYLE
from gpunn.printing import printable

FORMATS = (".png", ".svg")
"""Endings of files' names."""


def check_picture(option: str, path: Path) -> None:
    """Raise `ConfigurationError` unless the file name's ending is in `FORMATS` and Matplotlib is installed."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigurationError(f"a picture's name must end in {' or '.join(FORMATS)}, got {printable(path)}")
    check_matplotlib(option)


def in_format(suffix: str, draw: Callable[[], Any]) -> bytes:
    """Return the figure that `draw` makes in the format of `suffix`, one of `FORMATS`."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, file = draw(), io.BytesIO()
        # Without the date, so that the same results make the same file.
        metadata = {"Date": None, "Creator": None} if suffix.lower() == ".svg" else {}
        figure.savefig(file, format=suffix.lower().removeprefix("."), dpi=150, metadata=metadata)
    return file.getvalue()
