"""`gpunn predict`: classify pictures."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from gpunn.cli import characters, options
from gpunn.datasets.framing import FIELD
from gpunn.datasets.kind import FRAMINGS, ImageKind
from gpunn.ensemble import load
from gpunn.errors import DataError
from gpunn.network import Network
from gpunn.printing import one_line

if TYPE_CHECKING:
    from gpunn.pictures import Prepared

GUESSES = 3
"""Number of classes that `--show` lists."""


@dataclass(frozen=True)
class Answer:
    """The network's `outputs` and `shares` (n_classes,) for the picture `name`, preprocessed as `prepared`."""

    name: str
    prepared: "Prepared"
    outputs: NDArray[Any]
    shares: NDArray[Any]

    @property
    def best(self) -> int:
        """The class of the largest output; shares can't tell if all outputs are negative."""
        return int(self.outputs.argmax())


@click.command()
@options.model
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(allow_dash=True, path_type=Path))
@click.option(
    "--framing",
    type=click.Choice(FRAMINGS),
    help="Preprocessing of the pictures.  [default: that of the training images]",
)
@click.option(
    "--show",
    is_flag=True,
    help="Print each picture as the network sees it, and its three best guesses; with --json, the pixels.",
)
@options.as_json
def predict(model: Path, images: tuple[Path, ...], framing: str | None, show: bool, as_json: bool) -> None:
    """Classify each IMAGE with the network in the file MODEL.

    An image is a PNG, JPEG or NumPy file (.npy) of any size, dark on light or light on dark, and upright; - reads
    standard input.

    Pictures are preprocessed like the training images. "digit" follows MNIST: the digit is located, cut out, and
    centred by its centre of mass. "emnist" follows EMNIST: slightly larger, and centred by its bounding box. "whole"
    scales the whole picture, for data sets such as Fashion-MNIST. If the model file doesn't say, it is "digit".

    EMNIST's own files hold transposed images. A network trained on those, outside gpunn or from arrays, misreads
    upright pictures.
    """
    from gpunn.pictures import read_picture, shown_name

    net = load(model)
    kind = _kind(net, model, framing)
    found: list[Answer | tuple[str, str]] = []
    for path in images:
        name = "-" if str(path) == "-" else shown_name(path)
        try:
            prepared = read_picture(path, kind)
        except DataError as error:
            message = one_line(str(error))
            found.append((name, message))
            click.echo(f"gpunn: {message}", err=True)
            continue
        inputs = prepared.image[None]
        shares = net.predict_proba(inputs)[0]
        outputs = net.feedforward(inputs)[0] if net.n_outputs > 1 else shares  # one output means two classes
        answer = Answer(name, prepared, outputs, shares)
        found.append(answer)
        if not as_json:
            for line in _lines(answer, kind, show):
                click.echo(line)
    if as_json:
        click.echo(json.dumps([_entry(one, kind, show) for one in found]))
    if not all(isinstance(one, Answer) for one in found):
        click.get_current_context().exit(2)


def _kind(net: Network, model: Path, framing: str | None) -> ImageKind:
    """Return the kind of images to prepare pictures for; raises `DataError` if the network's input size doesn't fit."""
    kind, n_inputs = net.kind, net.n_inputs
    padded = kind if kind is not None and kind.unpadded is not None else None
    if padded is not None and padded.unpadded is not None:
        kind, n_inputs = padded.original, math.prod(padded.unpadded)
    shape = kind.shape if kind is not None else None
    if shape is None or shape[0] * shape[1] != n_inputs:
        shape = (FIELD, FIELD)
    if framing is None:
        framing = kind.framing if kind is not None else "digit"
    if shape[0] * shape[1] != n_inputs or (framing != "whole" and shape != (FIELD, FIELD)):
        advice = "" if framing == "whole" or shape == (FIELD, FIELD) else ", or --framing whole"
        raise DataError(
            f"{model} takes {n_inputs} pixels, but pictures are prepared as {FIELD} x {FIELD} = {FIELD**2}: "
            f"use a network for MNIST{advice}"
        )
    known = kind or ImageKind()
    if padded is not None:
        return replace(padded, framing=framing)
    return ImageKind(known.name, shape, framing, known.classes)


def _lines(answer: Answer, kind: ImageKind, show: bool) -> Iterator[str]:
    """Yield a line with the class, the runner-up and any doubts; with `show`, also the image and the best guesses."""
    order = np.argsort(-answer.outputs, kind="stable")
    best, *others = order[:2]
    runner_up = "".join(f"; next {kind.class_name(int(label))}, {answer.shares[label]:.0%}" for label in others)
    doubts = "".join(f"; doubtful: {doubt}" for doubt in answer.prepared.doubts[:1])
    doubts += "".join(f"; {doubt}" for doubt in answer.prepared.doubts[1:])
    yield f"{answer.name}: {kind.class_name(int(best))} ({answer.shares[best]:.0%}{runner_up}){doubts}"
    if show:
        yield from characters.picture(answer.prepared.pixels)
        yield from characters.bars([(kind.class_name(int(label)), answer.shares[label]) for label in order[:GUESSES]])


def _entry(one: Answer | tuple[str, str], kind: ImageKind, show: bool) -> dict[str, Any]:
    """Return the JSON entry of a picture."""
    if isinstance(one, tuple):
        return {"image": one[0], "error": one[1]}
    entry: dict[str, Any] = {
        "image": one.name,
        "class": one.best,
        "name": kind.class_name(one.best),
        "probabilities": one.shares.tolist(),
        "doubts": list(one.prepared.doubts),
    }
    return entry | ({"pixels": one.prepared.pixels.tolist()} if show else {})
