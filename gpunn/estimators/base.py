"""What gpunn does in place of scikit-learn in both estimators: the stochastic fit, and the forward pass."""

import copy
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.utils.validation import validate_data

from gpunn.equations import mean, outputs
from gpunn.errors import ConfigurationError, DataError
from gpunn.estimators.epochs import OUTPUTS, Epochs, teller, train
from gpunn.estimators.exported import write_estimator
from gpunn.estimators.inputs import check_inputs
from gpunn.estimators.networks import draw_networks, resume_networks, summarise
from gpunn.estimators.parameters import EXTRA, FUNCTIONS, check_theirs
from gpunn.estimators.unchanged import unchanged_by_errors
from gpunn.estimators.validation import score_of

FLOATS = (np.float64, np.float32)
"""Accepted input dtypes; others are converted to the first."""

if TYPE_CHECKING:
    Theirs = Any
else:
    Theirs = object


class Accelerated(Theirs):
    """Mix-in for scikit-learn's two classes. All attributes are on the host and can be pickled."""

    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    best_loss_: float | None
    validation_loss_curve_: list[float] | None
    estimators_: list[Any]
    _extra: dict[str, Any] = EXTRA
    """Parameters that scikit-learn's class lacks, which pickles of before may lack too, and their defaults."""
    _given: tuple[Any, Any] | None = None
    """The caller's examples to validate with, during a fit."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None) -> Self:
        """Train a new network, or with `warm_start` the existing one, until it converges; return the estimator.

        `X` (n, n_0) is an array, data frame or sparse matrix of numbers; `y` (n,) or (n, n_L): see the class.
        `sample_weight` (n,) are non-negative weights. `X_val` and `y_val` are examples to validate with: their loss is
        recorded in `validation_loss_curve_`, and `early_stopping` takes them in place of examples held out. Warns
        (`ConvergenceWarning`) if `max_iter` epochs weren't enough, and after Ctrl-C, which keeps the network of the
        last finished epoch, or the best one with `early_stopping`. Raises `ValueError` for invalid parameters and
        data, `DeviceError` if the device can't be used, and `DivergenceError` if training diverges; with
        `early_stopping` only if no network had a score. After an error, or Ctrl-C before the end of the first epoch,
        the estimator is unchanged.
        """
        if (X_val is None) != (y_val is None):
            raise ConfigurationError("found one of X_val and y_val, expected both or neither")
        with unchanged_by_errors(self):
            if X_val is not None:
                self._given = X_val, y_val
            try:
                self._fit(X, y, sample_weight=sample_weight, incremental=False)
            finally:
                self.__dict__.pop("_given", None)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Self:
        check_inputs(X)
        if incremental:  # scikit-learn only checks them before the first part
            self._validate_params()
        if self.solver == "lbfgs":
            check_theirs(self, "solver='lbfgs'", validated=self._given is not None)
            self.validation_loss_curve_ = None
        if (incremental or self.warm_start) and hasattr(self, "coefs_"):
            resume_networks(self)
        self.device_, self.engine_ = "cpu", "scikit-learn"
        super()._fit(X, y, sample_weight=sample_weight, incremental=incremental)
        return self

    def _initialize(self, y: Any, layer_units: Any, dtype: Any) -> None:
        if self.n_networks > 1:
            draw_networks(self, y, layer_units, dtype)
            return
        self.__dict__.pop("estimators_", None)
        super()._initialize(y, layer_units, dtype)
        self.validation_loss_curve_ = None

    def _fit_stochastic(self, X: Any, y: Any, sample_weight: Any, *others: Any) -> None:
        *_, layer_units, incremental = others
        if why := self._theirs(incremental=incremental):
            check_theirs(self, why, validated=self._given is not None)
            self._prepare(layer_units)
            self.validation_loss_curve_ = None
            # It changes these in place.
            for name in ("coefs_", "intercepts_", "_optimizer"):
                if hasattr(self, name):
                    setattr(self, name, copy.deepcopy(getattr(self, name)))
            super()._fit_stochastic(X, y, sample_weight, *others)
            return
        networks = self.estimators_ if self.n_networks > 1 else [self]
        for network in networks:
            network._prepare(layer_units)
        common: dict[str, Any] = {"given": self._validation(), "tell": teller(self.callbacks)}
        train([Epochs(each, X, y, sample_weight, **common, incremental=incremental) for each in networks])
        if self.n_networks > 1:
            summarise(self)

    def _prepare(self, layer_units: Any) -> None:
        """Check that training can go on with these layers, and complete the attributes of a fit by other settings."""
        sizes = [self.coefs_[0].shape[0], *(len(b) for b in self.intercepts_)]
        if sizes != list(layer_units):
            raise ConfigurationError(
                f"found layers of {'-'.join(map(str, layer_units))} and a network of {'-'.join(map(str, sizes))}, "
                "expected the same to resume training: set warm_start=False, and call fit"
            )
        if not hasattr(self, "loss_curve_"):  # of "lbfgs"
            self.loss_curve_, self._no_improvement_count = [], 0
        if self.early_stopping and getattr(self, "validation_scores_", None) is None:
            self.validation_scores_, self.best_validation_score_, self.best_loss_ = [], -np.inf, None
        elif not self.early_stopping and getattr(self, "best_loss_", None) is None:
            self.validation_scores_, self.best_validation_score_, self.best_loss_ = None, None, np.inf

    def _theirs(self, *, incremental: bool) -> str | None:
        """Return why scikit-learn trains this, another loss or a momentum of 1, which engines lack, or None."""
        if self.out_activation_ not in OUTPUTS:
            return f"loss={self.loss!r}"
        owner = getattr(self, "_optimizer", self) if incremental else self
        return "momentum=1" if self.solver == "sgd" and getattr(owner, "momentum", 0) == 1 else None

    def _validation(self) -> tuple[Any, NDArray[Any]] | None:
        """Return the caller's examples to validate with: inputs, and targets (n, n_L) as the network takes them."""
        if self._given is None:
            return None
        checking = copy.copy(self).set_params(warm_start=False)  # with which all classes would be expected
        try:
            check_inputs(self._given[0])
            X, y = checking._validate_input(*self._given, incremental=True, reset=False)
        except ValueError as error:
            raise DataError(f"X_val and y_val must be like X and y: {error}") from error
        y = y.reshape(len(y), -1)
        if y.shape[1] != self.n_outputs_:
            raise DataError(f"y_val must have as many columns as y, {self.n_outputs_}, got {y.shape[1]}")
        return X.tocsr() if hasattr(X, "tocsr") else X, y

    def _score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return `X` if it is the validation score, or if scikit-learn trains, that of these examples."""
        return X if isinstance(X, float) else score_of(self, y, self._predict(X, check_input=False), sample_weight)

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> NDArray[Any]:
        """Return the output activations (n, n_L), a part of `X` at a time; of several networks, their mean."""
        if check_input:
            check_inputs(X)
            X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        if "estimators_" in vars(self):
            several: NDArray[Any] = mean([each._forward_pass_fast(X, check_input=False) for each in self.estimators_])
            return several
        if self.out_activation_ not in OUTPUTS:
            theirs: NDArray[Any] = super()._forward_pass_fast(X, check_input=False)
            return theirs
        dtype = np.result_type(X.dtype, self.coefs_[0])
        weights = [W.T.astype(dtype, copy=False) for W in self.coefs_]
        biases = [b.astype(dtype, copy=False) for b in self.intercepts_]
        functions = (*[FUNCTIONS[self.activation]] * (len(weights) - 1), OUTPUTS[self.out_activation_][0])
        found: NDArray[Any] = outputs(np, weights, biases, X.astype(dtype, copy=False), functions)
        return found

    def to_onnx(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write the fitted network atomically to `path` as ONNX (opset 17), which predicts the same in any runtime.

        Its input is `inputs` (n, n_0), n any number, floats of the dtype of `coefs_`. A classifier's outputs are
        `probabilities`, those of `predict_proba`, and `labels`, those of `predict`; a regressor's is `predictions`. The
        metadata have `feature_names_in_`, if there, as JSON under `feature_names`.

        Raises `NotFittedError`, `ConfigurationError` if the extra `onnx` is missing, for labels that are neither
        numbers nor text, and for networks too large for the format (2 GiB), and `OutputError` if the file can't be
        written.
        """
        write_estimator(self, path)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle; one of gpunn's own classes of before has no state of the optimiser, which starts afresh."""
        if "_without_improvement" in state:
            state["_no_improvement_count"] = state.pop("_without_improvement")
            state["_best_coefs"], state["_best_intercepts"] = state["coefs_"], state["intercepts_"]
            if "_labels" in state:
                state |= {"_label_binarizer": state.pop("_labels")._binarizer, "loss": "log_loss"}
        for name in ("_memory", "_rate", "_checked"):
            state.pop(name, None)
        super().__setstate__(self._extra | state)
