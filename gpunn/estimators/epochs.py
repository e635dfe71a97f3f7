"""Stochastic fit of an estimator: scikit-learn's epochs, each run by an engine."""

import logging
import warnings
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from gpunn.backends import Backend
from gpunn.engines import Examples, Parameters, Recipe, choose_engine
from gpunn.engines.devices import Job
from gpunn.engines.plain import PlainEngine
from gpunn.engines.runner import Runner, Trained, on_device, running
from gpunn.errors import ConfigurationError, DivergenceError
from gpunn.estimators.examples import Batches, checked_weights, divide
from gpunn.estimators.inputs import engine_inputs
from gpunn.estimators.optimizers import Exact, Penalty, keep_state, make_theirs, ours, rate_of, state_of
from gpunn.estimators.parameters import FUNCTIONS
from gpunn.estimators.unchanged import InterruptedEarlyError
from gpunn.optimizers import Adam

logger = logging.getLogger(__name__)

SMALL = 2_000_000
"""Multiplications per epoch below which compiling and loading kernels takes longer than training (estimated)."""

FEW = 10
"""Batches per `partial_fit` call below which creating an engine takes longer than training (measured)."""

CLASSES = 256
"""Maximum number of classes in uint8."""

OUTPUTS = {
    "identity": ("identity", "squared_error"),
    "logistic": ("sigmoid", "binary_cross_entropy"),
    "softmax": ("softmax", "cross_entropy"),
}
"""gpunn's output activation and loss for each of scikit-learn's output activations."""


@final
class Epochs:
    """A fit, or with `incremental` a part of one, of an estimator that scikit-learn has initialised.

    It has validated the data too: `X` (n, n_0), `y` (n, n_L), and `weights` (n,) or None. With the engine `plain` the
    steps are scikit-learn's in the precision of the data; other engines compute in float32, with one L2 penalty for
    all batches. The estimator holds the result.
    """

    def __init__(self, estimator: Any, X: Any, y: NDArray[Any], weights: Any, *, incremental: bool) -> None:
        if incremental and estimator.early_stopping:
            raise ConfigurationError("partial_fit does not support early_stopping=True: use fit to stop early")
        self._estimator, self._incremental = estimator, incremental
        self._X, self._y = X.tocsr() if hasattr(X, "tocsr") else X, y
        self._most = 1 if incremental else estimator.max_iter
        if not incremental or not hasattr(estimator, "_optimizer"):
            estimator._optimizer = make_theirs(estimator)
        weights, weight = checked_weights(weights)
        rows, self._held_out = np.arange(len(y)), np.arange(0)
        if estimator.early_stopping:
            rows, self._held_out = divide(estimator, y, weights)
        self._batches = Batches(rows, _batch_size(estimator, len(rows)), weights, weight)
        activation, self._loss = OUTPUTS[estimator.out_activation_]
        self._functions = (*[FUNCTIONS[estimator.activation]] * (estimator.n_layers_ - 2), activation)
        # gpunn's squared error lacks the factor 1/2: its gradients are twice scikit-learn's.
        self._scale = 2.0 if self._loss == "squared_error" else 1.0
        self._penalty = Penalty(float(estimator.alpha), self._scale)
        self._adam = isinstance(ours(estimator._optimizer, self._scale), Adam)
        self._exact, self._converged = False, False

    def run(self) -> None:
        """Train until the estimator has converged, or Ctrl-C; warn as scikit-learn does."""
        estimator, batches, n = self._estimator, self._batches, len(self._y)
        small = n * sum(W.size for W in estimator.coefs_) < SMALL
        small |= self._incremental and n < FEW * batches.size
        engine = "plain" if small and estimator.engine == "auto" else estimator.engine
        if batches.weights is not None and engine != "plain":
            if engine != "auto":
                logger.info("engine plain: %s doesn't support sample weights", engine)
            engine = "plain"
        device = "cpu" if small and estimator.device == "auto" else estimator.device
        dtype = np.result_type(self._X.dtype, estimator.coefs_[0]) if engine == "plain" else np.dtype(np.float32)
        estimator.n_iter_ = 0
        with np.errstate(over="ignore", invalid="ignore"):  # non-finite numbers are checked for after each epoch
            estimator.coefs_ = [W.astype(dtype, copy=False) for W in estimator.coefs_]
            estimator.intercepts_ = [b.astype(dtype, copy=False) for b in estimator.intercepts_]
            examples = self._examples(dtype, grey=engine != "plain", stays_sparse=device in ("auto", "cpu"))
            if examples.sparse:
                device = "cpu"  # engines on GPUs take arrays only
            self._watched = self._watched_examples(dtype)
            on_device(
                device,
                lambda backend: self._run_on(backend, engine, examples),
                lambda: not estimator.n_iter_,
                lambda: [Job(self._start(), examples, self._recipe(), engine, self._most)],
            )
        if estimator.early_stopping:
            estimator.coefs_, estimator.intercepts_ = estimator._best_coefs, estimator._best_intercepts
        estimator.coefs_ = [np.ascontiguousarray(W) for W in estimator.coefs_]
        if estimator.n_iter_ == self._most and not self._converged and not self._incremental:
            message = (
                f"Stochastic Optimizer: Maximum iterations ({self._most}) reached and the optimization hasn't "
                "converged yet."
            )
            warnings.warn(message, ConvergenceWarning, stacklevel=2)

    def _run_on(self, backend: Backend, engine: str, examples: Examples) -> None:
        estimator, start, recipe = self._estimator, self._start(), self._recipe()
        with backend.activate():
            engine_type = choose_engine(engine, backend, start, recipe, examples)
        self._exact = engine_type is PlainEngine
        if self._exact:
            eps = float(np.finfo(start.weights[0].dtype).eps)  # from which scikit-learn clips probabilities
            largest = np.inf if self._loss == "squared_error" else -float(np.log(eps))
            optimizer = Exact(ours(estimator._optimizer, self._scale), self._penalty)
            recipe = replace(recipe, l2=0.0, optimizer=optimizer, largest_loss=largest)
        estimator.device_, estimator.engine_ = backend.name, engine_type.name
        logger.info("fitting on %s, engine %s, %s", backend.name, engine_type.name, start.weights[0].dtype)
        self._rate, self._squares = rate_of(estimator._optimizer), self._full_penalty()
        try:
            with running(backend, engine_type, start, examples, recipe) as runner:
                runner.run(self._most, lambda number: self._begin(runner, number), self._finish)
                keep_state(estimator._optimizer, runner.optimizer_state(), self._rate, self._scale)
        except KeyboardInterrupt:
            if not estimator.n_iter_:
                raise InterruptedEarlyError from None
            warnings.warn("Training interrupted by user.", stacklevel=2)

    def _begin(self, runner: Runner, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the next epoch's order and its batches' learning rates."""
        estimator, theirs, batches = self._estimator, self._estimator._optimizer, self._batches
        rate = rate_of(theirs)
        if number > 1 and rate != self._rate and theirs.momentum:
            # scikit-learn's velocities include the learning rate; a new engine starts with rescaled ones.
            keep_state(theirs, runner.optimizer_state(), self._rate, self._scale)
            runner.restart(self._start())
        self._rate = rate
        if estimator.shuffle:
            batches.shuffle(estimator._random_state)
        self._penalty.begin(batches.weighing(), batches.sizes)
        return batches.rows, np.full(len(batches.sizes), self._engine_rate())

    def _finish(self, _: int, trained: Trained) -> bool:
        """Record an epoch in the estimator; return whether training goes on."""
        estimator, early = self._estimator, self._estimator.early_stopping
        estimator.coefs_, estimator.intercepts_ = [W.T for W in trained.weights], list(trained.biases)
        estimator.n_iter_ += 1
        estimator.t_ += len(self._batches.rows)
        estimator.loss_ = np.float64(self._loss_of(trained))
        keeps = early and np.isfinite(estimator.best_validation_score_)
        if not keeps and not trained.is_finite(estimator.loss_):
            raise self._divergence()
        estimator.loss_curve_.append(estimator.loss_)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")  # noqa: T201 - requested by verbose
        estimator._update_no_improvement_count(early, *self._watched)
        if early and not np.isfinite(estimator.best_validation_score_):
            raise self._divergence()
        estimator._optimizer.iteration_ends(estimator.t_)
        self._converged = estimator._no_improvement_count > estimator.n_iter_no_change and self._stops()
        return not self._converged

    def _stops(self) -> bool:
        """Return whether training ends; an adaptive learning rate is lowered instead, as by scikit-learn."""
        estimator = self._estimator
        what = "Validation score" if estimator.early_stopping else "Training loss"
        patience = f"{estimator.n_iter_no_change} consecutive epochs"
        message = f"{what} did not improve more than tol={estimator.tol:f} for {patience}."
        if estimator._optimizer.trigger_stopping(message, estimator.verbose):
            return True
        estimator._no_improvement_count = 0
        return False

    def _loss_of(self, trained: Trained) -> float:
        """Return the epoch's loss as scikit-learn has it, with the penalty."""
        loss = trained.loss
        if self._loss == "squared_error":
            loss /= self._scale * self._estimator.n_outputs_  # scikit-learn averages over the outputs
        # Engines don't report their own penalty; the mean of before and after the epoch comes close.
        before, self._squares = self._squares, 0.0 if self._exact else self._full_penalty()
        return loss + (self._penalty.value() if self._exact else (before + self._squares) / 2)

    def _full_penalty(self) -> float:
        """Return the L2 penalty of full batches."""
        alpha = float(self._estimator.alpha)
        if not alpha:
            return 0.0
        squares = sum(float(np.vdot(W, W)) for W in self._estimator.coefs_)
        return alpha / 2 * squares / (self._batches.size * self._batches.weight)

    def _divergence(self) -> DivergenceError:
        estimator = self._estimator
        return DivergenceError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            f"preprocessed: training diverged in epoch {estimator.n_iter_} (non-finite parameters, loss or score); "
            "scale X, and numeric y, to mean 0 and deviation 1 (StandardScaler), or lower "
            f"learning_rate_init={rate_of(estimator._optimizer):g}"
        )

    def _engine_rate(self) -> float:
        """Return the rate that gives scikit-learn's step; Adam's doesn't depend on the scale of the gradients."""
        return self._rate / (1.0 if self._adam else self._scale)

    def _start(self) -> Parameters:
        """Return the parameters and optimiser state that an engine resumes from."""
        estimator, theirs = self._estimator, self._estimator._optimizer
        weights = [np.ascontiguousarray(W.T) for W in estimator.coefs_]
        memory = state_of(theirs, rate_of(theirs), self._scale)
        return Parameters(weights, estimator.intercepts_, self._functions, memory)

    def _recipe(self) -> Recipe:
        """Return the recipe for engines; `plain` replaces its optimiser and penalty by scikit-learn's."""
        estimator, batches = self._estimator, self._batches
        self._rate = rate_of(estimator._optimizer)
        return Recipe(
            batches.size,
            self._engine_rate(),
            loss=self._loss,
            optimizer=ours(estimator._optimizer, self._scale),
            l2=self._scale * float(estimator.alpha) / (batches.size * batches.weight),
        )

    def _examples(self, dtype: np.dtype[Any], *, grey: bool, stays_sparse: bool) -> Examples:
        """Return all examples as engines take them."""
        y, weights = self._y, self._batches.weights
        labels = self._loss == "cross_entropy" and y.shape[1] <= CLASSES
        targets = y.argmax(axis=1).astype(np.uint8) if labels else np.ascontiguousarray(y, dtype)
        weights = None if weights is None else weights.astype(dtype)
        return Examples(engine_inputs(self._X, dtype, grey=grey, stays_sparse=stays_sparse), targets, weights)

    def _watched_examples(self, dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
        """Return inputs, labels or numbers, and weights of the examples held out; None for each without any."""
        rows, weights = self._held_out, self._batches.weights
        if not len(rows):
            return None, None, None
        y = self._y[rows]
        if self._loss != "squared_error":
            y = self._estimator._label_binarizer.inverse_transform(y)
        return self._X[rows].astype(dtype, copy=False), y, None if weights is None else weights[rows]


def _batch_size(estimator: Any, n: int) -> int:
    asked = estimator.batch_size
    if isinstance(asked, str):
        return min(200, n)
    if asked > n:
        message = f"Got `batch_size`={asked}, larger than the {n} training examples. It is going to be clipped"
        warnings.warn(message, stacklevel=2)
    return int(min(asked, n))
