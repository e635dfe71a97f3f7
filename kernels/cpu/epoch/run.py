"""A whole epoch of training in one compiled call: no Python, no allocation and no launch between batches."""

from typing import Any

import numpy as np
from numba import types

from ...compilation import compiled, compiled_apart
from ..addresses import ANY, call, signature
from ..matmul import Chunk
from ..memory import at, kept, load, pointer, store
from ..threads import share
from ..vectors import LANES, Static, fma, zeros
from .deferred import CATCH_UP, CATCH_UP_ALL
from .first_layer import add_images, clear_pending, flush_pending, multiply_images, own_parts, update_and_multiply
from .layers import TRANSPOSE, backward, forward, update
from .outputs import OUTPUT
from .state import (
    COLUMNS,
    N_FIELDS,
    OF_NETWORK,
    OF_SHARE,
    Network,
    Share,
    Surroundings,
    Worker,
    barrier,
    layer_at,
    part_of,
)
from .steps import STEP, STEP_NONZERO

ONE = Static(1)
F = np.float32

SMALLEST_SCALE = 0.25
"""Fold the deferred scale of the first layer into its weights once it falls below this."""

FOLD_SCALE = np.bool_(True)

TRANSPOSE_FROM = 64
"""Batch size from which copying a layer's new weights, transposed, is faster than updating both forms."""


SHRINK = signature(types.void, OF_NETWORK, types.float64, types.float64, types.boolean, types.boolean, OF_SHARE)


@compiled_apart
def shrink(net: Any, decay: float, scale: float, fold_scale: bool, both_layouts: bool, worker: Any) -> None:
    """Apply weight decay; if `fold_scale`, also multiply the deferred `scale` into the first layer.

    With `both_layouts`, the copies of weights for backward are included. The threads share each array.
    """
    for number in range(net.n_layers):
        layer = layer_at(net, number)
        change = F(scale - 1) if number == 0 else F(-decay)
        end = layer.bias if both_layouts else layer.backward
        if number > 0 or fold_scale:
            first, last = share(end - layer.forward, COLUMNS, worker.thread, worker.threads)
            for offset in range(layer.forward + first, layer.forward + last, LANES):
                w = load(net.parameters, offset, ONE)
                # Rounded once: 1 + change would round off a small change.
                store(net.parameters, offset, fma(w, change, w))


@compiled
def add_collected(net: Any, collected: Any, count: int, worker: Any) -> None:
    """Add `collected` to the `count` parameters, and set it to zero; the threads share the arrays."""
    begin, end = share(count, COLUMNS, worker.thread, worker.threads)
    for offset in range(begin, end, LANES):
        store(net.parameters, offset, load(net.parameters, offset, ONE) + load(collected, offset, ONE))
        store(collected, offset, zeros(ONE, ONE))


@compiled
def catch_up_batch(calls: Any, plan: Any, pixels: Any, batch: Any, net: Any, number: int, worker: Any) -> int:
    """Call `deferred.catch_up` if updates are deferred; return the number of pixels."""
    if plan.defers:
        thread, threads = worker.thread, worker.threads
        found: int = call(CATCH_UP, calls.catch_up, plan, pixels, batch, net, number, thread, threads)
        return found
    return 0


@compiled
def catch_up_all_batches(calls: Any, plan: Any, net: Any, batches: int, worker: Any) -> None:
    """Call `deferred.catch_up_all` if updates are deferred."""
    if plan.defers:
        call(CATCH_UP_ALL, calls.catch_up_all, plan, net, batches, worker.thread, worker.threads)


@compiled
def step_batch(
    calls: Any, plan: Any, net: Any, collected: Any, number: int, n_nonzero: int, both_layouts: bool, worker: Any
) -> None:
    """Make the optimiser's step, given the number of pixels from `catch_up_batch`."""
    thread, threads = worker.thread, worker.threads
    if plan.defers:
        call(STEP_NONZERO, calls.step_nonzero, ANY, plan, net, collected, number, n_nonzero, thread, threads)
    call(STEP, calls.make_step, ANY, plan, net, collected, number, both_layouts, thread, threads)


@compiled
def run_epoch(
    worker: Any,
    data: Any,
    order: Any,
    table: Any,
    parameters: Any,
    collected: Any,
    work: Any,
    batch_size: int,
    chunk_size: int,
    by_columns: bool,
    by_pixels: bool,
    steps: Any,
    penalty: float,
    calls: Any,
    plan: Any,
    drop: Any,
) -> float:
    """Train on the examples `order` in batches; return the sum of losses, each before its batch's step.

    `steps`, float64, are the learning rates of the batches. After each batch, weights are multiplied by 1 - step *
    `penalty`, float64, which must be 0 for dense images. `calls` are the `Calls` that the recipe needs. For other
    optimisers than plain gradient descent, `plan` is a `steps.StepPlan`, which has the rates, and `steps` are -1;
    otherwise it is `steps.NO_PLAN`. `drop` is a `Dropout`, or `dropout.NONE`.

    `parameters` is changed in place. `table` int64 has the fields of each `Layer`. A batch larger than `chunk_size` is
    processed chunk by chunk, and its updates are summed in `collected`. With such batches, or a plan, `collected` is as
    long as the parameters, and zero before and after.

    Several threads may call this together with a counter of 0: each does a part of the work and returns its part of the
    sum. The parameters don't depend on the number of threads. Threads share the examples, or with `by_columns` the
    neurons of every layer, so that large weights stay in the cache of one core. In the first layer, with sparse images,
    they share the neurons, or at most two threads the pixels with `by_pixels`.
    """
    data, worker, plan, drop = pointer(data), pointer(worker), pointer(plan), pointer(drop)
    net = Network(table.size // N_FIELDS, pointer(table), pointer(parameters), pointer(work))
    order, n, steps = pointer(order), order.size, pointer(steps)
    around = kept(Surroundings(net, drop, data.targets, order))
    collected, n_parameters = pointer(collected), parameters.size
    thread, threads = worker.thread, worker.threads
    alone = Worker(0, 1, worker.counter, worker.scratch)
    # Threads that share neurons have a barrier after every layer, those that share examples after backward.
    inner, outer = (worker, alone) if by_columns else (alone, worker)
    parts = own_parts(worker, by_pixels)
    collects = calls.make_step != 0
    online = batch_size == 1 and threads == 1 and data.pixels is None and not collects
    if online:
        clear_pending(net)
    # Deferred weight decay: the first layer's weights are those in `parameters` times this scale.
    scale = 1.0
    sums = 0.0
    phase = np.int64(0)
    for start in range(0, n, batch_size):
        number, m = start // batch_size, min(batch_size, n - start)
        step = F(-at(steps, number) / m)
        # Without a penalty also at rates that aren't finite, as weights diverge then but have no scale.
        decay = at(steps, number) * penalty if penalty > 0 else 0.0
        shrunk = scale * (1 - decay)
        fold_scale = shrunk < SMALLEST_SCALE
        factor = F(1) if fold_scale else F(1 / shrunk)
        target = collected if collects or m > chunk_size else net.parameters
        # With a plan, a smaller last batch needs the same layouts: velocities must match.
        both_layouts = (batch_size if collects else m) < TRANSPOSE_FROM
        n_nonzero = catch_up_batch(calls, plan, data.pixels, Chunk(order, n, start, 0, m), net, number, worker)
        for first in range(start, start + m, chunk_size):
            chunk = Chunk(order, n, first, 0, min(chunk_size, start + m - first))
            own = part_of(chunk, worker)
            piece = chunk if by_columns else own
            if online:
                update_and_multiply(data.images, chunk, net, first)
            else:
                phase = multiply_images(
                    calls, data.pixels, data.images, chunk, piece, net, worker, inner, parts, by_pixels, phase
                )
            phase = forward(around, piece, net, inner, phase, F(scale))
            sums += call(OUTPUT, calls.output, ANY, ANY, around, own.first, own.row, own.rows, step)
            phase = barrier(inner, phase)
            phase = backward(around, piece, net, inner, phase, both_layouts)
            phase = barrier(outer, phase)
            if penalty > 0 and first + chunk_size >= start + m:
                call(SHRINK, calls.shrink, net, decay, shrunk, fold_scale, both_layouts, Share(thread, threads))
                phase = barrier(worker, phase)
            update(chunk, net, target, both_layouts, worker, by_columns)
            if not online:
                of_images, shared = (data.pixels, data.images), (worker, by_columns, parts, by_pixels)
                add_images(calls, *of_images, chunk, net, target, factor, *shared)
            phase = barrier(worker, phase)
        scale = 1.0 if fold_scale else shrunk
        if collects:
            step_batch(calls, plan, net, collected, number, n_nonzero, both_layouts, worker)
            phase = barrier(worker, phase)
        elif m > chunk_size:
            add_collected(net, collected, n_parameters, worker)
            phase = barrier(worker, phase)
        if not both_layouts:
            # A smaller batch that follows, or the next call, reads the copies.
            everywhere = n - (start + m) < TRANSPOSE_FROM
            call(TRANSPOSE, calls.transpose_copy, net, thread, threads, everywhere)
            phase = barrier(worker, phase)
    if scale != 1:
        call(SHRINK, calls.shrink, net, 0.0, scale, FOLD_SCALE, FOLD_SCALE, Share(thread, threads))
    catch_up_all_batches(calls, plan, net, (n + batch_size - 1) // batch_size, worker)
    if online and n > 0:
        flush_pending(data.images, net, n, worker.scratch)
    return sums
