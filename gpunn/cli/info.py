"""`gpunn info`: what a model file says of its network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gpunn.cli import characters, options
from gpunn.ensemble import load
from gpunn.network import MLP, Network
from gpunn.printing import printable

WIDTH = 13
"""Columns of the names at the left."""

OWN_LINES = ("device", "engine", "n_examples", "kept_epoch", "warnings", "versions", "epochs")
"""Parts of the record of a training that aren't shown as part of the recipe."""


@click.command()
@options.model
@options.as_json
def info(model: Path, as_json: bool) -> None:
    """Show what MODEL is, what it was trained on, and how."""
    net = load(model)
    if as_json:
        click.echo(json.dumps({"model": str(model)} | _document(net)))
        return
    click.echo(f"{printable(model)}: {net}")
    for name, text in _of_data(net):
        click.echo(_line(name, text))
    for number, each in enumerate(net.nets):
        if len(net.nets) > 1:
            click.echo(f"network {number}")
        for name, text in _of_network(each):
            click.echo(_line(name, text))
        for line in _curves(each):
            click.echo(line)


def _line(name: str, text: str) -> str:
    return f"{name:{WIDTH}}  {printable(text)}"


def _of_data(net: Network) -> Iterator[tuple[str, str]]:
    """Yield names and texts about the images that the network takes."""
    kind = net.kind
    pixels = f"{net.n_inputs} inputs" if kind is None or kind.shape is None else "{} x {} pixels".format(*kind.shape)
    if kind is not None and kind.unpadded is not None:
        pixels += ", padded from {} x {}".format(*kind.unpadded)
    what = {True: "grey levels", False: "numbers", None: "unknown kind"}[net.grey]
    yield "data", ", ".join([*([kind.name] if kind is not None and kind.name else []), pixels, what])
    if kind is None:
        return
    yield "pictures", f"prepared as {kind.framing}"
    if kind.digest:
        yield "files", f"BLAKE2b {kind.digest}"
    if kind.classes:
        yield "classes", ", ".join(kind.classes)


def _of_network(net: MLP) -> Iterator[tuple[str, str]]:
    """Yield names and texts about one network, and how it was trained."""
    yield "layers", f"{net}, {net.n_parameters:,} parameters, {net.dtype}"
    yield "functions", ", ".join(net.functions)
    if net.training is None:
        yield "training", "unknown"
        return
    record = net.training.record()
    examples = f"{record['n_examples']:,} examples, " if isinstance(record.get("n_examples"), int) else ""
    yield "training", f"{examples}on {_text(record.get('device'))}, engine {_text(record.get('engine'))}"
    recipe = {name.replace("_", " "): value for name, value in record.items() if name not in OWN_LINES}
    yield "recipe", ", ".join(f"{name} {_text(value)}" for name, value in recipe.items())
    if isinstance(record.get("versions"), dict):
        yield "versions", _text(record["versions"])
    epochs = record.get("epochs", {}).get("epoch")
    if epochs:
        yield "epochs", f"{_text(epochs[-1])}, of which {_text(record.get('kept_epoch'))} was kept"
    for warning in record.get("warnings", ()):
        yield "warning", _text(warning)


def _text(value: Any) -> str:
    """Return a part of a record in words."""
    if isinstance(value, dict):
        return ", ".join(str(each) if name == "name" else f"{name} {each}" for name, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _curves(net: MLP) -> Iterator[str]:
    """Yield lines with the loss and the test accuracy over epochs, as far as they are known."""
    epochs = {} if net.training is None else net.training.record().get("epochs", {})
    known = ([value for value in epochs.get(name, ()) if value is not None] for name in ("loss", "test_accuracy"))
    yield from characters.curves(*known)


def _document(net: Network) -> dict[str, Any]:
    """Return the document that --json prints."""
    networks = [
        each.layers() | {"training": None if each.training is None else each.training.record()} for each in net.nets
    ]
    data = None if net.kind is None else net.kind.to_dict()
    about = {"n_parameters": net.n_parameters, "dtype": str(net.dtype), "data": data, "grey": net.grey}
    return about | (networks[0] if isinstance(net, MLP) else {"networks": networks})
