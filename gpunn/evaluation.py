"""Evaluation: loss, accuracy and confusion matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.datasets.arrays import scaled
from gpunn.datasets.split import Split, check_fits
from gpunn.engines.base import Parameters
from gpunn.engines.cpu.first_layer import SparseImages, nonzero_share
from gpunn.engines.devices import evaluation_device
from gpunn.equations import Array, decided, mean, mean_logits, propagate, scale
from gpunn.errors import DataError, DivergenceError
from gpunn.losses import LOSSES, loss_for
from gpunn.network import Network

CHUNK, CHUNK_ON_CPU = 8192, 1024
"""Images per chunk: enough to fill a GPU, few enough for a CPU's caches."""

SPARSE = 0.25
"""Share of non-zero pixels below which products of sparse images are faster than BLAS, whatever the layer."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The mean `loss` and the `confusion` matrix (n_classes, n_classes): rows are true classes, columns predictions.

    If the targets are rows that encode no classes (see `Split.classes`), `confusion` is (0, 0) and `accuracy` NaN.
    """

    loss: float
    confusion: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Fraction of images classified correctly, 0 to 1; NaN without classes."""
        if not self.confusion.size:
            return math.nan
        return float(np.trace(self.confusion) / self.confusion.sum())

    def __repr__(self) -> str:
        if not self.confusion.size:
            return f"Evaluation: loss {self.loss:.4f}"
        return f"Evaluation: loss {self.loss:.4f}, accuracy {self.accuracy:.2%} of {self.confusion.sum():,}"

    def plot(self, ax: Any = None) -> Any:
        """Draw the confusion matrix on Matplotlib's axes `ax`, by default new ones of `pyplot`; return them.

        Raises `DataError` if there are no classes, `ConfigurationError` if Matplotlib is missing.
        """
        from gpunn.plots.axes import draw_evaluation

        return draw_evaluation(ax, repr(self), self.confusion)

    def _repr_html_(self) -> str:
        """Return the confusion matrix as HTML in one piece, for notebooks."""
        from gpunn.plots.html import evaluation

        return evaluation(repr(self), self.confusion)

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as JSON types, NaN as None."""
        return {"loss": self.loss, "accuracy": or_none(self.accuracy), "confusion": self.confusion.tolist()}


def or_none(accuracy: float) -> float | None:
    """Return `accuracy`, or None for NaN, which JSON lacks."""
    return None if math.isnan(accuracy) else accuracy


def evaluate(net: Network, split: Split, *, loss: str | None = None, device: str | Backend = "auto") -> Evaluation:
    """Return loss, accuracy and confusion matrix of `net`, an `MLP` or an `Ensemble`, on `split`.

    They are computed on `device`, see `device_for`.

    `loss` is a name from `gpunn.losses`; the default is cross-entropy for softmax outputs, otherwise squared error.

    Raises `DataError` if images or labels don't fit the network, `DivergenceError` if its weights are so large that
    the loss isn't finite, and the errors of `get_backend`.
    """
    net.check()
    check_fits(split, (net.n_inputs, net.n_outputs))
    if net.grey and not split.grey and not scaled(split.images):
        raise DataError(
            f"found images of floats from {split.images.min():g} to {split.images.max():g}, the network was trained on "
            "grey levels: expected uint8, or floats from 0 to 1"
        )
    loss = loss_for(net.output, loss)
    backend = device_for(net, split, device)
    with backend.activate():
        asarray = backend.asarray
        classes = split.classes
        on_device = [
            Parameters([asarray(W) for W in one.weights], [asarray(b) for b in one.biases], one.functions)
            for one in net.nets
        ]
        result = _evaluate_mean(
            backend,
            on_device,
            asarray(split.inputs(net.dtype)),
            asarray(split.targets(net.dtype, net.n_outputs)),
            loss,
            classes=None if classes is None else asarray(classes),
        )
    if not math.isfinite(result.loss):
        raise DivergenceError(
            f"the loss is {result.loss}, as the network's weights are too large: train it with a lower learning rate"
        )
    return result


def device_for(net: Network, split: Split, device: str | Backend = "auto") -> Backend:
    """Return the backend on which `evaluate` evaluates; "auto" is the device that is estimated to be done first.

    Raises the errors of `get_backend`.
    """
    return evaluation_device(device, [one.sizes for one in net.nets], len(split), (CHUNK_ON_CPU, CHUNK))


def inputs_on_device(backend: Backend, inputs: NDArray[Any], *, compiled: bool) -> Array | SparseImages:
    """Return `inputs` (n, n_0), uint8 or floats, on the device of `backend`, for repeated use in `evaluate_on_device`.

    With `compiled`, parameters are float32, and kernels for CPUs may be used, which multiply sparse images faster. The
    results are the same to rounding.
    """
    if compiled and inputs.dtype == np.uint8 and nonzero_share(inputs) < SPARSE:
        return SparseImages(inputs)
    return backend.asarray(inputs)


def evaluate_on_device(
    backend: Backend,
    parameters: Parameters,
    images: Array | SparseImages,
    labels: Array,
    loss: str = "squared_error",
    *,
    classes: Array | None = None,
) -> Evaluation:
    """Evaluate as `evaluate` does, with all arrays on the device of `backend`, which must be active.

    `images` (n, n_0) are uint8, floats of the parameters' dtype, or what `inputs_on_device` returns; `labels` are
    classes, uint8 (n,), or rows of that dtype, (n, n_L). `classes`, uint8 (n,), are the classes that rows encode, if
    any. Shapes are not checked.
    """
    return _evaluate_mean(backend, [parameters], images, labels, loss, classes=classes)


def _evaluate_mean(
    backend: Backend,
    networks: Sequence[Parameters],
    images: Array | SparseImages,
    labels: Array,
    loss: str,
    *,
    classes: Array | None,
) -> Evaluation:
    """Evaluate the mean of the outputs of `networks`; the other arguments as in `evaluate_on_device`."""
    xp = backend.xp
    first_bias, output_function = networks[0].biases[-1], networks[0].functions[-1]
    n_outputs, dtype = len(first_bias), first_bias.dtype
    one_hot = xp.eye(n_outputs, dtype=dtype) if labels.ndim == 1 else None
    classes = labels if one_hot is not None else classes
    n_classes = 0 if classes is None else max(2, n_outputs)
    total = xp.zeros((), np.float64)
    counts = xp.zeros(n_classes * n_classes, np.int64)
    chunk = _chunk(backend, networks, images)
    grey = not isinstance(images, SparseImages) and images.dtype == np.uint8
    for first in range(0, len(labels), chunk):
        rows = slice(first, first + chunk)
        X = scale(images[rows], dtype) if grey else images[rows]
        Y = labels[rows] if one_hot is None else one_hot[labels[rows]]
        with np.errstate(over="ignore", invalid="ignore"):
            passes = (propagate(xp, one.weights, one.biases, X, functions=one.functions) for one in networks)
            outputs, logits = zip(*((found.activations[-1], found.logits) for found in passes), strict=True)
            output = mean(outputs)
            # Only these losses read logits.
            Z = mean_logits(xp, logits, output_function) if LOSSES[loss].from_logits else output
            total += len(X) * LOSSES[loss].value(xp, output, Z, Y)
        if classes is not None:
            cell = classes[rows].astype(np.int64) * n_classes + decided(output)
            counts += xp.bincount(cell, minlength=n_classes * n_classes)
    confusion = backend.to_host(counts).reshape(n_classes, n_classes)
    return Evaluation(float(total) / len(labels), confusion)


def _chunk(backend: Backend, networks: Sequence[Parameters], images: Array | SparseImages) -> int:
    """Return the number of images to evaluate at a time."""
    if backend.name != "cpu":
        return CHUNK
    if not isinstance(images, SparseImages):
        return CHUNK_ON_CPU
    # As many activations as those of dense images.
    n_inputs, widest = networks[0].sizes[0], max(sum(one.sizes[1:]) for one in networks)
    return max(CHUNK_ON_CPU, CHUNK_ON_CPU * n_inputs // widest)
