"""The training loop: epoch after epoch, until training converges."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from gpunn.backends import Backend
from gpunn.engines import Parameters
from gpunn.engines.runner import Runner, Trained
from gpunn.errors import DivergenceError
from gpunn.estimators.examples import Batches, Task
from gpunn.estimators.inputs import dense_inputs
from gpunn.estimators.outputs import outputs_of
from gpunn.estimators.parameters import Settings, optimizer_of
from gpunn.estimators.progress import Network, Progress
from gpunn.estimators.steps import Penalty, rescale
from gpunn.optimizers import OptimizerState


@dataclass(frozen=True)
class Epochs:
    """What epochs are made of, on any device."""

    settings: Settings
    task: Task
    progress: Progress
    batches: Batches
    held_out: NDArray[Any]
    """Which examples are, for early stopping."""
    penalty: Penalty
    random_state: np.random.RandomState
    scale: float
    """How many times larger gpunn's loss and gradients are than scikit-learn's."""

    @property
    def engine_rate(self) -> float:
        """The learning rate that makes steps of scikit-learn's size. Adam's don't depend on how large gradients are."""
        return self.progress.rate / (1.0 if self.settings.solver == "adam" else self.scale)

    def run(self, backend: Backend, runner: Runner, most: int, *, exact: bool) -> bool:
        """Train for at most so many epochs; return whether training has converged.

        `runner` goes on from `progress`; if `exact`, it steps by this `penalty`, and as scikit-learn. Progress is that
        of the last finished epoch whatever happens. Raises `DivergenceError` where a parameter, the loss or the score
        is no longer finite.
        """
        settings, progress = self.settings, self.progress
        score, why = self._scorer(backend), None
        penalty = self._penalty(progress.network)

        def begin(number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            if number > 1 and self._coasts and not exact and progress.rate != progress.memory_rate:
                # To go as far as they did with the rate before, velocities have to change, which another engine's can.
                progress.memory = runner.optimizer_state()
                runner.restart(self.start())
            order = self.batches.order(settings, self.random_state)
            self.penalty.begin(self.batches.weighing(order), self.batches.sizes)
            progress.memory_rate = progress.rate
            return order, np.full(len(self.batches.sizes), self.engine_rate)

        def finish(_: int, trained: Trained) -> bool:
            nonlocal penalty, why
            network: Network = (trained.weights, trained.biases)
            # An engine with a penalty of its own tells nothing of it; the mean of before and after comes close.
            before, penalty = penalty, self._penalty(network)
            loss = trained.loss
            if self.task.loss == "squared_error":
                loss /= self.scale * len(network[1][-1])  # scikit-learn's is a mean over the outputs
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
            print(f"Training ends, as {why}")  # noqa: T201 - what verbose asks for
        return why is not None

    def start(self) -> Parameters:
        """Return what an engine goes on from."""
        progress, coasts = self.progress, self._coasts
        memory = progress.memory
        if memory is not None and len(memory.moments) != optimizer_of(self.settings, self.scale).n_moments:
            memory = None  # it is that of another solver
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
        """Return the warning that training ended before it converged."""
        most = self.settings.max_iter
        warning: Warning = ConvergenceWarning(
            f"training ended after max_iter={most} epochs, before it converged: raise that, or tol"
        )
        return warning

    def _penalty(self, network: Network) -> float:
        """Return the L2 penalty of batches of the usual size."""
        alpha = float(self.settings.alpha)
        if not alpha:
            return 0.0
        squares = sum(float(np.vdot(W, W)) for W in network[0])
        return alpha / 2 * squares / (self.batches.size * self.task.weight)

    def _scorer(self, backend: Backend) -> Callable[[Parameters], float | None]:
        """Return what scores parameters on the device by the examples held out; None where there are none.

        The score of outputs that aren't all finite is NaN.
        """
        rows, task = self.held_out, self.task
        if not len(rows):
            return lambda _: None
        dtype = self.progress.network[0][0].dtype
        X = backend.asarray(dense_inputs(task.X[rows], dtype, grey=False))
        targets, weights = task.targets[rows], None if task.weights is None else task.weights[rows]

        def score(found: Parameters) -> float:
            outputs = backend.to_host(outputs_of(backend.xp, found.weights, found.biases, task.functions, X))
            return task.score(outputs, targets, weights) if np.isfinite(outputs).all() else np.nan

        return score

    def _divergence(self) -> DivergenceError:
        return DivergenceError(
            f"training diverged in epoch {self.progress.epochs + 1}, as parameters, loss or score aren't finite: bring "
            f"X, and numbers in y, to mean 0 and deviation 1 (StandardScaler), or lower "
            f"learning_rate_init={self.progress.rate:g}"
        )

    def _say(self) -> None:
        progress = self.progress
        score = f", validation score {progress.scores[-1]:.6f}" if progress.scores else ""
        print(f"Epoch {progress.epochs}: loss {progress.losses[-1]:.8f}{score}")  # noqa: T201 - what verbose asks for
