"""Log messages about compiling kernels: the kind of network, in one pair of lines per training."""

import re
from typing import Any

import numpy as np
import pytest
from numba.core import event

from gpunn import MLP, SGD, Adam, Split, get_backend, train
from gpunn.engines import ENGINES, Examples, Parameters, Recipe
from gpunn.engines.kinds import kind_of
from gpunn.kernels.announcement import announced
from gpunn.kernels.compilation import compiled

from .conftest import random_split

CPU = get_backend("cpu")
COMPILED = ["fused", "epoch"]


def kind(
    functions: tuple[str, ...], targets: Any = None, *, sparse: bool = True, wide: bool = False, **recipe: Any
) -> str:
    net = MLP([12, 5, 3])
    targets = np.zeros(4, np.uint8) if targets is None else targets
    examples = Examples(np.zeros((4, 12), np.uint8 if sparse else np.float32), targets)
    return kind_of(
        "epoch", Parameters(net.weights, net.biases, functions), Recipe(4, 0.1, **recipe), examples,
        sparse=sparse, wide=wide,
    )  # fmt: skip


def test_a_kind_is_what_is_computed_and_never_a_size() -> None:
    assert kind(()) == (
        "networks of this kind (sigmoid layers; squared error; gradient descent; sparse images; engine epoch)"
    )
    assert kind(
        ("relu", "softmax"), np.zeros((4, 3), np.float32), sparse=False, wide=True, loss="cross_entropy",
        optimizer=Adam(), l2=0.1, dropout=0.5,
    ) == (
        "networks of this kind (layers of relu, softmax; cross entropy; Adam; dense numbers; L2 penalty; dropout; "
        "rows of targets; wide layers; engine epoch)"
    )  # fmt: skip
    assert "; momentum;" in kind((), optimizer=SGD(0.9))
    assert "; Nesterov momentum;" in kind((), optimizer=SGD(0.9, nesterov=True))


def inputs_of(kind: str) -> tuple[Any, Any]:
    split = random_split(64, 12, 3)
    if kind == "dense":
        return split.images | 1, split.labels
    if kind == "floats":
        return np.asarray(split.images / np.float32(255)), np.eye(3, dtype=np.float32)[split.labels]
    return split.images, split.labels


CHOICES: list[dict[str, Any]] = [
    {},
    {"l2": 0.1},
    {"optimizer": SGD(0.9)},
    {"optimizer": Adam(), "l2": 0.1},
    {"dropout": 0.5},
]


@pytest.mark.parametrize(
    ("name", "choice"),
    [(name, choice) for name in COMPILED for choice in CHOICES],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value) or "plain",
)
@pytest.mark.parametrize("inputs", ["sparse", "dense", "floats"])
def test_an_epoch_compiles_nothing_as_the_engine_was_compiled_when_made(
    name: str, inputs: str, choice: dict[str, Any]
) -> None:
    net, (X, Y) = MLP([12, 20, 5, 3], seed=1), inputs_of(inputs)
    start = Parameters(net.weights, net.biases, ("tanh", "relu", "sigmoid"))
    for batch_size in (1, 30, 64):
        engine = ENGINES[name](CPU, start, Examples(X, Y), Recipe(batch_size, 0.1, **choice))
        same = [np.array(array) for array in (*engine.parameters().weights, *engine.parameters().biases)]
        for ours, theirs in zip(same, (*net.weights, *net.biases), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert engine.memory().steps == 0
        assert not any(np.any(array) for moments in engine.memory().moments for array in moments)
        with event.install_recorder("numba:compile") as compilations:
            engine.run_epoch(np.arange(64))
        assert compilations.buffer == []


def test_a_training_says_one_pair_of_lines_or_none(caplog: pytest.LogCaptureFixture, small: Split) -> None:
    caplog.set_level("INFO", "gpunn")
    for name in COMPILED:
        for _ in range(2):
            caplog.clear()
            recipe: dict[str, Any] = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1, "device": "cpu"}
            train(MLP([12, 9, 3]), small, engine=name, **recipe)
            lines = [line for line in caplog.messages if "compil" in line]
            assert len(lines) in {0, 2}
        assert lines == []


def test_what_is_compiled_inside_is_said_once_with_the_time_it_took(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gpunn")
    # Of no file, so that they aren't kept.
    once, names = compiled(eval("lambda x: x + 1")), {}
    names["once"] = once
    twice = compiled(eval("lambda x: once(once(x))", names))
    with announced("two functions"):
        assert caplog.messages == []
        assert (twice(1), once(1.5)) == (3, 2.5)
    first, second = caplog.messages
    assert first == "compiling kernels for two functions"
    assert re.match(r"compiled in \d+\.\d s(, and kept in .+)?$", second)
    caplog.clear()
    with announced("two functions"):
        assert twice(2) == 4
    assert caplog.messages == []
