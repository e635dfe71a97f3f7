"""`MLPClassifier`: scikit-learn's, trained by gpunn's engines."""

from typing import Any, ClassVar, Self, final

import numpy as np
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, validate_data

from gpunn.errors import ConfigurationError
from gpunn.estimators.base import FLOATS, Accelerated
from gpunn.estimators.parameters import CONSTRAINTS, EXTRA, init_of
from gpunn.estimators.unchanged import unchanged_by_errors


@final
class MLPClassifier(Accelerated, theirs.MLPClassifier):
    """scikit-learn's `MLPClassifier`, with fast training: it is a subclass, and has the same parameters and attributes.

    `y` (n,) are labels of any kind, or (n, k) zeros and ones for multilabel problems with k classes. With the same
    `random_state`, scikit-learn trains the same network.

    Parameters are added. `device` is "cpu", "cuda", "cuda:N" or "auto", the one that is estimated to do `max_iter`
    epochs first. `engine` "plain" trains in the precision of X, with the same steps as scikit-learn; "fused" and
    "epoch" in float32, compiled. "auto" is "plain" if an epoch is little work, otherwise the fastest that supports the
    settings. Sample weights are always trained by "plain", and `solver="lbfgs"` and a momentum of 1 by scikit-learn.
    The attributes `device_` and `engine_` say what the last fit used. The others are off by default:

    - `scoring`: what `early_stopping` goes by: None for the accuracy, "loss" for the validation loss, the name of a
      scorer, or a callable (estimator, X, y). `validation_loss_curve_` has the loss after each epoch.
    - `class_weight`: a dict of weights by label, for multilabel problems a list of them, or "balanced": weights of
      examples, on top of `sample_weight`.
    - `dropout`: share of hidden activations dropped in training.
    - `schedule`: "cosine", "one_cycle" or another of `gpunn.schedules`: factors on the rates of a fit's batches.
    - `callbacks`: called after each epoch, one or several, with the estimator and a dict of the lists "loss",
      "validation_loss" and "validation_score"; an answer of False ends training.
    - `n_networks`: number of networks from different seeds, which `random_state` draws, trained at once on the cores of
      a CPU. The mean of their outputs is predicted. `estimators_` has them; `coefs_` and `intercepts_` are empty.

    `activation` may also be "elu" or "leaky_relu". `verbose` shows a bar on a terminal and in a notebook.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **theirs.MLPClassifier._parameter_constraints,
        **CONSTRAINTS,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    _extra = EXTRA | {"class_weight": None}

    __init__ = init_of(theirs.MLPClassifier, _extra)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one more epoch on these examples; return the estimator.

        `X`, `y`, `sample_weight` and errors are those of `fit`. `classes` (n_classes,) are all labels that will ever
        occur; required in the first call. As in scikit-learn, the optimiser's parameters are those of the first call.
        """
        with unchanged_by_errors(self):
            super().partial_fit(X, y, sample_weight, classes)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Self:
        weights = self.class_weight
        if incremental and weights == "balanced":
            raise ConfigurationError("partial_fit does not support class_weight='balanced': give a dict of weights")
        if weights is not None and y is not None:
            labels = y if sparse.issparse(y) else np.asarray(y)
            weights = _of_present(weights, labels) if incremental else weights
            given = 1.0 if sample_weight is None else _check_sample_weight(sample_weight, labels)
            sample_weight = compute_sample_weight(weights, labels) * given
        return super()._fit(X, y, sample_weight=sample_weight, incremental=incremental)

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        """Return the examples and the targets, zeros and ones; faster than scikit-learn for parts with known labels."""
        known = getattr(self, "classes_", None)
        labels = y if sparse.issparse(y) or known is None else np.asarray(y)
        if (
            (incremental and not reset and not self.warm_start and known is not None)
            and (labels.ndim == 1 and labels.dtype.kind in "biuU" and labels.dtype.kind == known.dtype.kind)
            and self._label_binarizer.y_type_ in ("binary", "multiclass")
        ):
            places = np.minimum(np.searchsorted(known, labels), len(known) - 1)
            if np.array_equal(known[places], labels):
                X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
                check_consistent_length(X, labels)
                return X, places[:, None] == (np.arange(len(known)) if len(known) > 2 else [1])
        found: tuple[Any, Any] = super()._validate_input(X, y, incremental, reset)
        return found


def _of_present(weights: Any, labels: Any) -> Any:
    """Return the weights, a dict or one for each column, of the labels that occur: a part need not have all."""
    if isinstance(weights, dict):
        present = np.unique(labels).tolist()
        return {label: weight for label, weight in weights.items() if label in present}
    if isinstance(weights, list) and labels.ndim == 2 and labels.shape[1] == len(weights):
        columns = (labels.toarray() if sparse.issparse(labels) else labels).T
        return [_of_present(each, column) for each, column in zip(weights, columns, strict=True)]
    return weights  # scikit-learn says what is wrong
