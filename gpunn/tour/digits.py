"""The stations on MNIST: a walk on the loss surface, three batch sizes, and what the weights look like."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.datasets import Dataset, Split
from gpunn.engines.speed import Work
from gpunn.engines.tuned import speeds
from gpunn.equations import backpropagate, propagate, scale
from gpunn.evaluation import evaluate
from gpunn.history import History
from gpunn.losses import LOSSES
from gpunn.network import MLP
from gpunn.training import train

SIZES = (784, 16, 10)

SEEN = (1_000, 2_000, 3_000, 4_000, 6_000, 8_000, 12_000, 16_000, 24_000, 32_000, 46_000, 60_000)
"""Examples of the first epoch after which descents of small batches are looked at; then after 1, 2, 4 more epochs."""

GRID = 21
"""Points of the surface along each direction."""


@dataclass(frozen=True)
class Point:
    """A network on its way down: examples `seen`, `steps` made, test loss, estimated seconds, and its parameters."""

    seen: int
    steps: int
    loss: float
    seconds: float
    parameters: NDArray[np.float32]


@dataclass(frozen=True)
class Descent:
    """Gradient descent by batches of one size."""

    name: str
    batch_size: int
    learning_rate: float
    points: Sequence[Point]

    def first_below(self, loss: float) -> Point:
        """Return the first point with a smaller loss than `loss`, which there must be."""
        return next(point for point in self.points if point.loss < loss)


def descents(data: Dataset) -> list[Descent]:
    """Train three networks from one start: by all examples at once, by batches of 32, and example by example."""
    n = len(data.train)
    return [
        _descent("batch", data, n, 3.0, [2**k for k in range(7)]),
        _descent("mini-batch", data, 32, 2.0, [1, 2, 4, 8]),
        _descent("online", data, 1, 0.1, [1, 2, 4]),
    ]


def _descent(name: str, data: Dataset, batch_size: int, rate: float, epochs: Sequence[int]) -> Descent:
    """Train, and look at the network after parts of a first epoch, and after each of `epochs` (1 among them) more.

    Where a batch is all examples, an epoch has no parts, and there is no such first one.
    """
    net, n = MLP(SIZES, seed=0), len(data.train)
    estimated = speeds().seconds("cpu", "plain", Work(SIZES, n, batch_size))
    points: list[Point] = []

    def look(seen: int, steps: int) -> None:
        loss = evaluate(net, data.test, device="cpu").loss
        points.append(Point(seen, steps, loss, estimated * seen / n, flat(net)))

    def learn(split: Split, most: int) -> None:
        before, steps = points[-1], -(-len(split) // batch_size)

        def after(history: History) -> None:
            number = len(history.epochs)
            if number in epochs:
                look(before.seen + number * len(split), before.steps + number * steps)

        train(net, split, epochs=most, batch_size=batch_size, learning_rate=rate, device="cpu", on_epoch=after)

    look(0, 0)
    for first, end in pairwise((0, *SEEN) if batch_size < n else ()):
        learn(data.train[first:end], 1)
    learn(data.train, epochs[-1])
    return Descent(name, batch_size, rate, points)


def flat(net: MLP) -> NDArray[np.float32]:
    """Return all parameters of `net` in one array (n,): each layer's weights, row by row, then its biases."""
    layers = zip(net.weights, net.biases, strict=True)
    return np.concatenate([part.ravel() for layer in layers for part in layer])


def unflat(parameters: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return the weights and biases, of the layers `SIZES`, of which `flat` makes `parameters`; they are views."""
    weights, biases, place = [], [], 0
    for n_in, n_out in pairwise(SIZES):
        end = place + n_in * n_out
        weights.append(parameters[place:end].reshape(n_out, n_in))
        biases.append(parameters[end : end + n_out])
        place = end + n_out
    return weights, biases


@dataclass(frozen=True)
class Walk:
    """A path of descent on a slice of the loss surface, which two directions of the weights' space span.

    The slice goes through the end of the path, which has the place (0, 0) in it. `path` (k, 2) are the places of the
    path's points, projected on the slice; `heights` (GRID, GRID) the losses of `n` training images at all places of
    `across` and `along`, rows by `along`.
    """

    n: int
    n_parameters: int
    share: float
    """Share of the path's squared distances from its end that lies in the slice."""
    path: NDArray[np.float64]
    path_losses: Sequence[float]
    """Losses on the path itself, not on the slice."""
    directions: NDArray[np.float64]
    """Two unit vectors (2, n_parameters), orthogonal to each other."""
    across: NDArray[np.float64]
    along: NDArray[np.float64]
    heights: NDArray[np.float64]
    slope: float
    """Length of the gradient at the start."""


def walk(data: Dataset, descent: Descent) -> Walk:
    """Cut the loss surface of MNIST along the two directions in which a descent moved most.

    These are the principal components of its points, seen from the last one (H. Li et al., "Visualizing the Loss
    Landscape of Neural Nets", 2018, section 7).
    """
    part = data.train[:: len(data.train) // 1_000]
    X, Y = scale(part.images, np.float32), np.eye(SIZES[-1], dtype=np.float32)[part.labels]
    points = np.array([point.parameters for point in descent.points], np.float64)
    offsets = points - points[-1]
    _, strengths, found = np.linalg.svd(offsets, full_matrices=False)
    directions = found[:2]
    path = offsets @ directions.T
    # A direction's sign is arbitrary: let the path begin on the left, and above.
    signs = np.where(path[0] * (1, -1) > 0, -1, 1)
    directions, path = directions * signs[:, np.newaxis], path * signs
    across, along = (_span(path[:, axis]) for axis in range(2))
    heights = np.array([[_loss(points[-1] + (x, y) @ directions, X, Y) for x in across] for y in along])
    _, dW, db = backpropagate(np, *unflat(descent.points[0].parameters), X, Y)
    slope = float(np.sqrt(sum(float((each.astype(np.float64) ** 2).sum()) for each in (*dW, *db))))
    return Walk(
        len(part),
        points.shape[1],
        float((strengths[:2] ** 2).sum() / (strengths**2).sum()),
        path,
        [_loss(point, X, Y) for point in points],
        directions,
        across,
        along,
        heights,
        slope,
    )


def _span(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `GRID` places from below the lowest of `places` to above the highest."""
    room = 0.25 * (places.max() - places.min())
    return np.linspace(places.min() - room, places.max() + room, GRID)


def _loss(parameters: NDArray[np.float64], X: NDArray[np.float32], Y: NDArray[np.float32]) -> float:
    with np.errstate(over="ignore"):  # which rightly makes a sigmoid 0
        found = propagate(np, *unflat(parameters.astype(np.float32)), X)
    A, Z = found.activations[-1], found.logits
    return float(LOSSES["squared_error"].value(np, A, Z, Y))


@dataclass(frozen=True)
class Digits:
    """784-16-10 as `gpunn train` trains it, and what it makes of noise."""

    net: MLP
    history: History
    dark: int
    """Pixels that are black in all training images."""
    n_noise: int
    """Random pictures shown to it."""
    sure: float
    """An output that counts as a confident answer."""
    n_sure: int
    """Random pictures to which it gave one."""
    noise: NDArray[np.uint8]
    """The one of them of which it was surest, (784,)."""
    answer: int
    output: float
    """Its output for that answer."""


def digits(data: Dataset) -> Digits:
    """Train 784-16-10 with the defaults, and show it random pictures."""
    net = MLP(SIZES, seed=0)
    history = train(net, data, device="cpu")
    noise = np.random.default_rng(12).integers(0, 256, (1_000, SIZES[0]), np.uint8)
    outputs = net.feedforward(noise)
    best = outputs.max(axis=1)
    surest, sure = int(best.argmax()), 0.5
    dark = int((~data.train.images.any(axis=0)).sum())
    return Digits(
        net,
        history,
        dark,
        len(noise),
        sure,
        int((best > sure).sum()),
        noise[surest],
        int(outputs[surest].argmax()),
        float(best[surest]),
    )
