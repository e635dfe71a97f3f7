"""Optimiser steps in whole-epoch kernels; `deferred` has the deferred ones.

A batch's gradient is summed in an array laid out as the parameters; the rules are those of `formulas.steps`.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from ...compilation import PART, compiled, compiled_apart
from ...formulas.steps import N_MOMENTS, N_NUMBERS, Numbers
from ..addresses import signature
from ..matmul import N_BLOCK, ONE
from ..memory import at, load, store, tuple_type
from ..steps import step_by
from ..threads import share
from ..vectors import LANES, zeros
from .state import COLUMNS, FIRST, FLOATS, INTEGERS, OF_NETWORK, layer_at

F = np.float32


class StepPlan(NamedTuple):
    """Numbers and state of the optimiser steps."""

    numbers: Any
    """`Numbers` of each batch's step, a row a batch, flat; float32."""
    moments: Any
    """Velocities or Adam's means, laid out as the parameters; empty without momentum."""
    squares: Any
    """Adam's mean squares, laid out likewise; empty for other optimisers."""
    defers: Any
    """Whether updates of zero pixels are deferred; a NumPy bool."""
    powers: Any
    """Matrices of k deferred steps, in row k, flat; float32, empty if none are deferred."""
    seen: Any
    """Number of batches whose steps this thread has made for each pixel's weights; int64."""
    nonzero: Any
    """Work space of this thread: pairs of a pixel and the number of steps it has missed; int64."""


OF_PLAN = tuple_type(StepPlan, *[FLOATS] * 3, types.boolean, FLOATS, INTEGERS, INTEGERS)

NOTHING, NO_PIXELS = np.zeros(0, np.float32), np.zeros(0, np.int64)
NO_PLAN = StepPlan(NOTHING, NOTHING, NOTHING, np.bool_(False), NOTHING, NO_PIXELS, NO_PIXELS)
"""That of plain gradient descent."""


@compiled
def _numbers_at(plan: Any, batch: int) -> Any:
    row = batch * N_NUMBERS
    return Numbers(  # by field
        at(plan.numbers, row),
        at(plan.numbers, row + 1),
        at(plan.numbers, row + 2),
        at(plan.numbers, row + 3),
        at(plan.numbers, row + 4),
        at(plan.numbers, row + 5),
        at(plan.numbers, row + 6),
        at(plan.numbers, row + 7),
        at(plan.numbers, row + 8),
    )


STEP = signature(types.void, None, OF_PLAN, OF_NETWORK, FLOATS, types.int64, types.boolean, types.int64, types.int64)
STEP_NONZERO = signature(
    types.void, None, OF_PLAN, OF_NETWORK, FLOATS, types.int64, types.int64, types.int64, types.int64
)


@compiled_apart
def step_nonzero(
    rule: Any, plan: Any, net: Any, gradients: Any, number: int, count: int, thread: int, threads: int
) -> None:
    """Update the first layer's weights of the `count` pixels in `plan.nonzero`; otherwise as `make_step`."""
    numbers = _numbers_at(plan, number)
    layer = layer_at(net, FIRST)
    for column in range(thread * N_BLOCK, layer.width, threads * N_BLOCK):
        width = min(N_BLOCK, layer.width - column)
        start = layer.forward + column * layer.n_in
        for i in range(count):
            first = start + at(plan.nonzero, 2 * i) * width
            _step_range(rule, plan, numbers, net, gradients, first, first + width)


@compiled_apart
def make_step(
    rule: Any, plan: Any, net: Any, gradients: Any, number: int, both_layouts: bool, thread: int, threads: int
) -> None:
    """Update all parameters after the batch `number` by `rule`, a `Static`, and set their gradients to 0.

    The first layer's weights are only updated if updates aren't deferred. With `both_layouts`, the copies of weights
    for backward are updated too. The threads share each array.
    """
    numbers = _numbers_at(plan, number)
    # Biases have no penalty.
    free = Numbers(
        numbers.rate,
        numbers.correction,
        numbers.beta1,
        numbers.rest1,
        numbers.beta2,
        numbers.rest2,
        numbers.epsilon,
        F(0),
        F(1),
    )
    for index in range(net.n_layers):
        layer = layer_at(net, index)
        first = layer.bias if index == 0 and plan.defers else layer.forward
        last = layer.bias if both_layouts else layer.backward
        begin, end = share(last - first, COLUMNS, thread, threads)
        _step_range(rule, plan, numbers, net, gradients, first + begin, first + end)
        begin, end = share(layer.width, COLUMNS, thread, threads)
        _step_range(rule, plan, free, net, gradients, layer.bias + begin, layer.bias + end)


@compiled
def _step_range(rule: Any, plan: Any, numbers: Any, net: Any, gradients: Any, first: int, last: int) -> None:
    """Update the parameters from `first` to `last`."""
    for offset in range(first, last, LANES):
        w, g = load(net.parameters, offset, ONE), load(gradients, offset, ONE)
        m, v = load_moments(rule, plan, offset)
        w, m, v = step_by(rule, w, g, m, v, numbers)
        store_moments(rule, plan, offset, m, v)
        store(net.parameters, offset, w)
        store(gradients, offset, zeros(ONE, ONE))


def load_moments(rule: Any, plan: Any, offset: int) -> Any:
    """Return the two moments, None those that the rule doesn't use."""
    raise NotImplementedError("for compiled code only")


@overload(load_moments, jit_options=PART)
def _load_moments(rule: Any, plan: Any, offset: int) -> Any:
    def none(rule: Any, plan: Any, offset: int) -> Any:
        return None, None

    def one(rule: Any, plan: Any, offset: int) -> Any:
        return load(plan.moments, offset, ONE), None

    def two(rule: Any, plan: Any, offset: int) -> Any:
        return load(plan.moments, offset, ONE), load(plan.squares, offset, ONE)

    return (none, one, two)[N_MOMENTS[rule.value]]


def store_moments(rule: Any, plan: Any, offset: int, m: Any, v: Any) -> None:
    """Store the moments that the rule uses."""
    raise NotImplementedError("for compiled code only")


@overload(store_moments, jit_options=PART)
def _store_moments(rule: Any, plan: Any, offset: int, m: Any, v: Any) -> Any:
    def none(rule: Any, plan: Any, offset: int, m: Any, v: Any) -> None:
        pass

    def one(rule: Any, plan: Any, offset: int, m: Any, v: Any) -> None:
        store(plan.moments, offset, m)

    def two(rule: Any, plan: Any, offset: int, m: Any, v: Any) -> None:
        store(plan.moments, offset, m)
        store(plan.squares, offset, v)

    return (none, one, two)[N_MOMENTS[rule.value]]
