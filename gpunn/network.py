"""The network: layer sizes, parameters and predictions. Host arrays only; for training see `gpunn.training`."""

import itertools
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gpunn.activations import checked_functions
from gpunn.checks import check_whole
from gpunn.datasets.arrays import as_array, as_floats, plainly_grey, scaled
from gpunn.datasets.kind import ImageKind
from gpunn.equations import decided, forward, mean, outputs, scale
from gpunn.errors import ConfigurationError, DataError, ModelFileError
from gpunn.initialization import draw
from gpunn.model_file import Layers, Model, read_model, write_model
from gpunn.onnx_file import shares_and_labels, write_onnx
from gpunn.plots.sheets import WeightSheet, weight_sheet
from gpunn.printing import printable
from gpunn.training_record import Recorded


class Network(ABC):
    """What predicts: an `MLP`, or an `Ensemble` of several.

    Its output activations are the mean of those of its `nets`; an `MLP` has only itself.
    """

    @property
    @abstractmethod
    def nets(self) -> tuple["MLP", ...]:
        """The networks, which all take the same inputs, and have the same number and kind of outputs and one dtype."""

    @property
    @abstractmethod
    def kind(self) -> ImageKind | None:
        """Description of the training images, or None if unknown."""

    @property
    @abstractmethod
    def grey(self) -> bool | None:
        """Whether it was trained on grey levels, or None if it wasn't trained by `gpunn.train`."""

    @abstractmethod
    def layers(self) -> dict[str, Any]:
        """Return the layers as JSON types, without the parameters; equal for networks of the same form."""

    @abstractmethod
    def check(self) -> None:
        """Raise `ConfigurationError` if parameters don't fit together or aren't finite."""

    @abstractmethod
    def save(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write the network atomically to `path` as safetensors (see `gpunn.model_file`).

        Raises `OutputError` if it can't be written, and the errors of `check`.
        """

    def to_onnx(self, path: str | bytes | os.PathLike[str], *, grey: bool | None = None) -> None:
        """Write the network atomically to `path` as ONNX (opset 17), which gives the same outputs in any runtime.

        Its input is `inputs` (n, n_0), n any number: uint8 if `grey`, grey levels that the file divides by 255,
        otherwise floats of the network's dtype; by default, what the network was trained on, floats if that is unknown.
        Outputs are `probabilities` (n, classes), those of `predict_proba`, and `labels` (n,), int64. The metadata have
        what is known of the images as JSON: `data_set`, `image_shape` [rows, columns] and `classes`, the names.

        Raises `ConfigurationError` if the extra `onnx` is missing or the network is too large for the format (2 GiB),
        `OutputError` if the file can't be written, and the errors of `check`.
        """
        self.check()
        networks = [Layers(net.weights, net.biases, net.functions) for net in self.nets]
        grey = bool(self.grey) if grey is None else grey
        known = ImageKind() if self.kind is None else self.kind
        traits = {"data_set": known.name, "image_shape": known.shape, "classes": known.classes}
        about = {name: value for name, value in traits.items() if value}
        write_onnx(path, networks, shares_and_labels(self.n_outputs), grey=grey, about=about)

    @property
    def n_inputs(self) -> int:
        """Number of inputs, n_0."""
        return int(self.nets[0].weights[0].shape[1])

    @property
    def n_outputs(self) -> int:
        """Number of outputs, n_L."""
        return len(self.nets[0].biases[-1])

    @property
    def output(self) -> str:
        """Name of the activation function of the output layer."""
        return self.nets[0].functions[-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all parameters."""
        return self.nets[0].weights[0].dtype

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases; 12,730 for 784-16-10."""
        return sum(array.size for net in self.nets for array in (*net.weights, *net.biases))

    def feedforward(self, images: ArrayLike) -> NDArray[Any]:
        """Return the output activations a^L, (n, n_L), or (n_L,) for one image; `images` as in `MLP.activations`."""
        X, single = self._inputs(images)
        found = [outputs(np, net.weights, net.biases, X, net.functions) for net in self.nets]
        with np.errstate(over="ignore", invalid="ignore"):
            output: NDArray[Any] = mean(found)
        return output[0] if single else output

    def predict(self, images: ArrayLike) -> Any:
        """Return the class of each image, intp (n,), or a number for one image: the index of the largest output.

        A network with one output predicts 1 if it is above 0.5, otherwise 0. `images` as in `MLP.activations`.
        """
        output = self.feedforward(images)
        return decided(np.atleast_2d(output))[0] if output.ndim == 1 else decided(output)

    def predict_proba(self, images: ArrayLike) -> NDArray[Any]:
        """Return each image's output activations divided by their sum, (n, n_L), or (n_L,) for one image.

        Softmax outputs are probabilities. Sigmoid outputs are trained independently: their shares rank the classes but
        are not calibrated. Negative outputs count as zero; if all are zero, the classes get equal shares. A network
        with one output returns two shares, the output being that of class 1. `images` as in `MLP.activations`.
        """
        output: NDArray[Any] = np.maximum(self.feedforward(images), 0)
        if output.shape[-1] == 1:
            yes = np.minimum(output, 1)
            return np.concatenate([1 - yes, yes], axis=-1)
        total = output.sum(axis=-1, keepdims=True)
        shares = np.full_like(output, 1 / output.shape[-1])
        np.divide(output, total, out=shares, where=total > 0)
        return shares

    def plot(self, ax: Any = None) -> Any:
        """Draw the first layer's weights on Matplotlib's axes `ax`, by default new ones of `pyplot`; return them.

        At most 64 neurons are drawn, each as a picture: green weights are positive, red ones negative. Raises
        `ConfigurationError` if Matplotlib is missing.
        """
        from gpunn.plots.axes import draw_network

        return draw_network(ax, f"{self}: {self.n_parameters:,} parameters", self._weight_sheet())

    def _repr_html_(self) -> str:
        """Return the first layer's weights as HTML in one piece, for notebooks; as many as `plot` draws."""
        from gpunn.plots.html import network

        return network(self._in_words(), self._weight_sheet())

    def _in_words(self) -> str:
        """Return layer sizes or the number of networks, parameters, activation functions and images, in one line."""
        functions = list(dict.fromkeys(name for net in self.nets for name in net.functions[:-1]))
        hidden = f"{', '.join(functions)} in hidden layers, " if functions else ""
        known = f", trained on {self.kind.name}" if self.kind is not None and self.kind.name else ""
        return f"{self}: {self.n_parameters:,} parameters, {hidden}{self.output} outputs, {self.dtype}{known}"

    def _weight_sheet(self) -> WeightSheet:
        shape = None if self.kind is None else self.kind.shape
        return weight_sheet([net.weights[0] for net in self.nets], shape)

    def _inputs(self, images: ArrayLike) -> tuple[NDArray[Any], bool]:
        """Return the activations a^0 of `images`, (n, n_0), and whether it is a single image."""
        array = as_array("images", images)
        rows, single = self._in_rows(array)
        levels = self._levels(rows)
        if levels is not None:
            return scale(levels, self.dtype), single
        floats = as_floats("images", rows, self.dtype)
        if rows.dtype.kind == "f" and not scaled(rows) and (self.grey or (self.grey is None and plainly_grey(rows))):
            raise DataError(
                f"found floats from {rows.min():g} to {rows.max():g}, expected grey levels as uint8, or as floats from "
                "0 to 1: divide by 255, or convert them to uint8"
            )
        return floats, single

    def _in_rows(self, array: NDArray[Any]) -> tuple[NDArray[Any], bool]:
        n_in, shape = self.n_inputs, array.shape
        if array.ndim == 2 and shape[1] == n_in:
            return array, False
        if array.ndim in (1, 2) and array.size == n_in:
            return array.reshape(1, n_in), True
        if array.ndim in (3, 4) and math.prod(shape[1:]) == n_in:
            return array.reshape(len(array), n_in), False
        raise DataError(
            f"found images of shape {shape}, the network expects an array of shape (n, {n_in}), or ({n_in},) for one"
        )

    def _levels(self, rows: NDArray[Any]) -> NDArray[np.uint8] | None:
        """Return `rows` as uint8 if they are grey levels, otherwise None."""
        if rows.dtype == np.uint8:
            return rows
        if rows.dtype.kind not in "iu" or self.grey is False:
            return None
        if self.grey is None or not rows.size:
            return rows.astype(np.uint8) if plainly_grey(rows) else None
        if rows.min() < 0 or rows.max() > 255 or rows.max() == 1:
            raise DataError(
                f"found integers from {rows.min()} to {rows.max()}, the network was trained on grey levels: expected "
                "those as integers from 0 to 255, or as floats from 0 to 1"
            )
        return rows.astype(np.uint8)


@final
class MLP(Network):
    """A multi-layer perceptron, by default of sigmoid neurons.

    `sizes` are the layer sizes n_0 (inputs) to n_L (outputs). `hidden` is the activation function of the hidden layers,
    or a list with one for each, `output` that of the output layer: "sigmoid", "tanh", "relu", "leaky_relu", "elu",
    "identity", and for the output also "softmax". `init` is the weight initialisation, see `gpunn.initialization`;
    biases start at zero except with `init="normal"` and for ReLU outputs. The same `seed` draws the same network on
    every machine.

    A network has the attributes

    - `weights[l]` (n_out, n_in): row j holds the weights into neuron j of layer l + 1;
    - `biases[l]` (n_out,);
    - `functions[l]`: the name of the activation function of layer l + 1;
    - `kind`: description of the training images, an `ImageKind`, or None if unknown;
    - `grey`: whether it was trained on grey levels, or None if it wasn't trained by `gpunn.train`;
    - `training`: how it was trained, or None if unknown: the `History`, or what its model file remembers of that;
      `training.record()` are JSON types.

    Weights and biases are of `dtype`, float32 or (for gradient checks) float64; training replaces them with new arrays.

    Raises `ConfigurationError` for invalid arguments.
    """

    kind: ImageKind | None = None
    grey: bool | None = None
    training: Recorded | None = None

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        hidden: str | Sequence[str] = "sigmoid",
        output: str = "sigmoid",
        init: str = "scaled",
        seed: int = 0,
        dtype: DTypeLike = np.float32,
    ) -> None:
        sizes = tuple(sizes)
        if len(sizes) < 2:
            raise ConfigurationError(f"sizes must have at least two entries, inputs and outputs, got {list(sizes)}")
        for size in sizes:
            check_whole("layer size", size, 1)
        check_whole("seed", seed, 0)
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ConfigurationError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")

        self.functions = checked_functions(hidden, output, len(sizes) - 1)
        layers = list(itertools.pairwise(sizes))
        try:
            self.weights: list[NDArray[Any]]
            self.biases: list[NDArray[Any]]
            self.weights, self.biases = draw(init, layers, seed, dtype, output=output)
        except (MemoryError, ValueError, OverflowError) as error:
            if isinstance(error, ConfigurationError):
                raise
            needed = sum(n_in * n_out for n_in, n_out in layers) * 8 / 2**30
            raise ConfigurationError(
                f"layer sizes {list(sizes)} need {needed:,.0f} GiB of memory for the weights alone; choose smaller ones"
            ) from error

    @property
    def sizes(self) -> tuple[int, ...]:
        """The layer sizes, (n_0, ..., n_L)."""
        return (self.weights[0].shape[1], *(len(b) for b in self.biases))

    @property
    def nets(self) -> tuple["MLP", ...]:
        """The network itself: see `Network`."""
        return (self,)

    def layers(self) -> dict[str, Any]:
        """Return the layer sizes and the activation functions as JSON types."""
        return {"sizes": list(self.sizes), "functions": list(self.functions)}

    def activations(self, images: ArrayLike) -> list[NDArray[Any]]:
        """Return the activations of every layer, a^0 (the scaled images) to a^L: layer l has the shape (n, n_l).

        `images` are arrays or lists: a batch, (n, n_0) or (n, rows, columns), or a single image, (n_0,) or
        (rows, columns), whose activations have the shape (n_l,). uint8 are grey levels from 0 to 255. Floats (MNIST's
        grey levels divided by 255) are rounded to the network's dtype and otherwise used unchanged, but a network
        trained on grey levels rejects values outside of -0.5 to 1.5. Such a network takes other integers as grey levels
        too; other networks treat them as `Split` does.

        Raises `DataError` for images of another shape, NaN, infinity, and floats that are grey levels from 0 to 255.
        """
        X, single = self._inputs(images)
        with np.errstate(over="ignore", invalid="ignore"):
            found = forward(np, self.weights, self.biases, X, self.functions)
        return [layer[0] for layer in found] if single else found

    def save(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write the network atomically to `path` as safetensors (see `gpunn.model_file`).

        Raises `OutputError` if it can't be written, and the errors of `check`.
        """
        self.check()
        own = Layers(self.weights, self.biases, self.functions, self.training)
        write_model(path, Model([own], ensemble=False, kind=self.kind, grey=self.grey))

    @classmethod
    def load(cls, path: str | bytes | os.PathLike[str]) -> Self:
        """Load the network in the model file at `path`; raises `ModelFileError` if that is missing or damaged."""
        model = read_model(path)
        if model.ensemble:
            raise ModelFileError(f"{printable(path)} holds an ensemble: load it with gpunn.load")
        return cls.of_model(model)[0]

    @classmethod
    def of_model(cls, model: Model) -> tuple[Self, ...]:
        """Return the networks in the contents of a model file, which has checked them."""
        nets = []
        for network in model.networks:
            net = cls.__new__(cls)
            net.weights, net.biases, net.functions, net.training = network
            net.kind, net.grey = model.kind, model.grey
            nets.append(net)
        return tuple(nets)

    def check(self) -> None:
        """Raise `ConfigurationError` if weights and biases don't fit together or aren't finite."""
        if len(self.weights) != len(self.biases) or not self.weights:
            raise ConfigurationError(
                f"found {len(self.weights)} weight matrices and {len(self.biases)} bias vectors, "
                "expected one of each per layer"
            )
        if len(self.functions) != len(self.weights):
            raise ConfigurationError(
                f"found {len(self.functions)} activation functions, expected one for each of {len(self.weights)} layers"
            )
        checked_functions(self.functions[:-1], self.functions[-1], len(self.weights))
        n_in = self.weights[0].shape[-1]
        for layer, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if W.shape != (len(b), n_in) or b.ndim != 1:
                raise ConfigurationError(
                    f"weights[{layer}] has the shape {W.shape} and biases[{layer}] {b.shape}: "
                    f"expected ({b.shape[0]}, {n_in}) and ({b.shape[0]},)"
                )
            if W.dtype != self.dtype or b.dtype != self.dtype or self.dtype not in (np.float32, np.float64):
                raise ConfigurationError(
                    f"weights[{layer}] is {W.dtype} and biases[{layer}] {b.dtype}: expected float32, or float64, in all"
                )
            if not (np.isfinite(W).all() and np.isfinite(b).all()):
                raise ConfigurationError(f"weights[{layer}] or biases[{layer}] hold values that aren't finite")
            n_in = len(b)
        if self.kind is not None:
            if not isinstance(self.kind, ImageKind):
                raise ConfigurationError(f"kind must be an ImageKind or None, got {type(self.kind).__name__}")
            self.kind.check_pixels(self.sizes[0])

    def __repr__(self) -> str:
        return f"MLP({list(self.sizes)}, functions={list(self.functions)}, dtype={self.dtype})"

    def __str__(self) -> str:
        return "-".join(map(str, self.sizes))
