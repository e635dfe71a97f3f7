"""How far training has come, whether it still improves, and the learning rate that follows from that."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.estimators.parameters import Settings
from gpunn.optimizers import OptimizerState

SLOWEST = 1e-6
"""The learning rate at which an adaptive one falls no further."""

NO_LOSS = np.float64(np.inf)
"""What every loss is below."""

Network = tuple[list[NDArray[Any]], list[NDArray[Any]]]
"""Weights (n_out, n_in) and biases (n_out,) of all layers, on the host."""


@dataclass
class Progress:
    """The network after the last finished epoch, and what scikit-learn keeps beside it."""

    network: Network
    rate: float
    """The learning rate of the next epoch, scikit-learn's."""
    losses: list[np.float64] = field(default_factory=list)
    """Of the epochs of this call of `fit`."""
    best_loss: np.float64 | None = NO_LOSS
    """Since the network was drawn; None where scores decide."""
    scores: list[float] | None = None
    """Of the epochs of this call, on the examples held out for early stopping; None without."""
    best_score: float | None = None
    epochs: int = 0
    """Of this call of `fit`."""
    seen: int = 0
    """Examples, since the network was drawn."""
    without_improvement: int = 0
    """Epochs, up to now."""
    memory: OptimizerState | None = None
    """The optimiser's, of the learning rate below."""
    memory_rate: float = 0.0
    device: str = ""
    """Of the last call of `fit`."""
    engine: str = ""
    best: Network | None = None
    """The one of the best score, in this call of `fit`."""

    def watch_scores(self) -> None:
        """Let scores decide, and no longer losses."""
        if self.scores is None:
            self.scores, self.best_score, self.best_loss = [], -np.inf, None
        self.best = self.network

    def watch_losses(self) -> None:
        """Let losses decide, and no longer scores."""
        if self.best_loss is None:
            self.scores, self.best_score, self.best_loss = None, None, NO_LOSS

    def finish_epoch(self, network: Network, loss: np.float64, score: float | None, n: int, settings: Settings) -> None:
        """Take note of an epoch over `n` examples, which ended with this network."""
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
        """Return why training ends here, or None; an adaptive learning rate falls to a fifth instead, while it can."""
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
            print(f"As {why}, the learning rate becomes {self.rate:g}")  # noqa: T201 - what verbose asks for
        return None
