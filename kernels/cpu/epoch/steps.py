"""Steps of optimisers in whole-epoch kernels; `deferred` has those that were put off.

A batch's gradient, times -1, is added up in an array laid out as the parameters: G. Velocities, or Adam's means, are
those of `gpunn.optimizers`, times -1 too. A step with momentum mu, penalty lambda and rate eta is, elementwise,

    V' = mu V - lambda W + G
    W' = W + eta V',   or Nesterov's   W' = W - eta mu V + eta (1 + mu) V'
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..jit import compiled
from ..matmul import BLOCK, ONE
from ..memory import at, load, pointer, store
from ..threads import share
from ..vector_math import SMALL, SUBNORMAL, flushed, square_root
from ..vectors import LANES, fused, zeros
from .state import COLUMNS, FIRST, layer_at

F = np.float32


class Rule(NamedTuple):
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
    waits: Any
    """Whether the weights of dark pixels wait until these are lit; a NumPy bool."""
    powers: Any
    """Row k, flat: the matrix of k steps in the dark, float32; empty, where none wait."""
    seen: Any
    """This thread's: up to which batch each pixel's weights have made their steps, int64."""
    lit: Any
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
    kept: Any
    """What is left of a weight where the penalty shrinks it by itself."""


@compiled
def with_pointers(rule: Any) -> Any:
    """Return a `Rule` with pointers for arrays; None stays None."""
    if rule is None:
        return None
    return Rule(
        pointer(rule.velocities),
        pointer(rule.squares),
        rule.momentum,
        rule.beta2,
        rule.epsilon,
        rule.l2,
        rule.decay,
        rule.nesterov,
        rule.steps,
        pointer(rule.rates),
        rule.waits,
        pointer(rule.powers),
        pointer(rule.seen),
        pointer(rule.lit),
    )


@compiled
def _step_of(rule: Any, squares: Any, number: int) -> Any:
    """Return the `Step` of a batch; `squares` are those of the rule."""
    eta, momentum, beta2 = at(rule.rates, number), rule.momentum, rule.beta2
    old, new, inverse_root = 0.0, eta, 1.0
    if rule.nesterov:
        old, new = -eta * momentum, eta * (1 + momentum)
    # Numba leaves out this branch, and others like it, for what is None.
    if squares is not None:
        t = rule.steps + number + 1
        new = eta / (1 - momentum**t)
        inverse_root = 1 / math.sqrt(1 - beta2**t)
    return Step(
        F(momentum),
        F(1 - momentum),
        F(beta2),
        F(1 - beta2),
        rule.epsilon,
        F(inverse_root),
        F(old),
        F(new),
        rule.l2,
        F(1 - eta * rule.decay),
    )


@compiled
def make_step(rule: Any, net: Any, gradients: Any, number: int, n_lit: int, both: bool, crew: Any) -> None:
    """Step all parameters after the batch `number`, and let their gradients be 0.

    Where weights wait, those of the `n_lit` pixels that `catch_up` has found, instead of all. The copies of weights for
    backward only with `both`. The threads share each array.
    """
    if rule is not None:
        step = _step_of(rule, rule.squares, number)
        if rule.waits:
            _step_lit(rule, step, net, gradients, n_lit, crew)
        _step_all(rule, step, net, gradients, both, crew)


@compiled
def _step_lit(rule: Any, step: Any, net: Any, gradients: Any, count: int, crew: Any) -> None:
    """Step the first layer's weights of the `count` pixels in `rule.lit`."""
    layer = layer_at(net, FIRST)
    for column in range(crew.thread * BLOCK, layer.width, crew.threads * BLOCK):
        width = min(BLOCK, layer.width - column)
        start = layer.forward + column * layer.n_in
        for i in range(count):
            first = start + at(rule.lit, 2 * i) * width
            _step_range(rule.velocities, rule.squares, step, net, gradients, first, first + width)


@compiled
def _step_all(rule: Any, step: Any, net: Any, gradients: Any, both: bool, crew: Any) -> None:
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
        if number > 0 or not rule.waits:
            _step_share(rule, step, net, gradients, layer.forward, layer.backward, crew)
        if number > 0 and both:
            _step_share(rule, step, net, gradients, layer.backward, layer.bias, crew)
        _step_share(rule, free, net, gradients, layer.bias, layer.bias + layer.width, crew)


@compiled
def _step_share(rule: Any, step: Any, net: Any, gradients: Any, first: int, last: int, crew: Any) -> None:
    begin, end = share(last - first, COLUMNS, crew.thread, crew.threads)
    _step_range(rule.velocities, rule.squares, step, net, gradients, first + begin, first + end)


@compiled
def _step_range(velocities: Any, squares: Any, step: Any, net: Any, gradients: Any, first: int, last: int) -> None:
    for place in range(first, last, LANES):
        w = load(net.parameters, place, ONE)
        change = fused(w, -step.l2, load(gradients, place, ONE))
        if squares is not None:
            square = flushed(fused(load(squares, place, ONE), step.beta2, step.rest2 * change * change), SUBNORMAL)
            store(squares, place, square)
            mean = flushed(fused(load(velocities, place, ONE), step.momentum, step.rest * change), SMALL)
            store(velocities, place, mean)
            w = step.kept * w + step.new * mean / fused(square_root(square), step.inverse_root, step.epsilon)
        if squares is None:
            if velocities is not None:
                v = load(velocities, place, ONE)
                change = flushed(fused(v, step.momentum, change), SMALL)
                store(velocities, place, change)
                w = fused(v, step.old, w)
            w = fused(change, step.new, w)
        store(net.parameters, place, w)
        store(gradients, place, zeros(ONE, ONE))
