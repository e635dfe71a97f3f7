"""Snapshots of a network while it is trained."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import get_backend
from gpunn.datasets.split import Dataset, Split
from gpunn.engines.runner import Trained, running
from gpunn.errors import ConfigurationError
from gpunn.evaluation import Evaluation, or_none
from gpunn.history import History
from gpunn.network import MLP
from gpunn.plan import Plan, plan_for
from gpunn.session import Session

MOST_PARAMETERS = 24_000_000
"""Number of weights and biases that a page can hold: browsers refuse much longer texts."""
MOST, FEWEST = 30, 4
"""Number of snapshots that are kept at most, and at least of a large network, the one before training included."""
LARGEST = 16 * 2**20
"""Number of bytes that all snapshots take together, unless that is less than `FEWEST` of them."""
SHARES = (1 / 300, 1 / 100, 1 / 30, 1 / 10, 1 / 3)
"""Parts of the first epoch after which there are snapshots."""
SLOW = 10.0
"""Seconds of a first epoch that isn't trained again for snapshots."""

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """A network's `weights` and `biases`, rounded to float16, after so many `epochs`; 0 is before training.

    `images` is the number of training images up to then within the first epoch, None afterwards. `loss` and `accuracy`
    are those of the test examples, None where they aren't known.
    """

    epochs: float
    weights: Arrays
    biases: Arrays
    images: int | None = None
    loss: float | None = None
    accuracy: float | None = None


@final
class Snapshots:
    """Keeps some of the networks that `net` is on its way, for a page: give it to `gpunn.train` as `on_epoch`.

    Make it before the training; it keeps the untrained network too. It keeps every early epoch, of later ones fewer
    and fewer: at most `MOST` snapshots, and fewer of a large network, of which all together take at most `LARGEST`
    bytes, but at least `FEWEST`. The network isn't changed, nor are the bits that it learns.

    Raises `ConfigurationError` if the network is too large for a page.
    """

    def __init__(self, net: MLP) -> None:
        check_size(net)
        self._net = net
        self._start = list(net.weights), list(net.biases)
        self._first = [_snapshot(0, net.weights, net.biases, images=0, test=None)]
        self._epochs: list[Snapshot] = []
        self._most = max(FEWEST, min(MOST, LARGEST // (2 * net.n_parameters)))

    def __call__(self, history: History) -> None:
        """Keep the network as it is after the last epoch of `history`."""
        number = len(history.epochs)
        if history.kept != number:  # of early stopping, which has kept an earlier one
            return
        net, test = self._net, history.epochs[-1].test
        self._epochs.append(_snapshot(number, net.weights, net.biases, images=None, test=test))
        if len(self._epochs) >= self._most - self._n_early:
            del self._epochs[_densest([each.epochs for each in self._epochs])]

    @property
    def _n_early(self) -> int:
        return min(len(SHARES), self._most // 4)

    def __iter__(self) -> Iterator[Snapshot]:
        """Iterate over the snapshots, in the order of the training."""
        return iter([*self._first, *self._epochs])

    def __len__(self) -> int:
        return len(self._first) + len(self._epochs)

    def look_closer(self, data: Split | Dataset, history: History, *, epochs: int) -> None:
        """Add snapshots of the first epoch, which a copy of the untrained network goes through once more, in part.

        `data`, `history` and `epochs` are those of the training, by whose recipe the copy takes the same steps. It
        takes a third of an epoch; an epoch that took more than `SLOW` seconds isn't repeated.
        """
        if not history.epochs or history.epochs[0].seconds > SLOW:
            return
        plan = self._plan(data, history, epochs)
        n, batch_size = plan.n, plan.recipe.batch_size
        n_batches = -(-n // batch_size)
        shares = SHARES[:: -(-len(SHARES) // self._n_early)] if self._n_early else ()
        marks = sorted({max(1, round(share * n_batches)) for share in shares} - {n_batches})
        found = self._first[:1]

        def begin(part: int) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
            first, last = ([0, *marks][part - 1], marks[part - 1])
            own = slice(first * batch_size, last * batch_size)
            return order[own], None if rates is None else rates[first:last]

        def finish(part: int, trained: Trained) -> bool:
            test = session.evaluators.test(trained.on_device)
            images = marks[part - 1] * batch_size
            found.append(_snapshot(images / n, trained.weights, trained.biases, images=images, test=test))
            return True

        backend, division = get_backend(history.device), plan.divide()
        examples, distorted = plan.examples(division), plan.distorted(division)
        if distorted is not None:
            examples = examples._replace(inputs=distorted.on_host(examples.inputs, epoch=1))
        engine = plan.engine_on(backend, examples)
        session = Session(plan, division, backend.name, engine.name, lambda _: True)
        order, rates = session.begin(1)
        with running(backend, engine, plan.start, examples, plan.recipe) as runner:
            session.evaluators = plan.evaluators(backend, engine, division)
            runner.run(len(marks), begin, finish)
        self._first = found

    def _plan(self, data: Split | Dataset, history: History, epochs: int) -> Plan:
        """Return the plan of the training, for a copy of the untrained network."""
        copy, recipe = MLP.__new__(MLP), history.recipe
        copy.weights, copy.biases, copy.functions = *map(list, self._start), self._net.functions
        return plan_for(
            copy,
            data,
            epochs=epochs,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            test=None,
            engine=history.engine,
            precision=recipe.precision,
            loss=recipe.loss,
            optimizer=recipe.optimizer,
            l2=recipe.l2,
            schedule=recipe.schedule,
            dropout=recipe.dropout,
            distort=recipe.distort,
            label_smoothing=recipe.label_smoothing,
            max_norm=recipe.max_norm,
            early_stopping=history.early_stopping,
            seed=recipe.seed,
        )


def check_size(net: MLP) -> None:
    """Raise `ConfigurationError` if a page can't hold as many parameters as `net` has."""
    if net.n_parameters > MOST_PARAMETERS:
        raise ConfigurationError(
            f"a page holds networks of at most {MOST_PARAMETERS:,} parameters, got {net.n_parameters:,}"
        )


def rounded(array: NDArray[Any]) -> NDArray[np.float16]:
    """Return `array` in float16; what is too large becomes the largest number of that."""
    largest = float(np.finfo(np.float16).max)
    return array.clip(-largest, largest).astype(np.float16)


def _snapshot(
    epochs: float, weights: Arrays, biases: Arrays, *, images: int | None, test: Evaluation | None
) -> Snapshot:
    measured = (None, None) if test is None else (test.loss, or_none(test.accuracy))
    return Snapshot(epochs, [rounded(W) for W in weights], [rounded(b) for b in biases], images, *measured)


def _densest(times: list[float]) -> int:
    """Return the place of the time, not the first or the last, whose neighbours are closest in proportion."""
    return min(range(1, len(times) - 1), key=lambda k: math.log(times[k + 1] / times[k - 1]))
