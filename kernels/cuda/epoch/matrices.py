"""Products of images and the first layer's weights on tensor cores, in the whole-epoch kernel.

W X^T, and delta^T X for the gradient: a neuron is a row and an image, or a pixel, a column. The weights are split into
three bfloat16 parts, as delta is; grey levels 0 to 255 are bfloat16 numbers. The smallest parts are added up first, and
what a tensor core adds up, which cuts off what doesn't fit, are few numbers: all other sums are float32's, rounded.

Thread 4 g + t of a warp holds, of each tile of 16 x 16 weights, those of the neurons g and g + 8 and the pixels 4 t to
4 t + 3. That is where the PTX manual has the elements of A for W X^T, if its columns 2 t and 2 t + 1 are the first two
of these pixels, and 2 t + 8 and 2 t + 9 the others; and the sums of delta^T X, if the columns of one product are the
even pixels, and those of another the odd ones. So gradients are added where they are computed, and nothing is moved.

All sums have one order, so that the same input gives the same bits.
"""

from typing import Any

import numpy as np

from ..jit import cuda, device_function
from ..tensor_cores import (
    LOWER_HALVES,
    UPPER_HALVES,
    grey_levels,
    load_2,
    load_4,
    multiply_add,
    permute,
    split_2,
    store_4,
)
from .layout import IMAGES, SIDE, WARP, WORDS_A_THREAD, CudaLayout, KernelSpec
from .tiles import GREY, ZERO, U

FLOAT32, UINT32 = np.dtype(np.float32), np.dtype(np.uint32)
PIECE = 4
"""Words, of four pixels each, that a thread loads at once."""
TILE_SIZE = SIDE * SIDE


def transfers(layout: CudaLayout) -> tuple[Any, Any]:
    """Return the functions that load a thread's part of a chunk into registers, and store it in shared memory."""
    n_pieces, x_stride, warps = layout.n_words // PIECE, layout.x_stride, layout.threads // WARP

    @device_function
    def fetch(t: int, words: Any, order: Any, first: int, rows: int, into: Any) -> None:
        lane, row = t % WARP, t // WARP
        base = 0
        for i in range(WORDS_A_THREAD // PIECE):
            if row < rows and base + lane < n_pieces:
                image = words[U(order[U(first + row)])]
                a, b, c, d = load_4(image, U(PIECE * (base + lane)))
                into[4 * i], into[4 * i + 1], into[4 * i + 2], into[4 * i + 3] = a, b, c, d
            base += WARP
            if base >= n_pieces:
                base = 0
                row += warps

    @device_function
    def store_to_shared(t: int, fetched: Any, rows: int, x: Any) -> None:
        lane, row = t % WARP, t // WARP
        base = 0
        for i in range(WORDS_A_THREAD // PIECE):
            if row < rows and base + lane < n_pieces:
                place = row * x_stride + 2 * PIECE * (base + lane)
                for half in range(2):
                    a, b = grey_levels(fetched[4 * i + 2 * half])
                    c, d = grey_levels(fetched[4 * i + 2 * half + 1])
                    store_4(x, U(place + 4 * half), a, b, c, d)
            base += WARP
            if base >= n_pieces:
                base = 0
                row += warps

    return fetch, store_to_shared


def forward_images(layout: CudaLayout, finish: Any) -> list[Any]:
    """Return the functions for the first layer: one that multiplies, and one that adds up what several warps have."""
    T, x_stride, labels, at = layout.threads, layout.x_stride, layout.labels, layout.partials
    pixel_tiles, neuron_tiles, parts, bias = (
        layout.pixel_tiles,
        layout.neuron_tiles,
        layout.parts,
        layout.layers[0].bias,
    )
    groups, first_weight = layout.chunk_size // IMAGES, layout.layers[0].weights
    n_sums = groups * neuron_tiles * IMAGES * SIDE
    n_jobs, warps, n_own = parts * neuron_tiles, T // WARP, 4 * groups

    @device_function
    def multiply(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        lane, warp = t % WARP, t // WARP
        own = lane // 4 * x_stride + lane % 4 * 2
        totals = cuda.local.array(n_own, FLOAT32)
        for job in range(warp, n_jobs, warps):
            neurons, part = job % neuron_tiles, job // neuron_tiles
            for k in range(n_own):
                totals[k] = ZERO
            base = first_weight + neurons * pixel_tiles * TILE_SIZE + 4 * lane
            w0, w1, w2, w3 = load_4(weights, U(base + part * TILE_SIZE))
            w4, w5, w6, w7 = load_4(weights, U(base + part * TILE_SIZE + TILE_SIZE // 2))
            for tile in range(part, pixel_tiles, parts):
                a1, a2, a3 = split_2(w0, w1)
                c1, c2, c3 = split_2(w2, w3)
                b1, b2, b3 = split_2(w4, w5)
                d1, d2, d3 = split_2(w6, w7)
                # Those of the next tile are on their way while this one is multiplied.
                after = base + (tile + parts if tile + parts < pixel_tiles else tile) * TILE_SIZE
                w0, w1, w2, w3 = load_4(weights, U(after))
                w4, w5, w6, w7 = load_4(weights, U(after + TILE_SIZE // 2))
                for group in range(groups):
                    x0, x1 = load_2(x, U(own + group * IMAGES * x_stride + SIDE // 2 * tile))
                    s0, s1, s2, s3 = multiply_add(a3, b3, c3, d3, x0, x1, ZERO, ZERO, ZERO, ZERO)
                    s0, s1, s2, s3 = multiply_add(a2, b2, c2, d2, x0, x1, s0, s1, s2, s3)
                    s0, s1, s2, s3 = multiply_add(a1, b1, c1, d1, x0, x1, s0, s1, s2, s3)
                    totals[4 * group] += s0
                    totals[4 * group + 1] += s1
                    totals[4 * group + 2] += s2
                    totals[4 * group + 3] += s3
            for group in range(groups):
                place = at + part * n_sums + ((group * neuron_tiles + neurons) * WARP + lane) * 4
                k = 4 * group
                store_4(memory, U(place), totals[k], totals[k + 1], totals[k + 2], totals[k + 3])
        return ZERO

    @device_function
    def add_up(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        losses = ZERO
        for i in range(t, n_sums, T):
            element, lane, tile = i % 4, i // 4 % WARP, i // (4 * WARP)
            b = tile // neuron_tiles * IMAGES + lane % 4 * 2 + element % 2
            if b < rows:
                j = tile % neuron_tiles * SIDE + element // 2 * 8 + lane // 4
                z = ZERO
                for part in range(parts):
                    z += memory[U(at + part * n_sums + i)]
                losses += finish(z * GREY + weights[U(bias + j)], b, j, x[U(labels + b)], step, memory)
        return losses

    return [multiply, add_up]


def update_images(layout: CudaLayout, spec: KernelSpec) -> Any:
    """Return the function that adds the gradient of the first layer's weights to `target`, as `layers.update_step`."""
    T, x_stride, layer = layout.threads, layout.x_stride, layout.layers[0]
    pixel_tiles, neuron_tiles, parts = layout.pixel_tiles, layout.neuron_tiles, layout.parts
    n_jobs, warps, n_steps = parts * neuron_tiles, T // WARP, -(-layout.chunk_size // SIDE)
    delta_of, add, n_delta = _delta_parts(layout), _add_four(spec), 12 * n_steps

    @device_function
    def update(
        t: int, x: Any, rows: int, memory: Any, target: Any, weights: Any, scale: Any, decay: Any, sums: Any
    ) -> None:
        lane, warp = t % WARP, t // WARP
        own = lane % 4 * x_stride + lane // 4
        delta = cuda.local.array(n_delta, UINT32)
        for job in range(warp, n_jobs, warps):
            neurons, part = job % neuron_tiles, job // neuron_tiles
            for step in range(n_steps):
                delta_of(memory, lane, neurons, step, rows, delta)
            base = layer.weights + neurons * pixel_tiles * TILE_SIZE + 4 * lane
            for tile in range(part, pixel_tiles, parts):
                e0 = e1 = e2 = e3 = ZERO
                o0 = o1 = o2 = o3 = ZERO
                for before in range(3):
                    which = 2 - before
                    for step in range(n_steps):
                        at = own + step * SIDE * x_stride + SIDE // 2 * tile
                        r0, r1 = x[U(at)], x[U(at + 4 * x_stride)]
                        r2, r3 = x[U(at + 8 * x_stride)], x[U(at + 12 * x_stride)]
                        k = 12 * step + 4 * which
                        d0, d1, d2, d3 = delta[k], delta[k + 1], delta[k + 2], delta[k + 3]
                        even0, even1 = permute(r0, r1, LOWER_HALVES), permute(r2, r3, LOWER_HALVES)
                        e0, e1, e2, e3 = multiply_add(d0, d1, d2, d3, even0, even1, e0, e1, e2, e3)
                        odd0, odd1 = permute(r0, r1, UPPER_HALVES), permute(r2, r3, UPPER_HALVES)
                        o0, o1, o2, o3 = multiply_add(d0, d1, d2, d3, odd0, odd1, o0, o1, o2, o3)
                place = base + tile * TILE_SIZE
                add(target, weights, place, e0, o0, e1, o1, scale, decay)
                add(target, weights, place + TILE_SIZE // 2, e2, o2, e3, o3, scale, decay)

    return update


def _delta_parts(layout: CudaLayout) -> Any:
    """Return the function that puts the parts of a warp's tile of delta^T into registers: 16 neurons and 16 images.

    Column 2 t is image t, 2 t + 1 is image t + 4, 2 t + 8 and 2 t + 9 are t + 8 and t + 12: so threads that load pixels
    use different banks.
    """
    d_at, width = layout.layers[0].delta, layout.layers[0].width

    @device_function
    def parts(memory: Any, lane: int, neurons: int, step: int, rows: int, into: Any) -> None:
        for pair in range(4):
            row = SIDE * step + lane % 4 + pair // 2 * 8
            j = neurons * SIDE + lane // 4 + pair % 2 * 8
            # What is beyond the last image is left from others.
            low = memory[U(d_at + row * width + j)] if row < rows else ZERO
            high = memory[U(d_at + (row + 4) * width + j)] if row + 4 < rows else ZERO
            first, second, third = split_2(low, high)
            into[12 * step + pair], into[12 * step + 4 + pair], into[12 * step + 8 + pair] = first, second, third

    return parts


def _add_four(spec: KernelSpec) -> Any:
    """Return the function that adds to four numbers of `target`, as `layers` does to one."""
    scales, l2 = spec.collects, spec.l2

    @device_function
    def add(target: Any, weights: Any, place: int, a: Any, b: Any, c: Any, d: Any, scale: Any, decay: Any) -> None:
        t0, t1, t2, t3 = load_4(target, U(place))
        if scales:
            t0, t1, t2, t3 = t0 * scale, t1 * scale, t2 * scale, t3 * scale
        if l2:
            w0, w1, w2, w3 = load_4(weights, U(place))
            t0, t1, t2, t3 = t0 + decay * w0, t1 + decay * w1, t2 + decay * w2, t3 + decay * w3
        store_4(target, U(place), t0 + a * GREY, t1 + b * GREY, t2 + c * GREY, t3 + d * GREY)

    return add
