"""A whole epoch of training in one compiled call: no Python, no allocation and no launch between batches."""

from typing import Any

import numpy as np

from ...compilation import compiled, compiled_apart
from ..matmul import Chunk
from ..memory import at, load, pointer, store
from ..sparse_matmul import pointers
from ..threads import share
from ..vectors import LANES, Static, fma, zeros
from .deferred import catch_up, catch_up_all
from .dropout import with_pointers as dropout_with_pointers
from .first_layer import add_images, clear_pending, flush_pending, multiply_images, update_and_multiply
from .layers import backward, forward, transpose_copy, update
from .outputs import compute_output_delta
from .state import COLUMNS, N_FIELDS, Data, Network, Worker, barrier, layer_at, part_of
from .steps import make_step, with_pointers

ONE = Static(1)
F = np.float32

SMALLEST_SCALE = 0.25
"""Fold the deferred scale of the first layer into its weights once it falls below this."""

FOLD_SCALE = np.bool_(True)

TRANSPOSE_FROM = 64
"""Batch size from which copying a layer's new weights, transposed, is faster than updating both forms."""


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
    steps: Any,
    penalty: float,
    functions: Any,
    loss: Any,
    plan: Any,
    drop: Any,
) -> float:
    """Train on the examples `order` in batches; return the sum of losses, each before its batch's step.

    `steps`, float64, are the learning rates of the batches. After each batch, weights are multiplied by 1 - step *
    `penalty`, float64, which must be 0 for dense images. `functions` and `loss` are `Static`: the layers' activation
    functions, see `activations.of_layers`, and the name of the loss. `plan` is None for plain gradient descent;
    otherwise it is a `steps.StepPlan`, which has the rates, and `steps` are -1. `drop` is None, or a `dropout.Dropout`.

    `parameters` is changed in place. `table` int64 has the fields of each `Layer`. A batch larger than `chunk_size` is
    processed chunk by chunk, and its updates are summed in `collected`. With such batches, or a plan, `collected` is as
    long as the parameters, and zero before and after.

    Several threads may call this together with a counter of 0: each does a part of the work and returns its part of the
    sum. The parameters don't depend on the number of threads. Threads share the examples, or with `by_columns` the
    neurons of every layer, so that large weights stay in the cache of one core.
    """
    data = Data(pointers(data.pixels), pointer(data.images), pointer(data.labels), pointer(data.targets))
    worker = Worker(worker.thread, worker.threads, pointer(worker.counter), pointer(worker.scratch))
    net = Network(table.size // N_FIELDS, pointer(table), pointer(parameters), pointer(work), worker.scratch)
    order, n, steps = pointer(order), order.size, pointer(steps)
    collected, n_parameters = pointer(collected), parameters.size
    thread, threads = worker.thread, worker.threads
    alone = Worker(0, 1, worker.counter, worker.scratch)
    # Threads that share neurons have a barrier after every layer, those that share examples after backward.
    inner, outer = (worker, alone) if by_columns else (alone, worker)
    online = batch_size == 1 and threads == 1 and data.pixels is None and plan is None
    collects = plan is not None
    plan, drop = with_pointers(plan), dropout_with_pointers(drop)
    if online:
        clear_pending(net)
    # Deferred weight decay: the first layer's weights are those in `parameters` times this scale.
    scale = 1.0
    sums = 0.0
    phase = np.int64(0)
    for start in range(0, n, batch_size):
        m = min(batch_size, n - start)
        step = F(-at(steps, start // batch_size) / m)
        decay = at(steps, start // batch_size) * penalty
        shrunk = scale * (1 - decay)
        fold_scale = shrunk < SMALLEST_SCALE
        factor = F(1) if fold_scale else F(1 / shrunk)
        target = collected if collects or m > chunk_size else net.parameters
        # With a plan, a smaller last batch needs the same layouts: velocities must match.
        both_layouts = (batch_size if collects else m) < TRANSPOSE_FROM
        n_nonzero = catch_up(plan, data.pixels, Chunk(order, n, start, 0, m), net, start // batch_size, worker)
        for first in range(start, start + m, chunk_size):
            chunk = Chunk(order, n, first, 0, min(chunk_size, start + m - first))
            own = part_of(chunk, worker)
            piece = chunk if by_columns else own
            if online:
                update_and_multiply(data.images, chunk, net, first)
            else:
                phase = multiply_images(data.pixels, data.images, chunk, piece, net, worker, inner, phase)
            phase = forward(functions, drop, piece, net, inner, phase, F(scale))
            sums += compute_output_delta(loss, functions, data, own, net, step)
            phase = barrier(inner, phase)
            phase = backward(functions, drop, piece, net, inner, phase, both_layouts)
            phase = barrier(outer, phase)
            if penalty > 0 and first + chunk_size >= start + m:
                shrink(net, decay, shrunk, fold_scale, both_layouts, worker)
                phase = barrier(worker, phase)
            update(chunk, net, target, both_layouts, worker, by_columns)
            if not online:
                add_images(data.pixels, data.images, chunk, net, target, factor, worker, by_columns)
            phase = barrier(worker, phase)
        scale = 1.0 if fold_scale else shrunk
        if collects:
            make_step(plan, net, collected, start // batch_size, n_nonzero, both_layouts, worker)
            phase = barrier(worker, phase)
        elif m > chunk_size:
            add_collected(net, collected, n_parameters, worker)
            phase = barrier(worker, phase)
        if not both_layouts:
            # A smaller batch that follows, or the next call, reads the copies.
            transpose_copy(net, thread, threads, n - (start + m) < TRANSPOSE_FROM)
            phase = barrier(worker, phase)
    if scale != 1:
        shrink(net, 0.0, scale, FOLD_SCALE, FOLD_SCALE, worker)
    catch_up_all(plan, net, (n + batch_size - 1) // batch_size, worker)
    if online and n > 0:
        flush_pending(data.images, net, n)
    return sums
