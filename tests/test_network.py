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
        ({"sizes": [784]}, "sizes must have at least two entries, inputs and outputs, got [784]"),
        ({"sizes": [784, 0, 10]}, "layer size must be an integer >= 1, got 0"),
        ({"sizes": [784, -3, 10]}, "layer size must be an integer >= 1, got -3"),
        ({"sizes": [784, 1.5, 10]}, "layer size must be an integer >= 1, got 1.5"),
        ({"sizes": [784, True, 10]}, "layer size must be an integer >= 1, got True"),
        ({"sizes": [784, 10], "seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"sizes": [784, 10], "dtype": np.float16}, "dtype must be float32 or float64, got float16"),
        ({"sizes": [784, 10**15, 10]}, "of memory for the weights"),
        ({"sizes": [784, 10**30, 10]}, "of memory for the weights"),
    ],
)
def test_invalid_networks_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        MLP(**arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 5)), "found images of shape (3, 5), the network expects an array of shape (n, 6)"),
        (np.zeros(5), "found images of shape (5,), the network expects an array of shape (n, 6), or (6,) for one"),
        (np.zeros((2, 2, 2)), "found images of shape (2, 2, 2)"),
        ([[0.0] * 5], "found images of shape (1, 5)"),
        ([[0.0] * 6, [0.0]], "found images as list, which is not an array"),
        ([["a"] * 6], "found images as <U1 of shape (1, 6), expected an array or lists of numbers"),
        (None, "found images as NoneType"),
        ([[0.0] * 5 + [math.nan]], "found NaN or infinity in images"),
        ([[0.0] * 5 + [1e300]], "found images of numbers above 3.4e+38, more than float32 holds"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        MLP([6, 2]).predict(images)


@pytest.mark.parametrize("one", [np.arange(6, dtype=np.uint8), np.arange(6.0).reshape(2, 3) / 6, [0.0, 0.5] * 3])
def test_one_image_is_answered_as_in_an_array_of_one(one: Any) -> None:
    net = MLP([6, 4, 3])
    many = np.reshape(one, (1, 6))
    assert np.ndim(net.predict(one)) == 0
    assert net.predict(one) == net.predict(many)[0]
    np.testing.assert_array_equal(net.feedforward(one), net.feedforward(many)[0])
    np.testing.assert_array_equal(net.predict_proba(one), net.predict_proba(many)[0])
    assert [layer.shape for layer in net.activations(one)] == [(6,), (4,), (3,)]


def test_images_in_rows_and_columns_are_taken() -> None:
    net = MLP([6, 3])
    images = np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8)
    for shape in ((5, 2, 3), (5, 2, 3, 1), (5, 1, 3, 2)):
        np.testing.assert_array_equal(net.predict(images.reshape(shape)), net.predict(images))


def test_one_output_tells_two_classes_apart() -> None:
    net = MLP([1, 1])
    net.weights[0][:] = 1
    np.testing.assert_array_equal(net.predict([[-1.0], [1.0], [0.0]]), [0, 1, 0])


def grey_network() -> MLP:
    net = MLP([16, 3])
    net.grey = True
    return net


LEVELS = np.random.default_rng(0).integers(0, 256, (4, 16), dtype=np.uint8)


@pytest.mark.parametrize("net", [grey_network(), MLP([16, 3])], ids=["trained on grey levels", "never trained"])
def test_floats_that_are_grey_levels_up_to_255_are_refused(net: MLP) -> None:
    for ask in (net.predict, net.feedforward, net.predict_proba, net.activations):
        with pytest.raises(
            DataError, match=r"found floats from \d+ to 2\d\d, .* divide by 255, or convert them to uint8"
        ):
            ask(LEVELS.astype(np.float64))


def test_a_network_trained_on_grey_levels_takes_integers_for_those() -> None:
    net = grey_network()
    np.testing.assert_array_equal(net.feedforward(LEVELS.tolist()), net.feedforward(LEVELS))
    np.testing.assert_array_equal(net.feedforward(LEVELS[0].astype(np.int16)), net.feedforward(LEVELS[0]))
    with pytest.raises(DataError, match="found integers from 0 to 1, the network was trained on grey levels"):
        net.predict(np.eye(3, 16, dtype=int))
    with pytest.raises(DataError, match=r"found integers from -\d+ to"):
        net.predict(-LEVELS.astype(int))


def test_a_network_trained_on_other_numbers_takes_them_as_they_are() -> None:
    net = MLP([16, 3])
    net.grey = False
    np.testing.assert_array_equal(net.feedforward(LEVELS.astype(int)), net.feedforward(LEVELS.astype(np.float32)))


def test_floats_slightly_outside_of_0_to_1_are_taken() -> None:
    assert grey_network().predict([[-0.4] * 8 + [1.4] * 8]).shape == (1,)


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


def test_one_output_is_the_share_of_class_one() -> None:
    net = MLP([2, 1])
    net.weights[0][:], net.biases[0][:] = [[9, -9]], 0
    X = np.array([[1.0, 0.0], [0.0, 1.0]])
    shares = net.predict_proba(X)
    assert shares.shape == (2, 2)
    np.testing.assert_allclose(shares[:, 1], net.feedforward(X)[:, 0])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_array_equal(shares.argmax(axis=1), net.predict(X))
