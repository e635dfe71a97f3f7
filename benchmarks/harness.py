"""What a run of `pytest --benchmark` shares: the data, the networks everyone is compared with, and what was found."""

import time
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.bars import Row
from benchmarks.ceilings import COPY, PRODUCT, TF32_PRODUCT
from benchmarks.choices import Choices
from benchmarks.contest import recipe_of
from benchmarks.entrants import Entrant, Prepare, ways_to_prepare
from benchmarks.exactness import TOLERANCES, deviation_of, exact_epoch
from benchmarks.fusion_cases import Case
from benchmarks.goals import Goal
from benchmarks.race import Race
from benchmarks.timing import LEAST, Timing, quartiles
from benchmarks.verdicts import Verdict, verdicts
from gpunn import MLP, Backend, Dataset, Split, get_backend, load_mnist
from gpunn.engines import Parameters, Recipe
from gpunn.equations import Array
from gpunn.evaluation import evaluate_on_device

PRECISION = "float32"

CEILINGS = {
    COPY: "copied_bytes_per_second",
    PRODUCT: "multiplied_operations_per_second",
    TF32_PRODUCT: "multiplied_operations_per_second_in_tf32",
}
"""What ceilings are called in records."""

WIDE = 0.1
"""The interquartile range, as a share of the median, above which a row is marked."""


class Exact(NamedTuple):
    """A network of float64 after one epoch over `order` from `start`."""

    start: Parameters
    order: NDArray[Any]
    loss: float
    parameters: Parameters


class Harness:
    """One run: the `choices` it follows and the records it collects."""

    def __init__(self, choices: Choices, root: Path) -> None:
        self.choices = choices
        self.root = root
        self.started = time.strftime("%Y-%m-%d %H:%M:%S")
        self.records: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = [
            {"device": name, "reason": reason} for name, reason in choices.absent.items()
        ]
        # Kept for the last row alone: entrants of one row follow each other.
        self.exact = lru_cache(maxsize=1)(self._exact)
        self._on_device: dict[str, tuple[Array, Array]] = {}

    @cached_property
    def data(self) -> Dataset:
        """MNIST, or as much and as dense of it as was chosen."""
        mnist = load_mnist()
        train = mnist.train[: self.choices.images]
        if not self.choices.dense:
            return Dataset(train, mnist.test)
        return Dataset(*(Split(np.maximum(split.images, 1), split.labels) for split in (train, mnist.test)))

    def backend(self, name: str) -> Backend:
        """Return the backend of that name."""
        return next(backend for backend in self.choices.backends if backend.name == name)

    def ways(self, entrant: Entrant, start: Parameters, recipe: Recipe) -> dict[int | None, Prepare]:
        """Return how `entrant` can prepare a network from `start`; raises `AbsentError` where it can't."""
        backend, train = self.backend(entrant.device), self.data.train
        if not entrant.is_peer and backend.name not in self._on_device:
            with backend.activate():
                self._on_device[backend.name] = backend.asarray(train.images), backend.asarray(train.labels)
        on_device = self._on_device.get(backend.name, (train.images, train.labels))
        return ways_to_prepare(entrant, backend, on_device, start, train, recipe)

    def judge(self, row: Row, loss: float, found: Parameters) -> tuple[float, str | None]:
        """Return how far a network is from that of float64, and what is wrong if it is too far."""
        exact = self.exact(row)
        deviation, what = deviation_of(len(exact.order), loss, found, exact.start, exact.loss, exact.parameters)
        return deviation, None if deviation <= TOLERANCES[PRECISION] else f"wrong: {what}"

    def record_epochs(self, row: Row, entrant: Entrant, timing: Timing) -> dict[str, Any]:
        """Keep the times of an entrant's epochs, and those of preparing its networks as a row of its own."""
        assert timing.parameters is not None
        about = _about(row, entrant) | {"threads": timing.threads}
        epochs = {
            **about,
            **times(timing.seconds),
            "images_per_second": self.choices.images / quartiles(timing.seconds)[1],
            "late_seconds": timing.late,
            "deviation": timing.deviation if np.isfinite(timing.deviation) else None,
            "accuracy": self.accuracy(timing.parameters),
            "problem": timing.problem,
        }
        self.records += [epochs, about | {"what": "preparation"} | times(timing.preparations)]
        return epochs

    def record_race(self, goal: Goal, entrant: Entrant, race: Race) -> None:
        """Keep how long an entrant took to the goal's accuracy."""
        record = {
            **_about(goal, entrant),
            "threads": race.threads,
            "batch_size": race.setting.batch_size,
            "learning_rate": race.setting.learning_rate,
            "epochs": race.epochs,
            "accuracies": race.accuracies,
            **times(race.seconds),
            "problem": race.problem,
        }
        self.records.append(record)

    def record_ceilings(self, device: str, found: Mapping[str, float], missing: Mapping[str, str]) -> None:
        """Keep what a device can do at most, and what couldn't be measured."""
        record: dict[str, Any] = {"what": "ceiling", "device": device, "missing": dict(missing)}
        for name, value in found.items():
            record |= {CEILINGS[name]: value * 1e9}
        self.records.append(record)

    def record_kernel(
        self, device: str, kernel: str, case: Case, found: Mapping[str, list[float]], problem: str | None
    ) -> None:
        """Keep the times of a kernel, of its unfused form, and of a copy of as many bytes."""
        about = {"what": "kernel", "device": device, "name": kernel, "shape": case.shape, "bytes": case.n_bytes}
        ways = {way: times(seconds) for way, seconds in found.items()}
        self.records.append({**about, **ways, "problem": problem})

    def record_transfer(self, device: str, seconds: list[float]) -> None:
        """Keep how long the images and labels took to the device."""
        train = self.data.train
        n_bytes = train.images.nbytes + train.labels.nbytes
        self.records.append({"what": "transfer", "device": device, "bytes": n_bytes, **times(seconds)})

    def record_failure(self, what: Row | Goal, entrant: Entrant, problem: str) -> None:
        """Keep why an entrant broke down."""
        self.records.append({**_about(what, entrant), "seconds": [], "problem": problem})

    def skip(self, what: Row | Goal, entrant: Entrant, reason: str) -> None:
        """Keep why an entrant wasn't timed."""
        self.skipped.append({**_about(what, entrant), "reason": reason})

    def verdicts(self) -> list[Verdict]:
        """Return how the rows that have bars compare with them."""
        return list(verdicts(self.choices.rows(), self.records))

    def skip_kernel(self, device: str, kernel: str, reason: str) -> None:
        """Keep why a kernel wasn't timed."""
        self.skipped.append({"what": "kernel", "device": device, "name": kernel, "reason": reason})

    def accuracy(self, parameters: Parameters) -> float:
        """Return the share of the test images that a network gets right."""
        backend, test = get_backend("cpu"), self.data.test
        with backend.activate():
            return evaluate_on_device(backend, parameters, test.images, test.labels).accuracy

    def _exact(self, row: Row) -> Exact:
        net, train = MLP(row.sizes), self.data.train
        start, order = Parameters(net.weights, net.biases), np.random.default_rng(0).permutation(len(train))
        return Exact(start, order, *exact_epoch(start, train, recipe_of(row, PRECISION), order, "cpu"))


def _about(what: Row | Goal, entrant: Entrant) -> dict[str, Any]:
    """Return what a record says of its row, or goal, and of its entrant."""
    about = {"device": entrant.device, "name": entrant.name, "is_peer": entrant.is_peer}
    if isinstance(what, Goal):
        return {"what": "time to accuracy", "network": what.network, "goal": what.accuracy, **about}
    row = {"batch_size": what.batch_size, "learning_rate": what.learning_rate, "dense": what.dense}
    return {"what": "epoch", "network": what.network, **row, **about}


HARNESS: pytest.StashKey[Harness] = pytest.StashKey()
"""Where pytest's configuration keeps the run."""


def times(seconds: list[float]) -> dict[str, Any]:
    """Return all times, their quartiles, and whether they are spread widely."""
    low, median, high = quartiles(seconds)
    spread = (high - low) / median if median > 0 else 0.0
    wide = spread > WIDE or len(seconds) < LEAST  # of fewer, nothing is known of their spread
    return {"seconds": seconds, "quartiles": [low, median, high], "spread": spread, "wide": wide}
