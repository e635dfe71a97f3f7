"""Conversion of labels to targets, and of outputs to labels."""

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import type_of_target, unique_labels

from gpunn.errors import DataError

MOST = 256
"""Maximum number of classes in uint8."""


@final
class Labels:
    """The classes found in `y`: labels (n,), or zeros and ones (n, k), an array or a sparse matrix."""

    def __init__(self, y: Any) -> None:
        self._binarizer = LabelBinarizer().fit(_flat(y))

    @classmethod
    def of_first_part(cls, y: Any, classes: NDArray[Any]) -> Self:
        """Return the labels `classes`, of which `y` may hold only some."""
        return cls(y if type_of_target(y).startswith("multilabel") else classes)

    @property
    def classes(self) -> NDArray[Any]:
        """The labels, sorted, (n_classes,); for (n, k) zeros and ones, the numbers from 0 to k - 1."""
        found: NDArray[Any] = self._binarizer.classes_
        return found

    @property
    def output(self) -> str:
        """The output layer's activation function, by scikit-learn's name."""
        return "softmax" if self._binarizer.y_type_ == "multiclass" else "logistic"

    @property
    def n_outputs(self) -> int:
        """Number of outputs; one for two classes."""
        one = self._binarizer.y_type_ == "binary"
        return 1 if one else len(self.classes)

    def check(self, y: Any, *, complete: bool) -> None:
        """Raise `DataError` if `y` has other labels, or with `complete`, not all of them."""
        found = unique_labels(_flat(y))
        others = np.setdiff1d(found, self.classes)
        if len(others):
            raise DataError(f"found the labels {_named(others)} in y, expected some of {_named(self.classes)}")
        if complete and len(found) < len(self.classes):
            missing = np.setdiff1d(self.classes, found)
            raise DataError(
                f"found no {_named(missing)} in y, expected all classes of the previous fit: with warm_start=True they "
                "must be the same"
            )

    def encode(self, y: Any) -> NDArray[Any]:
        """Return the targets: classes, uint8 (n,), or zeros and ones for each output (n, n_L)."""
        y = _flat(y)
        if self.output == "softmax" and len(self.classes) <= MOST and y.ndim == 1:
            classes: NDArray[Any] = np.searchsorted(self.classes, y).astype(np.uint8)
            return classes
        rows: NDArray[Any] = self._binarizer.transform(y)
        return rows

    def decode(self, outputs: NDArray[Any]) -> Any:
        """Return the predicted labels for outputs (n, n_L), in the format of `y`."""
        return self._binarizer.inverse_transform(outputs if self.n_outputs > 1 else outputs.ravel())

    def accuracy(self, outputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None) -> float:
        """Return the fraction of examples, weighted by `weights`, with all labels right; `targets` from `encode`."""
        if len(self.classes) == 1:  # the only prediction
            return 1.0
        if self.output == "softmax":
            classes = targets if targets.ndim == 1 else targets.argmax(axis=1)
            right = outputs.argmax(axis=1) == classes
        else:
            right = ((outputs > 0.5) == (targets > 0.5)).all(axis=1)
        return float(np.average(right, weights=weights))


def _flat(y: Any) -> Any:
    """Flatten a column of labels to (n,), with scikit-learn's warning."""
    return column_or_1d(y, warn=True) if getattr(y, "ndim", 1) == 2 and y.shape[1] == 1 else y


def _named(labels: NDArray[Any], most: int = 10) -> str:
    names = [str(label) for label in labels[:most]]
    return ", ".join([*names, "..."] if len(labels) > most else names)
