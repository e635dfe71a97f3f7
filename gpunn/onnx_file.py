"""ONNX files of networks (opset 17), for runtimes that know nothing of gpunn; needs the extra `onnx`."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np

from gpunn.errors import ConfigurationError
from gpunn.files import write_whole
from gpunn.kernels.formulas.activations import LEAK
from gpunn.model_file import Layers

OPSET, IR_VERSION = 17, 10
"""Versions that runtimes have read since 2024; onnx would write its own newest ones."""

LARGEST = 2**31 - 2**20
"""Maximum bytes of parameters: the format holds less than 2 GiB."""

OPERATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "exp": "Exp"}
"""Operation of each activation function that takes no more than z."""

Shape = Sequence[int | str]

Head = Callable[["Graph", str], None]
"""Adds a graph's outputs, given the name of the networks' mean a^L (n, n_L)."""


@final
class Graph:
    """An ONNX graph that grows by operations; values are known by their names."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        """Make a graph that computes in `dtype`, float32 or float64; raises `ConfigurationError` if onnx is missing."""
        try:
            import onnx
        except ImportError as error:
            raise ConfigurationError(f"an ONNX file needs onnx ({error}): pip install 'gpunn[onnx]'") from error
        self._onnx, self.dtype = onnx, dtype
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._outputs: list[Any] = []

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add an array, or a number of the graph's dtype."""
        name = f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(value, self.dtype if dtype is None else dtype)
        # `ascontiguousarray` makes a vector of a number.
        self._constants.append(self._onnx.numpy_helper.from_array(array.reshape(np.shape(value)), name))
        return name

    def add(self, operation: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add an operation on values; return the name of its result."""
        name = name or f"value_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def cast(self, value: str, dtype: Any) -> str:
        """Add a conversion to `dtype`."""
        return self.add("Cast", value, to=self._type(dtype))

    def output(self, name: str, value: str, dtype: Any, shape: Shape) -> None:
        """Make `value`, of `dtype` and `shape`, the output `name`."""
        self.add("Identity", value, name=name)
        self._outputs.append(self._onnx.helper.make_tensor_value_info(name, self._type(dtype), shape))

    def serialized(self, dtype: Any, n_inputs: int, about: Mapping[str, Any]) -> bytes:
        """Return the file's contents; the graph's input is `inputs` (n, `n_inputs`) of `dtype`."""
        helper = self._onnx.helper
        given = helper.make_tensor_value_info("inputs", self._type(dtype), ["n", n_inputs])
        graph = helper.make_graph(self._nodes, "gpunn", [given], self._outputs, self._constants)
        versions = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION, producer_name="gpunn")
        helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})
        content: bytes = model.SerializeToString()
        return content

    def _type(self, dtype: Any) -> int:
        found: int = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return found


def write_onnx(
    path: str | bytes | os.PathLike[str],
    networks: Sequence[Layers],
    head: Head,
    *,
    grey: bool,
    about: Mapping[str, Any],
) -> None:
    """Write `networks`, of which the mean of the output activations counts, atomically to `path`.

    The input is named `inputs`, (n, n_0): with `grey` grey levels, uint8, which the graph divides by 255, otherwise
    floats of the parameters' dtype. `head` adds the outputs. `about` are the metadata, as JSON types. Raises
    `ConfigurationError` if onnx is missing or the networks are too large for the format, and `OutputError`.
    """
    arrays = [array for layers in networks for array in (*layers.weights, *layers.biases)]
    size = sum(array.nbytes for array in arrays)
    if size > LARGEST:
        raise ConfigurationError(
            f"found {size / 2**30:,.1f} GiB of parameters, an ONNX file holds less than 2 GiB: choose fewer or smaller "
            "networks"
        )
    graph = Graph(arrays[0].dtype)
    X = graph.add("Div", graph.cast("inputs", graph.dtype), graph.constant(255)) if grey else "inputs"
    found = [_outputs(graph, layers, X) for layers in networks]
    mean = found[0] if len(found) == 1 else graph.add("Div", graph.add("Sum", *found), graph.constant(len(found)))
    head(graph, mean)
    n_inputs = networks[0].weights[0].shape[1]
    write_whole(path, graph.serialized(np.uint8 if grey else graph.dtype, n_inputs, about))


def _outputs(graph: Graph, layers: Layers, X: str) -> str:
    """Add a forward pass; return a^L."""
    A = X
    for W, b, function in zip(layers.weights, layers.biases, layers.functions, strict=True):
        A = _activated(graph, function, graph.add("Gemm", A, graph.constant(W), graph.constant(b), transB=1))
    return A


def _activated(graph: Graph, function: str, Z: str) -> str:
    if function == "identity":
        return Z
    if function == "softmax":
        return graph.add("Softmax", Z, axis=1)
    if function == "leaky_relu":
        return graph.add("LeakyRelu", Z, alpha=LEAK)
    if function == "elu":  # onnxruntime's own is float32 only
        below = graph.add("Exp", graph.add("Min", Z, graph.constant(0)))
        return graph.add("Sub", graph.add("Add", graph.add("Relu", Z), below), graph.constant(1))
    return graph.add(OPERATIONS[function], Z)


def shares_and_labels(n_outputs: int) -> Head:
    """Return the head of a `Network`: `probabilities` (n, classes) and `labels` (n,), int64, as it predicts them."""

    def head(graph: Graph, output: str) -> None:
        positive = graph.add("Relu", output)
        if n_outputs == 1:
            shares = two_classes(graph, graph.add("Min", positive, graph.constant(1)))
            labels = above_half(graph, output)
        else:
            total = graph.add("ReduceSum", positive, graph.constant([1], np.int64), keepdims=1)
            some = graph.add("Greater", total, graph.constant(0))
            # Where all are 0, the classes get equal shares: 1 / n_outputs each.
            shares = graph.add(
                "Div",
                graph.add("Where", some, positive, graph.constant(1)),
                graph.add("Where", some, total, graph.constant(n_outputs)),
            )
            labels = largest(graph, output)
        graph.output("probabilities", shares, graph.dtype, ["n", max(2, n_outputs)])
        graph.output("labels", labels, np.int64, ["n"])

    return head


def two_classes(graph: Graph, yes: str) -> str:
    """Add 1 - `yes` and `yes`, (n, 2), of `yes` (n, 1)."""
    return graph.add("Concat", graph.add("Sub", graph.constant(1), yes), yes, axis=1)


def largest(graph: Graph, output: str) -> str:
    """Add the index of the largest of each row, (n,) int64."""
    return graph.add("ArgMax", output, axis=1, keepdims=0)


def above_half(graph: Graph, output: str, *, flat: bool = True) -> str:
    """Add 1 where `output` is above 0.5, else 0, int64; with `flat` (n,) of (n, 1)."""
    labels = graph.cast(graph.add("Greater", output, graph.constant(0.5)), np.int64)
    return graph.add("Reshape", labels, graph.constant([-1], np.int64)) if flat else labels
