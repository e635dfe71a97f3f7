"""Options that several commands share."""

import re
from pathlib import Path
from typing import Any

import click


class LayerSizes(click.ParamType[Any]):
    """The sizes of the hidden layers: "16", or "100,50"."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        if not re.fullmatch(r"\s*[0-9]{1,9}\s*(,\s*[0-9]{1,9}\s*)*", value) or 0 in map(int, value.split(",")):
            self.fail(
                f"found {value!r}, expected sizes of 1 or more with commas between them, such as 16 or 100,50",
                param,
                ctx,
            )
        return [int(size) for size in value.split(",")]


device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where to compute."
)
data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="A folder with another data set in MNIST's four-file form, gzipped or not.  [default: the embedded MNIST]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
