"""Times of an epoch of `fit`, gpunn's and scikit-learn's in turn, with equal settings on MNIST."""

import functools
import statistics
import time
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as Theirs

from gpunn import MLPClassifier, load_mnist

SOLVERS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.01},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.001},
    "adam": {"solver": "adam", "learning_rate_init": 0.001},
}

IMAGES = 60_000

PROBE = 3_000
"""Images on which both sides' losses are compared, and scikit-learn's time is estimated."""

LONG, MOST = 1.0, 50
"""Epochs are timed together until they take so many seconds, or there are so many: one alone is lost in the noise."""

FEW = 6
"""Epochs that tell how long one of gpunn's takes."""

DEVIATION = 0.01
"""What losses of the same network may differ by, relatively: float32 adds in another order."""


@dataclass
class Side:
    """Seconds of one library."""

    first: list[float] = field(default_factory=list)
    """Of fits of one epoch."""
    epoch: list[float] = field(default_factory=list)
    """Of each epoch more."""
    images: int = IMAGES
    """How many were trained on; the times are scaled to all."""

    def line(self) -> str:
        """Return the epoch's median and spread."""
        median = statistics.median(self.epoch)
        mark = " " if self.images == IMAGES else "*"
        return f"{median:10.4f}{mark} ({min(self.epoch):.4f} to {max(self.epoch):.4f})"


@dataclass
class Row:
    """One setting."""

    hidden: int
    batch_size: int
    solver: str
    theirs: Side
    ours: Side
    engine: str
    deviation: float
    """Of our loss from theirs, relatively, after an epoch over the first images."""

    @property
    def ratio(self) -> float:
        """Return how many times faster an epoch of gpunn's is."""
        return statistics.median(self.theirs.epoch) / statistics.median(self.ours.epoch)

    @staticmethod
    def header() -> str:
        """Return the table's first line."""
        return (
            f"{'hidden':>6}{'batch':>7} {'solver':<9}{'scikit-learn':>32}{'gpunn':>32}{'times':>8}"
            f"{'first':>9}{'gpunn':>9}{'loss differs':>14}  engine"
        )

    def line(self) -> str:
        """Return a row of the table."""
        firsts = "".join(f"{statistics.median(side.first):9.3f}" for side in (self.theirs, self.ours))
        return (
            f"{self.hidden:6}{self.batch_size:7} {self.solver:<9}{self.theirs.line():>32}{self.ours.line():>32}"
            f"{self.ratio:8.2f}{firsts}{self.deviation:14.1e}  {self.engine}"
        )

    def record(self) -> dict[str, Any]:
        """Return all numbers."""
        return {**asdict(self), "ratio": self.ratio}

    def wrong(self) -> list[str]:
        """Return what is wrong with the networks that were timed."""
        if self.deviation <= DEVIATION:
            return []
        where = f"hidden {self.hidden}, batch size {self.batch_size}, {self.solver}"
        return [f"{where}: found losses that differ by {self.deviation:.1e}, expected {DEVIATION:.0e} at most"]


@functools.cache
def images() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return MNIST's training images, (60,000, 784) float32 from 0 to 1, and their labels."""
    train = load_mnist().train
    return train.images.astype(np.float32) / 255, train.labels


def timed(hidden: int, batch_size: int, solver: str, *, rounds: int, seconds: float, mine: dict[str, str]) -> Row:
    """Time both sides, in turn; what takes more than `seconds` for an epoch is timed on a part of the images.

    `mine` are the parameters that gpunn's estimator has alone.
    """
    X, y = images()
    settings: dict[str, Any] = {
        "hidden_layer_sizes": (hidden,),
        "batch_size": batch_size,
        "random_state": 0,
        **SOLVERS[solver],
    }
    settings |= {"tol": 0.0, "n_iter_no_change": np.inf}  # no epoch is the last one before its time
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probes = []
        for _ in range(3):
            started = time.perf_counter()
            theirs = Theirs(**settings, max_iter=1).fit(X[:PROBE], y[:PROBE])
            probes.append(time.perf_counter() - started)
        expected = min(probes) * IMAGES / PROBE
        own: dict[str, Any] = settings | mine
        ours = MLPClassifier(**own, max_iter=1).fit(X[:PROBE], y[:PROBE])
        sides = [_Timer(Theirs, settings, expected, seconds), _Timer(MLPClassifier, own, None, seconds)]
        for _ in range(rounds):
            for side in sides:
                side.round()
    deviation = abs(ours.loss_ - theirs.loss_) / theirs.loss_
    return Row(hidden, batch_size, solver, sides[0].side, sides[1].side, sides[1].engine, deviation)


class _Timer:
    """Fits of one library: one epoch, then several more, whose difference is what an epoch takes."""

    def __init__(self, kind: Any, settings: dict[str, Any], expected: float | None, seconds: float) -> None:
        self._kind, self._settings, self.engine = kind, settings, ""
        if expected is None:
            self._fit(1, PROBE)  # what is compiled once is compiled here
            expected = max(1e-4, self._fit(FEW, IMAGES) - self._fit(1, IMAGES)) / (FEW - 1)
        self.side = Side(images=IMAGES if expected <= seconds else max(PROBE, int(IMAGES * seconds / expected)))
        self._more = int(min(MOST, max(1, LONG / (expected * self.side.images / IMAGES))))

    def round(self) -> None:
        """Take a first epoch's time, and that of each epoch more."""
        n = self.side.images
        first, all_of_them = self._fit(1, n), self._fit(1 + self._more, n)
        self.side.first.append(first * IMAGES / n)
        self.side.epoch.append((all_of_them - first) / self._more * IMAGES / n)

    def _fit(self, epochs: int, n: int) -> float:
        X, y = images()
        model = self._kind(**self._settings, max_iter=epochs)
        started = time.perf_counter()
        model.fit(X[:n], y[:n])
        taken = time.perf_counter() - started
        self.engine = getattr(model, "engine_", "")
        return taken
