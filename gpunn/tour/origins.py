"""The first stations: McCulloch and Pitts's neurons, Hebb's rule, and Rosenblatt's perceptron."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpunn.neurons import Hebbian, McCullochPitts, Perceptron, Update

PAIRS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
"""All inputs of two binary neurons."""

XOR = PAIRS[:, 0] ^ PAIRS[:, 1]

MARGIN = 0.15
"""Distance that the perceptron's points keep from the line that labels them."""


@dataclass(frozen=True)
class Logic:
    """Neurons of thresholds; `rows` hold two inputs, their sum, and what AND, OR and AND NOT make of them."""

    and_threshold: int
    or_threshold: int
    rows: Sequence[tuple[int, int, int, int, int, int]]


def logic() -> Logic:
    """Let neurons of McCulloch and Pitts's see all pairs of inputs."""
    both, either = McCullochPitts(threshold=PAIRS.shape[1]), McCullochPitts(threshold=1)
    first_only = McCullochPitts(threshold=1, inhibitory=(1,))
    fired = [neuron.fires(PAIRS).astype(int) for neuron in (both, either, first_only)]
    rows = np.column_stack([PAIRS, PAIRS.sum(axis=1), *fired]).tolist()
    return Logic(both.threshold, either.threshold, [tuple(row) for row in rows])


@dataclass(frozen=True)
class Conditioning:
    """Pavlov's dog by Hebb's rule: inputs are food and a bell, the output is saliva."""

    threshold: float
    rate: float
    rows: Sequence[tuple[int, float, float, bool]]
    """Number of pairings, weights of food and bell after them, and whether the bell alone makes the neuron fire."""


def conditioning() -> Conditioning:
    """Show food and bell together until the bell alone is enough."""
    neuron, bell = Hebbian([1.0, 0.0], threshold=1.0, rate=0.25), (0, 1)
    rows = [(0, float(neuron.weights[0]), float(neuron.weights[1]), neuron.fires(bell))]
    while not rows[-1][-1]:
        neuron.learn((1, 1))
        rows.append((len(rows), float(neuron.weights[0]), float(neuron.weights[1]), neuron.fires(bell)))
    return Conditioning(neuron.threshold, neuron.rate, rows)


@dataclass(frozen=True)
class Learning:
    """A perceptron that learns a line: `points` (m, 2), their `labels` (m,), and every correction."""

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    updates: Sequence[Update]
    mistakes: Sequence[int]
    """Points on the wrong side of the line after each correction."""

    @property
    def shown(self) -> list[int]:
        """Numbers of the corrections that are drawn, from 1: the first two, the middle one and the last."""
        last = len(self.updates)
        return sorted({1, 2, (last + 1) // 2, last})


def learning() -> Learning:
    """Let a perceptron find a line between two classes of points."""
    rng = np.random.default_rng(5)
    points = rng.uniform(-1, 1, (60, 2))
    heights = points @ (0.6, 0.8) - 0.25
    keep = np.abs(heights) > MARGIN
    points, labels = points[keep][:30], (heights[keep][:30] > 0).astype(np.int64)
    perceptron = Perceptron(2)
    updates, mistakes = [], []
    for update in perceptron.learn(points, labels):
        updates.append(update)
        mistakes.append(int((perceptron.predict(points) != labels).sum()))
    return Learning(points, labels, updates, mistakes)


@dataclass(frozen=True)
class Failure:
    """A perceptron at XOR: its corrections, and how it goes round in circles."""

    epochs: int
    corrections: int
    most_right: int
    """Most of the four inputs that were right at once after any of its corrections."""
    best_line: int
    """Most of them that any line gets right."""
    rows: Sequence[tuple[int, float, float, float, int]]
    """Epoch, both weights, bias and right answers at its end, until weights and bias come back."""
    came_back_to: int
    """Epoch at whose end weights and bias were the same as at the end of the last row's."""


def failure() -> Failure:
    """Let a perceptron try XOR, which no line separates."""
    perceptron, epochs = Perceptron(2), 100
    most_right, corrections = 0, 0
    ends: dict[int, tuple[int, float, float, float, int]] = {}
    for update in perceptron.learn(PAIRS, XOR, epochs=epochs):
        right = int((perceptron.predict(PAIRS) == XOR).sum())
        most_right, corrections = max(most_right, right), corrections + 1
        ends[update.epoch] = (update.epoch, float(update.weights[0]), float(update.weights[1]), update.bias, right)
    rows: list[tuple[int, float, float, float, int]] = []
    for row in ends.values():
        before = [other[0] for other in rows if other[1:] == row[1:]]
        rows.append(row)
        if before:
            return Failure(epochs, corrections, most_right, _best_line(), rows, before[0])
    raise AssertionError("weights and bias are whole numbers in bounds, and must come back")


def _best_line() -> int:
    """Return the most answers of XOR that a line gets right: a line splits the four corners as one of these does."""
    numbers = np.arange(-2, 2.5, 0.5)
    w1, w2, b = (each.ravel() for each in np.meshgrid(numbers, numbers, numbers))
    fired = PAIRS @ np.stack([w1, w2]) + b > 0
    return int((fired == XOR[:, np.newaxis]).sum(axis=0).max())
