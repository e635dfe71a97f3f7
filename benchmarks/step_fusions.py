"""Optimisers' steps beside what they replace."""

import numpy as np

from benchmarks.fusion_cases import FACTOR, Arrays, Case
from gpunn.equations import Array
from gpunn.kernels.formulas.steps import Numbers
from gpunn.optimizers import SGD, Adam


def _numbers(optimizer: SGD | Adam) -> Numbers:
    return Numbers(*optimizer.numbers(0, np.array([FACTOR]), 0.0)[0].tolist())


def descend(on: Arrays, m: int, n: int) -> Case:
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


def descend_sums(on: Arrays, m: int, n: int) -> Case:
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


def momentum_step(on: Arrays, m: int, n: int) -> Case:
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


def adam_step(on: Arrays, m: int, n: int) -> Case:
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
