"""`gpunn export`: a network for other runtimes."""

import json
from pathlib import Path

import click

from gpunn.cli import options
from gpunn.ensemble import load
from gpunn.errors import OutputError
from gpunn.printing import printable

INPUTS = {"bytes": True, "floats": False}
"""Whether inputs are grey levels."""


@click.command()
@options.model
@options.output("model.onnx", "ONNX file to write.")
@click.option(
    "--inputs",
    type=click.Choice(list(INPUTS)),
    help="What the file takes: grey levels as uint8, or floats.  [default: what the network was trained on]",
)
@options.as_json
def export(model: Path, output: Path, *, inputs: str | None, as_json: bool) -> None:
    """Write the network in the file MODEL as ONNX, for onnxruntime and other runtimes.

    The file takes any number of images, and returns probabilities and labels.
    """
    net = load(model)
    if output.exists() and output.samefile(model):
        raise OutputError(f"{printable(output)} is the model itself: choose another --output")
    if output.exists() and output.suffix != ".onnx":
        raise OutputError(f"{printable(output)} is there, and not named as ONNX files are: choose another --output")
    net.to_onnx(output, grey=None if inputs is None else INPUTS[inputs])
    size = output.stat().st_size
    if as_json:
        click.echo(json.dumps({"onnx": str(output), "bytes": size, **net.layers()}))
    else:
        click.echo(f"{printable(output)}: {net} as ONNX, {size / 1e6:,.1f} MB")
