"""What gpunn's estimators and scikit-learn's learn from the same seeds, on images that they haven't seen."""

import math
import statistics
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as Theirs

from gpunn import MLPClassifier, load_mnist

SIGMAS = 3
"""A difference of this many standard errors is more than chance."""

LEAST = 0.05
"""What seeds differ by at least, in %: one image of 2,000."""


@dataclass(frozen=True)
class Contest:
    """A data set and how it is learnt."""

    data: str
    epochs: int
    parameters: dict[str, Any]

    def __str__(self) -> str:
        hidden = "-".join(map(str, self.parameters["hidden_layer_sizes"]))
        return f"{self.data}, hidden {hidden}, {self.parameters['solver']}"


CONTESTS = (
    Contest("digits", 40, {"hidden_layer_sizes": (32,), "solver": "sgd", "learning_rate_init": 0.05, "batch_size": 32}),
    Contest("digits", 40, {"hidden_layer_sizes": (32,), "solver": "adam"}),
    Contest("MNIST", 3, {"hidden_layer_sizes": (64,), "solver": "sgd", "learning_rate_init": 0.02, "batch_size": 64}),
    Contest("MNIST", 3, {"hidden_layer_sizes": (64,), "solver": "adam"}),
)


class Data(NamedTuple):
    """Images, floats from 0 to 1, and their labels; to learn from, and unseen."""

    X: NDArray[Any]
    y: NDArray[Any]
    unseen: NDArray[Any]
    labels: NDArray[Any]


@dataclass
class Comparison:
    """Accuracies in %, a number a seed."""

    contest: Contest
    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    engine: str = ""

    @property
    def difference(self) -> float:
        """Return how much better gpunn's are in the mean."""
        return statistics.mean(self.ours) - statistics.mean(self.theirs)

    @property
    def chance(self) -> float:
        """Return what the means of networks that learn equally well may differ by."""
        error = math.sqrt((statistics.variance(self.ours) + statistics.variance(self.theirs)) / len(self.ours))
        return SIGMAS * error + LEAST

    def line(self) -> str:
        """Return a row of the table."""
        sides = [f"{statistics.mean(each):9.2f} +- {statistics.stdev(each):4.2f}" for each in (self.theirs, self.ours)]
        numbers = f"{sides[0]:>17}{sides[1]:>17}{self.difference:+12.2f}{self.chance:8.2f}"
        return f"{self.contest!s:<34}{self.contest.epochs:7}{numbers}  {self.engine}"

    def record(self) -> dict[str, Any]:
        """Return all numbers."""
        return asdict(self)

    def wrong(self) -> list[str]:
        """Return what is wrong with them."""
        if abs(self.difference) <= self.chance:
            return []
        found = f"found a difference of {self.difference:+.2f} %, expected {self.chance:.2f} at most"
        return [f"{self.contest}: {found}"]


def compared(contest: Contest, seeds: int, device: str, engine: str) -> Comparison:
    """Return what both learn from each seed."""
    data, found = _data(contest.data), Comparison(contest)
    # As many epochs on both sides, whatever they improve.
    shared = {**contest.parameters, "max_iter": contest.epochs, "tol": 0.0, "n_iter_no_change": np.inf}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in range(seeds):
            theirs = Theirs(**shared, random_state=seed).fit(data.X, data.y)
            ours = MLPClassifier(**shared, random_state=seed, device=device, engine=engine).fit(data.X, data.y)
            found.theirs.append(100 * theirs.score(data.unseen, data.labels))
            found.ours.append(100 * ours.score(data.unseen, data.labels))
            found.engine = ours.engine_
    return found


def _data(name: str) -> Data:
    if name == "digits":
        images, labels = load_digits(return_X_y=True)
        images = (images / 16).astype(np.float32)
        return Data(images[:1200], labels[:1200], images[1200:], labels[1200:])
    mnist = load_mnist()
    train, test = mnist.train, mnist.test
    return Data(train.images.astype(np.float32) / 255, train.labels, test.images.astype(np.float32) / 255, test.labels)
