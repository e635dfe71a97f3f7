"""Steps with momentum and a penalty for the weights of pixels that were dark, in whole-epoch kernels.

While a pixel is dark, the gradient of its weights is 0: k steps as in `steps` are the k-th power of a 2 x 2
matrix, the same for all of them. So they wait until the pixel is lit again, and then make up for all k at once, exactly
but for rounding. Adam's steps have no such form: they are made by all weights after every batch.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..matmul import BLOCK, ONE
from ..memory import at, load, put, store
from ..sparse import PARTS
from ..vector_math import SMALL, flushed
from ..vectors import LANES, fused
from .state import FIRST, layer_at


def powers_in_the_dark(rate: float, momentum: float, l2: float, nesterov: bool, count: int) -> NDArray[np.float32]:
    """Return the matrices of 0, 1, ..., `count` steps without a gradient, on (W, V); (count + 1, 4), row-major."""
    # The factors of V and V' in W'.
    old, new = (-rate * momentum, rate * (1 + momentum)) if nesterov else (0.0, rate)
    power = np.array([[1 - new * l2, old + new * momentum], [-l2, momentum]])
    found = np.eye(2)[np.newaxis]
    # Far too high rates make weights grow without bounds, which training tells at the end of the epoch.
    with np.errstate(all="ignore"):
        while len(found) <= count:
            # With the first 2^j powers, and the 2^j-th, there are twice as many.
            found = np.concatenate([found, found @ power])
            power = power @ power
        return found[: count + 1].reshape(-1, 4).astype(np.float32)


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
                    store(velocities, place, flushed(fused(v, vv, w * vw), SMALL))
