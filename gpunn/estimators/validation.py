"""The loss and the score of a network on examples to validate with."""

import copy
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, check_scoring, r2_score
from sklearn.neural_network._base import LOSS_FUNCTIONS


class Validation(NamedTuple):
    """Examples held out or given: targets are as the network takes them, and as a score does; weights (n,) or None."""

    X: Any
    y: NDArray[Any]
    truth: NDArray[Any]
    weights: NDArray[Any] | None


def validate(estimator: Any, examples: Validation) -> tuple[float, float]:
    """Return the mean loss as scikit-learn has it, without the penalty, and with early stopping the score, or NaN."""
    X, y, truth, weights = examples
    found = estimator._forward_pass_fast(X, check_input=False)
    name = "binary_log_loss" if estimator.out_activation_ == "logistic" else estimator.loss
    loss = float(LOSS_FUNCTIONS[name](y, found, weights))
    if not estimator.early_stopping:
        return loss, np.nan
    if estimator.scoring is None:
        found = found.ravel() if estimator.n_outputs_ == 1 else found
        found = estimator._label_binarizer.inverse_transform(found) if is_classifier(estimator) else found
        return loss, score_of(estimator, truth, found, weights)
    if estimator.scoring == "loss" or not np.isfinite(found).all():
        return loss, -loss if np.isfinite(loss) else np.nan
    unnamed = copy.copy(estimator)  # as these inputs have no names of columns
    vars(unnamed).pop("feature_names_in_", None)
    scorer = check_scoring(unnamed, estimator.scoring)
    own = {} if weights is None or not _takes_weights(scorer) else {"sample_weight": weights}
    return loss, float(scorer(unnamed, X, truth, **own))


def _takes_weights(scorer: Any) -> bool:
    """Return whether a function (estimator, X, y), or the metric in one of scikit-learn's, has sample weights."""
    if hasattr(scorer, "_accept_sample_weight"):
        return bool(scorer._accept_sample_weight())
    return "sample_weight" in signature(scorer).parameters


def score_of(estimator: Any, truth: Any, found: NDArray[Any], weights: NDArray[Any] | None) -> float:
    """Return the accuracy, or R^2, of predictions; NaN if they aren't finite."""
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        return np.nan
    return float((accuracy_score if is_classifier(estimator) else r2_score)(truth, found, sample_weight=weights))
