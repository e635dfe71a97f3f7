"""What a page shows, as JSON types: the network, its training, and test digits."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.datasets.framing import FIELD
from gpunn.datasets.kind import ImageKind
from gpunn.datasets.split import Split
from gpunn.equations import decided
from gpunn.errors import DataError
from gpunn.evaluation import evaluate
from gpunn.history import History
from gpunn.losses import loss_for
from gpunn.network import MLP
from gpunn.show.snapshots import Snapshot, Snapshots, check_size, rounded

RIGHT_OF_A_CLASS, MOST_RIGHT = 2, 40
"""Number of test digits that were read right, of each class and in all."""
MOST_MISTAKES = 24
"""Number of test digits that were read wrong with the greatest confidence."""
MOST_CONFUSIONS, MOST_OF_A_CONFUSION = 9, 5
"""Number of pairs of classes that were confused most often, and of test digits of each."""


def contents(
    net: MLP,
    *,
    name: str,
    test: Split | None,
    loss: str | None,
    history: History | None,
    snapshots: Snapshots | None,
    half: bool,
) -> dict[str, Any]:
    """Return what a page about `net` shows; the arguments are those of `gpunn.show.page`.

    Numbers are base64 of little-endian float32, of float16 with `half` and of `snapshots`, and of uint8 for images.
    """
    net.check()
    kind = drawn_kind(net)
    check_size(net)
    loss = history.recipe.loss if history is not None and loss is None else loss_for(net.output, loss)
    found: dict[str, Any] = {
        "name": name,
        "data": kind.name,
        "loss": loss,
        "functions": net.functions,
        "sizes": net.sizes,
        "parameters": net.n_parameters,
        "half": half,
        "shape": kind.shape,
        "unpadded": kind.original.shape,
        "framing": kind.framing,
        "classes": [kind.class_name(label) for label in range(max(2, net.n_outputs))],
        "layers": _layers(net.weights, net.biases, half=half),
    }
    if test is not None:
        found |= _tested(net, test, loss)
    if history is not None:
        found["epochs"] = [epoch.to_dict() for epoch in history.epochs]
        found["kept"] = history.kept
    if snapshots is not None:
        found["snapshots"] = [_snapshot(each) for each in snapshots]
    return found


def drawn_kind(net: MLP) -> ImageKind:
    """Return the kind of images that are drawn for `net`: those it was trained on, or else MNIST's.

    Raises `DataError` if it takes no images.
    """
    kind = net.kind
    if kind is not None and kind.shape is not None:
        fits = kind.framing == "whole" or kind.original.shape == (FIELD, FIELD)
        return kind if fits else replace(kind, framing="whole")
    if net.n_inputs != FIELD * FIELD:
        raise DataError(
            f"the network takes {net.n_inputs} inputs, and doesn't say what images they make: a page needs "
            f"{FIELD} x {FIELD} = {FIELD * FIELD} pixels, or a network with the kind of its images (net.kind)"
        )
    known = kind or ImageKind(framing="digit")
    return ImageKind(known.name, (FIELD, FIELD), known.framing, known.classes)


def _layers(weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]], *, half: bool) -> list[list[str]]:
    """Return weights, row by row, and biases of each layer."""
    return [[_floats(W, half=half), _floats(b, half=half)] for W, b in zip(weights, biases, strict=True)]


def _floats(array: NDArray[Any], *, half: bool) -> str:
    return _base64(rounded(array).astype("<f2") if half else array.astype("<f4"))


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _snapshot(each: Snapshot) -> dict[str, Any]:
    return {
        "epochs": each.epochs,
        "images": each.images,
        "loss": each.loss,
        "accuracy": each.accuracy,
        "layers": _layers(each.weights, each.biases, half=True),
    }


def _tested(net: MLP, test: Split, loss: str) -> dict[str, Any]:
    """Return loss, accuracy and confusion matrix on `test`, and a choice of its examples."""
    result = evaluate(net, test, loss=loss, device="cpu")
    found: dict[str, Any] = {"test": {"images": len(test), **result.to_dict()}}
    classes = test.classes
    if classes is None:
        return found
    read = decided(net.feedforward(test.images))
    right = _first_of_each(np.flatnonzero(read == classes), classes)
    mistakes = np.flatnonzero(read != classes)
    if len(mistakes):
        confidence = net.predict_proba(test.images[mistakes])[np.arange(len(mistakes)), read[mistakes]]
        mistakes = mistakes[np.argsort(-confidence, kind="stable")]
    groups = [
        (count, label, other, _of(mistakes, classes, label, read, other))
        for count, label, other in _confused(result.confusion)
    ]
    chosen = np.unique(np.concatenate([right, mistakes[:MOST_MISTAKES], *(group[-1] for group in groups)]))
    place = {int(row): k for k, row in enumerate(chosen)}

    def places(rows: NDArray[np.intp]) -> list[int]:
        return [place[int(row)] for row in rows]

    images = test.images[chosen]
    found["digits"] = {
        "rows": chosen.tolist(),
        "images": _base64(images if test.grey else images.astype("<f4")),
        "grey": test.grey,
        "labels": classes[chosen].tolist(),
        "read": read[chosen].tolist(),
        "right": places(right),
        "mistakes": places(mistakes[:MOST_MISTAKES]),
        "confusions": [
            {"count": count, "label": label, "read": other, "digits": places(rows)}
            for count, label, other, rows in groups
        ],
    }
    return found


def _first_of_each(rows: NDArray[np.intp], classes: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the first of `rows` of each class, in the order of the classes."""
    own = [rows[classes[rows] == label][:RIGHT_OF_A_CLASS] for label in np.unique(classes[rows])]
    found: NDArray[np.intp] = np.concatenate([*own, rows[:0]])[:MOST_RIGHT]
    return found


def _confused(confusion: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return count, label and answer of what was confused most often."""
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(cell), len(wrong)) for cell in order]
    return [(int(wrong[pair]), *pair) for pair in pairs if wrong[pair]]


def _of(
    mistakes: NDArray[np.intp], classes: NDArray[np.uint8], label: int, read: NDArray[np.intp], other: int
) -> NDArray[np.intp]:
    """Return the first of `mistakes` of the class `label` that were read as `other`."""
    found: NDArray[np.intp] = mistakes[(classes[mistakes] == label) & (read[mistakes] == other)]
    return found[:MOST_OF_A_CONFUSION]
