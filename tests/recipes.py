"""Recipes of every kind, for engines on GPUs, which are compared with `plain` in float64 on the CPU."""

from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest

from gpunn import Adam, Backend, get_backend
from gpunn.engines import ENGINES, Engine, Examples, Parameters, Recipe, choose_engine
from gpunn.losses import LOSSES
from gpunn.optimizers import SGD, Optimizer, OptimizerState

from .conftest import random_split

CPU = get_backend("cpu")
OPTIMIZERS: dict[str, Optimizer] = {
    "plain": SGD(),
    "momentum": SGD(0.9),
    "Nesterov": SGD(0.9, nesterov=True),
    "Adam": Adam(),
    "AdamW": Adam(decoupled=True),
}
OUTPUTS = [(name, output) for name, loss in LOSSES.items() for output in loss.outputs]
N = 40


def drawn(sizes: tuple[int, ...], functions: tuple[str, ...], memory: OptimizerState | None = None) -> Parameters:
    rng = np.random.default_rng(1)
    weights = [rng.normal(0, 1 / np.sqrt(n_in), (n_out, n_in)).astype(np.float32) for n_in, n_out in pairwise(sizes)]
    biases = [rng.normal(0, 0.1, n_out).astype(np.float32) for n_out in sizes[1:]]
    return Parameters(weights, biases, functions, memory)


def in_float64(start: Parameters) -> Parameters:
    memory = start.memory and OptimizerState(
        start.memory.steps, tuple([moment.astype(np.float64) for moment in each] for each in start.memory.moments)
    )
    weights, biases = ([array.astype(np.float64) for array in each] for each in (start.weights, start.biases))
    return Parameters(weights, biases, start.functions, memory, epochs=start.epochs)


def examples(*, floats: bool = False, rows: bool = False, dtype: Any = np.float32) -> Examples:
    rng, split = np.random.default_rng(2), random_split(N, 12, 3)
    shares = rng.random((N, 3), np.float32)
    shares /= shares.sum(axis=1, keepdims=True)
    return Examples(
        rng.normal(size=(N, 12)).astype(np.float32).astype(dtype) if floats else split.images,
        shares.astype(dtype) if rows else split.labels,
    )


def both(gpu: Backend, name: str, start: Parameters, recipe: Recipe, **kind: bool) -> tuple[Engine, Engine]:
    """Return an engine on the GPU, and plain in float64."""
    inputs, targets, _ = examples(**kind)
    exact = examples(**kind, dtype=np.float64)
    with gpu.activate():
        found = choose_engine(name, gpu, start, recipe, Examples(inputs, targets))
        ours = found(gpu, start, Examples(gpu.asarray(inputs), gpu.asarray(targets)), recipe)
    return ours, ENGINES["plain"](CPU, in_float64(start), exact, recipe)


def assert_same(gpu: Backend, engines: tuple[Engine, Engine], recipe: Recipe, *, magnified: float = 1) -> None:
    """Train both for two epochs, and compare losses, parameters and optimisers' states.

    Tolerances are `magnified` where rounding errors are.
    """
    rng, (ours, theirs) = np.random.default_rng(3), engines
    for epoch in range(2):
        order = rng.permutation(N)
        rates = recipe.learning_rate * recipe.schedule.factors(epoch, 2, -(-N // recipe.batch_size))
        with gpu.activate():
            loss = ours.run_epoch(order, rates)
        assert loss == pytest.approx(theirs.run_epoch(order, rates), rel=1e-5 * magnified)
    with gpu.activate():
        assert_same_parameters(gpu, engines, atol=4e-6 * magnified)
        assert_same_memory(ours.memory(), theirs.memory())


def assert_same_parameters(gpu: Backend, engines: tuple[Engine, Engine], *, atol: float) -> None:
    found, expected = (engine.parameters() for engine in engines)
    assert found.functions == expected.functions
    for mine, exact in zip((*found.weights, *found.biases), (*expected.weights, *expected.biases), strict=True):
        np.testing.assert_allclose(gpu.to_host(mine), exact, atol=atol)


def parts_of(found: Parameters) -> list[Any]:
    return [*found.weights, *found.biases]


def assert_same_memory(found: OptimizerState, expected: OptimizerState) -> None:
    assert found.steps == expected.steps
    assert [len(moments) for moments in found.moments] == [len(moments) for moments in expected.moments]
    for ours, theirs in zip(chain(*found.moments), chain(*expected.moments), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


def assert_resumes(gpu: Backend, name: str, start: Parameters, recipe: Recipe, *, atol: float) -> None:
    """Train for an epoch, resume in new engines from their state, and compare with uninterrupted training.

    Bits are those of the same engine, and plain's are the same to rounding.
    """
    ours, theirs = both(gpu, name, start, recipe)
    order = np.arange(N)
    with gpu.activate():
        for engine in (ours, theirs):
            engine.run_epoch(order)
        found = ours.parameters()
        weights, biases = ([np.array(gpu.to_host(array)) for array in each] for each in (found.weights, found.biases))
        again = both(gpu, name, Parameters(weights, biases, start.functions, ours.memory(), epochs=1), recipe)
        for engine in (*again, theirs, ours):
            engine.run_epoch(order[::-1])
            assert engine.memory().steps == 2 * -(-N // recipe.batch_size)
        assert_same_parameters(gpu, again, atol=atol)
        assert_same_parameters(gpu, (again[0], theirs), atol=atol)
        for resumed, whole in zip(*(parts_of(engine.parameters()) for engine in (again[0], ours)), strict=True):
            np.testing.assert_array_equal(gpu.to_host(resumed), gpu.to_host(whole))
        assert_same_memory(again[0].memory(), theirs.memory())
