"""Options of `gpunn train` for distorted images, and the picture of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from gpunn.cli import options
from gpunn.datasets import Split
from gpunn.distortion import DISTORTIONS, shape_to_distort
from gpunn.engines.distorting import Distorted
from gpunn.errors import ConfigurationError
from gpunn.files import check_writable, write_whole
from gpunn.plots.distortions import distortion_picture
from gpunn.plots.files import check_picture

Command = TypeVar("Command", bound=Callable[..., Any])

SHOWN = 10
"""Distorted images of each original in the picture."""

MOST_CLASSES = 26
"""Maximum number of classes in the picture."""


def distortion_options(command: Command) -> Command:
    """Add `--distort` and `--show-distortions`."""
    for option in (
        options.path(
            "--show-distortions",
            help="PNG or SVG file to write before training: an image of each class, as --distort may distort it.",
        ),
        click.option(
            "--distort",
            type=click.Choice(["none", *DISTORTIONS]),
            callback=lambda _ctx, _param, name: None if name == "none" else name,
            help="Distort the training images anew in each epoch: affine (rotated, sheared, scaled, shifted), simard "
            "(elastic), or ciresan (rotated or sheared, scaled, and elastic).",
        ),
    ):
        command = option(command)
    return command


def check_distortions(picture: Path | None, distort: str | None) -> None:
    """Raise `ConfigurationError` or `OutputError` if the `picture` can't be written."""
    if picture is None:
        return
    if distort is None:
        raise ConfigurationError("--show-distortions needs --distort, which says how images are distorted")
    check_picture("--show-distortions", picture)
    check_writable(picture)


def write_distortions(path: Path, distort: str, split: Split, seed: int) -> None:
    """Write a picture of the first image of each class, and of how `distort` may distort it."""
    shape, distortion = shape_to_distort(split), DISTORTIONS[distort]
    classes, first = np.unique(split.labels, return_index=True)
    classes, shown = classes[:MOST_CLASSES], split[first[:MOST_CLASSES]]
    drawn = Distorted(distortion, shape, distortion.ease(shown), seed)
    found = [drawn.on_host(shown.images, epoch) for epoch in range(1, SHOWN + 1)]
    names = [str(label) if split.kind is None else split.kind.class_name(int(label)) for label in classes]
    title = f"--distort {distort}"
    originals, distorted = shown.images.reshape(-1, *shape), np.stack(found, axis=1).reshape(-1, SHOWN, *shape)
    write_whole(path, distortion_picture(originals, distorted, names, title, path.suffix))
