"""Stochastic fit of an estimator: scikit-learn's epochs, each run by an engine."""

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from threading import Lock
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from gpunn.backends import Backend
from gpunn.engines import Examples, Parameters, Recipe, choose_engine
from gpunn.engines.cores import on_each_core
from gpunn.engines.devices import Job
from gpunn.engines.plain import PlainEngine
from gpunn.engines.runner import Runner, Trained, on_device, running
from gpunn.engines.speed import Work
from gpunn.engines.stopping import Stopped
from gpunn.engines.tuned import speeds
from gpunn.errors import ConfigurationError, DivergenceError
from gpunn.estimators.examples import Batches, checked_weights, divide
from gpunn.estimators.inputs import engine_inputs
from gpunn.estimators.optimizers import Exact, Penalty, keep_state, make_theirs, ours, rate_of, state_of
from gpunn.estimators.parameters import FUNCTIONS
from gpunn.estimators.unchanged import InterruptedEarlyError
from gpunn.estimators.validation import Validation, validate
from gpunn.history import goes_on
from gpunn.optimizers import Adam
from gpunn.progress import progress
from gpunn.schedules import schedule_for

logger = logging.getLogger(__name__)

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

HISTORY = {"loss": "loss_curve_", "validation_loss": "validation_loss_curve_", "validation_score": "validation_scores_"}
"""What a callback's history has, if there is any, and the estimator's attributes with it."""

Tell = Callable[[Any], bool]
"""Tells callbacks about an epoch of an estimator; returns whether training goes on."""


@final
class Epochs:
    """A fit, or with `incremental` a part of one, of an estimator that scikit-learn has initialised.

    It has validated the data too: `X` (n, n_0), `y` (n, n_L), and `weights` (n,) or None. `given` are examples to
    validate with, like `X` and `y`, or None; `tell` is called after each epoch. With the engine `plain` the steps are
    scikit-learn's in the precision of the data; other engines compute in float32, with one L2 penalty for all batches.
    The estimator holds the result.
    """

    def __init__(
        self, estimator: Any, X: Any, y: NDArray[Any], weights: Any, *, given: Any, tell: Tell, incremental: bool
    ) -> None:
        if incremental and estimator.early_stopping:
            raise ConfigurationError("partial_fit does not support early_stopping=True: use fit to stop early")
        self._schedule = schedule_for(estimator.schedule or "constant")
        if incremental and estimator.schedule is not None:
            raise ConfigurationError(
                f"partial_fit does not support schedule={estimator.schedule!r}, which is of all epochs: use fit"
            )
        self.estimator, self._incremental = estimator, incremental
        self._X, self._y = X.tocsr() if hasattr(X, "tocsr") else X, y
        self.most, self.converged = 1 if incremental else estimator.max_iter, incremental
        kept = getattr(estimator, "_optimizer", None) if incremental else None
        # Its attributes are replaced during a fit, which may fail.
        estimator._optimizer = make_theirs(estimator) if kept is None else copy.copy(kept)
        weights, weight = checked_weights(weights)
        rows, self._held_out, self._given = np.arange(len(y)), np.arange(0), given
        if estimator.early_stopping and given is None:
            rows, self._held_out = divide(estimator, y, weights)
        self._batches = Batches(rows, _batch_size(estimator, len(rows)), weights, weight)
        activation, self._loss = OUTPUTS[estimator.out_activation_]
        self._functions = (*[FUNCTIONS[estimator.activation]] * (estimator.n_layers_ - 2), activation)
        # gpunn's squared error lacks the factor 1/2: its gradients are twice scikit-learn's.
        self._scale = 2.0 if self._loss == "squared_error" else 1.0
        self._penalty = Penalty(float(estimator.alpha), self._scale)
        self._adam = isinstance(ours(estimator._optimizer, self._scale), Adam)
        self._draw = int(estimator._random_state.randint(1 << 31)) if estimator.dropout else 0
        self._exact, self._tell = False, tell

    def prepare(self) -> tuple[str, str]:
        """Convert the network to the dtype that it is trained in; return the engine and the device to ask for."""
        estimator, batches, n = self.estimator, self._batches, len(self._y)
        small = (self._incremental and n < FEW * batches.size) or speeds().quick(self._work())
        engine = "plain" if small and estimator.engine == "auto" else estimator.engine
        if batches.weights is not None and engine != "plain":
            if engine != "auto":
                logger.info("engine plain: %s doesn't support sample weights", engine)
            engine = "plain"
        device = "cpu" if small and estimator.device == "auto" else estimator.device
        dtype = np.result_type(self._X.dtype, estimator.coefs_[0]) if engine == "plain" else np.dtype(np.float32)
        estimator.n_iter_ = 0
        estimator.coefs_ = [W.astype(dtype, copy=False) for W in estimator.coefs_]
        estimator.intercepts_ = [b.astype(dtype, copy=False) for b in estimator.intercepts_]
        self._validation = self._validation_of(dtype)
        curve = getattr(estimator, "validation_loss_curve_", None) or []
        estimator.validation_loss_curve_ = None if self._validation is None else curve
        return engine, device

    def _work(self) -> Work:
        """Return the work of an epoch."""
        estimator, batches = self.estimator, self._batches
        sizes = estimator.coefs_[0].shape[0], *map(len, estimator.intercepts_)
        moments = ours(estimator._optimizer, self._scale).n_moments
        return Work(sizes, len(self._y), batches.size, moments=moments)

    def choose(self, backend: Backend, engine: str, examples: Examples) -> None:
        """Choose the engine to run on `backend`, and its recipe."""
        estimator, start, recipe = self.estimator, self.start(), self.recipe()
        with backend.activate():
            self._engine = choose_engine(engine, backend, start, recipe, examples)
        self._exact = self._engine is PlainEngine
        if self._exact:
            eps = float(np.finfo(start.weights[0].dtype).eps)  # from which scikit-learn clips probabilities
            largest = np.inf if self._loss == "squared_error" else -float(np.log(eps))
            optimizer = Exact(ours(estimator._optimizer, self._scale), self._penalty)
            recipe = replace(recipe, l2=0.0, optimizer=optimizer, largest_loss=largest)
        self._used = recipe
        estimator.device_, estimator.engine_ = backend.name, self._engine.name

    def run(self, backend: Backend, examples: Examples) -> None:
        """Train until the estimator has converged, or training is stopped."""
        estimator, start = self.estimator, self.start()
        logger.info("fitting on %s, engine %s, %s", backend.name, self._engine.name, start.weights[0].dtype)
        self._rate, self._squares = rate_of(estimator._optimizer), self._full_penalty()
        bar = progress(self.most) if estimator.verbose and not self._incremental else nullcontext()
        with (
            suppress(Stopped),
            np.errstate(over="ignore", invalid="ignore"),  # non-finite numbers are checked for after each epoch
            bar as self._show,
            running(backend, self._engine, start, examples, self._used) as runner,
        ):
            runner.run(self.most, lambda number: self._begin(runner, number), self._finish)
            keep_state(estimator._optimizer, runner.optimizer_state(), self._rate, self._scale)

    def _begin(self, runner: Runner, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the next epoch's order and its batches' learning rates."""
        estimator, theirs, batches = self.estimator, self.estimator._optimizer, self._batches
        rate = rate_of(theirs)
        if number > 1 and rate != self._rate and theirs.momentum:
            # scikit-learn's velocities include the learning rate; a new engine starts with rescaled ones.
            keep_state(theirs, runner.optimizer_state(), self._rate, self._scale)
            runner.restart(self.start(), replace(self._used, seed=self._seed()))
        self._rate = rate
        if estimator.shuffle:
            batches.shuffle(estimator._random_state)
        self._penalty.begin(batches.weighing(), batches.sizes)
        return batches.rows, self._engine_rate() * self._schedule.factors(number - 1, self.most, len(batches.sizes))

    def _finish(self, _: int, trained: Trained) -> bool:
        """Record an epoch in the estimator; return whether training goes on."""
        estimator, early = self.estimator, self.estimator.early_stopping
        estimator.coefs_, estimator.intercepts_ = [W.T for W in trained.weights], list(trained.biases)
        estimator.n_iter_ += 1
        estimator.t_ += len(self._batches.rows)
        estimator.loss_ = np.float64(self._loss_of(trained))
        keeps = early and np.isfinite(estimator.best_validation_score_)
        if not keeps and not trained.is_finite(estimator.loss_):
            raise self._divergence()
        estimator.loss_curve_.append(estimator.loss_)
        verbose = estimator.verbose
        estimator.verbose = verbose and self._show is None
        try:
            stops = self._watch()
        finally:
            estimator.verbose = verbose
        if self._show is not None:
            score = f"  validation score {estimator.validation_scores_[-1]:.4f}" if early else ""
            self._show(estimator.n_iter_, f"loss {estimator.loss_:.4f}{score}")
        self.converged |= not self._tell(estimator) or stops
        return not self.converged

    def _watch(self) -> bool:
        """Validate the network of an epoch; return whether training has converged, as scikit-learn does."""
        estimator, early = self.estimator, self.estimator.early_stopping
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")  # noqa: T201 - requested by verbose
        score = np.nan
        if self._validation is not None:
            loss, score = validate(estimator, self._validation)
            estimator.validation_loss_curve_.append(loss)
        estimator._update_no_improvement_count(early, score, None, None)
        if early and not np.isfinite(estimator.best_validation_score_):
            raise self._divergence()
        estimator._optimizer.iteration_ends(estimator.t_)
        if estimator._no_improvement_count <= estimator.n_iter_no_change:
            return False
        what = "Validation score" if early else "Training loss"
        patience = f"{estimator.n_iter_no_change} consecutive epochs"
        message = f"{what} did not improve more than tol={estimator.tol:f} for {patience}."
        if estimator._optimizer.trigger_stopping(message, estimator.verbose):
            return True
        estimator._no_improvement_count = 0  # an adaptive learning rate is lowered instead
        return False

    def _loss_of(self, trained: Trained) -> float:
        """Return the epoch's loss as scikit-learn has it, with the penalty."""
        loss = trained.loss
        if self._loss == "squared_error":
            loss /= self._scale * self.estimator.n_outputs_  # scikit-learn averages over the outputs
        # Engines don't report their own penalty; the mean of before and after the epoch comes close.
        before, self._squares = self._squares, 0.0 if self._exact else self._full_penalty()
        return loss + (self._penalty.value() if self._exact else (before + self._squares) / 2)

    def _full_penalty(self) -> float:
        """Return the L2 penalty of full batches."""
        alpha = float(self.estimator.alpha)
        if not alpha:
            return 0.0
        squares = sum(float(np.vdot(W, W)) for W in self.estimator.coefs_)
        return alpha / 2 * squares / (self._batches.size * self._batches.weight)

    def _divergence(self) -> DivergenceError:
        estimator = self.estimator
        return DivergenceError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            f"preprocessed: training diverged in epoch {estimator.n_iter_} (non-finite parameters, loss or score); "
            "scale X, and numeric y, to mean 0 and deviation 1 (StandardScaler), or lower "
            f"learning_rate_init={rate_of(estimator._optimizer):g}"
        )

    def _engine_rate(self) -> float:
        """Return the rate that gives scikit-learn's step; Adam's doesn't depend on the scale of the gradients."""
        return self._rate / (1.0 if self._adam else self._scale)

    def start(self) -> Parameters:
        """Return the parameters and optimiser state that an engine resumes from."""
        estimator, theirs = self.estimator, self.estimator._optimizer
        weights = [np.ascontiguousarray(W.T) for W in estimator.coefs_]
        memory = state_of(theirs, rate_of(theirs), self._scale)
        return Parameters(weights, estimator.intercepts_, self._functions, memory)

    def recipe(self) -> Recipe:
        """Return the recipe for engines; `plain` replaces its optimiser and penalty by scikit-learn's."""
        estimator, batches = self.estimator, self._batches
        self._rate = rate_of(estimator._optimizer)
        return Recipe(
            batches.size,
            self._engine_rate(),
            loss=self._loss,
            optimizer=ours(estimator._optimizer, self._scale),
            l2=self._scale * float(estimator.alpha) / (batches.size * batches.weight),
            dropout=float(estimator.dropout),
            seed=self._seed(),
        )

    def _seed(self) -> int:
        """Return the seed of dropout for the epochs from now on: parts of a fit must not drop the same activations."""
        return (self._draw + self.estimator.t_) % (1 << 31) if self.estimator.dropout else 0

    def examples(self, *, grey: bool, stays_sparse: bool) -> Examples:
        """Return all examples as engines take them."""
        dtype = self.estimator.coefs_[0].dtype
        y, weights = self._y, self._batches.weights
        labels = self._loss == "cross_entropy" and y.shape[1] <= CLASSES
        targets = y.argmax(axis=1).astype(np.uint8) if labels else np.ascontiguousarray(y, dtype)
        weights = None if weights is None else weights.astype(dtype)
        return Examples(engine_inputs(self._X, dtype, grey=grey, stays_sparse=stays_sparse), targets, weights)

    def _validation_of(self, dtype: np.dtype[Any]) -> Validation | None:
        """Return the examples to validate with, of the caller or held out, or None."""
        rows, weights = self._held_out, None
        if self._given is not None:
            X, y = self._given
        elif len(rows):
            X, y, weights = self._X[rows], self._y[rows], self._batches.weights
        else:
            return None
        truth = y.ravel() if y.shape[1] == 1 else y
        if self._loss != "squared_error":
            truth = self.estimator._label_binarizer.inverse_transform(y)
        return Validation(X.astype(dtype, copy=False), y, truth, None if weights is None else weights[rows])


def train(fits: Sequence[Epochs]) -> None:
    """Train networks, which differ in their seeds, on the same examples; warn as scikit-learn does.

    On a CPU each core trains one at a time, on a GPU one is trained after another.
    """
    estimators = [fit.estimator for fit in fits]
    with np.errstate(over="ignore", invalid="ignore"):  # found after the first epoch
        for fit in fits:
            engine, device = fit.prepare()
        examples = fits[0].examples(grey=engine != "plain", stays_sparse=device in ("auto", "cpu"))
    if examples.sparse:
        device = "cpu"  # engines on GPUs take arrays only

    def run(backend: Backend) -> None:
        for fit in fits:
            fit.choose(backend, engine, examples)
        try:
            if backend.name == "cpu" and len(fits) > 1:
                on_each_core(lambda fit: fit.run(backend, examples), fits, [examples.inputs])
                return
            for fit in fits:
                fit.run(backend, examples)
        except KeyboardInterrupt:
            if not any(each.n_iter_ for each in estimators):
                raise InterruptedEarlyError from None
            warnings.warn("Training interrupted by user.", stacklevel=2)

    on_device(
        device,
        run,
        lambda: not any(each.n_iter_ for each in estimators),
        lambda: [Job(fit.start(), examples, fit.recipe(), engine, fit.most) for fit in fits],
    )
    for each in estimators:
        if each.early_stopping:
            each.coefs_, each.intercepts_ = each._best_coefs, each._best_intercepts
        each.coefs_ = [np.ascontiguousarray(W) for W in each.coefs_]
    if any(fit.estimator.n_iter_ == fit.most and not fit.converged for fit in fits):
        message = (
            f"Stochastic Optimizer: Maximum iterations ({fits[0].most}) reached and the optimization hasn't converged "
            "yet."
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=2)


def teller(callbacks: Any) -> Tell:
    """Return what calls the callbacks, one, several or None, one at a time, with an estimator and its history."""
    every = [] if callbacks is None else [callbacks] if callable(callbacks) else list(callbacks)
    for each in every:
        if not callable(each):
            raise ConfigurationError(f"callbacks must be functions of (estimator, history), got {each!r}")
    lock = Lock()

    def tell(estimator: Any) -> bool:
        curves = {name: getattr(estimator, curve, None) for name, curve in HISTORY.items()} if every else {}
        with lock:
            history = {name: list(curve) for name, curve in curves.items() if curve is not None}
            answers = [goes_on(callback(estimator, history)) for callback in every]
        return all(answers)

    return tell


def _batch_size(estimator: Any, n: int) -> int:
    asked = estimator.batch_size
    if isinstance(asked, str):
        return min(200, n)
    if asked > n:
        message = f"Got `batch_size`={asked}, larger than the {n} training examples. It is going to be clipped"
        warnings.warn(message, stacklevel=2)
    return int(min(asked, n))
