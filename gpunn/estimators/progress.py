"""Training progress: network, losses, convergence and the adaptive learning rate."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.estimators.parameters import Settings
from gpunn.optimizers import OptimizerState

SLOWEST = 1e-6
"""Minimum of the adaptive learning rate."""

NO_LOSS = np.float64(np.inf)
"""Initial best loss."""

Network = tuple[list[NDArray[Any]], list[NDArray[Any]]]
"""Weights (n_out, n_in) and biases (n_out,) of all layers, on the host."""


@dataclass
class Progress:
    """State after the last finished epoch: the network, and scikit-learn's fitted attributes."""

    network: Network
    rate: float
    """Learning rate of the next epoch, on scikit-learn's scale."""
    losses: list[np.float64] = field(default_factory=list)
    """Loss of each epoch of this `fit`."""
    best_loss: np.float64 | None = NO_LOSS
    """Lowest loss since the network was drawn; None with early stopping."""
    scores: list[float] | None = None
    """Score of each epoch of this `fit` on the held-out examples; None without early stopping."""
    best_score: float | None = None
    epochs: int = 0
    """Number of finished epochs of this `fit`."""
    seen: int = 0
    """Number of examples seen since the network was drawn."""
    without_improvement: int = 0
    """Number of consecutive epochs without improvement."""
    memory: OptimizerState | None = None
    """Optimiser state, at learning rate `memory_rate`."""
    memory_rate: float = 0.0
    device: str = ""
    """Device of the last `fit`."""
    engine: str = ""
    best: Network | None = None
    """Network with the best score in this `fit`."""

    def watch_scores(self) -> None:
        """Detect convergence by scores instead of losses."""
        if self.scores is None:
            self.scores, self.best_score, self.best_loss = [], -np.inf, None
        self.best = self.network

    def watch_losses(self) -> None:
        """Detect convergence by losses instead of scores."""
        if self.best_loss is None:
            self.scores, self.best_score, self.best_loss = None, None, NO_LOSS

    def finish_epoch(self, network: Network, loss: np.float64, score: float | None, n: int, settings: Settings) -> None:
        """Record an epoch over `n` examples and the network after it."""
        self.network = network
        self.losses.append(loss)
        self.epochs += 1
        self.seen += n
        tol = settings.tol
        if score is None or self.scores is None or self.best_score is None:
            best = NO_LOSS if self.best_loss is None else self.best_loss
            stalls = bool(loss > best - tol)
            self.best_loss = min(loss, best)
        else:
            self.scores.append(score)
            stalls = score < self.best_score + tol
            if score > self.best_score:
                self.best_score, self.best = score, network
        self.without_improvement = self.without_improvement + 1 if stalls else 0
        if settings.solver == "sgd" and settings.learning_rate == "invscaling":
            self.rate = float(settings.learning_rate_init) / (self.seen + 1) ** float(settings.power_t)

    def stop_or_slow_down(self, settings: Settings) -> str | None:
        """Return the reason to stop, or None; an adaptive learning rate is divided by 5 instead, down to `SLOWEST`."""
        if self.without_improvement <= settings.n_iter_no_change:
            return None
        what = "the loss" if self.scores is None else "the validation score"
        why = f"{what} hasn't improved by tol={settings.tol:g} for {settings.n_iter_no_change} epochs"
        if settings.solver != "sgd" or settings.learning_rate != "adaptive":
            return why
        if self.rate <= SLOWEST:
            return f"{why}, and the learning rate is down to {self.rate:g}"
        self.rate /= 5
        self.without_improvement = 0
        if settings.verbose:
            print(f"Learning rate reduced to {self.rate:g}: {why}")  # noqa: T201 - requested by verbose
        return None
