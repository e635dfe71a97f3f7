"""Optimiser steps in whole-epoch kernels; `deferred` has the deferred ones.

A batch's gradient, times -1, is added up in an array laid out as the parameters: G. Velocities, or Adam's means, are
those of `gpunn.optimizers`, times -1 too. A step with momentum mu, penalty lambda and rate eta is, elementwise,

    V' = mu V - lambda W + G
    W' = W + eta V',   or Nesterov's   W' = W - eta mu V + eta (1 + mu) V'
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..jit import compiled
from ..matmul import N_BLOCK, ONE
from ..memory import at, load, pointer, store
from ..threads import share
from ..vector_math import SMALL, SUBNORMAL, flushed, square_root
from ..vectors import LANES, fma, zeros
from .state import COLUMNS, FIRST, layer_at

F = np.float32


class StepPlan(NamedTuple):
    """How parameters are stepped; numbers are float32, but for those that are said not to be."""

    velocities: Any
    """Laid out as the parameters, times -1; Adam's means, or None where there is no momentum."""
    squares: Any
    """Adam's, laid out likewise, or None."""
    momentum: Any
    """Or Adam's beta1; float64."""
    beta2: Any
    """float64."""
    epsilon: Any
    l2: Any
    decay: Any
    """The penalty that shrinks weights by itself; float64."""
    nesterov: Any
    """A NumPy bool."""
    steps: Any
    """How many have been made before; int64."""
    rates: Any
    """The learning rate of each batch, float64."""
    defers: Any
    """Whether updates of zero pixels are deferred; a NumPy bool."""
    powers: Any
    """Row k, flat: the matrix of k deferred steps, float32; empty where none are deferred."""
    seen: Any
    """This thread's: up to which batch each pixel's weights have made their steps, int64."""
    nonzero: Any
    """Work space of this thread: pixels, and how many steps they have missed, by turns; int64."""


class Step(NamedTuple):
    """The factors of a step, float32."""

    momentum: Any
    rest: Any
    """1 - beta1, of Adam."""
    beta2: Any
    rest2: Any
    """1 - beta2."""
    epsilon: Any
    inverse_root: Any
    """1 / sqrt(1 - beta2^t)."""
    old: Any
    """Of V in W'."""
    new: Any
    """Of V' in W'."""
    l2: Any
    keep: Any
    """What is left of a weight where the penalty shrinks it by itself."""


@compiled
def with_pointers(plan: Any) -> Any:
    """Return a `StepPlan` with pointers for arrays; None stays None."""
    if plan is None:
        return None
    return StepPlan(
        pointer(plan.velocities),
        pointer(plan.squares),
        plan.momentum,
        plan.beta2,
        plan.epsilon,
        plan.l2,
        plan.decay,
        plan.nesterov,
        plan.steps,
        pointer(plan.rates),
        plan.defers,
        pointer(plan.powers),
        pointer(plan.seen),
        pointer(plan.nonzero),
    )


@compiled
def step_of_batch(plan: Any, squares: Any, number: int) -> Any:
    """Return the `Step` of a batch; `squares` are those of the rule."""
    eta, momentum, beta2 = at(plan.rates, number), plan.momentum, plan.beta2
    old, new, inverse_root = 0.0, eta, 1.0
    if plan.nesterov:
        old, new = -eta * momentum, eta * (1 + momentum)
    # Numba leaves out this branch, and others like it, for what is None.
    if squares is not None:
        t = plan.steps + number + 1
        new = eta / (1 - momentum**t)
        inverse_root = 1 / math.sqrt(1 - beta2**t)
    return Step(
        F(momentum),
        F(1 - momentum),
        F(beta2),
        F(1 - beta2),
        plan.epsilon,
        F(inverse_root),
        F(old),
        F(new),
        plan.l2,
        F(1 - eta * plan.decay),
    )


@compiled
def make_step(
    plan: Any, net: Any, gradients: Any, number: int, n_nonzero: int, both_layouts: bool, worker: Any
) -> None:
    """Step all parameters after the batch `number`, and let their gradients be 0.

    Where updates are deferred, only the weights of the `n_nonzero` pixels that `catch_up` has found. The copies of
    weights for backward only with `both_layouts`. The threads share each array.
    """
    if plan is not None:
        step = step_of_batch(plan, plan.squares, number)
        if plan.defers:
            _step_nonzero(plan, step, net, gradients, n_nonzero, worker)
        _step_all(plan, step, net, gradients, both_layouts, worker)


@compiled
def _step_nonzero(plan: Any, step: Any, net: Any, gradients: Any, count: int, worker: Any) -> None:
    """Step the first layer's weights of the `count` pixels in `plan.nonzero`."""
    layer = layer_at(net, FIRST)
    for column in range(worker.thread * N_BLOCK, layer.width, worker.threads * N_BLOCK):
        width = min(N_BLOCK, layer.width - column)
        start = layer.forward + column * layer.n_in
        for i in range(count):
            first = start + at(plan.nonzero, 2 * i) * width
            _step_range(plan.velocities, plan.squares, step, net, gradients, first, first + width)


@compiled
def _step_all(plan: Any, step: Any, net: Any, gradients: Any, both_layouts: bool, worker: Any) -> None:
    """Step all parameters but the first layer's weights, and these too where none wait."""
    # Biases are free of penalties.
    free = Step(
        step.momentum,
        step.rest,
        step.beta2,
        step.rest2,
        step.epsilon,
        step.inverse_root,
        step.old,
        step.new,
        F(0),
        F(1),
    )
    for number in range(net.n_layers):
        layer = layer_at(net, number)
        if number > 0 or not plan.defers:
            _step_part(plan, step, net, gradients, layer.forward, layer.backward, worker)
        if number > 0 and both_layouts:
            _step_part(plan, step, net, gradients, layer.backward, layer.bias, worker)
        _step_part(plan, free, net, gradients, layer.bias, layer.bias + layer.width, worker)


@compiled
def _step_part(plan: Any, step: Any, net: Any, gradients: Any, first: int, last: int, worker: Any) -> None:
    begin, end = share(last - first, COLUMNS, worker.thread, worker.threads)
    _step_range(plan.velocities, plan.squares, step, net, gradients, first + begin, first + end)


@compiled
def _step_range(velocities: Any, squares: Any, step: Any, net: Any, gradients: Any, first: int, last: int) -> None:
    for offset in range(first, last, LANES):
        w = load(net.parameters, offset, ONE)
        change = fma(w, -step.l2, load(gradients, offset, ONE))
        if squares is not None:
            square = flushed(fma(load(squares, offset, ONE), step.beta2, step.rest2 * change * change), SUBNORMAL)
            store(squares, offset, square)
            mean = flushed(fma(load(velocities, offset, ONE), step.momentum, step.rest * change), SMALL)
            store(velocities, offset, mean)
            w = step.keep * w + step.new * mean / fma(square_root(square), step.inverse_root, step.epsilon)
        if squares is None:
            if velocities is not None:
                v = load(velocities, offset, ONE)
                change = flushed(fma(v, step.momentum, change), SMALL)
                store(velocities, offset, change)
                w = fma(v, step.old, w)
            w = fma(change, step.new, w)
        store(net.parameters, offset, w)
        store(gradients, offset, zeros(ONE, ONE))
