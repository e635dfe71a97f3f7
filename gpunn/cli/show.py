"""`gpunn show`: a page that shows a network at work."""

import json
import math
from pathlib import Path

import click

from gpunn.cli import options
from gpunn.cli.data import loaded_for
from gpunn.datasets import ImageKind
from gpunn.ensemble import Ensemble, load
from gpunn.errors import ModelFileError
from gpunn.files import check_writable
from gpunn.network import MLP
from gpunn.printing import printable


@click.command()
@options.model
@options.output("page.html", "HTML file to write.")
@click.option("--float16", "half", is_flag=True, help="Round weights to float16, for a page half as large.")
@options.data_dir
@options.loss
@options.as_json
def show(model: Path, output: Path, *, half: bool, data_dir: Path | None, loss: str | None, as_json: bool) -> None:
    """Write a page that shows the network in the file MODEL at work.

    The page is one file that needs no server and no network: its weights as pictures, a field to draw digits on, what
    the network makes of them layer by layer, and test digits. For a slider through the training, use
    `gpunn train --page`.
    """
    from gpunn.show import page, write_page

    check_writable(output)
    net = load(model)
    if isinstance(net, Ensemble):
        raise ModelFileError(
            f"{printable(model)} holds an {net}, and a page shows one network: save one of them, as in "
            "gpunn.load(path).nets[0].save(...)"
        )
    test = None
    if data_dir is not None or _is_mnist(net.kind, net):
        test = loaded_for(net, data_dir).test
    else:
        click.echo(
            f"gpunn: the network wasn't trained on MNIST ({_named(net)}): the page gets no test images without "
            "--data-dir",
            err=True,
        )
    html = page(net, name=model.name, test=test, loss=loss, half=half)
    write_page(output, html)
    told = {"page": str(output), "bytes": len(html.encode()), "sizes": net.sizes, "test": test is not None}
    click.echo(json.dumps(told) if as_json else page_line(output, net))


def page_line(output: Path, net: MLP) -> str:
    """Return the line that says what was written to `output`."""
    return f"{printable(output)}: a page about {net}, {output.stat().st_size / 1e6:.1f} MB, to open in a browser"


def _is_mnist(kind: ImageKind | None, net: MLP) -> bool:
    """Whether MNIST's test images are of the network's kind, as far as is known."""
    named = kind is None or kind.name in ("", "MNIST")
    unpadded = net.n_inputs if kind is None or kind.unpadded is None else math.prod(kind.unpadded)
    return named and unpadded == 784 and net.n_outputs in (1, 10)


def _named(net: MLP) -> str:
    name = net.kind.name if net.kind is not None else ""
    return f"{printable(name) or 'unknown images'}, {net.n_inputs} inputs, {net.n_outputs} outputs"
