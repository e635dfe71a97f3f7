"""Test cases of kernels: random arguments, and tolerances against float64."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunn.kernels.formulas.activations import ACTIVATIONS
from gpunn.kernels.formulas.steps import Numbers
from gpunn.optimizers import SGD, Adam, Optimizer

from . import oracle

EPS = float(np.finfo(np.float32).eps)


class Drawn(NamedTuple):
    """Arguments of a kernel, the indices `changed` of those it writes to, and the shape of its output."""

    arguments: list[Any]
    tolerance: Any
    """Absolute tolerance of the output."""
    shape: tuple[int, ...]
    changed: Sequence[int] = ()


class Case(NamedTuple):
    """A kernel, with one of the functions it is compiled for."""

    name: str
    draw: Callable[[np.random.Generator, int, int], Drawn]
    label: str

    def __str__(self) -> str:
        return f"{self.name} {self.label}".rstrip()


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def draw_grey(rng: np.random.Generator, m: int, n: int) -> Drawn:
    images, rows = rng.integers(0, 256, (11, n), dtype=np.uint8), rng.integers(0, 11, m)
    return Drawn([images, rows], EPS / 2, (m, n))


def draw_floats(rng: np.random.Generator, m: int, n: int) -> Drawn:
    return Drawn([floats(rng, 11, n), rng.integers(0, 11, m)], 0, (m, n))


def activation_case(activation: str) -> Case:
    def draw(rng: np.random.Generator, m: int, n: int) -> Drawn:
        z, b = 3 * floats(rng, m, n), floats(rng, n)
        # The sum is rounded, and no function is steeper than 1; exp, sums and quotients of up to 1 are rounded.
        return Drawn([z, b, activation], EPS * (np.abs(z) + np.abs(b) + 3), (m, n))

    return Case("bias_activate", draw, activation)


def slope_case(activation: str) -> Case:
    def draw(rng: np.random.Generator, m: int, n: int) -> Drawn:
        delta, a = floats(rng, m, n), floats(rng, m, n)
        return Drawn([delta, a, activation], 4 * EPS * np.abs(delta) * (np.abs(a) + 1) ** 2, (m, n))

    return Case("hidden_delta", draw, activation)


def loss_case(loss: str, activation: str, labeled: bool) -> Case:
    def draw(rng: np.random.Generator, m: int, n: int) -> Drawn:
        output = 2 * floats(rng, m, n)
        rows = rng.random((m, n), np.float32)
        rows /= rows.sum(axis=1, keepdims=True)
        targets = rng.integers(0, min(n, 256), m, dtype=np.uint8) if labeled else rows
        # Of sums over a row, and of differences: errors are relative to what is subtracted.
        size = 4 * (np.abs(output) + 1) ** 3 if loss == "squared_error" else 8 * (np.abs(output).max() + n)
        return Drawn([output, targets, 0.3, np.array([1.5]), activation, loss], 0.3 * EPS * size, (m, n), [3])

    return Case("output_delta", draw, f"{loss}, {activation}, {'labels' if labeled else 'rows'}")


def draw_drop(rng: np.random.Generator, m: int, n: int) -> Drawn:
    a, share = floats(rng, m, n), float(rng.random())
    return Drawn([a, int(rng.integers(2**32)), 59_000, share], 2 * EPS * np.abs(a) / (1 - share), (m, n))


def draw_drop_all(rng: np.random.Generator, m: int, n: int) -> Drawn:
    a = floats(rng, m, n)
    return Drawn([a, 2**32 - 1, 2**32 - m - 1, 1 - 2.0**-40], 2.0**40 * EPS * np.abs(a), (m, n))


def draw_descend_sums(rng: np.random.Generator, m: int, n: int) -> Drawn:
    p, g = floats(rng, n), floats(rng, m, n)
    return Drawn([p, g, 0.7], EPS * (m + 2) * (np.abs(p) + 0.7 * np.abs(g).sum(axis=0)), (n,))


def draw_column_sums(rng: np.random.Generator, m: int, n: int) -> Drawn:
    rows = floats(rng, m, n)
    return Drawn([rows], EPS * m * np.abs(rows).sum(axis=0), (n,))


def step_numbers(optimizer: Optimizer, l2: float = 0.0, *, steps: int = 4) -> Numbers:
    """Return the numbers of the step after `steps` ones, at the learning rate 0.3."""
    return Numbers(*optimizer.numbers(steps, np.array([0.3]), l2)[0].tolist())


def descent_case(l2: float, momentum: float = 0.0, *, nesterov: bool = False) -> Case:
    optimizer = SGD(momentum, nesterov)

    def draw(rng: np.random.Generator, m: int, n: int) -> Drawn:
        p, g, *moments = (floats(rng, m, n) for _ in range(2 + optimizer.n_moments))
        tolerance = 8 * EPS * sum(map(abs, (p, g, *moments)))
        arguments = [p, g, step_numbers(optimizer, l2), optimizer.rule, *moments]
        return Drawn(arguments, tolerance, (m, n), [4][: len(moments)])

    return Case("optimizer_step", draw, f"{optimizer.rule}, L2 penalty {l2}")


def adam_case(l2: float, *, decoupled: bool = False) -> Case:
    def draw(rng: np.random.Generator, m: int, n: int) -> Drawn:
        p, g, mean, square = *(floats(rng, m, n) for _ in range(3)), floats(rng, m, n) ** 2
        c = step_numbers(Adam(decoupled=decoupled), l2)
        # The quotient is as wrong as the mean, and the root's error in relation to it.
        step = c.rate / c.correction * (np.abs(mean) + np.abs(g) + np.abs(p)) / np.sqrt(0.999 * square + 1e-20)
        return Drawn([p, g, c, "adam", mean, square], 8 * EPS * (np.abs(p) + step), (m, n), [4, 5])

    return Case("optimizer_step", draw, f"adam, {'decoupled ' * decoupled}L2 penalty {l2}")


ONCE = ("column_sums", "gather_scale")
"""Kernels whose output can't be an input."""

CASES = [
    Case("gather_scale", draw_grey, "grey levels"),
    Case("gather_scale", draw_floats, "floats"),
    *(activation_case(activation) for activation in ACTIVATIONS),
    *(slope_case(activation) for activation in ACTIVATIONS),
    *(loss_case("squared_error", activation, labeled=True) for activation in ACTIVATIONS),
    loss_case("squared_error", "tanh", labeled=False),
    *(loss_case("binary_cross_entropy", "sigmoid", labeled=labeled) for labeled in (True, False)),
    *(loss_case("cross_entropy", "identity", labeled=labeled) for labeled in (True, False)),
    Case("drop", draw_drop, ""),
    Case("drop", draw_drop_all, "nearly all"),
    Case("descend_sums", draw_descend_sums, ""),
    Case("column_sums", draw_column_sums, ""),
    descent_case(0.0),
    descent_case(0.2),
    descent_case(0.01, 0.9),
    descent_case(0.01, 0.9, nesterov=True),
    adam_case(0.01),
    adam_case(0.02, decoupled=True),
]
"""Every kernel of the contract, with every function that it is compiled for."""

NAMES = sorted({case.name for case in CASES})


def in_float64(value: Any) -> Any:
    return value.astype(np.float64) if getattr(value, "dtype", None) == np.float32 else value


def check(case: Case, run: Callable[..., list[Any]], m: int, n: int, *, in_place: bool = False) -> None:
    """Compare a kernel with the oracle for an output of (m, n) or (n,).

    `run(name, *arguments, out=..., in_place=...)` returns the output and the arguments afterwards.
    """
    arguments, tolerance, shape, changed = case.draw(np.random.default_rng([m, n]), m, n)
    exact = [np.array(in_float64(value)) if isinstance(value, np.ndarray) else value for value in arguments]
    expected = np.full(shape, 7.0)
    getattr(oracle, case.name)(*exact, out=expected)
    out = np.full(shape, 7, np.float32)
    found, *after = run(case.name, *arguments, out=out, in_place=in_place)
    assert found.dtype == np.float32
    np.testing.assert_array_less(np.abs(found - expected), tolerance + 1e-30 * np.ones(shape))
    for index in changed:
        if exact[index].shape == (1,):
            # Of a row's losses in float32, and their sum in float64.
            np.testing.assert_allclose(after[index], exact[index], rtol=(8 + n) * EPS)
        else:
            np.testing.assert_allclose(after[index], exact[index], atol=8 * EPS * np.abs(exact[index]).max())
