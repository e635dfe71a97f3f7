"""Activation functions, losses and networks, compared with PyTorch's autograd and central differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError
from gpunn.activations import HIDDEN, OUTPUT, activation
from gpunn.equations import backpropagate, forward
from gpunn.losses import LOSSES, loss_for

TORCH = "PyTorch, the oracle of this test, is not installed: pip install torch"

PAIRS = [(output, name) for name, loss in LOSSES.items() for output in loss.outputs]


def torch_function(torch: Any, name: str) -> Callable[[Any], Any]:
    functional = torch.nn.functional
    functions: dict[str, Callable[[Any], Any]] = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "leaky_relu": lambda z: functional.leaky_relu(z, 0.01),
        "elu": functional.elu,
        "identity": lambda z: z,
        "softmax": lambda z: torch.softmax(z, 1),
    }
    return functions[name]


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_and_slopes_are_those_of_pytorch(name: str, dtype: type) -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    z: Any = np.concatenate([np.linspace(-30, 30, 4001), [-100, 100, 1e-30, -1e-30]]).astype(dtype)
    # In float64: its tanh of float32 is good for four digits only.
    theirs = torch.tensor(z.astype(np.float64), requires_grad=True)
    a = torch_function(torch, name)(theirs)
    a.sum().backward()
    activate, slope = activation(np, name)
    with np.errstate(over="ignore"):
        ours = activate(z.copy())
    assert ours.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(ours, a.detach().numpy(), rtol=4 * eps, atol=4 * eps)
    slopes: Any = np.broadcast_to(np.asarray(slope(ours), dtype), z.shape)
    np.testing.assert_allclose(slopes, theirs.grad.numpy(), rtol=4 * eps, atol=4 * eps)


@pytest.mark.parametrize("name", HIDDEN)
def test_nan_stays_nan_and_nothing_else_becomes_it(name: str) -> None:
    activate, slope = activation(np, name)
    with np.errstate(over="ignore"):
        a = activate(np.array([np.nan, -3e38, 3e38], np.float32))
    assert np.isnan(a[0])
    assert not np.isnan(a[1:]).any()
    assert not np.isnan(np.asarray(slope(a[1:]))).any()


def test_softmax_neither_overflows_nor_loses_the_ratio() -> None:
    activate, slope = activation(np, "softmax")
    np.testing.assert_allclose(activate(np.array([[1000.0, 1000.0 + np.log(3)]])), [[0.25, 0.75]], rtol=1e-12)
    with pytest.raises(NotImplementedError, match="no elementwise slope"):
        slope(np.ones(1))


def network(hidden: str | list[str], output: str, dtype: type = np.float64) -> tuple[MLP, Any, Any]:
    rng = np.random.default_rng(3)
    net = MLP([7, 6, 5, 4], hidden=hidden, output=output, init="he", seed=1, dtype=dtype)
    for b in net.biases:
        b[:] = rng.normal(size=b.shape)
    X: Any = rng.random((9, 7)).astype(dtype)
    Y: Any = np.eye(4, dtype=dtype)[rng.integers(0, 4, 9)]
    return net, X, Y


@pytest.mark.parametrize(("output", "loss"), PAIRS)
@pytest.mark.parametrize("hidden", [*HIDDEN, ["relu", "tanh"]], ids=str)
def test_gradients_agree_with_pytorchs_autograd(hidden: str | list[str], output: str, loss: str) -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    net, X, Y = network(hidden, output)
    value, dW, db = backpropagate(np, net.weights, net.biases, X, Y, functions=net.functions, loss=LOSSES[loss])
    weights = [torch.tensor(W, requires_grad=True) for W in net.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in net.biases]
    a = torch.tensor(X)
    for W, b, name in zip(weights, biases, net.functions, strict=True):
        z = a @ W.T + b
        a = torch_function(torch, name)(z)
    y = torch.tensor(Y)
    functional = torch.nn.functional
    theirs = {
        "squared_error": lambda: ((a - y) ** 2).sum() / len(y),
        "binary_cross_entropy": lambda: functional.binary_cross_entropy_with_logits(z, y, reduction="sum") / len(y),
        "cross_entropy": lambda: functional.cross_entropy(z, y),
    }[loss]()
    theirs.backward()
    assert float(value) == pytest.approx(theirs.item(), rel=1e-12)
    for mine, parameter in zip((*dW, *db), (*weights, *biases), strict=True):
        np.testing.assert_allclose(mine, parameter.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("output", "loss"), PAIRS)
def test_gradients_agree_with_central_differences(output: str, loss: str, masked: bool) -> None:
    net, X, Y = network(["tanh", "elu"], output)
    rng = np.random.default_rng(8)
    masks = [rng.integers(0, 2, (9, n)) * 2.0 for n in (6, 5)] if masked else []
    options: dict[str, Any] = {"functions": net.functions, "loss": LOSSES[loss], "masks": masks}
    _, dW, db = backpropagate(np, net.weights, net.biases, X, Y, **options)
    h = 1e-6
    for parameter, gradient in zip((*net.weights, *net.biases), (*dW, *db), strict=True):
        flat = parameter.reshape(-1)
        numeric = np.empty(flat.size)
        for k, value in enumerate(flat.copy()):
            found = []
            for moved in (value + h, value - h):
                flat[k] = moved
                found.append(float(backpropagate(np, net.weights, net.biases, X, Y, **options)[0]))
            flat[k] = value
            numeric[k] = (found[0] - found[1]) / (2 * h)
        assert np.abs(gradient.reshape(-1) - numeric).max() <= 1e-6 * max(1e-3, np.abs(gradient).max())


@pytest.mark.parametrize("output", OUTPUT)
def test_outputs_have_their_loss_and_refuse_others(output: str) -> None:
    assert loss_for(output) == ("cross_entropy" if output == "softmax" else "squared_error")
    for name, loss in LOSSES.items():
        if output in loss.outputs:
            assert loss_for(output, name) == name
        else:
            with pytest.raises(ConfigurationError, match=f"loss {name} needs output activation .*, got {output}$"):
                loss_for(output, name)
    with pytest.raises(ConfigurationError, match=r"loss must be one of squared_error, binary.*, got 'hinge'"):
        loss_for(output, "hinge")


@pytest.mark.parametrize("size", [20.0, 50.0, 500.0])
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_of_certain_outputs_are_those_of_pytorch(size: float, right: bool, dtype: type) -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    Z: Any = np.array([[size, -size, 0.5], [-size, size, size / 2]], dtype)
    Y: Any = np.eye(3, dtype=dtype)[[0, 1] if right else [1, 0]]
    functional, z, y = torch.nn.functional, torch.tensor(Z.astype(np.float64)), torch.tensor(Y.astype(np.float64))
    expected = {
        "binary_cross_entropy": functional.binary_cross_entropy_with_logits(z, y, reduction="sum") / 2,
        "cross_entropy": functional.cross_entropy(z, y),
    }
    for name, value in expected.items():
        activate, _ = activation(np, LOSSES[name].outputs[0])
        with np.errstate(over="ignore"):
            found = float(LOSSES[name].value(np, activate(Z.copy()), Z, Y))
        assert found == pytest.approx(value.item(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": "swish"}, "hidden activation must be one of sigmoid, tanh, relu, .*, got 'swish'"),
        ({"hidden": "softmax"}, "hidden activation must be one of .*, got 'softmax'"),
        ({"hidden": ["relu", "softmax"]}, "hidden activation must be one of .*, got 'softmax'"),
        ({"output": "swish"}, "output activation must be one of .*softmax, got 'swish'"),
        ({"hidden": ["relu"]}, r"hidden must have one activation for each hidden layer \(2\), got 1"),
        ({"init": "zeros"}, "init must be one of scaled, normal, xavier, he, got 'zeros'"),
    ],
)
def test_unknown_names_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MLP([4, 3, 3, 2], **options)


@pytest.mark.parametrize(
    ("init", "deviation"), [("scaled", 1 / 20), ("normal", 1), ("xavier", (2 / 700) ** 0.5), ("he", (2 / 400) ** 0.5)]
)
def test_weights_have_the_deviation_of_their_initialisation(init: str, deviation: float) -> None:
    net = MLP([400, 300], init=init, seed=5)
    # The standard error of a deviation of n numbers is that deviation over sqrt(2 n).
    assert net.weights[0].std() == pytest.approx(deviation, rel=4 / (2 * net.weights[0].size) ** 0.5)
    assert (net.biases[0].std() > 0.5) == (init == "normal")


def test_activations_of_each_layer_are_its_own() -> None:
    net, X, _ = network(["relu", "tanh"], "softmax", np.float32)
    _, first, second, third = forward(np, net.weights, net.biases, X, net.functions)
    assert first.min() == 0
    assert second.min() < 0
    assert third.sum(axis=1) == pytest.approx(np.ones(9), rel=1e-6)
    np.testing.assert_array_equal(net.feedforward(X), third)
    np.testing.assert_allclose(net.predict_proba(X), third, rtol=1e-6)


def test_a_network_without_as_many_functions_as_layers_is_refused() -> None:
    net = MLP([4, 3, 2])
    net.functions = ()
    with pytest.raises(ConfigurationError, match="found 0 activation functions, expected one for each of 2 layers"):
        net.check()
    with pytest.raises(ConfigurationError, match=r"hidden activation must be one of .*, got 'swish'"):
        MLP([4, 2], hidden="swish")
