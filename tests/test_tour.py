"""Every number on the tour is what its formula, written again here, or an independent computation gives."""

import base64
import hashlib
import io
import itertools
import json
import math
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray

from gpunn import MLP, Dataset, load_mnist
from gpunn.engines.speed import Work
from gpunn.engines.tuned import speeds
from gpunn.plots.pages import page_environment
from gpunn.tour import drawing, layers
from gpunn.tour.digits import GRID, SIZES, Descent, flat, unflat
from gpunn.tour.page import GOAL, STATIONS, Tour, computed, fixed, rendered, share, whole
from tests.conftest import ROOT, Run

pytestmark = pytest.mark.xdist_group("tour")  # whose fixtures take some seconds

Floats = NDArray[np.float64]

TEMPLATE = (ROOT / "gpunn" / "tour" / "page.html").read_text("utf-8")


@pytest.fixture(scope="module")
def told() -> list[tuple[int, str]]:
    return []


@pytest.fixture(scope="module")
def tour(told: list[tuple[int, str]]) -> Tour:
    return computed(lambda number, what: told.append((number, what)))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_mnist()


@pytest.fixture(scope="module")
def html(tour: Tour) -> str:
    pytest.importorskip("matplotlib", reason='needs Matplotlib: pip install "gpunn[report]"')
    pytest.importorskip("jinja2", reason='needs Jinja: pip install "gpunn[report]"')
    return rendered(page_environment("gpunn tour"), tour)


def sigma(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def outputs(weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]], X: NDArray[Any]) -> Floats:
    """The outputs of sigmoid layers in float64, by a formula of the tests' own."""
    A = X.astype(np.float64)
    for W, b in zip(weights, biases, strict=True):
        A = 0.5 * (1 + np.tanh((A @ W.astype(np.float64).T + b) / 2))
    return A


def squared_error(parameters: NDArray[Any], images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    Y = np.eye(SIZES[-1])[labels]
    return float(((outputs(*unflat(parameters), images / 255) - Y) ** 2).sum(axis=1).mean())


def gradient(parameters: NDArray[Any], images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Floats:
    """The gradient of the mean squared error of 784-16-10, by hand and in float64."""
    (W1, W2), (b1, b2) = unflat(parameters.astype(np.float64))
    X, Y = images / 255, np.eye(SIZES[-1])[labels]
    A1 = outputs([W1], [b1], X)
    A2 = outputs([W2], [b2], A1)
    D2 = 2 * (A2 - Y) * A2 * (1 - A2) / len(X)
    D1 = D2 @ W2 * A1 * (1 - A1)
    return np.concatenate([(D1.T @ X).ravel(), D1.sum(axis=0), (D2.T @ A1).ravel(), D2.sum(axis=0)])


# The numbers, station by station.


def test_thresholds_make_and_and_or(tour: Tour) -> None:
    found = tour.logic
    assert (found.and_threshold, found.or_threshold) == (2, 1)
    assert found.rows == [(a, b, a + b, a & b, a | b, a & ~b) for a, b in itertools.product((0, 1), repeat=2)]


def test_hebbs_rule_makes_the_bell_enough_once_its_weight_is_the_threshold(tour: Tour) -> None:
    found = tour.conditioning
    assert (found.threshold, found.rate) == (1, 0.25)
    assert found.rows == [(k, 1 + 0.25 * k, 0.25 * k, 0.25 * k >= 1) for k in range(5)]


def corrected(points: Floats, labels: Sequence[int], epochs: int) -> list[tuple[int, int, float, float, float]]:
    """Rosenblatt's rule without arrays: pass, example, weights and bias of each correction."""
    w1 = w2 = b = 0.0
    found: list[tuple[int, int, float, float, float]] = []
    for epoch in range(1, epochs + 1):
        before = len(found)
        for example, ((x1, x2), label) in enumerate(zip(points.tolist(), labels, strict=True)):
            error = label - (1 if w1 * x1 + w2 * x2 + b > 0 else 0)
            if error:
                w1, w2, b = w1 + error * x1, w2 + error * x2, b + error
                found.append((epoch, example, w1, w2, b))
        if len(found) == before:
            break
    return found


def wrong(points: Floats, labels: Sequence[int], w1: float, w2: float, b: float) -> int:
    return sum((w1 * x + w2 * y + b > 0) != bool(label) for (x, y), label in zip(points, labels, strict=True))


def test_the_perceptron_learns_the_line_by_rosenblatts_rule(tour: Tour) -> None:
    found = tour.learning
    assert len(found.points) == len(found.labels) == 30
    expected = corrected(found.points, found.labels.tolist(), 100)
    assert [(each.epoch, each.example) for each in found.updates] == [row[:2] for row in expected]
    for update, row in zip(found.updates, expected, strict=True):
        np.testing.assert_allclose([*update.weights, update.bias], row[2:], rtol=1e-13)
    assert found.mistakes == [wrong(found.points, found.labels.tolist(), *row[2:]) for row in expected]
    assert found.mistakes[-1] == 0
    last = len(expected)
    assert found.shown == [1, 2, (last + 1) // 2, last]


def test_the_perceptron_goes_round_in_circles_at_xor(tour: Tour) -> None:
    found, corners = tour.failure, np.array(list(itertools.product((0.0, 1.0), repeat=2)))
    expected = corrected(corners, [0, 1, 1, 0], found.epochs)
    right = [4 - wrong(corners, [0, 1, 1, 0], *row[2:]) for row in expected]
    assert expected[-1][0] == found.epochs == 100
    assert found.corrections == len(expected)
    assert found.most_right == max(right)
    ends = {row[0]: (row[0], *row[2:], answers) for row, answers in zip(expected, right, strict=True)}
    assert found.rows == [ends[epoch] for epoch in range(1, len(found.rows) + 1)]
    assert found.rows[-1][1:] == found.rows[found.came_back_to - 1][1:]
    assert found.came_back_to < len(found.rows)
    lines = np.random.default_rng(0).standard_normal((20_000, 3))
    assert found.best_line == 4 - min(wrong(corners, [0, 1, 1, 0], *line) for line in lines) == 3
    assert found.most_right < found.best_line  # "doesn't find even that one"


FORMULAS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "step": (lambda z: float(z > 0), lambda _: 0.0),
    "sigmoid": (sigma, lambda z: sigma(z) * (1 - sigma(z))),
    "tanh": (math.tanh, lambda z: 1 - math.tanh(z) ** 2),
    "relu": (lambda z: max(z, 0.0), lambda z: float(z > 0)),
    "elu": (lambda z: z if z > 0 else math.exp(z) - 1, lambda z: 1.0 if z > 0 else math.exp(z)),
}


def test_slopes_foretell_what_a_nudge_changes(tour: Tour) -> None:
    found = tour.slopes
    assert (found.z, found.change, found.far) == (0.5, 0.01, 6)
    assert [row[0] for row in found.rows] == list(FORMULAS)
    for name, value, changed, foretold in found.rows:
        function, slope = FORMULAS[name]
        assert value == pytest.approx(function(0.5), rel=1e-14)
        assert changed == pytest.approx(function(0.51) - function(0.5), abs=1e-14)
        assert foretold == pytest.approx(slope(0.5) * 0.01, abs=1e-14)
        assert changed == pytest.approx(foretold, abs=0.01**2)
    assert found.steepest == 0.25
    assert found.far_slope == pytest.approx(sigma(6) * sigma(-6), rel=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_curves_are_the_functions_and_their_slopes(name: str) -> None:
    z = np.linspace(-3.95, 3.95, 80)  # without 0, where some have no slope
    values, slopes = layers.apply(name, z)
    function, _ = FORMULAS[name]
    np.testing.assert_allclose(values, [function(each) for each in z], rtol=1e-12)
    differences = [(function(each + 1e-6) - function(each - 1e-6)) / 2e-6 for each in z]
    np.testing.assert_allclose(slopes, differences, atol=1e-9)


def test_a_bias_of_minus_20_asks_for_a_sum_of_20(tour: Tour) -> None:
    found = tour.shift
    assert found.goal == 20
    assert found.total == sum(w * a for w, a in zip(found.weights, found.inputs, strict=True)) == 19.5
    assert found.answer == pytest.approx(sigma(19.5 - 20), rel=1e-14)
    assert found.answer < 0.5  # "a little too small"
    assert [row[0] for row in found.rows] == [0, 10, 18, 20, 22, 30]
    for total, plain, shifted in found.rows:
        assert plain == pytest.approx(sigma(total), rel=1e-14)
        assert shifted == pytest.approx(sigma(total - 20), rel=1e-14)
        assert (shifted >= 0.5) == (total >= 20)


def test_a_layer_is_its_neurons_one_by_one(tour: Tour) -> None:
    found = tour.product
    assert found.net.sizes == (5, 8, 2)
    assert [W.shape for W in found.net.weights] == [(8, 5), (2, 8)]
    assert found.net.n_parameters == 5 * 8 + 8 + 8 * 2 + 2
    before = found.a0.tolist()
    for W, b, z, a in zip(found.net.weights, found.net.biases, (found.z1, found.z2), (found.a1, found.a2), strict=True):
        sums = [
            math.fsum(w * x for w, x in zip(row, before, strict=True)) + shift for row, shift in zip(W, b, strict=True)
        ]
        np.testing.assert_allclose(z, sums, rtol=1e-13)
        before = [sigma(each) for each in sums]
        np.testing.assert_allclose(a, before, rtol=1e-13)


def test_the_loss_is_0_1156_and_each_factor_is_what_a_nudge_measures(tour: Tour) -> None:
    found = tour.chain
    assert found.loss == pytest.approx((0.66 - 1) ** 2, rel=1e-14) == pytest.approx(0.1156, rel=1e-14)
    assert (found.input, found.weight, found.target, found.nudge) == (0.5, 0.8, 1, 1e-4)
    assert found.z == pytest.approx(0.8 * 0.5 + found.bias, rel=1e-15)
    assert found.output == pytest.approx(sigma(found.z), rel=1e-15) == pytest.approx(0.66, rel=1e-15)
    values = [0.5, 0.66 * (1 - 0.66), 2 * (0.66 - 1)]
    assert [factor.value for factor in found.factors] == pytest.approx(values, rel=1e-14)
    functions: list[tuple[Callable[[float], float], float]] = [
        (lambda w: w * found.input + found.bias, found.weight),
        (sigma, found.z),
        (lambda a: (a - 1) ** 2, found.output),
    ]
    h = 1e-4
    for factor, (function, at) in zip(found.factors, functions, strict=True):
        assert factor.measured == pytest.approx((function(at + h) - function(at - h)) / (2 * h), rel=1e-12)
        assert factor.measured == pytest.approx(factor.value, rel=1e-8)  # an error of h^2
    assert found.gradient == pytest.approx(math.prod(values), rel=1e-14)
    assert found.backpropagated == pytest.approx(found.gradient, rel=1e-14)
    up, down = ((sigma(w * found.input + found.bias) - 1) ** 2 for w in (0.8 + h, 0.8 - h))
    assert found.measured == pytest.approx((up - down) / (2 * h), rel=1e-12)
    assert found.measured == pytest.approx(found.gradient, rel=1e-7)


def test_the_toy_is_trained_as_by_hand(tour: Tour) -> None:
    found = tour.toy
    assert (tuple(found.sizes), found.input, found.target, found.learning_rate) == ((1, 1, 1, 1), 0.8, 0.2, 1)
    assert [step.number for step in found.steps] == list(range(51))
    assert [step.number for step in found.shown] == [0, 1, 2, 3, 4, 5, 10, 20, 50]
    start = MLP([1, 1, 1, 1], seed=1, dtype=np.float64)
    w, b = [float(W.item()) for W in start.weights], [0.0, 0.0, 0.0]
    for step in found.steps:
        a = [0.8]
        for weight, bias in zip(w, b, strict=True):
            a.append(sigma(weight * a[-1] + bias))
        d3 = 2 * (a[3] - 0.2) * a[3] * (1 - a[3])
        d2 = d3 * w[2] * a[2] * (1 - a[2])
        d1 = d2 * w[1] * a[1] * (1 - a[1])
        assert step.weights == pytest.approx(w, rel=1e-11)
        assert step.biases == pytest.approx(b, rel=1e-11, abs=1e-15)
        assert step.output == pytest.approx(a[3], rel=1e-11)
        assert step.loss == pytest.approx((a[3] - 0.2) ** 2, rel=1e-8)
        assert step.gradients == pytest.approx([d1 * a[0], d2 * a[1], d3 * a[2]], rel=1e-8)
        w = [weight - d * x for weight, d, x in zip(w, (d1, d2, d3), a, strict=False)]
        b = [bias - d for bias, d in zip(b, (d1, d2, d3), strict=True)]


def test_xor_is_solved_by_two_lines_and_an_or(tour: Tour) -> None:
    found = tour.solved
    assert found.net.sizes == (2, 2, 1)
    assert found.net.n_parameters == 2 * 2 + 2 + 2 + 1
    assert (found.epochs, found.learning_rate) == (1500, 5)
    (W1, W2), (b1, b2) = found.net.weights, found.net.biases
    for (x1, x2, h1, h2, out, wanted), (a, b) in zip(found.rows, itertools.product((0, 1), repeat=2), strict=True):
        hidden = [sigma(row[0] * a + row[1] * b + shift) for row, shift in zip(W1.tolist(), b1.tolist(), strict=True)]
        output = sigma(W2[0, 0] * hidden[0] + W2[0, 1] * hidden[1] + b2[0])
        assert (x1, x2, wanted) == (a, b, a ^ b)
        assert [h1, h2, out] == pytest.approx([*hidden, output], rel=1e-12)
        assert [h1 > 0.5, h2 > 0.5, out > 0.5] == [a and not b, b and not a, a != b]  # what the text says
    start = MLP([2, 2, 1], init="normal", seed=5, dtype=np.float64)
    corners, answers = np.array([row[:2] for row in found.rows]), np.array([row[5] for row in found.rows])
    for net, loss in ((start, found.loss_before), (found.net, found.loss)):
        assert loss == pytest.approx(((outputs(net.weights, net.biases, corners)[:, 0] - answers) ** 2).mean())
    assert found.loss < 0.001


def test_the_walk_is_a_projection_on_the_two_directions_that_hold_most_of_it(tour: Tour) -> None:
    found, points = tour.walk, np.array([point.parameters for point in tour.descents[1].points], np.float64)
    assert found.n_parameters == 784 * 16 + 16 + 16 * 10 + 10 == points.shape[1]
    offsets = points - points[-1]
    spectrum = np.linalg.eigvalsh(offsets @ offsets.T)[::-1]
    assert found.share == pytest.approx(spectrum[:2].sum() / spectrum.sum(), rel=1e-9)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(found.path, offsets @ found.directions.T, atol=1e-9)
    np.testing.assert_allclose((found.path**2).sum(axis=0), spectrum[:2], rtol=1e-9)
    assert (found.path[0] * (1, -1) < 0).all()
    for places, axis in ((found.across, 0), (found.along, 1)):
        assert len(places) == GRID
        assert places[0] < found.path[:, axis].min() <= found.path[:, axis].max() < places[-1]


def test_the_heights_are_losses_of_training_images(tour: Tour, data: Dataset) -> None:
    found, points = tour.walk, [point.parameters for point in tour.descents[1].points]
    part = data.train[::60]
    assert found.n == len(part) == 1_000
    losses = [squared_error(point, part.images, part.labels) for point in points]
    assert found.path_losses == pytest.approx(losses, rel=1e-5)
    assert found.heights.shape == (GRID, GRID)
    for i, j in ((0, 0), (3, 17), (GRID - 1, GRID - 1), (GRID // 2, 5)):
        place = points[-1] + found.across[j] * found.directions[0] + found.along[i] * found.directions[1]
        assert found.heights[i, j] == pytest.approx(squared_error(place, part.images, part.labels), rel=1e-4)
    slope = gradient(points[0], part.images, part.labels)
    assert found.slope == pytest.approx(np.linalg.norm(slope), rel=1e-5)
    # Central differences along it agree.
    nudge = 1e-4 * slope / np.linalg.norm(slope)
    start = points[0].astype(np.float64)
    up, down = (squared_error(start + sign * nudge, part.images, part.labels) for sign in (1, -1))
    assert (up - down) / 2e-4 == pytest.approx(found.slope, rel=1e-5)


def test_descents_are_counted_and_their_times_are_the_tables(tour: Tour) -> None:
    assert [(each.name, each.batch_size, each.learning_rate) for each in tour.descents] == [
        ("batch", 60_000, 3),
        ("mini-batch", 32, 2),
        ("online", 1, 0.1),
    ]
    first = [0, 1_000, 2_000, 3_000, 4_000, 6_000, 8_000, 12_000, 16_000, 24_000, 32_000, 46_000, 60_000]
    seen = [
        [0, *(60_000 * 2**k for k in range(7))],
        [*first, *(60_000 * (1 + n) for n in (1, 2, 4, 8))],
        [*first, *(60_000 * (1 + n) for n in (1, 2, 4))],
    ]
    for descent, expected in zip(tour.descents, seen, strict=True):
        assert [point.seen for point in descent.points] == expected
        assert [point.parameters.tolist() for point in descent.points[:1]] == [flat(MLP(SIZES, seed=0)).tolist()]
        epoch = speeds().seconds("cpu", "plain", Work(SIZES, 60_000, descent.batch_size))
        for point in descent.points:
            assert point.seconds == pytest.approx(epoch * point.seen / 60_000, rel=1e-12)


def test_steps_are_those_that_were_made(tour: Tour) -> None:
    """Each part of an epoch ends with a batch that may be smaller."""
    for descent in tour.descents:
        made = 0
        for before, point in itertools.pairwise(descent.points):
            parts = [point.seen - before.seen]
            if point.seen > 60_000:  # whole epochs
                parts = [60_000] * (parts[0] // 60_000)
            made += sum(-(-part // descent.batch_size) for part in parts)
            assert point.steps == made
        assert descent.points[0].steps == 0


def test_losses_on_the_way_are_those_of_the_test_images(tour: Tour, data: Dataset) -> None:
    for descent in tour.descents:
        for point in (descent.points[0], descent.points[len(descent.points) // 2], descent.points[-1]):
            expected = squared_error(point.parameters, data.test.images, data.test.labels)
            assert point.loss == pytest.approx(expected, rel=1e-5)


def replayed(descent: Descent, data: Dataset, n: int) -> Floats:
    """The parameters after the first `n` examples, step by step in float64."""
    parameters = descent.points[0].parameters.astype(np.float64)
    order = np.random.default_rng(0).permutation(n)
    for first in range(0, n, descent.batch_size):
        rows = order[first : first + descent.batch_size]
        parameters -= descent.learning_rate * gradient(parameters, data.train.images[rows], data.train.labels[rows])
    return parameters


def test_descents_go_down_the_gradient_by_their_learning_rates(tour: Tour, data: Dataset) -> None:
    for descent, n in zip(tour.descents, (60_000, 1_000, 1_000), strict=True):
        np.testing.assert_allclose(descent.points[1].parameters, replayed(descent, data, n), atol=2e-4)


def test_fewer_examples_a_step_learn_more_from_each_and_mini_batches_are_quickest(tour: Tour) -> None:
    batch, mini, online = (descent.first_below(GOAL) for descent in tour.descents)
    assert GOAL == 0.5
    assert online.seen < mini.seen < batch.seen
    assert mini.seconds < online.seconds
    assert mini.seconds < batch.seconds
    for descent, found in zip(tour.descents, (batch, mini, online), strict=True):
        before = [point.loss for point in descent.points if point.seen < found.seen]
        assert found.loss < GOAL <= min(before)


def test_the_digits_network_is_that_of_gpunn_train(tour: Tour, data: Dataset) -> None:
    found = tour.digits
    assert found.net.sizes == (784, 16, 10)
    assert found.net.n_parameters == 784 * 16 + 16 + 16 * 10 + 10 == 12_730
    assert (tour.n_train, tour.n_test) == (len(data.train), len(data.test)) == (60_000, 10_000)
    said = outputs(found.net.weights, found.net.biases, data.test.images / 255).argmax(axis=1)
    assert len(found.history.epochs) == 15
    assert found.history.accuracy == pytest.approx((said == data.test.labels).mean(), abs=2e-4)
    assert found.history.accuracies[-1] == found.history.accuracy
    sample = data.train[::6]
    said = outputs(found.net.weights, found.net.biases, sample.images / 255).argmax(axis=1)
    assert found.history.train_accuracies[-1] == pytest.approx((said == sample.labels).mean(), abs=2e-4)


def test_weights_of_dark_pixels_stay_as_they_were_drawn(tour: Tour, data: Dataset) -> None:
    dark = data.train.images.max(axis=0) == 0
    assert tour.digits.dark == dark.sum() == 67
    start = MLP(SIZES, seed=0).weights[0]
    changed = (tour.digits.net.weights[0] != start).any(axis=0)
    assert changed.tolist() == (~dark).tolist()


def test_noise_gets_confident_answers(tour: Tour) -> None:
    found = tour.digits
    assert (found.n_noise, found.sure) == (1_000, 0.5)
    noise = np.random.default_rng(12).integers(0, 256, (1_000, 784), np.uint8)
    said = outputs(found.net.weights, found.net.biases, noise / 255)
    surest = int(said.max(axis=1).argmax())
    assert found.n_sure == (said.max(axis=1) > 0.5).sum()
    assert (found.answer, found.noise.tolist()) == (said[surest].argmax(), noise[surest].tolist())
    assert found.output == pytest.approx(said[surest].max(), rel=1e-4)
    assert found.output > 0.9  # "the network is sure"


def test_weights_are_green_if_positive_and_red_if_negative(tour: Tour) -> None:
    from PIL import Image

    pictures, full = drawing.pixels_of(tour.digits.net)
    weights = tour.digits.net.weights[0]
    assert full == pytest.approx(np.sort(np.abs(weights).ravel())[int(0.98 * weights.size)], rel=1e-2)
    assert len(pictures) == 16
    for row, picture in zip(weights, pictures, strict=True):
        png = base64.b64decode(picture.removeprefix("data:image/png;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(png))).reshape(784, 4).astype(int)
        strength = np.clip(np.abs(row) / full, 0, 1) * 255
        assert np.abs(pixels[:, 3] - strength).max() <= 0.51
        seen = pixels[:, 3] > 0
        assert ((pixels[seen, 1] > pixels[seen, 0]) == (row[seen] > 0)).all()


# The page.


class Page(HTMLParser):
    """What a page shows: texts by section, tables by their regions' names, and every address; all tags are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.sections: dict[str, str] = {}
        self._section = self._region = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.tags.append((tag, own))
        if tag not in {"meta", "img", "source"}:
            self.open.append(tag)
        if tag == "section":
            self._section = own["id"] or ""
        if own.get("role") == "region":
            self._region = own["aria-label"] or ""
        if tag == "tr":
            self.tables.setdefault(self._region, []).append([])
        if tag in {"td", "th"}:
            self.tables[self._region][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.tables[self._region][-1][-1] += data
        self.sections[self._section] = self.sections.get(self._section, "") + data

    def says(self, section: str) -> str:
        return " ".join(self.sections[section].split())


def number(value: float, digits: int) -> str:
    """As on the page: a true minus sign, and none for zero."""
    text = f"{abs(value):,.{digits}f}"
    return f"\N{MINUS SIGN}{text}" if value < 0 and float(text.replace(",", "")) else text


def fires(yes: object) -> str:
    return "fires" if yes else "silent"


def expected_tables(tour: Tour) -> dict[str, list[list[str]]]:
    """The bodies of all tables."""
    names = {"relu": "ReLU", "elu": "ELU"}
    tables = {
        "Neurons of McCulloch and Pitts": [
            [str(a), str(b), str(both), *map(fires, fired)] for a, b, both, *fired in tour.logic.rows
        ],
        "Hebb's rule": [
            [str(k), number(food, 2), number(bell, 2), fires(enough)]
            for k, food, bell, enough in tour.conditioning.rows
        ],
        "The perceptron at XOR": [
            [str(epoch), number(w1, 0), number(w2, 0), number(b, 0), str(right)]
            for epoch, w1, w2, b, right in tour.failure.rows
        ],
        "A nudge of z": [
            [names.get(name, name), number(value, 4), number(changed, 5), number(foretold, 5)]
            for name, value, changed, foretold in tour.slopes.rows
        ],
        "Outputs with and without the bias": [
            [number(total, 0), number(plain, 4), number(shifted, 4)] for total, plain, shifted in tour.shift.rows
        ],
        "The factors of the chain rule": [
            *(
                [each.name, each.formula, number(each.value, 6), number(each.measured, 6)]
                for each in tour.chain.factors
            ),
            [
                "how the loss follows the weight",
                "∂C/∂w: their product",
                number(tour.chain.gradient, 6),
                number(tour.chain.measured, 6),
            ],
        ],
        "The toy network's steps": [
            [
                str(step.number),
                *(number(w, 4) for w in step.weights),
                *(number(d, 5) for d in step.gradients),
                number(step.output, 4),
                number(step.loss, 6),
            ]
            for step in tour.toy.shown
        ],
        "The network at XOR": [
            [str(x1), str(x2), number(h1, 3), number(h2, 3), number(out, 3), str(wanted)]
            for x1, x2, h1, h2, out, wanted in tour.solved.rows
        ],
        "Three batch sizes": [],
    }
    for descent in tour.descents:
        point = descent.first_below(GOAL)
        counts = [f"{point.seen:,}", f"{point.steps:,}", number(point.seconds, 3), number(point.loss, 3)]
        rate = f"{descent.learning_rate:g}"
        tables["Three batch sizes"].append([descent.name, f"{descent.batch_size:,}", rate, *counts])
    found = tour.product
    for layer, (z, a) in enumerate(((found.z1, found.a1), (found.z2, found.a2))):
        rows = zip(found.net.weights[layer], found.net.biases[layer], z, a, strict=True)
        tables[f"Layer {layer + 1} as a matrix product"] = [
            [f"neuron {k}", *(number(w, 2) for w in [*row, *others])] for k, (row, *others) in enumerate(rows, 1)
        ]
    return tables


def test_the_tables_show_what_was_computed(html: str, tour: Tour) -> None:
    page, expected = Page(html), expected_tables(tour)
    assert page.tables.keys() == expected.keys()
    for name, rows in expected.items():
        assert page.tables[name][1:] == rows, name
    inputs = page.tables["Layer 1 as a matrix product"][0][1:6], page.tables["Layer 2 as a matrix product"][0][1:9]
    assert inputs == ([number(a, 2) for a in tour.product.a0], [number(a, 2) for a in tour.product.a1])


def test_the_text_says_what_was_computed(html: str, tour: Tour) -> None:
    page = Page(html)
    last, ratio = tour.learning.updates[-1], tour.toy.steps[0].gradients[2] / tour.toy.steps[0].gradients[0]
    _, full = drawing.pixels_of(tour.digits.net)
    w1, w2 = last.weights
    for section, text in (
        ("logic", "the threshold 2 (the number of inputs) makes it AND, and the threshold 1 makes it OR"),
        ("hebb", "the weighted sum reaches 1, and η is 0.25"),
        ("hebb", "After 4 times the bell alone is enough"),
        ("perceptron", f"These are 30 points, shown in turn, {tour.learning.labels.sum()} of them"),
        ("perceptron", f"After {len(tour.learning.updates)} corrections, in pass {last.epoch}, all are"),
        ("perceptron", f"w = ({number(w1, 2)}, {number(w2, 2)}) and b = {number(last.bias, 2)}"),
        ("perceptron", f"of the four answers, the best line gets {tour.failure.best_line} right"),
        ("perceptron", f"In 100 passes it makes {tour.failure.corrections} corrections, after none of which"),
        ("perceptron", f"more than {tour.failure.most_right} answers are right"),
        ("perceptron", f"end of pass {len(tour.failure.rows)} its weights are what they were"),
        ("perceptron", f"at the end of pass {tour.failure.came_back_to}."),
        ("sigmoid", f"At zero the slope is 0.25, the steepest it gets. At 6 it is {sigma(6) * sigma(-6):.4f}"),
        ("sigmoid", "From z = 0.5, a nudge of 0.01"),
        ("bias", "once it reaches 20? Subtract 20 before the sigmoid. That number, −20, is"),  # noqa: RUF001
        ("bias", "With the weights (9, −4, 12, 7) and the inputs (1, 0.5, 0.75, 0.5) the sum is 19.5"),  # noqa: RUF001
        ("bias", f"the output is {sigma(-0.5):.4f}: below one half"),
        ("matrix", "Take 5-8-2: 5 inputs, 8 hidden neurons, 2 outputs"),
        ("matrix", "W¹ is 8 × 5 (a row for each neuron, a column for each input), and W² is 2 × 8"),  # noqa: RUF001
        ("matrix", "that makes 66 numbers to learn"),
        ("chain", "An output of 0.66 for a target of 1"),
        ("chain", "(0.66 − 1)² = 0.1156"),  # noqa: RUF001
        (
            "chain",
            f"w = 0.8, the input a⁰ = 0.5 and b = {math.log(0.66 / 0.34) - 0.4:.4f}: z = {math.log(0.66 / 0.34):.4f}",
        ),
        ("chain", "by 0.0001, both ways"),
        ("chain", f"back-propagation finds {number(0.5 * 0.66 * 0.34 * -0.68, 6)}, too"),
        ("toy", "one neuron a layer: 1-1-1-1. It is to answer 0.2 to the input 0.8"),
        ("toy", "move each by 1 times its gradient"),
        ("toy", f"The gradient of layer 3 is {ratio:.0f} times that of the first"),
        ("xor", "a network 2-2-1, with 9 numbers to learn"),
        ("xor", f"1,500 steps of 5 times the gradient bring the loss from {tour.solved.loss_before:.4f}"),
        ("xor", f"to {tour.solved.loss:.4f}."),
        ("walk", "60,000 handwritten digits, and a network with 12,730 weights"),
        ("walk", "a space of 12,730 dimensions"),
        ("walk", f"At the start it is {tour.walk.slope:.2f} long"),
        ("walk", f"They hold {tour.walk.share:.1%} of it"),
        ("walk", f"the losses of 1,000 training images, computed at {GRID**2} places"),
        ("walk", f"begins at {tour.walk.path_losses[0]:.3f} and ends at {tour.walk.path_losses[-1]:.3f}, after"),
        ("walk", f"after {tour.descents[1].points[-1].steps:,} steps"),
        ("batches", "a single step then takes all 60,000"),
        ("batches", "When the test loss is first seen below 0.5"),
        ("digits", "This is 784-16-10 as gpunn train trains it: 784 pixels, 16 hidden neurons, 10 outputs"),
        ("digits", "784 · 16 + 16 + 16 · 10 + 10 = 12,730"),
        ("digits", f"After 15 passes over the images, {tour.digits.history.accuracy:.2%} of 10,000 digits"),
        ("digits", "the 16 pictures that it looks for"),
        ("digits", f"the full colour is a weight of {full:.2f} or more"),
        ("digits", "67 pixels are black in every training image"),
        ("digits", f"it is a {tour.digits.answer}, with an output of {tour.digits.output:.3f}"),
        ("digits", f"above 0.5 to {tour.digits.n_sure} of 1,000 such pictures"),
    ):
        assert text in page.says(section), text


def test_no_number_is_typed_into_the_page() -> None:
    """What is left of the template without formulas, sources, names of layers and what is computed has no digits."""
    text = re.sub(
        r"<style>.*?</style>|<code.*?</code>|<cite>.*?</cite>|\{\{.*?\}\}|\{%.*?%\}|<[^>]*>", "", TEMPLATE, flags=re.S
    )
    assert re.findall(r".{0,30}[0-9].{0,30}", text) == []
    # Formulas have digits of their own; what they hold of results is computed.
    formulas = re.findall(r"<code[^>]*>(.*?)</code>", TEMPLATE, re.S)
    assert {digit for each in formulas for digit in re.findall("[0-9.]+", re.sub(r"\{\{.*?\}\}", "", each))} == {
        "1",
        "0",
        ".",
    }


def test_numbers_are_written_with_a_true_minus_and_no_negative_zero() -> None:
    assert [fixed(-1.234), fixed(-0.001), fixed(1234.5, 1), fixed(0, 0)] == [
        "\N{MINUS SIGN}1.23",
        "0.00",
        "1,234.5",
        "0",
    ]
    assert [whole(-20.0), whole(12_730), whole(0.25)] == ["\N{MINUS SIGN}20", "12,730", "0.25"]
    assert [share(0.991), share(0.94466, 2)] == ["99.1%", "94.47%"]


def test_every_station_has_its_section_and_its_link(html: str, told: list[tuple[int, str]]) -> None:
    page = Page(html)
    ids = [own["id"] for tag, own in page.tags if tag == "section"]
    links = [own["href"] for tag, own in page.tags if tag == "a"]
    assert len(ids) == STATIONS == 12
    assert links == [f"#{each}" for each in ids]
    assert [number for number, _ in told] == list(range(1, STATIONS + 1))
    assert "in 12 stations" in " ".join(page.sections[""].split())
    assert all(own["alt"] for tag, own in page.tags if tag == "img")
    assert {field.name for field in fields(Tour)} >= set(re.findall(r"tour\.(\w+)", TEMPLATE))


def test_the_page_fetches_nothing_and_runs_nothing(html: str) -> None:
    page = Page(html)
    policy = next(own["content"] or "" for tag, own in page.tags if own.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "script" not in {tag for tag, _ in page.tags}
    for _, own in page.tags:
        assert not [name for name in own if name == "style" or name.startswith("on")]
        for name in ("src", "srcset"):
            assert (own.get(name) or "data:").startswith("data:")
    for address in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html):
        svg = base64.b64decode(address).decode()
        assert "prefers-color-scheme:dark" in svg
        assert not set(drawing.COLOURS) & set(re.findall("#[0-9a-f]{6}", svg.partition("</style>")[2]))
        ET.fromstring(svg)


def test_two_runs_of_the_command_write_the_same_page(run: Run, html: str, tmp_path: Path) -> None:
    (tmp_path / "tour.html").write_text("old")
    outcome = run("tour")
    assert outcome.code == 0
    assert (tmp_path / "tour.html").read_text("utf-8") == html
    assert outcome.out == f"tour.html: 12 stations, {len(html.encode()) / 1e6:.1f} MB\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "tour.html"]
    lines = [line for line in outcome.err.splitlines() if line.startswith("station")]
    assert [line.split()[1] for line in lines] == [f"{number}/12" for number in range(1, 13)]


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_library_is_named_with_how_to_get_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = run("tour", "-o", "page.html")
    assert outcome.code == 2
    assert outcome.err.startswith("gpunn: gpunn tour needs Matplotlib and Jinja")
    assert outcome.err.endswith("pip install 'gpunn[report]'\n")
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_at_once(run: Run) -> None:
    outcome = run("tour", "-o", "absent/page.html")
    assert outcome.code == 2
    assert "there is no folder" in outcome.err
    assert outcome.err.count("\n") == 1
    assert run("tour", "-o", "").code == 2


def test_json_names_the_page(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gpunn.tour.page.page", lambda tell: "<p>")
    assert json.loads(run("tour", "-o", "page.html", "--json").out) == {"page": "page.html", "stations": STATIONS}
    assert (tmp_path / "page.html").read_text() == "<p>"


def test_an_interrupt_ends_it_without_a_page(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(tell: Callable[[int, str], None]) -> str:
        tell(1, "neurons")
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise RuntimeError("as a compiler turns it into an error of its own")

    monkeypatch.setattr("gpunn.tour.page.page", interrupted)
    outcome = run("tour", "-o", "page.html")
    assert (outcome.code, outcome.out) == (143, "")
    assert outcome.err == "station  1/12  neurons\n\ngpunn: interrupted\n"
    assert list(tmp_path.iterdir()) == []
