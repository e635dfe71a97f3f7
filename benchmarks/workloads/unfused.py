"""Each fused kernel beside what it replaces: the same result by one array operation after another.

What is unfused makes no arrays either: each operation writes where the next one reads, so that only passes over memory
and calls differ. Where there is little to compute, the call itself is what is timed: checks in Python, or a launch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
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

    shape: tuple[int, int]
    fused: Work
    unfused: Work
    results: Callable[[], list[tuple[Array, Array]]]
    """Pairs of what the two have computed."""
    n_bytes: int
    """Read and written by a kernel that touches every number once."""


class Arrays:
    """Random arrays on a device, and the namespace and kernels that work on them."""

    def __init__(self, backend: Backend) -> None:
        self._rng = np.random.default_rng(0)
        self._backend = backend
        self.xp, self.kernels = backend.xp, backend.kernels

    def uniform(self, *shape: int) -> Array:
        """Return float32 numbers in [0, 1)."""
        return self._backend.asarray(self._rng.random(shape, dtype=np.float32))

    def whole(self, below: int, *shape: int, dtype: type[np.integer[Any]]) -> Array:
        """Return whole numbers from 0 to `below` - 1."""
        return self._backend.asarray(self._rng.integers(0, below, shape, dtype))

    def empty(self, *shape: int, dtype: Any = np.float32) -> Array:
        """Return an array to write to."""
        return self.xp.empty(shape, dtype)

    def shared(self, *arrays: Array) -> list[Array]:
        """Return `arrays` as the kernels take them fastest: on GPUs as handles, made once."""
        as_handle = getattr(self.kernels, "as_handle", lambda array: array)
        return [as_handle(array) for array in arrays]


def _gather_scale(on: Arrays, m: int, n: int) -> Case:
    images = on.whole(256, N_IMAGES, n, dtype=np.uint8)
    rows = on.whole(N_IMAGES, m, dtype=np.int64)
    X, gathered, expected = on.empty(m, n), on.empty(m, n, dtype=np.uint8), on.empty(m, n)
    shared_images, shared_rows, shared_X = on.shared(images, rows, X)

    def unfused() -> None:
        on.xp.take(images, rows, axis=0, out=gathered, **({"mode": "clip"} if on.xp is np else {}))
        on.xp.multiply(gathered, np.float32(1 / 255), out=expected)

    def fused() -> None:
        on.kernels.gather_scale(shared_images, shared_rows, out=shared_X)

    return Case((m, n), fused, unfused, lambda: [(X, expected)], m * n * (1 + 4) + 8 * m)


def _bias_activate(on: Arrays, m: int, n: int) -> Case:
    Z, b, A, expected = on.uniform(m, n), on.uniform(n), on.empty(m, n), on.empty(m, n)
    shared_Z, shared_b, shared_A = on.shared(Z, b, A)

    def unfused() -> None:
        on.xp.add(Z, b, out=expected)
        sigmoid(on.xp, expected, out=expected)

    def fused() -> None:
        on.kernels.bias_activate(shared_Z, shared_b, out=shared_A)

    return Case((m, n), fused, unfused, lambda: [(A, expected)], 4 * (2 * m * n + n))


def _hidden_delta(on: Arrays, m: int, n: int) -> Case:
    delta, A, out, expected = on.uniform(m, n), on.uniform(m, n), on.empty(m, n), on.empty(m, n)
    shared_delta, shared_A, shared_out = on.shared(delta, A, out)

    def unfused() -> None:
        on.xp.subtract(1, A, out=expected)
        on.xp.multiply(expected, A, out=expected)
        on.xp.multiply(expected, delta, out=expected)

    def fused() -> None:
        on.kernels.hidden_delta(shared_delta, shared_A, out=shared_out)

    return Case((m, n), fused, unfused, lambda: [(out, expected)], 4 * 3 * m * n)


def _output_delta(on: Arrays, m: int, n: int) -> Case:
    A, labels = on.uniform(m, n), on.whole(n, m, dtype=np.uint8)
    Y = (labels[:, None] == on.xp.arange(n, dtype=np.uint8)).astype(np.float32)
    total, losses = on.xp.zeros(1, np.float64), on.xp.zeros(1, np.float64)
    out, expected, slope = on.empty(m, n), on.empty(m, n), on.empty(m, n)
    shared_A, shared_labels, shared_total, shared_out = on.shared(A, labels, total, out)

    def unfused() -> None:
        on.xp.subtract(A, Y, out=expected)
        losses[...] += on.xp.vdot(expected, expected)
        on.xp.subtract(1, A, out=slope)
        on.xp.multiply(slope, A, out=slope)
        on.xp.multiply(expected, np.float32(2 * FACTOR), out=expected)
        on.xp.multiply(expected, slope, out=expected)

    def fused() -> None:
        on.kernels.output_delta(shared_A, shared_labels, FACTOR, shared_total, out=shared_out)

    def results() -> list[tuple[Array, Array]]:
        """Return the deltas, and the losses of one more call."""
        total[...], losses[...] = 0, 0
        fused()
        unfused()
        return [(out, expected), (total, losses)]

    return Case((m, n), fused, unfused, results, 4 * 2 * m * n + m)


def _numbers(optimizer: SGD | Adam) -> Numbers:
    return Numbers(*optimizer.numbers(0, np.array([FACTOR]), 0.0)[0].tolist())


def _descend(on: Arrays, m: int, n: int) -> Case:
    """Subtract a gradient from weights (m, n)."""
    W, dW, out, expected = on.uniform(m, n), on.uniform(m, n), on.empty(m, n), on.empty(m, n)
    shared_W, shared_dW, shared_out = on.shared(W, dW, out)
    numbers = _numbers(SGD())

    def unfused() -> None:
        on.xp.multiply(dW, np.float32(FACTOR), out=expected)
        on.xp.subtract(W, expected, out=expected)

    def fused() -> None:
        on.kernels.optimizer_step(shared_W, shared_dW, numbers, out=shared_out)

    return Case((m, n), fused, unfused, lambda: [(out, expected)], 4 * 3 * m * n)


def _descend_sums(on: Arrays, m: int, n: int) -> Case:
    """Subtract the sum of the rows of delta (m, n) from biases (n,)."""
    b, deltas, out, expected = on.uniform(n), on.uniform(m, n), on.empty(n), on.empty(n)
    shared_b, shared_deltas, shared_out = on.shared(b, deltas, out)

    def unfused() -> None:
        on.xp.sum(deltas, axis=0, out=expected)
        on.xp.multiply(expected, np.float32(FACTOR), out=expected)
        on.xp.subtract(b, expected, out=expected)

    def fused() -> None:
        on.kernels.descend_sums(shared_b, shared_deltas, FACTOR, out=shared_out)

    return Case((m, n), fused, unfused, lambda: [(out, expected)], 4 * (m * n + 2 * n))


def _momentum_step(on: Arrays, m: int, n: int) -> Case:
    """Step weights (m, n) with momentum."""
    W, dW, out, expected = on.uniform(m, n), on.uniform(m, n), on.empty(m, n), on.empty(m, n)
    velocity, other = on.xp.zeros((m, n), np.float32), on.xp.zeros((m, n), np.float32)
    shared_W, shared_dW, shared_velocity, shared_out = on.shared(W, dW, velocity, out)
    numbers = _numbers(SGD(0.9))

    def unfused() -> None:
        on.xp.multiply(other, np.float32(0.9), out=other)
        on.xp.add(other, dW, out=other)
        on.xp.multiply(other, np.float32(FACTOR), out=expected)
        on.xp.subtract(W, expected, out=expected)

    def fused() -> None:
        on.kernels.optimizer_step(shared_W, shared_dW, numbers, "momentum", shared_velocity, out=shared_out)

    def results() -> list[tuple[Array, Array]]:
        velocity[...], other[...] = 0, 0
        fused()
        unfused()
        return [(out, expected), (velocity, other)]

    return Case((m, n), fused, unfused, results, 4 * 5 * m * n)


def _adam_step(on: Arrays, m: int, n: int) -> Case:
    """Step weights (m, n) as Adam does, but for the correction of its means."""
    W, dW, out, expected = on.uniform(m, n), on.uniform(m, n), on.empty(m, n), on.empty(m, n)
    moments = [on.xp.zeros((m, n), np.float32) for _ in range(4)]
    mean, square, other_mean, other_square = moments
    work = on.empty(m, n)
    numbers = _numbers(Adam())._replace(rate=FACTOR, correction=1.0)
    shared = on.shared(W, dW, mean, square, out)

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

    def fused() -> None:
        on.kernels.optimizer_step(*shared[:2], numbers, "adam", *shared[2:4], out=shared[4])

    def results() -> list[tuple[Array, Array]]:
        for moment in moments:
            moment[...] = 0
        fused()
        unfused()
        return [(out, expected), (mean, other_mean), (square, other_square)]

    return Case((m, n), fused, unfused, results, 4 * 7 * m * n)


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


def difference(case: Case, backend: Backend) -> str | None:
    """Return how the fused result differs from the unfused one, or None where it is the same but for rounding.

    A sum over a column rounds as often as it has rows, and the errors walk at random.
    """
    tolerance = float(np.finfo(np.float32).eps) * (16 + 4 * math.sqrt(case.shape[0]))
    away = 0.0
    for pair in case.results():
        found, expected = map(backend.to_host, pair)
        away = max(away, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return None if away <= tolerance else f"wrong: differs from the unfused result by {away:.2g} of its largest number"
