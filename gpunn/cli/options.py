"""Options that several commands share."""

import re
from pathlib import Path

import click

from gpunn.losses import LOSSES


def layer_sizes(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    """Turn "100,50", the value of an option, into [100, 50], and "" into []; raises `click.BadParameter` for others."""
    if not value.strip():
        return []
    sizes = value.split(",")
    if not all(re.fullmatch(r" *0*[1-9][0-9]{0,8} *", size, re.ASCII) for size in sizes):
        raise click.BadParameter(
            f"found {value!r}, expected sizes of 1 or more with commas between them, such as 16 or 100,50", ctx, param
        )
    return [int(size) for size in sizes]


def as_path(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """Turn text into a path; raises `click.BadParameter` for "", what an unset shell variable leaves of one."""
    if value == "":
        raise click.BadParameter("found an empty name, expected a path", ctx, param)
    return None if value is None else Path(value)


model = click.argument("model", type=click.Path(), callback=as_path)
device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where to compute."
)
data_dir = click.option(
    "--data-dir",
    type=click.Path(),
    callback=as_path,
    help="A folder with another data set in MNIST's four-file form, gzipped or not: Fashion-MNIST, KMNIST, QMNIST, or "
    "EMNIST, whose images lie transposed in its files and are turned upright. Where several sets share a folder, add "
    "the beginning of their files' names: emnist/emnist-letters.  [default: the embedded MNIST]",
)
loss = click.option(
    "--loss",
    type=click.Choice(list(LOSSES)),
    help="Loss function.  [default: cross_entropy for softmax outputs, else squared_error]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
