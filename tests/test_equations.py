"""Gradients, compared with central differences, PyTorch's autograd, and a network worked by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunn import MLP
from gpunn.equations import backpropagate, forward, sigmoid
from gpunn.losses import LOSSES


def loss(xp: Any, A: Any, Y: Any) -> Any:
    return LOSSES["squared_error"].value(xp, A, A, Y)


SHAPES = [(1, 1), (3, 2), (5, 4, 3), (7, 1, 2), (6, 5, 4, 3), (4, 3, 3, 3, 2), (784, 16, 10)]
BATCH_SIZES = [1, 2, 7, 32]


def example(sizes: tuple[int, ...], m: int, dtype: type) -> tuple[MLP, Any, Any]:
    rng = np.random.default_rng([m, *sizes])
    net = MLP(sizes, seed=1, dtype=dtype)
    for b in net.biases:
        b[:] = rng.normal(size=b.shape)
    X: Any = rng.random((m, sizes[0])).astype(dtype)
    Y: Any = np.eye(sizes[-1], dtype=dtype)[rng.integers(0, sizes[-1], m)]
    return net, X, Y


@pytest.mark.parametrize("m", BATCH_SIZES)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_gradient_agrees_with_central_differences(sizes: tuple[int, ...], m: int) -> None:
    net, X, Y = example(sizes, m, np.float64)
    _, dW, db = backpropagate(np, net.weights, net.biases, X, Y)
    rng = np.random.default_rng(0)
    h = 1e-5
    for parameters, gradients in ((net.weights, dW), (net.biases, db)):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            assert gradient.shape == parameter.shape
            # All of a small array, and a sample of a large one.
            picked = rng.permutation(parameter.size)[:40]
            numeric = np.empty(len(picked))
            flat = parameter.reshape(-1)
            for i, k in enumerate(picked):
                value = flat[k]
                flat[k] = value + h
                above = loss(np, forward(np, net.weights, net.biases, X)[-1], Y)
                flat[k] = value - h
                below = loss(np, forward(np, net.weights, net.biases, X)[-1], Y)
                flat[k] = value
                numeric[i] = (above - below) / (2 * h)
            analytic = gradient.reshape(-1)[picked]
            # Relative to the array's largest entry: rounding in C / h, 1e-11, swamps the smallest ones.
            assert np.abs(analytic - numeric).max() <= 1e-6 * np.abs(analytic).max()


@pytest.mark.parametrize("m", BATCH_SIZES)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_agrees_with_pytorchs_autograd(sizes: tuple[int, ...], m: int, dtype: type) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed: pip install torch")
    net, X, Y = example(sizes, m, dtype)
    ours, dW, db = backpropagate(np, net.weights, net.biases, X, Y)

    weights = [torch.tensor(W, requires_grad=True) for W in net.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in net.biases]
    A = torch.tensor(X)
    for W, b in zip(weights, biases, strict=True):
        A = torch.sigmoid(A @ W.T + b)
    theirs = ((A - torch.tensor(Y)) ** 2).sum(dim=1).mean()
    theirs.backward()

    eps = float(np.finfo(dtype).eps)
    assert float(ours) == pytest.approx(theirs.item(), rel=eps * (sizes[-1] + m + 16))
    # The longest sum on the way to a gradient, and a handful of roundings a layer.
    tolerance = eps * (max(*sizes, m) ** 0.5 + 8 * len(sizes))
    for gradient, tensor in zip([*dW, *db], [*weights, *biases], strict=True):
        expected = tensor.grad.numpy()
        assert gradient.dtype == dtype
        assert np.abs(gradient - expected).max() <= tolerance * max(np.abs(expected).max(), eps)


def test_one_neuron_a_layer_by_hand() -> None:
    """A single output of 0.66 where 1 is wanted costs 0.1156; its gradient is a product of three factors."""
    output, target, previous = 0.66, 1.0, 0.4
    z = math.log(output / (1 - output))
    weight = np.array([[0.5]])
    bias = np.array([z - 0.5 * previous])
    X, Y = np.array([[previous]]), np.array([[target]])

    (_, a) = forward(np, [weight], [bias], X)
    assert a.item() == pytest.approx(0.66, rel=1e-14)
    cost, dW, db = backpropagate(np, [weight], [bias], X, Y)
    assert float(cost) == pytest.approx(0.1156, rel=1e-12)

    def slope(function: Callable[[float], Any], at: float, h: float = 1e-6) -> float:
        return float((function(at + h) - function(at - h)) / (2 * h))

    # dC/da = 2 (a - y), da/dz = a (1 - a), dz/dw = the activation before.
    assert slope(lambda a: loss(np, np.array([[a]]), Y).item(), output) == pytest.approx(-0.68, rel=1e-8)
    assert slope(lambda z: sigmoid(np, np.array([z])).item(), z) == pytest.approx(0.2244, rel=1e-8)
    assert slope(lambda w: w * previous + bias[0], 0.5) == pytest.approx(0.4, rel=1e-8)
    assert dW[0].item() == pytest.approx(-0.68 * 0.2244 * 0.4, rel=1e-12)
    assert db[0].item() == pytest.approx(-0.68 * 0.2244, rel=1e-12)


def test_a_chain_of_single_neurons_by_hand() -> None:
    """Three neurons in a row: the cost's dependence on the first weight is the product along the chain."""

    def sigma(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    x, w1, b1, w2, b2, y = 0.8, 1.5, -0.3, -2.0, 0.7, 1.0
    a1 = sigma(w1 * x + b1)
    a2 = sigma(w2 * a1 + b2)
    cost, dW, db = backpropagate(
        np, [np.array([[w1]]), np.array([[w2]])], [np.array([b1]), np.array([b2])], np.array([[x]]), np.array([[y]])
    )
    delta2 = 2 * (a2 - y) * a2 * (1 - a2)
    delta1 = delta2 * w2 * a1 * (1 - a1)
    assert float(cost) == pytest.approx((a2 - y) ** 2)
    assert [dW[0].item(), db[0].item(), dW[1].item(), db[1].item()] == pytest.approx(
        [delta1 * x, delta1, delta2 * a1, delta2]
    )


def test_the_gradient_of_a_batch_is_the_mean_over_its_examples() -> None:
    net, X, Y = example((6, 4, 3), 9, np.float64)
    _, dW, db = backpropagate(np, net.weights, net.biases, X, Y)
    singles = [backpropagate(np, net.weights, net.biases, X[[i]], Y[[i]]) for i in range(9)]
    for layer in range(2):
        np.testing.assert_allclose(dW[layer], np.mean([s[1][layer] for s in singles], axis=0), rtol=1e-12)
        np.testing.assert_allclose(db[layer], np.mean([s[2][layer] for s in singles], axis=0), rtol=1e-12)
