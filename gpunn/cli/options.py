"""Options shared by several commands."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gpunn.activations import OUTPUT
from gpunn.defaults import EPOCHS
from gpunn.initialization import DIVISORS
from gpunn.losses import LOSSES


def layer_sizes(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    """Parse "100,50" as [100, 50] and "" as []; raises `click.BadParameter` for anything else."""
    if not value.strip():
        return []
    sizes = value.split(",")
    if not all(re.fullmatch(r" *0*[1-9][0-9]{0,8} *", size, re.ASCII) for size in sizes):
        raise click.BadParameter(
            f"must be comma-separated integers >= 1, such as 16 or 100,50, got {value!r}", ctx, param
        )
    return [int(size) for size in sizes]


def image_shape(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse "29x29" as (29, 29); raises `click.BadParameter` for anything else."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", value, re.ASCII)
    if found is None:
        raise click.BadParameter(f"must be rows x columns, such as 29x29, got {value!r}", ctx, param)
    return int(found[1]), int(found[2])


def as_path(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """Convert text to a path; raises `click.BadParameter` for "", as an unset shell variable gives."""
    if value == "":
        raise click.BadParameter("must be a path, got an empty string", ctx, param)
    return None if value is None else Path(value)


def path(*names: str, **others: Any) -> Callable[[Any], Any]:
    """Return an option that takes a path; the arguments are those of `click.option`."""
    return click.option(*names, type=click.Path(), callback=as_path, **others)


def output(default: str, text: str) -> Callable[[Any], Any]:
    """Return the option for the file that a command writes."""
    return path("-o", "--output", default=default, show_default=True, help=text)


model = click.argument("model", type=click.Path(), callback=as_path)
init = click.option(
    "--init",
    type=click.Choice(list(DIVISORS)),
    default="scaled",
    show_default=True,
    help="Weight initialisation; scaled is normal / sqrt(number of inputs).",
)
output_activation = click.option(
    "--output-activation",
    "output_activation",
    type=click.Choice(OUTPUT),
    default="sigmoid",
    show_default=True,
    help="Activation function of the output layer.",
)
schedule = click.option(
    "--schedule",
    metavar="NAME[:NUMBERS]",
    default="constant",
    show_default=True,
    help="Learning-rate schedule: constant, step[:EVERY,BY] (multiply by BY every EVERY epochs), exponential[:BY] "
    "(multiply by BY every epoch), cosine, or one-cycle[:RISING] (RISING is the warm-up fraction).",
)
epochs = click.option("--epochs", type=int, default=EPOCHS, show_default=True, help="Passes over the training images.")
device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Device to run on."
)
data_dir = path(
    "--data-dir",
    help="Folder with another data set in MNIST's four-file format, gzipped or not, such as Fashion-MNIST, KMNIST, "
    "QMNIST or EMNIST (whose transposed images are turned upright). If the folder holds several data sets, append "
    "the prefix of the file names, as in emnist/emnist-letters.  [default: the embedded MNIST]",
)
classes = click.option(
    "--classes", type=click.IntRange(min=1), help="Number of classes.  [default: inferred from the labels]"
)
loss = click.option(
    "--loss",
    type=click.Choice(list(LOSSES)),
    help="Loss function.  [default: cross_entropy for softmax outputs, otherwise squared_error]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
