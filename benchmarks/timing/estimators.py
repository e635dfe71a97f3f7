"""gpunn's estimators and scikit-learn's: what both learn from the same seeds, and an epoch of `fit`, in turn."""

import functools
import math
import statistics
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.estimates import estimate
from benchmarks.schema import EstimatorAccuracies, EstimatorTimes
from gpunn import MLPClassifier, load_mnist

SIGMAS = 3
"""A difference of this many standard errors is more than chance."""

DIFFERENCE = 0.05
"""What seeds differ by at least, in %: one image of 2,000."""

IMAGES = 60_000

PROBE = 3_000
"""Images on which both sides' losses are compared, and scikit-learn's time is estimated."""

LONG, MOST = 1.0, 50
"""Epochs are timed together until they take so many seconds, or there are so many: one alone is lost in the noise."""

FEW = 6
"""Epochs that tell how long one of gpunn's takes, and rounds of both sides."""

DEVIATION = 0.01
"""What losses of the same network may differ by, relatively: float32 adds in another order."""

SOLVERS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.01},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.001},
    "adam": {"solver": "adam", "learning_rate_init": 0.001},
}


@dataclass(frozen=True)
class Case:
    """A data set and how it is learnt."""

    data: str
    hidden: int
    solver: str
    epochs: int
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.data}-{self.hidden}-{self.solver}"


CASES = (
    Case("digits", 32, "sgd", 40, (("learning_rate_init", 0.05), ("batch_size", 32))),
    Case("digits", 32, "adam", 40),
    Case("MNIST", 64, "sgd", 3, (("learning_rate_init", 0.02), ("batch_size", 64))),
    Case("MNIST", 64, "adam", 3),
)


def accuracies(case: Case, seeds: int, device: str, engine: str) -> EstimatorAccuracies:
    """Return what both learn from each seed."""
    from sklearn.neural_network import MLPClassifier as Theirs

    X, y, unseen, labels = _data(case.data)
    # As many epochs on both sides, whatever they improve.
    shared: dict[str, Any] = {"hidden_layer_sizes": (case.hidden,), "solver": case.solver, **dict(case.settings)}
    shared |= {"max_iter": case.epochs, "tol": 0.0, "n_iter_no_change": np.inf}
    mine, its = list[float](), list[float]()
    with _quiet():
        for seed in range(seeds):
            theirs = Theirs(**shared, random_state=seed).fit(X, y)
            ours = MLPClassifier(**shared, random_state=seed, device=device, engine=engine).fit(X, y)
            its.append(100 * float(theirs.score(unseen, labels)))
            mine.append(100 * float(ours.score(unseen, labels)))
    allowed = chance(mine, its)
    difference = statistics.mean(mine) - statistics.mean(its)
    problem = None
    if abs(difference) > allowed:
        problem = f"{case}: found a difference of {difference:+.2f} %, expected {allowed:.2f} at most"
    about = (case.data, case.hidden, case.solver, case.epochs, ours.engine_, ours.device_)
    return EstimatorAccuracies(*about, mine, its, allowed, problem)


def chance(mine: list[float], its: list[float]) -> float:
    """Return what the means of networks that learn equally well may differ by."""
    return SIGMAS * math.sqrt((statistics.variance(mine) + statistics.variance(its)) / len(mine)) + DIFFERENCE


def _quiet() -> Any:
    return warnings.catch_warnings(action="ignore")


def _data(name: str) -> tuple[NDArray[Any], ...]:
    """Return images, floats from 0 to 1, and their labels; to learn from, and unseen."""
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = (images / 16).astype(np.float32)
        return images[:1200], labels[:1200], images[1200:], labels[1200:]
    test = load_mnist().test
    return *_images(), test.images.astype(np.float32) / 255, test.labels


@functools.cache
def _images() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return MNIST's training images, (60,000, 784) float32 from 0 to 1, and their labels."""
    train = load_mnist().train
    return train.images.astype(np.float32) / 255, train.labels


def times(
    hidden: int, batch_size: int, solver: str, *, device: str, engine: str, seconds: float
) -> tuple[EstimatorTimes, dict[str, list[float]]]:
    """Return both sides' times, and rounds; what takes more than `seconds` is timed on a part, and scaled."""
    from sklearn.neural_network import MLPClassifier as Theirs

    X, y = _images()
    settings: dict[str, Any] = {"hidden_layer_sizes": (hidden,), "batch_size": batch_size, "random_state": 0}
    # No epoch is the last one before its time.
    settings |= {**SOLVERS[solver], "tol": 0.0, "n_iter_no_change": np.inf}
    own = settings | {"device": device, "engine": engine}
    with _quiet():
        started = time.perf_counter()
        theirs = Theirs(**settings, max_iter=1).fit(X[:PROBE], y[:PROBE])
        expected = (time.perf_counter() - started) * IMAGES / PROBE
        ours = MLPClassifier(**own, max_iter=1).fit(X[:PROBE], y[:PROBE])
        sides = [_Side(MLPClassifier, own, None, seconds), _Side(Theirs, settings, expected, seconds)]
        for number in range(FEW):
            for side in sides if number % 2 else reversed(sides):
                side.round()
    mine, its = sides
    deviation = abs(ours.loss_ - theirs.loss_) / theirs.loss_
    problem = None
    if deviation > DEVIATION:
        where = f"hidden {hidden}, batch size {batch_size}, {solver}"
        problem = f"{where}: found losses that differ by {deviation:.1e}, expected {DEVIATION:.0e} at most"
    ratios = [slow / fast for fast, slow in zip(mine.epoch, its.epoch, strict=True)]
    found = EstimatorTimes(
        hidden=hidden,
        batch_size=batch_size,
        solver=solver,
        engine=ours.engine_,
        device=device,
        images=IMAGES,
        their_images=its.images,
        ours=estimate(mine.epoch),
        theirs=estimate(its.epoch),
        ratio=estimate(ratios),
        our_first=statistics.median(mine.first),
        their_first=statistics.median(its.first),
        deviation=deviation,
        problem=problem,
    )
    return found, {"gpunn": mine.epoch, "scikit-learn": its.epoch}


class _Side:
    """Fits of one library: one epoch, then several more, whose difference is what an epoch takes."""

    def __init__(self, kind: Any, settings: dict[str, Any], expected: float | None, seconds: float) -> None:
        self._kind, self._settings = kind, settings
        self.first: list[float] = []
        self.epoch: list[float] = []
        if expected is None:
            self._fit(1, PROBE)  # what is compiled once is compiled here
            expected = max(1e-4, self._fit(FEW, IMAGES) - self._fit(1, IMAGES)) / (FEW - 1)
        self.images = IMAGES if expected <= seconds else max(PROBE, int(IMAGES * seconds / expected))
        self._more = int(min(MOST, max(1, LONG / (expected * self.images / IMAGES))))

    def round(self) -> None:
        """Take a first epoch's time, and that of each epoch more; scaled to all images."""
        scale = IMAGES / self.images
        first, all_of_them = self._fit(1, self.images), self._fit(1 + self._more, self.images)
        self.first.append(first * scale)
        self.epoch.append(max(all_of_them - first, 1e-9) / self._more * scale)

    def _fit(self, epochs: int, n: int) -> float:
        X, y = _images()
        model = self._kind(**self._settings, max_iter=epochs)
        started = time.perf_counter()
        model.fit(X[:n], y[:n])
        return time.perf_counter() - started
