"""Neurons before back-propagation: McCulloch and Pitts's, Hebb's rule, and the perceptron."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunn.errors import ConfigurationError, DataError
from gpunn.neurons import Hebbian, McCullochPitts, Perceptron

CORNERS = np.array(list(itertools.product((0, 1), repeat=3)))


def test_a_threshold_of_all_inputs_is_and_and_of_one_is_or() -> None:
    assert McCullochPitts(3).fires(CORNERS).tolist() == [all(row) for row in CORNERS]
    assert McCullochPitts(1).fires(CORNERS).tolist() == [any(row) for row in CORNERS]
    assert McCullochPitts(2).fires(CORNERS).tolist() == [sum(row) >= 2 for row in CORNERS]


def test_an_inhibitory_input_outweighs_all_others() -> None:
    fired = McCullochPitts(1, inhibitory=(2,)).fires(CORNERS)
    assert fired.tolist() == [(a or b) and not c for a, b, c in CORNERS.astype(bool)]


def test_a_single_row_of_inputs_is_one_answer() -> None:
    assert McCullochPitts(2).fires([True, True]).shape == ()
    assert McCullochPitts(2).fires([1, 1])
    assert not McCullochPitts(2).fires([1, 0])


@pytest.mark.parametrize("threshold", [0, -1, 1.5, True])
def test_a_threshold_is_a_whole_number_from_1(threshold: int) -> None:
    with pytest.raises(ConfigurationError, match="threshold must be an integer >= 1"):
        McCullochPitts(threshold)


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="other than 0 and 1"):
        McCullochPitts(1).fires([0, 2])
    with pytest.raises(DataError, match=r"inputs of shape \(2,\), expected \(m, n\) or \(n,\) with n > 2"):
        McCullochPitts(1, inhibitory=(2,)).fires([0, 1])
    with pytest.raises(ConfigurationError, match="position of an inhibitory input"):
        McCullochPitts(1, inhibitory=(-1,))
    with pytest.raises(DataError, match=r"shape \(3,\), expected \(2,\)"):
        Hebbian([1, 0]).learn([1, 1, 1])
    with pytest.raises(DataError, match="expected finite numbers"):
        Hebbian([1, float("nan")])
    with pytest.raises(DataError, match="one for each input"):
        Hebbian([[1.0]])
    with pytest.raises(DataError, match=r"expected \(m, 2\)"):
        Perceptron(2).predict([1.0, 2.0])


def test_hebbs_rule_strengthens_what_was_active_when_it_fired() -> None:
    start = np.array([1.0, 0.0, 0.5])
    neuron = Hebbian(start, threshold=1.0, rate=0.1)
    assert neuron.learn([1, 1, 0])
    # dw = rate x y
    np.testing.assert_allclose(neuron.weights, [1.1, 0.1, 0.5], rtol=1e-15)
    assert not neuron.learn([0, 0, 1])  # 0.5 is below the threshold: it doesn't fire, and nothing changes
    np.testing.assert_allclose(neuron.weights, [1.1, 0.1, 0.5], rtol=1e-15)
    assert start.tolist() == [1.0, 0.0, 0.5]
    assert neuron.drive([2, 1, 0]) == pytest.approx(2.3, rel=1e-15)


def test_a_perceptron_is_corrected_as_worked_by_hand() -> None:
    neuron = Perceptron(2, rate=0.5)
    updates = list(neuron.learn([[1, 2], [3, -1]], [1, 0], epochs=2))
    # 0 isn't above 0: +0.5 (1, 2); then 0.5 * 3 - 1 + 0.5 > 0: -0.5 (3, -1); then -1 + 3 > 0 and -3 - 1.5 < 0.
    assert [(each.epoch, each.example, each.weights.tolist(), each.bias) for each in updates] == [
        (1, 0, [0.5, 1.0], 0.5),
        (1, 1, [-1.0, 1.5], 0.0),
    ]
    assert neuron.weights.tolist() == [-1.0, 1.5]
    assert neuron.predict([[1, 2], [3, -1]]).tolist() == [1, 0]


@given(seed=st.integers(0, 10**6), n=st.integers(2, 40))
def test_a_perceptron_separates_what_a_plane_separates_within_novikoffs_bound(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    points, normal = rng.uniform(-1, 1, (n, 3)), rng.standard_normal(4)
    normal /= np.linalg.norm(normal)
    heights = points @ normal[:3] + normal[3]
    keep = np.abs(heights) > 0.05
    points, labels = points[keep], (heights[keep] > 0).astype(int)
    neuron = Perceptron(3)
    corrections = sum(1 for _ in neuron.learn(points, labels, epochs=10**6)) if len(points) else 0
    if len(points):
        assert neuron.predict(points).tolist() == labels.tolist()
    # At most (R / margin)^2 corrections, with the bias as a weight of the input 1.
    assert corrections <= (3 + 1) / 0.05**2


def test_xor_never_ends() -> None:
    points, labels = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    neuron = Perceptron(2)
    epochs = [each.epoch for each in neuron.learn(points, labels, epochs=50)]
    assert set(epochs) == set(range(1, 51))
    assert neuron.predict(points).tolist() != labels


def test_bad_labels_are_refused_before_the_first_correction() -> None:
    with pytest.raises(DataError, match="labels other than 0 and 1"):
        Perceptron(1).learn([[1.0]], [-1])
    with pytest.raises(DataError, match=r"labels of shape \(2,\), expected \(1,\)"):
        Perceptron(1).learn([[1.0]], [1, 0])
    with pytest.raises(ConfigurationError, match="epochs must be an integer >= 1"):
        Perceptron(1).learn([[1.0]], [1], epochs=0)
    with pytest.raises(ConfigurationError, match="rate must be a finite number > 0"):
        Perceptron(1, rate=0)


def test_importing_neurons_imports_nothing_heavy() -> None:
    code = "import sys, gpunn.neurons; print([name for name in ('numba', 'matplotlib', 'PIL') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
