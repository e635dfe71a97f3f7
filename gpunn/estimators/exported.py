"""Estimators as ONNX files; skl2onnx takes scikit-learn's own classes only."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from gpunn.errors import ConfigurationError
from gpunn.estimators.epochs import OUTPUTS
from gpunn.estimators.parameters import FUNCTIONS
from gpunn.model_file import Layers
from gpunn.onnx_file import Graph, Head, above_half, largest, two_classes, write_onnx


def write_estimator(estimator: Any, path: str | bytes | os.PathLike[str]) -> None:
    """Write the fitted `estimator` to `path`; see `Accelerated.to_onnx`."""
    check_is_fitted(estimator)
    last = estimator.out_activation_
    functions = [FUNCTIONS[estimator.activation]] * (estimator.n_layers_ - 2)
    functions.append(OUTPUTS[last][0] if last in OUTPUTS else last)
    networks = vars(estimator).get("estimators_", [estimator])
    layers = [Layers([W.T for W in each.coefs_], each.intercepts_, tuple(functions)) for each in networks]
    names = getattr(estimator, "feature_names_in_", None)
    about = {} if names is None else {"feature_names": list(names)}
    head = _of_labels(estimator) if is_classifier(estimator) else _of_numbers(estimator.n_outputs_)
    write_onnx(path, layers, head, grey=False, about=about)


def _of_numbers(n_outputs: int) -> Head:
    def head(graph: Graph, output: str) -> None:
        flat = n_outputs == 1
        found = graph.add("Reshape", output, graph.constant([-1], np.int64)) if flat else output
        graph.output("predictions", found, graph.dtype, ["n"] if flat else ["n", n_outputs])

    return head


def _of_labels(estimator: Any) -> Head:
    n_outputs = estimator.n_outputs_
    several = estimator._label_binarizer.y_type_.startswith("multilabel")
    classes = _written(np.asarray(estimator.classes_))

    def head(graph: Graph, output: str) -> None:
        if several:
            graph.output("probabilities", output, graph.dtype, ["n", n_outputs])
            graph.output("labels", above_half(graph, output, flat=False), np.int64, ["n", n_outputs])
            return
        shares = two_classes(graph, output) if n_outputs == 1 else output
        places = above_half(graph, output) if n_outputs == 1 else largest(graph, output)
        # A single class is predicted whatever the output is.
        known = classes if len(classes) > 1 else np.repeat(classes, 2)
        labels = graph.add("Gather", graph.constant(known, known.dtype), places)
        graph.output("probabilities", shares, graph.dtype, ["n", max(2, n_outputs)])
        graph.output("labels", labels, known.dtype, ["n"])

    return head


def _written(classes: NDArray[Any]) -> NDArray[Any]:
    """Return `classes` in a dtype that ONNX has; raises `ConfigurationError` if there is none."""
    if classes.dtype.kind in "biuf":
        return classes
    found = classes.astype(object)
    if not all(isinstance(label, str) for label in found):
        raise ConfigurationError(
            f"found labels of dtype {classes.dtype}, an ONNX file holds numbers or text: convert them before fit"
        )
    return found
