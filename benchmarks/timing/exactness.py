"""What a task asks for, and whether it was done: how far networks are from those that `plain` trains in float64."""

import math
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.schema import FULL, Task
from gpunn import MLP, Backend, Dataset, Split, get_backend, load_mnist
from gpunn.engines import Examples, Parameters, Recipe, choose_engine
from gpunn.engines.base import Engine
from gpunn.engines.threads import blas_threads
from gpunn.evaluation import evaluate_on_device
from gpunn.optimizers import optimizer_for

TOLERANCES = {"float32": 1e-3, "tf32": 2e-2}
"""How far a network may be from the one of float64, relative to the loss and to how far each array has moved."""

KINKED = {"sgd": 3e-3, "nesterov": 3e-3, "adam": 2e-2}
"""Of arrays with ReLU: a sum that rounds to the other side of 0 gives or takes an example's gradient.

Adam's steps are as long for small gradients: one such sum of an epoch moved biases by 1.1 % of their way, with NumPy
and with JAX alike, whose float64 versions follow `plain` to 1e-15. The loss stays within 1e-4, and shows a batch that
was left out.
"""

EPS = float(np.finfo(np.float32).eps)


class Trained(NamedTuple):
    """A network after a round: the mean loss of its last epoch, and its parameters on the host."""

    loss: float
    parameters: Parameters


@lru_cache(maxsize=2)
def dataset(images: int, dense: bool) -> Dataset:
    """Return the first images of MNIST for training, and all for testing; `dense`: without a zero pixel."""
    mnist = load_mnist()
    train = mnist.train[:images]
    if not dense:
        return Dataset(train, mnist.test)
    return Dataset(*(Split(np.maximum(split.images, 1), split.labels) for split in (train, mnist.test)))


def accuracy_of(parameters: Parameters, *, dense: bool = False) -> float:
    """Return the share of the test images that a network gets right."""
    backend, test = get_backend("cpu"), dataset(FULL, dense).test
    # On one thread, so that no others are awake when the next epoch is timed.
    with backend.activate(), blas_threads(1):
        return evaluate_on_device(backend, parameters, test.images, test.labels).accuracy


class Problem:
    """The networks of a task at their start, and the orders in which they see the examples."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def split(self) -> Split:
        """The examples."""
        return dataset(self.task.images, self.task.dense).train

    def net(self, number: int) -> MLP:
        """Return a network at its start."""
        recipe, sizes = self.task.recipe, tuple(map(int, self.task.network.split("-")))
        init = "he" if recipe.hidden == "relu" else "scaled"
        return MLP(sizes, seed=number, hidden=recipe.hidden, output=recipe.output, init=init)

    @cached_property
    def starts(self) -> list[Parameters]:
        """The networks' parameters, float32."""
        return [parameters_of(self.net(number)) for number in range(self.task.networks)]

    @cached_property
    def rates(self) -> NDArray[np.float32]:
        """The networks' learning rates, (B,)."""
        if self.task.networks == 1:
            return np.array([self.task.recipe.learning_rate], np.float32)
        return np.linspace(0.1, 1.0, self.task.networks, dtype=np.float32)

    @cached_property
    def orders(self) -> list[NDArray[np.int64]]:
        """Those of each epoch, (B, n): what `gpunn.train` draws from the networks' numbers."""
        generators = [np.random.default_rng(number) for number in range(self.task.networks)]
        n = len(self.split)
        return [np.stack([rng.permutation(n) for rng in generators]) for _ in range(self.task.epochs)]

    @property
    def compared(self) -> tuple[int, ...]:
        """The networks that are compared: the first and the last."""
        return tuple(dict.fromkeys((0, self.task.networks - 1)))

    @property
    def tolerances(self) -> tuple[float, float]:
        """How far the loss and the parameters may be from those of float64.

        A library may add a batch's gradients one by one, and of as many terms of one sign loses eps of the sum a term:
        PyTorch does on two threads, 0.5 % of the way at batches of 60,000.
        """
        task = self.task
        loss = TOLERANCES[task.precision]
        kinked = KINKED[task.recipe.optimizer] if task.recipe.hidden == "relu" else loss
        return loss, max(loss, kinked) + EPS * task.batch_size

    def recipe(self, number: int = 0, precision: str | None = None) -> Recipe:
        """Return what an engine is told of a network."""
        task = self.task
        rate = task.recipe.learning_rate if task.networks == 1 else float(self.rates[number])
        optimizer = optimizer_for(task.recipe.optimizer)
        return Recipe(task.batch_size, rate, precision or task.precision, task.recipe.loss, optimizer)

    def exact(self, device: str) -> list[Trained]:
        """Return the compared networks after a round in float64 by `plain`."""
        found = []
        for number in self.compared:
            start = self.starts[number]
            doubled = Parameters(
                [W.astype(np.float64) for W in start.weights],
                [b.astype(np.float64) for b in start.biases],
                start.functions,
            )
            with get_backend(device).activate():
                engine = engine_of("plain", get_backend(device), doubled, self.split, self.recipe(number, "float32"))
                losses = [engine.run_epoch(order[number]) for order in self.orders]
                found.append(Trained(losses[-1], on_host(get_backend(device), engine.parameters())))
        return found

    def judge(self, found: list[Trained], exact: list[Trained]) -> tuple[float, str | None]:
        """Return the largest deviation from float64, and what is wrong if that is too much."""
        worst, wrong = 0.0, None
        loss, rest = self.tolerances
        for number, mine, theirs in zip(self.compared, found, exact, strict=True):
            which = f"network {number}: " if self.task.networks > 1 else ""
            for n, (off, what) in enumerate(deviations(len(self.split), mine, self.starts[number], theirs)):
                worst = max(worst, off)
                if off > (rest if n else loss):
                    wrong = wrong or f"wrong: {which}{what}"
        return worst, wrong


def parameters_of(net: MLP) -> Parameters:
    """Return those of a network."""
    return Parameters(net.weights, net.biases, net.functions)


def engine_of(name: str, backend: Backend, start: Parameters, split: Split, recipe: Recipe) -> Engine:
    """Return an engine with its examples, inside `backend.activate()`."""
    engine = choose_engine(name, backend, start, recipe)
    return engine(backend, start, examples_on(backend, split), recipe)


_UPLOADED: dict[tuple[str, int], tuple[Any, ...]] = {}


def examples_on(backend: Backend, split: Split) -> Examples:
    """Return images and labels on a device, uploaded once: the last ones are kept."""
    key = backend.name, id(split)
    if key not in _UPLOADED:
        _UPLOADED.clear()
        _UPLOADED[key] = split, backend.asarray(split.images), backend.asarray(split.labels)
    return Examples(*_UPLOADED[key][1:])


def on_host(backend: Backend, parameters: Parameters) -> Parameters:
    """Return parameters as host arrays."""
    to_host = backend.to_host
    weights, biases = ([to_host(array) for array in arrays] for arrays in (parameters.weights, parameters.biases))
    return Parameters(weights, biases, parameters.functions)


def deviations(n_examples: int, found: Trained, start: Parameters, exact: Trained) -> Iterator[tuple[float, str]]:
    """Yield how far the loss and then each array are from those of float64, and in words what was found.

    Parameters are measured by how far they were to move: a wide layer moves so little in a few steps that the largest
    weight says nothing. They may be off by the roundings of a step for each example, which walk at random. NaN is
    infinitely far away.
    """
    loss, right = found.loss, exact.loss
    yield _finite(abs(loss - right) / right), f"found the loss {loss:.6g}, expected {right:.6g}"
    each = (found.parameters, start, exact.parameters)
    for mine, before, theirs in zip(*((*one.weights, *one.biases) for one in each), strict=True):
        rounding = EPS * math.sqrt(n_examples) * float(np.linalg.norm(theirs))
        away = float(np.linalg.norm(mine - theirs)) - rounding
        off = _finite(away / max(float(np.linalg.norm(theirs - before)), float(np.finfo(np.float32).tiny)))
        yield off, f"found parameters of shape {theirs.shape} that differ by {off:.2g} of their change"


def _finite(off: float) -> float:
    return max(off, 0.0) if math.isfinite(off) else math.inf
