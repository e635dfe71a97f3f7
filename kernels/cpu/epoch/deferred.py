"""Deferred updates: steps with momentum and a penalty for the weights of zero pixels, in whole-epoch kernels.

While a pixel is zero, so is the gradient of its weights: k steps as in `steps` are the k-th power of a 2 x 2 matrix,
the same for all weights. Updates are deferred until the pixel is non-zero again, then applied in one step (exact up to
rounding). Adam's steps have no such form: all weights make them after every batch. To make them later, one by one, took
about twice as long (measured with 50,000 inputs of which 100 aren't zero, 100 neurons, batches of 10 to 200).
"""

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from ...compilation import compiled, compiled_apart
from ..addresses import signature
from ..matmul import N_BLOCK, ONE
from ..memory import at, load, put, store
from ..sparse import PARTS
from ..sparse_matmul import entries
from ..vector_math import SMALL, flushed
from ..vectors import LANES, fma
from .state import FIRST, OF_CHUNK, OF_NETWORK, layer_at
from .steps import OF_PLAN


def deferred_powers(rate: float, momentum: float, l2: float, nesterov: bool, count: int) -> NDArray[np.float32]:
    """Return the matrices of 0, 1, ..., `count` steps without a gradient, on (W, V); (count + 1, 4), row-major."""
    # V' = l2 W + momentum V, and W' = W - rate V', or Nesterov's W' = W - rate (l2 W + momentum V').
    of_w, of_v = (l2 * (1 + momentum), momentum**2) if nesterov else (l2, momentum)
    power = np.array([[1 - rate * of_w, -rate * of_v], [l2, momentum]])
    found = np.eye(2)[np.newaxis]
    # Far too high rates make weights overflow, which training reports at the end of the epoch.
    with np.errstate(all="ignore"):
        while len(found) <= count:
            # The 2^j-th power doubles the number of known powers.
            found = np.concatenate([found, found @ power])
            power = power @ power
        return found[: count + 1].reshape(-1, 4).astype(np.float32)


CATCH_UP = signature(types.int64, OF_PLAN, None, OF_CHUNK, OF_NETWORK, types.int64, types.int64, types.int64)
CATCH_UP_ALL = signature(types.void, OF_PLAN, OF_NETWORK, types.int64, types.int64, types.int64)


@compiled_apart
def catch_up(plan: Any, pixels: Any, chunk: Any, net: Any, number: int, thread: int, threads: int) -> int:
    """Apply the deferred updates of the pixels that are non-zero in `chunk`, which is the batch `number`.

    Each thread does its blocks of columns, as in `multiply_sparse`. Returns the number of these pixels, which are in
    `plan.nonzero`.
    """
    count = 0
    for r in range(chunk.rows):
        image = PARTS * at(chunk.order, chunk.first + r)
        last = 0
        for word in range(at(pixels.starts, image), at(pixels.starts, image + PARTS)):
            positions, _ = entries(pixels, word, last, 0, 1)
            last = positions[3]
            for p in positions:
                missed = number - at(plan.seen, p)
                # Filler entries (of value 0) are caught up too, which is harmless.
                if missed >= 0:
                    put(plan.seen, p, number + 1)
                    put(plan.nonzero, 2 * count, p)
                    put(plan.nonzero, 2 * count + 1, missed)
                    count += 1
    _catch_up(plan, net, count, thread, threads)
    return count


@compiled_apart
def catch_up_all(plan: Any, net: Any, number: int, thread: int, threads: int) -> None:
    """Apply all deferred updates of the first `number` batches."""
    n_pixels = layer_at(net, FIRST).n_in
    for p in range(n_pixels):
        put(plan.nonzero, 2 * p, p)
        put(plan.nonzero, 2 * p + 1, number - at(plan.seen, p))
        put(plan.seen, p, 0)
    _catch_up(plan, net, n_pixels, thread, threads)


@compiled
def _catch_up(plan: Any, net: Any, count: int, thread: int, threads: int) -> None:
    layer = layer_at(net, FIRST)
    for column in range(thread * N_BLOCK, layer.width, threads * N_BLOCK):
        width = min(N_BLOCK, layer.width - column)
        start = layer.forward + column * layer.n_in
        for i in range(count):
            missed = at(plan.nonzero, 2 * i + 1)
            if missed == 0:
                continue
            first = start + at(plan.nonzero, 2 * i) * width
            ww, wv = at(plan.powers, 4 * missed), at(plan.powers, 4 * missed + 1)
            vw, vv = at(plan.powers, 4 * missed + 2), at(plan.powers, 4 * missed + 3)
            for offset in range(first, first + width, LANES):
                w = load(net.parameters, offset, ONE)
                v = load(plan.moments, offset, ONE)
                store(net.parameters, offset, fma(v, wv, w * ww))
                store(plan.moments, offset, flushed(fma(v, vv, w * vw), SMALL))
