"""How good a network is on images it is shown."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend, get_backend
from gpunn.datasets.arrays import scaled
from gpunn.datasets.split import Split, check_fits
from gpunn.engines.base import Parameters
from gpunn.equations import Array, decided, propagate, scale
from gpunn.errors import DataError, DivergenceError
from gpunn.losses import LOSSES, loss_for
from gpunn.network import MLP

CHUNK, CHUNK_ON_CPU = 8192, 1024
"""Images evaluated at a time: enough to fill a GPU, or few enough for the caches of a CPU."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The mean `loss`, and `confusion` (n_classes, n_classes): row i counts what images of class i were taken for.

    Where the targets are rows that stand for no classes (see `Split.classes`), there are none to count: `confusion` is
    (0, 0), and `accuracy` NaN.
    """

    loss: float
    confusion: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """The share of images whose class was found, 0 to 1; NaN where there are no classes."""
        if not self.confusion.size:
            return math.nan
        return float(np.trace(self.confusion) / self.confusion.sum())

    def __repr__(self) -> str:
        if not self.confusion.size:  # targets that are no classes
            return f"Evaluation: loss {self.loss:.4f}"
        return f"Evaluation: loss {self.loss:.4f}, accuracy {self.accuracy:.2%} of {self.confusion.sum():,}"

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as JSON's types, of which none is NaN."""
        return {"loss": self.loss, "accuracy": or_none(self.accuracy), "confusion": self.confusion.tolist()}


def or_none(accuracy: float) -> float | None:
    """Return `accuracy` as JSON has it, which has no NaN."""
    return None if math.isnan(accuracy) else accuracy


def evaluate(net: MLP, split: Split, *, loss: str | None = None, device: str | Backend = "auto") -> Evaluation:
    """Return loss, accuracy and confusion matrix of `net` on `split`, computed on `device`.

    `loss` is the name of one of `gpunn.losses`: cross-entropy for softmax outputs and the squared error for others,
    where none is given.

    Raises `DataError` where images or labels don't fit the network, `DivergenceError` where its weights are so large
    that its outputs aren't numbers, and what `get_backend` raises.
    """
    net.check()
    check_fits(split, net.sizes)
    if net.grey and not split.grey and not scaled(split.images):
        raise DataError(
            f"found images of floats from {split.images.min():g} to {split.images.max():g}, the network was trained on "
            "grey levels: expected uint8, or floats from 0 to 1"
        )
    loss = loss_for(net.functions[-1], loss)
    backend = get_backend(device)
    with backend.activate():
        asarray = backend.asarray
        classes = split.classes
        on_device = Parameters([asarray(W) for W in net.weights], [asarray(b) for b in net.biases], net.functions)
        result = evaluate_on_device(
            backend,
            on_device,
            asarray(split.inputs(net.dtype)),
            asarray(split.targets(net.dtype, net.sizes[-1])),
            loss,
            classes=None if classes is None else asarray(classes),
        )
    if not math.isfinite(result.loss):
        raise DivergenceError(f"found the loss {result.loss}, expected a number: the network's weights are too large")
    return result


def evaluate_on_device(
    backend: Backend,
    parameters: Parameters,
    images: Array,
    labels: Array,
    loss: str = "squared_error",
    *,
    classes: Array | None = None,
) -> Evaluation:
    """Do what `evaluate` does with everything already on the device of `backend`, which is active.

    `images` (n, n_0) are uint8, or floats of the parameters' dtype; `labels` are classes, uint8 (n,), or rows of that
    dtype, (n, n_L). `classes`, uint8 (n,), are what rows stand for, if they do. All fit the parameters.
    """
    xp = backend.xp
    n_outputs, dtype = len(parameters.biases[-1]), parameters.biases[-1].dtype
    one_hot = xp.eye(n_outputs, dtype=dtype) if labels.ndim == 1 else None
    classes = labels if one_hot is not None else classes
    n_classes = 0 if classes is None else max(2, n_outputs)
    total = xp.zeros((), np.float64)
    counts = xp.zeros(n_classes * n_classes, np.int64)
    chunk = CHUNK_ON_CPU if backend.name == "cpu" else CHUNK
    for first in range(0, len(labels), chunk):
        rows = slice(first, first + chunk)
        X = scale(images[rows], dtype) if images.dtype == np.uint8 else images[rows]
        Y = labels[rows] if one_hot is None else one_hot[labels[rows]]
        with np.errstate(over="ignore", invalid="ignore"):
            found = propagate(xp, parameters.weights, parameters.biases, X, functions=parameters.functions)
            output = found.activations[-1]
            total += len(X) * LOSSES[loss].value(xp, output, found.logits, Y)
        if classes is not None:
            cell = classes[rows].astype(np.int64) * n_classes + decided(output)
            counts += xp.bincount(cell, minlength=n_classes * n_classes)
    confusion = backend.to_host(counts).reshape(n_classes, n_classes)
    return Evaluation(float(total) / len(labels), confusion)
