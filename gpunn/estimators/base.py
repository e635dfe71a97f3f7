"""Base class of both estimators: validation, fitting and prediction."""

import operator
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from gpunn.equations import outputs
from gpunn.errors import ConfigurationError
from gpunn.estimators.examples import Task, checked_weights
from gpunn.estimators.loop import fit_network
from gpunn.estimators.parameters import FUNCTIONS, Settings, check_supported, hidden_sizes
from gpunn.estimators.progress import Network, Progress
from gpunn.estimators.start import draw
from gpunn.optimizers import OptimizerState

OUTPUTS = {"identity": "squared_error", "logistic": "binary_cross_entropy", "softmax": "cross_entropy"}
"""Loss for each output activation, by scikit-learn's name."""

FLOATS = (np.float64, np.float32)
"""Accepted input dtypes; others are converted to the first."""


class Perceptron(Settings, BaseEstimator, ABC):
    """A multi-layer perceptron with scikit-learn's interface; all its attributes are on the host and can be pickled."""

    coefs_: list[NDArray[Any]]
    intercepts_: list[NDArray[Any]]
    loss_: np.float64
    best_loss_: np.float64 | None
    loss_curve_: list[np.float64]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    t_: int
    n_iter_: int
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    n_features_in_: int
    device_: str
    engine_: str

    _checked: Sequence[Any] = ()
    """Parameter values already validated by `partial_fit`."""
    _without_improvement: int
    _rate: float
    _memory: tuple[OptimizerState | None, float]

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network, or with `warm_start` the existing one, until it converges; return the estimator.

        `X` (n, n_0) is an array, data frame or sparse matrix of numbers, converted to float64 unless float32. `y` (n,)
        or (n, n_L): see the class. `sample_weight` (n,) are non-negative weights. Warns (`ConvergenceWarning`) if
        `max_iter` epochs weren't enough, and after Ctrl-C, which keeps the network of the last finished epoch, or the
        best one with `early_stopping`. Raises `ConfigurationError` for parameters that gpunn doesn't support,
        `ValueError` for other invalid parameters and data, `DeviceError` if the device can't be used, and
        `DivergenceError` if a parameter, the loss or the score becomes non-finite. After an error, or Ctrl-C before the
        end of the first epoch, the estimator is unchanged.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool, classes: Any = None) -> Self:
        """Train a copy of this estimator, and take over its state on success."""
        trial = object.__new__(type(self))
        trial.__dict__.update(self.__dict__)
        draws = self.random_state if isinstance(self.random_state, np.random.RandomState) else None
        state = None if draws is None else draws.get_state(legacy=False)
        trained = False
        try:
            trained, warning = trial._fit_on(X, y, sample_weight, incremental=incremental, classes=classes)
        finally:
            if draws is not None and state is not None and not trained:
                draws.set_state(state)
        if trained:
            self.__dict__ = trial.__dict__
        if warning is not None:  # last, as filters may turn it into an error
            warnings.warn(warning, stacklevel=4)
        return self

    def _check_parameters(self) -> None:
        """Validate the parameters again if any changed; scikit-learn validates only on the first `partial_fit`."""
        found = [getattr(self, name) for name in self._parameter_constraints]
        if len(found) != len(self._checked) or not all(map(operator.is_, found, self._checked)):
            self._validate_params()
            self._checked = found

    def _fit_on(
        self, X: Any, y: Any, sample_weight: Any, *, incremental: bool, classes: Any
    ) -> tuple[bool, Warning | None]:
        """Train; return whether an epoch was finished, and a warning to issue."""
        if incremental:
            self._check_parameters()
        check_supported(self, incremental=incremental)
        goes_on = hasattr(self, "coefs_") and (self.warm_start or incremental)
        X, y = self._validated(X, y, reset=not goes_on)
        targets, n_outputs = self._encoded(y, goes_on=goes_on, incremental=incremental, classes=classes)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        random_state = check_random_state(self.random_state)

        sizes = [X.shape[1], *hidden_sizes(self), n_outputs]
        if goes_on:
            progress = self._progress(sizes, incremental=incremental)
        else:
            progress = Progress(draw(sizes, self.activation, random_state, X.dtype), float(self.learning_rate_init))
        output = self._output_function()
        task = Task(
            X,
            targets,
            *checked_weights(weights),
            functions=(*[FUNCTIONS[self.activation]] * (len(sizes) - 2), "sigmoid" if output == "logistic" else output),
            loss=OUTPUTS[output],
            score=self._score_of,
            stratified=output == "logistic" and n_outputs == 1,
        )
        if self.early_stopping:
            progress.watch_scores()
        else:
            progress.watch_losses()
        with np.errstate(over="ignore", invalid="ignore"):  # non-finite numbers are checked for after each epoch
            warning = fit_network(self, task, progress, random_state, incremental=incremental)
        if progress.epochs:
            self._publish(progress, output, goes_on=goes_on)
        return progress.epochs > 0, warning

    def _validated(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        numeric = {"y_numeric": True} if self._numeric_targets else {}
        return validate_data(  # type: ignore[no-any-return]
            self, X, y, accept_sparse="csr", multi_output=True, dtype=FLOATS, reset=reset, **numeric
        )

    def _progress(self, sizes: Sequence[int], *, incremental: bool) -> Progress:
        """Return the progress to resume from."""
        found = [self.coefs_[0].shape[0], *(len(b) for b in self.intercepts_)]
        if found != list(sizes):
            raise ConfigurationError(
                f"found layers of {'-'.join(map(str, sizes))} and a network of {'-'.join(map(str, found))}, expected "
                "the same to resume training: set warm_start=False, and call fit"
            )
        network: Network = ([np.ascontiguousarray(coef.T) for coef in self.coefs_], list(self.intercepts_))
        progress = Progress(
            network,
            float(self.learning_rate_init),
            best_loss=self.best_loss_,
            scores=None if self.validation_scores_ is None else [],
            best_score=self.best_validation_score_,
            seen=self.t_,
            without_improvement=self._without_improvement,
        )
        if incremental:
            if self.solver == "sgd" and self.learning_rate == "adaptive":
                progress.rate = self._rate
            elif self.solver == "sgd" and self.learning_rate == "invscaling":
                progress.rate /= (self.t_ + 1) ** float(self.power_t)
            progress.memory, progress.memory_rate = self._memory
        return progress

    def _publish(self, progress: Progress, output: str, *, goes_on: bool) -> None:
        """Set scikit-learn's fitted attributes."""
        weights, biases = progress.network if progress.best is None else progress.best
        self.coefs_, self.intercepts_ = [np.ascontiguousarray(W.T) for W in weights], list(biases)
        self.n_layers_, self.n_outputs_, self.out_activation_ = len(weights) + 1, len(biases[-1]), output
        self.loss_, self.best_loss_ = progress.losses[-1], progress.best_loss
        self.best_validation_score_ = progress.best_score
        self.t_, self.n_iter_ = progress.seen, progress.epochs
        self.device_, self.engine_ = progress.device, progress.engine
        self._without_improvement, self._rate = progress.without_improvement, progress.rate
        self._memory = progress.memory, progress.memory_rate
        # Lists are extended in place, as copying them at every call would be slow. Done last, so that a failure above
        # leaves them unchanged.
        scores = self.validation_scores_ if goes_on and progress.scores is not None else None
        if progress.scores is None:
            self.validation_scores_ = None
        elif scores is None:
            self.validation_scores_ = progress.scores
        else:
            scores.extend(progress.scores)
        if goes_on:
            self.loss_curve_.extend(progress.losses)
        else:
            self.loss_curve_ = progress.losses

    def _outputs(self, X: Any) -> NDArray[Any]:
        """Return the output activations (n, n_L), computed in the precision of `X`."""
        check_is_fitted(self, "coefs_")
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        with np.errstate(over="ignore"):
            weights = [coef.T.astype(X.dtype, copy=False) for coef in self.coefs_]
            biases = [intercept.astype(X.dtype, copy=False) for intercept in self.intercepts_]
        output = "sigmoid" if self.out_activation_ == "logistic" else self.out_activation_
        functions = (*[FUNCTIONS[self.activation]] * (len(weights) - 1), output)
        found: NDArray[Any] = outputs(np, weights, biases, X, functions)
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    _numeric_targets: ClassVar[bool]
    """Whether targets must be numeric."""

    @abstractmethod
    def _encoded(self, y: NDArray[Any], *, goes_on: bool, incremental: bool, classes: Any) -> tuple[NDArray[Any], int]:
        """Return the targets, as in `Task`, and the number of outputs; `classes` as in `partial_fit`."""

    @abstractmethod
    def _output_function(self) -> str:
        """Return the output layer's activation function, one of `OUTPUTS`."""

    @abstractmethod
    def _score_of(self, outputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None) -> float:
        """Return the accuracy, or R^2, of `outputs` (n, n_L)."""
