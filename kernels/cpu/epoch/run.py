"""A whole epoch of training in one compiled call: no Python, no allocation and no launch between batches."""

from typing import Any

import numpy as np

from ..jit import compiled
from ..matmul import Chunk
from ..memory import at, load, pointer, store
from ..sparse_matmul import pointers
from ..threads import share
from ..vectors import LANES, Static, fused, zeros
from .deferred import catch_up, catch_up_all
from .first_layer import add_images, add_last_image, forget_image, go_on, multiply_images
from .layers import backward, forward, mirror, update
from .outputs import compute_output_delta
from .state import COLUMNS, Crew, Data, Network, layer_at, meet, part_of
from .steps import make_step, with_pointers

ONE = Static(1)
F = np.float32

SMALLEST_SCALE = 0.25
"""What may be put off of the penalty; what is left is made up for in all weights."""

FOLDS = np.bool_(True)

MIRRORED = 64
"""Batch size from which copying a layer's new weights, transposed, is faster than updating both forms."""


@compiled
def shrink(net: Any, lost: float, scale: float, folds: bool, both: bool, crew: Any) -> None:
    """Let weights lose a share `lost` of themselves, those of the first layer, where it `folds`, become `scale` times.

    The copies of weights for backward only with `both`. The threads share each array.
    """
    for number in range(net.n_layers):
        layer = layer_at(net, number)
        change = F(scale - 1) if number == 0 else F(-lost)
        end = layer.bias if both else layer.backward
        if number > 0 or folds:
            first, last = share(end - layer.forward, COLUMNS, crew.thread, crew.threads)
            for place in range(layer.forward + first, layer.forward + last, LANES):
                w = load(net.parameters, place, ONE)
                # Rounded once, so that a small share isn't lost before it is taken.
                store(net.parameters, place, fused(w, change, w))


@compiled
def add_collected(net: Any, collected: Any, count: int, crew: Any) -> None:
    """Add `collected` to the `count` parameters, and let it be zero; the threads share them."""
    begin, end = share(count, COLUMNS, crew.thread, crew.threads)
    for place in range(begin, end, LANES):
        store(net.parameters, place, load(net.parameters, place, ONE) + load(collected, place, ONE))
        store(collected, place, zeros(ONE, ONE))


@compiled
def run_epoch(
    crew: Any,
    data: Any,
    order: Any,
    table: Any,
    parameters: Any,
    collected: Any,
    work: Any,
    batch_size: int,
    chunk_size: int,
    by_columns: bool,
    steps: Any,
    penalty: float,
    functions: Any,
    loss: Any,
    rule: Any,
) -> float:
    """Train on the examples `order` in batches; return the sum of losses, each before its batch's step.

    `steps`, float64, are the learning rates of the batches, times 2 for the squared error. After each batch weights
    lose `penalty`, float64, times its step of themselves; with dense images it has to be 0. `functions` and `loss` are
    `Static`: the activation functions of the layers, see `activations.of_layers`, and the name of the loss. `rule` is
    None, or but for plain gradient descent a `steps.Rule`; it has the rates then, and `steps` the factor.
    `parameters` is changed in place. `table` (L, 11) int64 has a `Layer` a row. A batch larger than `chunk_size` is
    worked on chunk by chunk, and its updates are added up in `collected`, which has the length of the parameters then,
    and with a rule, and is zero before and after. Called by several threads with a counter of 0, each does a part and
    returns that part of the sum; the parameters don't depend on how many there are. They share the examples, or,
    `by_columns`, the neurons of every layer, so that large weights stay in the cache of one core.
    """
    data = Data(pointers(data.pixels), pointer(data.images), pointer(data.labels), pointer(data.targets))
    crew = Crew(crew.thread, crew.threads, pointer(crew.counter), pointer(crew.room))
    net = Network(len(table), pointer(table.ravel()), pointer(parameters), pointer(work), crew.room)
    order, n, steps = pointer(order), order.size, pointer(steps)
    collected, n_parameters = pointer(collected), parameters.size
    thread, threads = crew.thread, crew.threads
    alone = Crew(0, 1, crew.counter, crew.room)
    # Sharing neurons, the threads meet after every layer; sharing examples, when they are through with them.
    inner, outer = (crew, alone) if by_columns else (alone, crew)
    one_by_one = batch_size == 1 and threads == 1 and data.pixels is None and rule is None
    collects = rule is not None
    rule = with_pointers(rule)
    if one_by_one:
        forget_image(net)
    # The first layer's weights are those in the parameters times this: all shrink by one number.
    scale = 1.0
    sums = 0.0
    met = np.int64(0)
    for start in range(0, n, batch_size):
        m = min(batch_size, n - start)
        step = F(-at(steps, start // batch_size) / m)
        lost = at(steps, start // batch_size) * penalty
        shrunk = scale * (1 - lost)
        folds = shrunk < SMALLEST_SCALE
        factor = F(1) if folds else F(1 / shrunk)
        target = collected if collects or m > chunk_size else net.parameters
        # The velocities of a last, smaller batch are where those of the others are.
        both = (batch_size if collects else m) < MIRRORED
        n_lit = catch_up(rule, data.pixels, Chunk(order, n, start, 0, m), net, start // batch_size, crew)
        for first in range(start, start + m, chunk_size):
            chunk = Chunk(order, n, first, 0, min(chunk_size, start + m - first))
            own = part_of(chunk, crew)
            piece = chunk if by_columns else own
            if one_by_one:
                go_on(data.images, chunk, net, first)
            else:
                met = multiply_images(data.pixels, data.images, chunk, piece, net, crew, inner, met)
            met = forward(functions, piece, net, inner, met, F(scale))
            sums += compute_output_delta(loss, functions, data, own, net, step)
            met = meet(inner, met)
            met = backward(functions, piece, net, inner, met, both)
            met = meet(outer, met)
            if penalty > 0 and first + chunk_size >= start + m:
                shrink(net, lost, shrunk, folds, both, crew)
                met = meet(crew, met)
            update(chunk, net, target, both, crew, by_columns)
            if not one_by_one:
                add_images(data.pixels, data.images, chunk, net, target, factor, crew, by_columns)
            met = meet(crew, met)
        scale = 1.0 if folds else shrunk
        if collects:
            make_step(rule, net, collected, start // batch_size, n_lit, both, crew)
            met = meet(crew, met)
        elif m > chunk_size:
            add_collected(net, collected, n_parameters, crew)
            met = meet(crew, met)
        if not both:
            # A small batch that follows, or the next call, goes by the copies.
            mirror(net, thread, threads, n - (start + m) < MIRRORED)
            met = meet(crew, met)
    if scale != 1:
        shrink(net, 0.0, scale, FOLDS, FOLDS, crew)
    catch_up_all(rule, net, (n + batch_size - 1) // batch_size, crew)
    if one_by_one and n > 0:
        add_last_image(data.images, net, n)
    return sums
