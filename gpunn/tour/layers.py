"""The stations from one sigmoid neuron to XOR: slopes, a bias, a matrix product, the chain rule, and small networks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpunn.activations import activation
from gpunn.datasets import Split
from gpunn.equations import backpropagate, forward
from gpunn.network import MLP
from gpunn.tour.origins import PAIRS, XOR
from gpunn.training import train

FUNCTIONS = ("sigmoid", "tanh", "relu", "elu")

NUDGE = 1e-4
"""Change of a number by which a derivative is checked."""


def apply(name: str, z: float | NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the activation function `name` and its slope at `z`, each shaped like `z`; "step" is one, too."""
    array = np.array(z, np.float64)
    if name == "step":
        return (array > 0).astype(np.float64), np.zeros_like(array)
    function, slope = activation(np, name)
    values = function(array)
    return values, slope(values)


@dataclass(frozen=True)
class Slopes:
    """What a small change of z does to a step and to other functions.

    `rows` hold a name, the value at `z`, by how much `change` more in z changes it, and what the slope foretells.
    """

    z: float
    change: float
    rows: Sequence[tuple[str, float, float, float]]
    steepest: float
    """Slope of the sigmoid at 0."""
    far: float
    """A large z, and the sigmoid's slope there."""
    far_slope: float


def slopes() -> Slopes:
    """Change z a little, for a step and for all of `FUNCTIONS`."""
    z, change, far, rows = 0.5, 0.01, 6.0, []
    for name in ("step", *FUNCTIONS):
        value, slope = apply(name, z)
        changed, _ = apply(name, z + change)
        rows.append((name, float(value), float(changed - value), float(slope * change)))
    return Slopes(z, change, rows, float(apply("sigmoid", 0.0)[1]), far, float(apply("sigmoid", far)[1]))


@dataclass(frozen=True)
class Shift:
    """A neuron that asks whether its weighted sum reaches `goal`: `rows` hold a sum, sigma(sum), sigma(sum - goal)."""

    goal: float
    weights: Sequence[float]
    inputs: Sequence[float]
    total: float
    """w a of these weights and inputs."""
    answer: float
    """sigma(w a - goal)."""
    rows: Sequence[tuple[float, float, float]]


def shift() -> Shift:
    """Give a neuron the bias -20, as only sums above 20 are to count."""
    goal, weights, inputs = 20.0, (9.0, -4.0, 12.0, 7.0), (1.0, 0.5, 0.75, 0.5)
    total = math.fsum(w * a for w, a in zip(weights, inputs, strict=True))
    rows = [(s, float(apply("sigmoid", s)[0]), float(apply("sigmoid", s - goal)[0])) for s in (0.0, 10, 18, 20, 22, 30)]
    neuron = MLP([len(weights), 1], dtype=np.float64)
    neuron.weights, neuron.biases = [np.array([weights])], [np.array([-goal])]
    return Shift(goal, weights, inputs, total, float(neuron.feedforward(list(inputs))[0]), rows)


@dataclass(frozen=True)
class Product:
    """A network of three layers as matrix products: parameters, and a, z and a of each layer for one input."""

    net: MLP
    a0: NDArray[np.float64]
    z1: NDArray[np.float64]
    a1: NDArray[np.float64]
    z2: NDArray[np.float64]
    a2: NDArray[np.float64]


def product() -> Product:
    """Carry one input through the network 5-8-2."""
    net = MLP([5, 8, 2], init="normal", seed=58, dtype=np.float64)
    a0 = np.array([1.0, 0.0, 0.5, 0.25, 0.75])
    (W1, W2), (b1, b2) = net.weights, net.biases
    _, a1, a2 = net.activations(a0)
    return Product(net, a0, W1 @ a0 + b1, a1, W2 @ a1 + b2, a2)


@dataclass(frozen=True)
class Factor:
    """A factor of the chain rule: its `value` by the formula, and what a nudge `measured`."""

    name: str
    formula: str
    value: float
    measured: float


@dataclass(frozen=True)
class Chain:
    """One weight's gradient in a network of one neuron, of which the output is 0.66."""

    input: float
    weight: float
    bias: float
    z: float
    output: float
    target: float
    loss: float
    nudge: float
    factors: Sequence[Factor]
    gradient: float
    """The product of the factors."""
    measured: float
    """The gradient by a nudge of the weight."""
    backpropagated: float
    """The gradient by gpunn's equations."""


def chain() -> Chain:
    """Take the gradient of a weight apart, and check each factor by a nudge."""
    a0, w, target = 0.5, 0.8, 1.0
    bias = math.log(0.66 / (1 - 0.66)) - w * a0  # for an output of 0.66

    def z_of(weight: float) -> float:
        return weight * a0 + bias

    def output_of(z: float) -> float:
        return float(apply("sigmoid", z)[0])

    def loss_of(output: float) -> float:
        return (output - target) ** 2

    z, output = z_of(w), output_of(z_of(w))
    factors = [
        Factor("how the sum follows the weight", "∂z/∂w = a⁰", a0, _nudged(z_of, w)),
        Factor(
            "how the output follows the sum",
            "∂a/∂z = a (1 \N{MINUS SIGN} a)",
            output * (1 - output),
            _nudged(output_of, z),
        ),
        Factor(
            "how the loss follows the output",
            "∂C/∂a = 2 (a \N{MINUS SIGN} y)",
            2 * (output - target),
            _nudged(loss_of, output),
        ),
    ]
    loss, (gradient,), _ = backpropagate(
        np, [np.array([[w]])], [np.array([bias])], np.array([[a0]]), np.array([[target]])
    )
    whole = _nudged(lambda weight: loss_of(output_of(z_of(weight))), w)
    multiplied = math.prod(factor.value for factor in factors)
    return Chain(a0, w, bias, z, output, target, float(loss), NUDGE, factors, multiplied, whole, float(gradient[0, 0]))


def _nudged(function: Callable[[float], float], at: float) -> float:
    """Return the slope of `function` from two nudges, one each way."""
    return (function(at + NUDGE) - function(at - NUDGE)) / (2 * NUDGE)


@dataclass(frozen=True)
class Step:
    """The toy network after `number` steps: its weights, biases, output and loss."""

    number: int
    weights: Sequence[float]
    biases: Sequence[float]
    output: float
    loss: float
    gradients: Sequence[float]
    """Gradients of the weights."""


@dataclass(frozen=True)
class Toy:
    """One neuron a layer, trained on one example: `steps` from none to the last."""

    sizes: Sequence[int]
    input: float
    target: float
    learning_rate: float
    steps: Sequence[Step]

    @property
    def shown(self) -> list[Step]:
        """The steps of the table: the first ones, then ever fewer."""
        return [step for step in self.steps if step.number in {0, 1, 2, 3, 4, 5, 10, 20, 50}]


def toy() -> Toy:
    """Train the network 1-1-1-1 by gradient descent, written out."""
    net, x, y, rate = MLP([1, 1, 1, 1], seed=1, dtype=np.float64), 0.8, 0.2, 1.0
    weights, biases = net.weights, net.biases
    steps = []
    for number in range(51):
        loss, dW, db = backpropagate(np, weights, biases, np.array([[x]]), np.array([[y]]))
        output = float(forward(np, weights, biases, np.array([[x]]))[-1][0, 0])
        numbers = [[float(array.item()) for array in arrays] for arrays in (weights, biases, dW)]
        steps.append(Step(number, numbers[0], numbers[1], output, float(loss), numbers[2]))
        weights = [W - rate * d for W, d in zip(weights, dW, strict=True)]
        biases = [b - rate * d for b, d in zip(biases, db, strict=True)]
    return Toy(net.sizes, x, y, rate, steps)


@dataclass(frozen=True)
class Solved:
    """XOR by a network 2-2-1: `net` as trained, and its losses."""

    net: MLP
    epochs: int
    learning_rate: float
    loss_before: float
    loss: float
    rows: Sequence[tuple[int, int, float, float, float, int]]
    """Both inputs, both hidden activations, the output, and what it was to be."""


def solved() -> Solved:
    """Train the network 2-2-1 on XOR."""
    net = MLP([2, 2, 1], init="normal", seed=5, dtype=np.float64)
    split = Split(PAIRS.astype(np.float64), XOR[:, np.newaxis].astype(np.float64))
    epochs, rate = 1500, 5.0
    history = train(net, split, epochs=epochs, batch_size=4, learning_rate=rate, device="cpu", engine="plain")
    _, hidden, outputs = net.activations(split.images)
    rows = [
        (int(x1), int(x2), float(h1), float(h2), float(out), int(wanted))
        for (x1, x2), (h1, h2), (out,), wanted in zip(PAIRS, hidden, outputs, XOR, strict=True)
    ]
    loss = float(np.mean((outputs[:, 0] - XOR) ** 2))
    return Solved(net, epochs, rate, history.losses[0], loss, rows)
