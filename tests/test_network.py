import math
import re
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, DataError, Dataset
from gpunn.equations import sigmoid


def test_the_default_network_has_12730_parameters() -> None:
    net = MLP([784, 16, 10])
    assert net.n_parameters == 12_730
    assert [W.shape for W in net.weights] == [(16, 784), (10, 16)]
    assert [b.shape for b in net.biases] == [(16,), (10,)]
    assert net.dtype == np.float32
    assert net.sizes == (784, 16, 10)
    assert str(net) == "784-16-10"
    assert repr(net) == "MLP([784, 16, 10], functions=['sigmoid', 'sigmoid'], dtype=float32)"


@pytest.mark.parametrize("sizes", [(3, 2), (1, 1), (5, 4, 3, 2, 1), (784, 100, 50, 10)])
def test_any_number_and_size_of_layers_works(sizes: tuple[int, ...]) -> None:
    net = MLP(sizes)
    images = np.random.default_rng(0).random((7, sizes[0]), dtype=np.float32)
    assert [a.shape for a in net.activations(images)] == [(7, n) for n in sizes]
    assert net.feedforward(images).dtype == np.float32


def test_the_seed_draws_the_network() -> None:
    net, same, other = MLP([9, 5, 2]), MLP([9, 5, 2], seed=0), MLP([9, 5, 2], seed=1)
    for layer in range(2):
        assert np.array_equal(net.weights[layer], same.weights[layer])
        assert not np.array_equal(net.weights[layer], other.weights[layer])


def test_weights_start_with_the_spread_of_their_layers_inputs() -> None:
    net = MLP([784, 500, 10])
    for W in net.weights:
        n = W.size
        assert W.std() * math.sqrt(W.shape[1]) == pytest.approx(1, abs=4 / math.sqrt(2 * n))
        assert abs(W.mean()) * math.sqrt(W.shape[1]) < 4 / math.sqrt(n)


def test_float64_starts_where_float32_does() -> None:
    for single, double in zip(MLP([9, 5, 2]).weights, MLP([9, 5, 2], dtype=np.float64).weights, strict=True):
        assert double.dtype == np.float64
        np.testing.assert_array_equal(single, double.astype(np.float32))


def test_feedforward_is_the_textbooks_formula_neuron_by_neuron() -> None:
    net = MLP([4, 3, 2], seed=3, dtype=np.float64)
    x = [0.1, 0.9, 0.0, 0.4]
    a = x
    for W, b in zip(net.weights, net.biases, strict=True):
        a = [1 / (1 + math.exp(-(sum(W[j, k] * a[k] for k in range(len(a))) + b[j]))) for j in range(len(b))]
    np.testing.assert_allclose(net.feedforward(np.array([x]))[0], a, rtol=1e-14)


def test_grey_levels_and_their_scaled_floats_give_the_same_answer() -> None:
    net = MLP([6, 4, 3])
    images = np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8)
    np.testing.assert_array_equal(net.feedforward(images), net.feedforward(images.astype(np.float32) / 255))


def test_predict_names_the_most_active_output_and_proba_adds_up_to_one() -> None:
    net = MLP([6, 4, 3])
    images = np.random.default_rng(0).random((50, 6))
    shares = net.predict_proba(images)
    assert shares.shape == (50, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(shares.argmax(axis=1), net.predict(images))


def test_proba_of_outputs_that_all_underflow_is_even() -> None:
    net = MLP([2, 4])
    net.biases[0][:] = -1000
    np.testing.assert_array_equal(net.predict_proba(np.zeros((1, 2))), [[0.25] * 4])


def test_saturated_neurons_answer_without_a_warning() -> None:
    net = MLP([2, 2])
    net.weights[0][:] = [[-1e30, 0], [1e30, 0]]
    np.testing.assert_array_equal(net.feedforward(np.ones((1, 2))), [[0, 1]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_is_stable_monotone_and_keeps_nan(dtype: type) -> None:
    z: Any = np.array([-np.inf, -1e38, -1000, -89, -1, -0.0, 0, 1, 89, 1e38, np.inf, np.nan], dtype=dtype)
    with np.errstate(over="ignore"):
        a = sigmoid(np, z)
    assert a.dtype == dtype
    assert np.isnan(a[-1])
    assert (np.diff(a[:-1]) >= 0).all()
    assert a[0] == 0
    assert a[5] == 0.5
    assert a[10] == 1
    with np.errstate(over="ignore"):
        assert sigmoid(np, z, out=z) is z
    np.testing.assert_array_equal(z, a)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [784]}, "expected inputs and outputs at least"),
        ({"sizes": [784, 0, 10]}, "found the layer size 0, expected a whole number of 1 or more"),
        ({"sizes": [784, -3, 10]}, "found the layer size -3"),
        ({"sizes": [784, 1.5, 10]}, "found the layer size 1.5"),
        ({"sizes": [784, True, 10]}, "found the layer size True"),
        ({"sizes": [784, 10], "seed": -1}, "found the seed -1"),
        ({"sizes": [784, 10], "dtype": np.float16}, "found the dtype float16, expected float32 or float64"),
        ({"sizes": [784, 10**15, 10]}, "of memory for the weights"),
        ({"sizes": [784, 10**30, 10]}, "of memory for the weights"),
    ],
)
def test_networks_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        MLP(**arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 5)), "found images of shape (3, 5), the network expects an array of shape (n, 6)"),
        (np.zeros(6), "found images of shape (6,)"),
        ([[0.0] * 6], "found images of list"),
        (np.zeros((3, 6), np.int64), "found images of dtype int64, expected uint8 grey levels or floats"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        MLP([6, 2]).predict(images)


def test_parameters_set_by_hand_are_checked() -> None:
    net = MLP([6, 4, 2])
    net.check()
    net.biases[1] = np.zeros(3, np.float32)
    with pytest.raises(ConfigurationError, match=re.escape("expected (3, 4) and (3,)")):
        net.check()
    net = MLP([6, 4, 2])
    net.weights[1] = net.weights[1].astype(np.float64)
    with pytest.raises(ConfigurationError, match=re.escape("weights[1] is float64 and biases[1] float32")):
        net.check()
    net = MLP([6, 4, 2])
    del net.biases[1]
    with pytest.raises(ConfigurationError, match="found 2 weight matrices and 1 bias vectors"):
        net.check()


@pytest.mark.parametrize("output", ["relu", "leaky_relu"])
@pytest.mark.parametrize("init", ["scaled", "he", "normal"])
def test_relu_outputs_start_active_for_every_image(mnist: Dataset, output: str, init: str) -> None:
    for hidden in ("sigmoid", "tanh", "relu"):
        net = MLP([784, 16, 10], hidden=hidden, output=output, init=init, seed=3)
        found = net.feedforward(mnist.train.images[:200])
        # As drawn, about half of the outputs would be 0 for all images.
        assert (found > 0).any(axis=0).all()
