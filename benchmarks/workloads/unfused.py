"""Each fused kernel beside what it replaces: the same result by one array operation after another.

What is unfused makes no arrays either: each operation writes where the next one reads, so that only passes over memory
and calls differ. Where there is little to compute, the call itself is what is timed: checks in Python, or a launch.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from gpunn import Backend
from gpunn.equations import Array, sigmoid
from gpunn.kernels.formulas.steps import Numbers
from gpunn.optimizers import SGD, Adam

N_IMAGES, N_PIXELS = 60_000, 784

Work = Callable[[], object]

FACTOR = 1e-3
"""The learning rate, and the factor of delta."""


@dataclass(frozen=True)
class Case:
    """A kernel at the shape of a batch, or of the weights that it descends, on one device."""

    fused: Work
    unfused: Work
    pairs: list[tuple[Array, Array]]
    """What the two compute: outputs first, then sums and moments, which each call adds to."""
    n_bytes: int
    """Read and written by a kernel that touches every number once."""

    def results(self) -> list[tuple[Array, Array]]:
        """Return the `pairs` after one call of each."""
        for array in chain(*self.pairs[1:]):
            array[...] = 0
        self.fused()
        self.unfused()
        return self.pairs


class Arrays:
    """Random arrays on a device, and the namespace and kernels that work on them."""

    def __init__(self, backend: Backend) -> None:
        self._rng = np.random.default_rng(0)
        self._backend = backend
        self.xp = backend.xp

    def uniform(self, *shape: int) -> Array:
        """Return float32 numbers in [0, 1)."""
        return self._backend.asarray(self._rng.random(shape, dtype=np.float32))

    def whole(self, below: int, *shape: int, dtype: type[np.integer[Any]]) -> Array:
        """Return whole numbers from 0 to `below` - 1."""
        return self._backend.asarray(self._rng.integers(0, below, shape, dtype))

    def empty(self, *shape: int, dtype: Any = np.float32) -> Array:
        """Return an array to write to."""
        return self.xp.empty(shape, dtype)

    def pair(self, *shape: int, dtype: Any = np.float32) -> tuple[Array, Array]:
        """Return two arrays of zeros."""
        return self.xp.zeros(shape, dtype), self.xp.zeros(shape, dtype)

    def kernel(self, name: str, *arguments: Any, out: Array) -> Work:
        """Return a call of the kernel called `name`: on GPUs with handles, made once, which it takes fastest."""
        kernels = self._backend.kernels
        as_handle = getattr(kernels, "as_handle", lambda array: array)
        given = [as_handle(each) if hasattr(each, "dtype") else each for each in arguments]
        return partial(getattr(kernels, name), *given, out=as_handle(out))


def _gather_scale(on: Arrays, m: int, n: int) -> Case:
    images, rows = on.whole(256, N_IMAGES, n, dtype=np.uint8), on.whole(N_IMAGES, m, dtype=np.int64)
    gathered, (out, expected) = on.empty(m, n, dtype=np.uint8), on.pair(m, n)

    def unfused() -> None:
        on.xp.take(images, rows, axis=0, out=gathered, **({"mode": "clip"} if on.xp is np else {}))
        on.xp.multiply(gathered, np.float32(1 / 255), out=expected)

    return Case(on.kernel("gather_scale", images, rows, out=out), unfused, [(out, expected)], m * n * (1 + 4) + 8 * m)


def _bias_activate(on: Arrays, m: int, n: int) -> Case:
    Z, b, (out, expected) = on.uniform(m, n), on.uniform(n), on.pair(m, n)

    def unfused() -> None:
        on.xp.add(Z, b, out=expected)
        sigmoid(on.xp, expected, out=expected)

    return Case(on.kernel("bias_activate", Z, b, out=out), unfused, [(out, expected)], 4 * (2 * m * n + n))


def _hidden_delta(on: Arrays, m: int, n: int) -> Case:
    delta, A, (out, expected) = on.uniform(m, n), on.uniform(m, n), on.pair(m, n)

    def unfused() -> None:
        on.xp.subtract(1, A, out=expected)
        on.xp.multiply(expected, A, out=expected)
        on.xp.multiply(expected, delta, out=expected)

    return Case(on.kernel("hidden_delta", delta, A, out=out), unfused, [(out, expected)], 4 * 3 * m * n)


def _output_delta(on: Arrays, m: int, n: int) -> Case:
    A, labels, slope = on.uniform(m, n), on.whole(n, m, dtype=np.uint8), on.empty(m, n)
    Y = (labels[:, None] == on.xp.arange(n, dtype=np.uint8)).astype(np.float32)
    (out, expected), (total, losses) = on.pair(m, n), on.pair(1, dtype=np.float64)

    def unfused() -> None:
        on.xp.subtract(A, Y, out=expected)
        losses[...] += on.xp.vdot(expected, expected)
        on.xp.subtract(1, A, out=slope)
        on.xp.multiply(slope, A, out=slope)
        on.xp.multiply(expected, np.float32(2 * FACTOR), out=expected)
        on.xp.multiply(expected, slope, out=expected)

    fused = on.kernel("output_delta", A, labels, FACTOR, total, out=out)
    return Case(fused, unfused, [(out, expected), (total, losses)], 4 * 2 * m * n + m)


def _numbers(optimizer: SGD | Adam) -> Numbers:
    return Numbers(*optimizer.numbers(0, np.array([FACTOR]), 0.0)[0].tolist())


def _descend(on: Arrays, m: int, n: int) -> Case:
    """Subtract a gradient from weights (m, n)."""
    W, dW, (out, expected) = on.uniform(m, n), on.uniform(m, n), on.pair(m, n)

    def unfused() -> None:
        on.xp.multiply(dW, np.float32(FACTOR), out=expected)
        on.xp.subtract(W, expected, out=expected)

    return Case(on.kernel("optimizer_step", W, dW, _numbers(SGD()), out=out), unfused, [(out, expected)], 4 * 3 * m * n)


def _descend_sums(on: Arrays, m: int, n: int) -> Case:
    """Subtract the sum of the rows of delta (m, n) from biases (n,)."""
    b, deltas, (out, expected) = on.uniform(n), on.uniform(m, n), on.pair(n)

    def unfused() -> None:
        on.xp.sum(deltas, axis=0, out=expected)
        on.xp.multiply(expected, np.float32(FACTOR), out=expected)
        on.xp.subtract(b, expected, out=expected)

    return Case(on.kernel("descend_sums", b, deltas, FACTOR, out=out), unfused, [(out, expected)], 4 * (m * n + 2 * n))


def _momentum_step(on: Arrays, m: int, n: int) -> Case:
    """Step weights (m, n) with momentum."""
    W, dW, (out, expected), (velocity, other) = on.uniform(m, n), on.uniform(m, n), on.pair(m, n), on.pair(m, n)

    def unfused() -> None:
        on.xp.multiply(other, np.float32(0.9), out=other)
        on.xp.add(other, dW, out=other)
        on.xp.multiply(other, np.float32(FACTOR), out=expected)
        on.xp.subtract(W, expected, out=expected)

    fused = on.kernel("optimizer_step", W, dW, _numbers(SGD(0.9)), "momentum", velocity, out=out)
    return Case(fused, unfused, [(out, expected), (velocity, other)], 4 * 5 * m * n)


def _adam_step(on: Arrays, m: int, n: int) -> Case:
    """Step weights (m, n) as Adam does, but for the correction of its means."""
    W, dW, work, (out, expected) = on.uniform(m, n), on.uniform(m, n), on.empty(m, n), on.pair(m, n)
    (mean, other_mean), (square, other_square) = on.pair(m, n), on.pair(m, n)
    numbers = _numbers(Adam())._replace(rate=FACTOR, correction=1.0)

    def unfused() -> None:
        on.xp.multiply(dW, np.float32(0.1), out=work)
        on.xp.multiply(other_mean, np.float32(0.9), out=other_mean)
        on.xp.add(other_mean, work, out=other_mean)
        on.xp.multiply(dW, dW, out=work)
        on.xp.multiply(work, np.float32(0.001), out=work)
        on.xp.multiply(other_square, np.float32(0.999), out=other_square)
        on.xp.add(other_square, work, out=other_square)
        on.xp.sqrt(other_square, out=work)
        on.xp.add(work, np.float32(1e-8), out=work)
        on.xp.divide(other_mean, work, out=work)
        on.xp.multiply(work, np.float32(FACTOR), out=work)
        on.xp.subtract(W, work, out=expected)

    fused = on.kernel("optimizer_step", W, dW, numbers, "adam", mean, square, out=out)
    return Case(fused, unfused, [(out, expected), (mean, other_mean), (square, other_square)], 4 * 7 * m * n)


_LAYERS = ((32, 16), (1024, 128), (1024, 1024), (8192, 2048))
"""Batches of a layer's activations, from what a first-level cache holds to what no cache does."""

_OUTPUTS = ((32, 10), (1024, 10), (60_000, 10))

_WEIGHTS = ((16, N_PIXELS), (128, N_PIXELS), (1024, 1024), (4096, 4096))

FUSIONS: dict[str, tuple[Callable[[Arrays, int, int], Case], tuple[tuple[int, int], ...]]] = {
    "gather_scale": (_gather_scale, ((32, N_PIXELS), (1024, N_PIXELS), (60_000, N_PIXELS))),
    "bias_activate": (_bias_activate, _LAYERS),
    "output_delta": (_output_delta, _OUTPUTS),
    "hidden_delta": (_hidden_delta, _LAYERS),
    "descend": (_descend, _WEIGHTS),
    "momentum_step": (_momentum_step, _WEIGHTS),
    "adam_step": (_adam_step, _WEIGHTS),
    "descend_sums": (_descend_sums, (*_OUTPUTS, (8192, 2048))),
}
"""How a case is made, and the shapes at which it is timed: those of a batch, or of the weights it descends."""


def copy_of(on: Arrays, n_bytes: int) -> Work:
    """Return what copies half of `n_bytes`, which makes that many read and written."""
    source = on.uniform(max(1, n_bytes // 8))
    target = on.xp.empty_like(source)
    return lambda: on.xp.copyto(target, source)


def difference(pairs: Iterable[tuple[Array, Array]], rows: int, backend: Backend) -> str | None:
    """Return how fused results differ from the unfused ones, or None where they are the same but for rounding.

    A sum over a column rounds as often as it has `rows`, and the errors walk at random.
    """
    tolerance = float(np.finfo(np.float32).eps) * (16 + 4 * math.sqrt(rows))
    away = 0.0
    for pair in pairs:
        found, expected = map(backend.to_host, pair)
        away = max(away, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return None if away <= tolerance else f"wrong: differs from the unfused result by {away:.2g} of its largest number"
