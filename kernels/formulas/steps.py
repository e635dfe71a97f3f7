"""Optimiser steps of one parameter, each written once, for arrays, CPU vectors and GPU threads.

A formula takes the `Operations` of a machine and returns the rule of a step: a function of parameter w, gradient g,
moments m and v, and the step's `Numbers` c, which returns the new w, m and v. Moments that a rule doesn't use are
returned unchanged. Sources are in `gpunn.optimizers`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Rule = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


class Operations(NamedTuple):
    """The operations of steps besides +, - and *; elementwise."""

    fma: Callable[[Any, Any, Any], Any]
    """a b + c."""
    sqrt: Callable[[Any], Any]
    flush_mean: Callable[[Any], Any]
    """Rounds means of gradients too small to matter to zero, where subnormal numbers are slow."""
    flush_square: Callable[[Any], Any]
    """Likewise for mean squares."""


class Numbers(NamedTuple):
    """The numbers of a step, computed in float64 and rounded once."""

    rate: Any
    """Learning rate; for Adam, divided by 1 - beta1^t."""
    correction: Any
    """1 / sqrt(1 - beta2^t), for Adam."""
    beta1: Any
    """Adam's beta1, or the momentum."""
    rest1: Any
    """1 - beta1, for Adam."""
    beta2: Any
    rest2: Any
    """1 - beta2."""
    epsilon: Any
    l2: Any
    """L2 penalty in the gradient."""
    keep: Any
    """Factor of weights by decoupled weight decay."""


N_NUMBERS = len(Numbers._fields)


def descent(ops: Operations) -> Rule:
    """Plain descent: w <- w - rate (g + l2 w)."""
    fma = ops.fma

    def step(w: Any, g: Any, m: Any, v: Any, c: Any) -> tuple[Any, Any, Any]:
        return fma(fma(w, c.l2, g), -c.rate, w), m, v

    return step


def momentum(ops: Operations) -> Rule:
    """Momentum: g <- g + l2 w, m <- beta1 m + g, w <- w - rate m; m is called the velocity."""
    fma, flush = ops.fma, ops.flush_mean

    def step(w: Any, g: Any, m: Any, v: Any, c: Any) -> tuple[Any, Any, Any]:
        m = flush(fma(m, c.beta1, fma(w, c.l2, g)))
        return fma(m, -c.rate, w), m, v

    return step


def nesterov(ops: Operations) -> Rule:
    """Nesterov's momentum: g <- g + l2 w, m <- beta1 m + g, w <- w - rate (g + beta1 m)."""
    fma, flush = ops.fma, ops.flush_mean

    def step(w: Any, g: Any, m: Any, v: Any, c: Any) -> tuple[Any, Any, Any]:
        g = fma(w, c.l2, g)
        m = flush(fma(m, c.beta1, g))
        return fma(fma(m, c.beta1, g), -c.rate, w), m, v

    return step


def adam(ops: Operations) -> Rule:
    """Adam: m <- beta1 m + rest1 g, v <- beta2 v + rest2 g^2, w <- keep w - rate m / (sqrt(v) correction + epsilon).

    Before that, g <- g + l2 w.
    """
    fma, sqrt, flush_mean, flush_square = ops.fma, ops.sqrt, ops.flush_mean, ops.flush_square

    def step(w: Any, g: Any, m: Any, v: Any, c: Any) -> tuple[Any, Any, Any]:
        g = fma(w, c.l2, g)
        m = flush_mean(fma(m, c.beta1, c.rest1 * g))
        v = flush_square(fma(v, c.beta2, c.rest2 * g * g))
        return c.keep * w - c.rate * m / fma(sqrt(v), c.correction, c.epsilon), m, v

    return step


RULES: dict[str, Callable[[Operations], Rule]] = {
    "descent": descent,
    "momentum": momentum,
    "nesterov": nesterov,
    "adam": adam,
}

N_MOMENTS = {"descent": 0, "momentum": 1, "nesterov": 1, "adam": 2}
"""Number of moments of each rule."""
