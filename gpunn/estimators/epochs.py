"""Training loop of the estimators: epochs until convergence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from gpunn import equations
from gpunn.backends import Backend
from gpunn.engines import Parameters
from gpunn.engines.runner import Runner, Trained
from gpunn.errors import DivergenceError
from gpunn.estimators.examples import Batches, Task
from gpunn.estimators.inputs import dense_inputs
from gpunn.estimators.parameters import Settings, optimizer_of
from gpunn.estimators.progress import Network, Progress
from gpunn.estimators.steps import Penalty, rescale
from gpunn.optimizers import OptimizerState


@dataclass(frozen=True)
class Epochs:
    """Training loop and its inputs, independent of the device."""

    settings: Settings
    task: Task
    progress: Progress
    batches: Batches
    held_out: NDArray[Any]
    """Indices of the examples held out for early stopping."""
    penalty: Penalty
    random_state: np.random.RandomState
    scale: float
    """Ratio of gpunn's loss and gradients to scikit-learn's."""

    @property
    def engine_rate(self) -> float:
        """Learning rate that gives scikit-learn's step size; Adam's doesn't depend on the scale of the gradients."""
        return self.progress.rate / (1.0 if self.settings.solver == "adam" else self.scale)

    def run(self, backend: Backend, runner: Runner, most: int, *, exact: bool) -> bool:
        """Train for at most `most` epochs; return whether training has converged.

        `runner` resumes from `progress`; if `exact`, it makes scikit-learn's steps with `penalty`. Even after an error,
        `progress` is that of the last finished epoch. Raises `DivergenceError` if a parameter, the loss or the score
        becomes non-finite.
        """
        settings, progress = self.settings, self.progress
        score, why = self._scorer(backend), None
        penalty = self._penalty(progress.network)

        def begin(number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            if number > 1 and self._coasts and not exact and progress.rate != progress.memory_rate:
                # scikit-learn's velocities include the learning rate; a new engine starts with rescaled ones.
                progress.memory = runner.optimizer_state()
                runner.restart(self.start())
            order = self.batches.order(settings, self.random_state)
            self.penalty.begin(self.batches.weighing(order), self.batches.sizes)
            progress.memory_rate = progress.rate
            return order, np.full(len(self.batches.sizes), self.engine_rate)

        def finish(_: int, trained: Trained) -> bool:
            nonlocal penalty, why
            network: Network = (trained.weights, trained.biases)
            # Engines don't report their own L2 penalty; the mean of before and after the epoch comes close.
            before, penalty = penalty, self._penalty(network)
            loss = trained.loss
            if self.task.loss == "squared_error":
                loss /= self.scale * len(network[1][-1])  # scikit-learn averages over the outputs
            loss += self.penalty.value() if exact else (before + penalty) / 2
            scored = score(trained.on_device)
            if not trained.is_finite(loss, *([] if scored is None else [scored])):
                raise self._divergence()
            progress.finish_epoch(network, np.float64(loss), scored, len(self.batches.rows), settings)
            if settings.verbose:
                self._say()
            why = progress.stop_or_slow_down(settings)
            return why is None

        runner.run(most, begin, finish)
        progress.memory = runner.optimizer_state()
        if why is not None and settings.verbose:
            print(f"Training stops: {why}")  # noqa: T201 - requested by verbose
        return why is not None

    def start(self) -> Parameters:
        """Return the parameters and optimiser state that an engine resumes from."""
        progress, coasts = self.progress, self._coasts
        memory = progress.memory
        if memory is not None and len(memory.moments) != optimizer_of(self.settings, self.scale).n_moments:
            memory = None  # of another solver
        if memory is not None and coasts:
            memory = OptimizerState(
                memory.steps, tuple([np.array(array) for array in arrays] for arrays in memory.moments)
            )
            rescale(memory.moments, progress.memory_rate / progress.rate)
        return Parameters(*progress.network, self.task.functions, memory)

    @property
    def _coasts(self) -> bool:
        return self.settings.solver == "sgd" and self.settings.momentum > 0

    def warning_of_max_iter(self) -> Warning:
        """Return the warning that training stopped before convergence."""
        most = self.settings.max_iter
        warning: Warning = ConvergenceWarning(
            f"training stopped after max_iter={most} epochs before it converged: raise max_iter or tol"
        )
        return warning

    def _penalty(self, network: Network) -> float:
        """Return the L2 penalty of full batches."""
        alpha = float(self.settings.alpha)
        if not alpha:
            return 0.0
        squares = sum(float(np.vdot(W, W)) for W in network[0])
        return alpha / 2 * squares / (self.batches.size * self.task.weight)

    def _scorer(self, backend: Backend) -> Callable[[Parameters], float | None]:
        """Return a function that scores parameters on the held-out examples; it returns None if there are none.

        The score of non-finite outputs is NaN.
        """
        rows, task = self.held_out, self.task
        if not len(rows):
            return lambda _: None
        dtype = self.progress.network[0][0].dtype
        X = backend.asarray(dense_inputs(task.X[rows], dtype, grey=False))
        targets, weights = task.targets[rows], None if task.weights is None else task.weights[rows]

        def score(found: Parameters) -> float:
            outputs = backend.to_host(equations.outputs(backend.xp, found.weights, found.biases, X, task.functions))
            return task.score(outputs, targets, weights) if np.isfinite(outputs).all() else np.nan

        return score

    def _divergence(self) -> DivergenceError:
        return DivergenceError(
            f"training diverged in epoch {self.progress.epochs + 1} (non-finite parameters, loss or score): scale X, "
            f"and numeric y, to mean 0 and deviation 1 (StandardScaler), or lower "
            f"learning_rate_init={self.progress.rate:g}"
        )

    def _say(self) -> None:
        progress = self.progress
        score = f", validation score {progress.scores[-1]:.6f}" if progress.scores else ""
        print(f"Epoch {progress.epochs}: loss {progress.losses[-1]:.8f}{score}")  # noqa: T201 - requested by verbose
