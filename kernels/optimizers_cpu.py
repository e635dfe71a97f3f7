"""Steps of optimisers in whole-epoch kernels; those with momentum also for the weights of pixels that were dark.

A batch's gradient, times -1, is added up in an array laid out as the parameters: G. Velocities, or Adam's means, are
those of `gpunn.optimizers`, times -1 too. A step with momentum mu, penalty lambda and rate eta is, elementwise,

    V' = mu V - lambda W + G
    W' = W + eta V',   or Nesterov's   W' = W - eta mu V + eta (1 + mu) V'

While a pixel is dark, G is 0 for its weights: k steps are the k-th power of a 2 x 2 matrix, the same for all of them.
So they wait until the pixel is lit again, and then make up for all k at once, exactly, but for rounding. Adam's steps
have no such form: they are made by all weights after every batch.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compilation import compiled
from .dense import BLOCK, ONE
from .lit_pixels import PARTS
from .memory import at, load, pointer, put, store
from .network_cpu import COLUMNS, FIRST, layer_at
from .simd import LANES, flushed, fused, square_root, zeros
from .threads import share

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


def factors(rate: float, momentum: float, nesterov: bool) -> tuple[float, float]:
    """Return the factors of V and V' in W'."""
    return (-rate * momentum, rate * (1 + momentum)) if nesterov else (0.0, rate)


def powers_in_the_dark(rate: float, momentum: float, l2: float, nesterov: bool, count: int) -> NDArray[np.float32]:
    """Return the matrices of 0, 1, ..., `count` steps without a gradient, on (W, V); (count + 1, 4), row-major."""
    old, new = factors(rate, momentum, nesterov)
    power = np.array([[1 - new * l2, old + new * momentum], [-l2, momentum]])
    found = np.eye(2)[np.newaxis]
    while len(found) <= count:
        # With the first 2^j powers, and the 2^j-th, there are twice as many.
        found = np.concatenate([found, found @ power])
        power = power @ power
    with np.errstate(under="ignore"):
        return found[: count + 1].reshape(-1, 4).astype(np.float32)


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
def catch_up(rule: Any, pixels: Any, chunk: Any, net: Any, number: int, crew: Any) -> int:
    """Let the weights of all pixels lit in `chunk`, which is the batch `number`, make the steps that they have missed.

    Each thread does its blocks of columns, as in `lit.multiply_lit`. Returns how many pixels there are; which, is in
    `rule.lit`. Where no weights wait, or `rule` is None, nothing is done.
    """
    count = np.int64(0)
    if rule is not None:  # noqa: SIM102
        if rule.waits:
            count = _find_lit(rule, pixels, chunk, number)
            _catch_up(rule, rule.velocities, net, count, crew)
    return count  # type: ignore[return-value]


@compiled
def catch_up_all(rule: Any, net: Any, number: int, crew: Any) -> None:
    """Let the weights of all pixels make the steps of the first `number` batches, and forget them."""
    if rule is not None:  # noqa: SIM102
        if rule.waits:
            n_pixels = layer_at(net, FIRST).n_in
            for p in range(n_pixels):
                put(rule.lit, 2 * p, p)
                put(rule.lit, 2 * p + 1, number - at(rule.seen, p))
                put(rule.seen, p, 0)
            _catch_up(rule, rule.velocities, net, n_pixels, crew)


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
def _find_lit(rule: Any, pixels: Any, chunk: Any, number: int) -> int:
    count = 0
    if pixels is None:
        return count
    for r in range(chunk.rows):
        image = PARTS * at(chunk.order, chunk.first + r)
        p = 0
        for word in range(at(pixels.starts, image), at(pixels.starts, image + PARTS)):
            entries = at(pixels.words, word)
            for _ in range(4):
                p += entries & 255
                missed = number - at(rule.seen, p)
                # Entries without light show the way, and are stepped too: the first time, which does no harm.
                if missed >= 0:
                    put(rule.seen, p, number + 1)
                    put(rule.lit, 2 * count, p)
                    put(rule.lit, 2 * count + 1, missed)
                    count += 1
                entries >>= 8
    return count


@compiled
def _catch_up(rule: Any, velocities: Any, net: Any, count: int, crew: Any) -> None:
    layer = layer_at(net, FIRST)
    for column in range(crew.thread * BLOCK, layer.width, crew.threads * BLOCK):
        width = min(BLOCK, layer.width - column)
        start = layer.forward + column * layer.n_in
        for i in range(count):
            missed = at(rule.lit, 2 * i + 1)
            if missed == 0:
                continue
            first = start + at(rule.lit, 2 * i) * width
            ww, wv = at(rule.powers, 4 * missed), at(rule.powers, 4 * missed + 1)
            vw, vv = at(rule.powers, 4 * missed + 2), at(rule.powers, 4 * missed + 3)
            for place in range(first, first + width, LANES):
                w = load(net.parameters, place, ONE)
                # Numba leaves out the branch for what is None.
                if velocities is not None:
                    v = load(velocities, place, ONE)
                    store(net.parameters, place, fused(v, wv, w * ww))
                    store(velocities, place, flushed(fused(v, vv, w * vw)))
                else:
                    store(net.parameters, place, w * ww)


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
            square = flushed(fused(load(squares, place, ONE), step.beta2, step.rest2 * change * change))
            store(squares, place, square)
            mean = flushed(fused(load(velocities, place, ONE), step.momentum, step.rest * change))
            store(velocities, place, mean)
            w = step.kept * w + step.new * mean / fused(square_root(square), step.inverse_root, step.epsilon)
        if squares is None:
            if velocities is not None:
                v = load(velocities, place, ONE)
                change = flushed(fused(v, step.momentum, change))
                store(velocities, place, change)
                w = fused(v, step.old, w)
            w = fused(change, step.new, w)
        store(net.parameters, place, w)
        store(gradients, place, zeros(ONE, ONE))
