"""The labels of classifiers in pickles of gpunn 0.1's own classes, so that they can be loaded."""

from typing import Any


class Labels:
    """Holds scikit-learn's `LabelBinarizer`."""

    _binarizer: Any
