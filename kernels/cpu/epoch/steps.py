"""Optimiser steps in whole-epoch kernels; `deferred` has the deferred ones.

A batch's gradient is summed in an array laid out as the parameters; the rules are those of `formulas.steps`.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from ...compilation import PART, compiled
from ...formulas.steps import N_NUMBERS, Numbers
from ..matmul import N_BLOCK, ONE
from ..memory import at, load, pointer, store
from ..steps import RULES
from ..threads import share
from ..vectors import LANES, zeros
from .state import COLUMNS, FIRST, layer_at

F = np.float32

descent, momentum, nesterov, adam = (RULES[name] for name in ("descent", "momentum", "nesterov", "adam"))


class StepPlan(NamedTuple):
    """Numbers and state of the optimiser steps."""

    numbers: Any
    """`Numbers` of each batch's step, a row a batch, flat; float32."""
    moments: Any
    """Velocities or Adam's means, laid out as the parameters; None without momentum."""
    squares: Any
    """Adam's mean squares, laid out likewise; None for other optimisers."""
    nesterov: Any
    """A NumPy bool."""
    defers: Any
    """Whether updates of zero pixels are deferred; a NumPy bool."""
    powers: Any
    """Matrices of k deferred steps, in row k, flat; float32, empty if none are deferred."""
    seen: Any
    """Number of batches whose steps this thread has made for each pixel's weights; int64."""
    nonzero: Any
    """Work space of this thread: pairs of a pixel and the number of steps it has missed; int64."""


def with_pointers(plan: Any) -> Any:
    """Return a `StepPlan` with pointers for arrays; None stays None."""
    raise NotImplementedError("for compiled code only")


@overload(with_pointers, jit_options=PART)
def _with_pointers(plan: Any) -> Any:
    def none(plan: Any) -> Any:
        return None

    def of_arrays(plan: Any) -> Any:
        return StepPlan(
            pointer(plan.numbers),
            pointer(plan.moments),
            pointer(plan.squares),
            plan.nesterov,
            plan.defers,
            pointer(plan.powers),
            pointer(plan.seen),
            pointer(plan.nonzero),
        )

    return none if plan == types.none else of_arrays


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


@compiled
def make_step(
    plan: Any, net: Any, gradients: Any, number: int, n_nonzero: int, both_layouts: bool, worker: Any
) -> None:
    """Update all parameters after the batch `number`, and set their gradients to 0.

    If updates are deferred, only the `n_nonzero` pixels found by `catch_up` are updated in the first layer. With
    `both_layouts`, the copies of weights for backward are updated too. The threads share each array.
    """
    if plan is not None:
        numbers = _numbers_at(plan, number)
        if plan.defers:
            _step_nonzero(plan, numbers, net, gradients, n_nonzero, worker)
        _step_all(plan, numbers, net, gradients, both_layouts, worker)


@compiled
def _step_nonzero(plan: Any, numbers: Any, net: Any, gradients: Any, count: int, worker: Any) -> None:
    """Update the first layer's weights of the `count` pixels in `plan.nonzero`."""
    layer = layer_at(net, FIRST)
    for column in range(worker.thread * N_BLOCK, layer.width, worker.threads * N_BLOCK):
        width = min(N_BLOCK, layer.width - column)
        start = layer.forward + column * layer.n_in
        for i in range(count):
            first = start + at(plan.nonzero, 2 * i) * width
            _step_range(plan, plan.moments, plan.squares, numbers, net, gradients, first, first + width)


@compiled
def _step_all(plan: Any, numbers: Any, net: Any, gradients: Any, both_layouts: bool, worker: Any) -> None:
    """Update all parameters; the first layer's weights only if updates aren't deferred."""
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
    for number in range(net.n_layers):
        layer = layer_at(net, number)
        if number > 0 or not plan.defers:
            _step_part(plan, numbers, net, gradients, layer.forward, layer.backward, worker)
        if number > 0 and both_layouts:
            _step_part(plan, numbers, net, gradients, layer.backward, layer.bias, worker)
        _step_part(plan, free, net, gradients, layer.bias, layer.bias + layer.width, worker)


@compiled
def _step_part(plan: Any, numbers: Any, net: Any, gradients: Any, first: int, last: int, worker: Any) -> None:
    begin, end = share(last - first, COLUMNS, worker.thread, worker.threads)
    _step_range(plan, plan.moments, plan.squares, numbers, net, gradients, first + begin, first + end)


@compiled
def _step_range(
    plan: Any, moments: Any, squares: Any, numbers: Any, net: Any, gradients: Any, first: int, last: int
) -> None:
    """Update the parameters from `first` to `last`; `moments` and `squares` are those of the plan."""
    for offset in range(first, last, LANES):
        w, g = load(net.parameters, offset, ONE), load(gradients, offset, ONE)
        # Numba prunes the branches whose argument is None.
        if squares is not None:
            w, m, v = adam(w, g, load(moments, offset, ONE), load(squares, offset, ONE), numbers)
            store(moments, offset, m)
            store(squares, offset, v)
        if squares is None:
            if moments is None:
                w, _, _ = descent(w, g, None, None, numbers)
            if moments is not None:
                m = load(moments, offset, ONE)
                if plan.nesterov:
                    w, m, _ = nesterov(w, g, m, None, numbers)
                else:
                    w, m, _ = momentum(w, g, m, None, numbers)
                store(moments, offset, m)
        store(net.parameters, offset, w)
        store(gradients, offset, zeros(ONE, ONE))
