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
from .tiles import GREY, U32, ZERO, U, divided

FLOAT32, UINT32 = np.dtype(np.float32), np.dtype(np.uint32)
PIECE = 4
"""Words, of four pixels each, that a thread loads at once."""
TILE_SIZE = SIDE * SIDE


def transfers(layout: CudaLayout) -> tuple[Any, Any]:
    """Return the functions that load a thread's part of a chunk into registers, and store it in shared memory.

    A thread has the same piece of several images.
    """
    n_pieces, x_stride = layout.n_words // PIECE, layout.x_stride
    n_own = -(-layout.chunk_size // (layout.threads // n_pieces))
    apart = -(-layout.chunk_size // n_own)
    assert n_own * PIECE <= WORDS_A_THREAD

    @device_function
    def fetch(t: int, words: Any, order: Any, first: int, rows: int, into: Any) -> None:
        row, piece = divided(t, n_pieces)
        if row < apart:
            for i in range(n_own):
                if row + apart * i < rows:
                    image = words[U(order[U(first + row + apart * i)])]
                    a, b, c, d = load_4(image, U(PIECE * piece))
                    into[4 * i], into[4 * i + 1], into[4 * i + 2], into[4 * i + 3] = a, b, c, d

    @device_function
    def store_to_shared(t: int, fetched: Any, rows: int, x: Any) -> None:
        row, piece = divided(t, n_pieces)
        if row < apart:
            place = U32(row * U32(x_stride) + U32(2 * PIECE) * piece)
            for i in range(n_own):
                if row + apart * i < rows:
                    for half in range(2):
                        a, b = grey_levels(fetched[4 * i + 2 * half])
                        c, d = grey_levels(fetched[4 * i + 2 * half + 1])
                        store_4(x, U(place) + U(apart * x_stride * i + 4 * half), a, b, c, d)

    return fetch, store_to_shared


def forward_images(layout: CudaLayout, finish: Any) -> list[Any]:
    """Return the functions for the first layer: one that multiplies, and one that adds up what several warps have."""
    T, x_stride, labels, at = layout.threads, layout.x_stride, layout.labels, layout.partials
    pixel_tiles, neuron_tiles, parts, layer = layout.pixel_tiles, layout.neuron_tiles, layout.parts, layout.layers[0]
    groups = layout.chunk_size // IMAGES
    n_sums = groups * neuron_tiles * IMAGES * SIDE
    n_jobs, warps, n_own, n_parts = U32(parts * neuron_tiles), U32(T // WARP), 4 * groups, U32(parts)
    last = U32(pixel_tiles - 1)

    @device_function
    def multiply(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        job, lane = divided(t, WARP)
        own = U32(lane // U32(4) * U32(x_stride) + lane % U32(4) * U32(2))
        totals = cuda.local.array(n_own, FLOAT32)
        while job < n_jobs:
            part, neurons = divided(job, neuron_tiles)
            for k in range(n_own):
                totals[k] = ZERO
            base = U32(U32(layer.weights) + neurons * U32(pixel_tiles * TILE_SIZE) + U32(4) * lane)
            tile = U32(part)
            place = U(base) + U(tile) * U(TILE_SIZE)
            w0, w1, w2, w3 = load_4(weights, place)
            w4, w5, w6, w7 = load_4(weights, place + U(TILE_SIZE // 2))
            while tile <= last:
                a1, a2, a3 = split_2(w0, w1)
                c1, c2, c3 = split_2(w2, w3)
                b1, b2, b3 = split_2(w4, w5)
                d1, d2, d3 = split_2(w6, w7)
                at_x = U(own) + U(SIDE // 2) * U(tile)
                # Those of the next tile are on their way while this one is multiplied.
                tile = U32(tile + n_parts)
                place = U(base) + U(min(tile, last)) * U(TILE_SIZE)
                w0, w1, w2, w3 = load_4(weights, place)
                w4, w5, w6, w7 = load_4(weights, place + U(TILE_SIZE // 2))
                for group in range(groups):
                    x0, x1 = load_2(x, at_x + U(group * IMAGES * x_stride))
                    s0, s1, s2, s3 = multiply_add(a3, b3, c3, d3, x0, x1, ZERO, ZERO, ZERO, ZERO)
                    s0, s1, s2, s3 = multiply_add(a2, b2, c2, d2, x0, x1, s0, s1, s2, s3)
                    s0, s1, s2, s3 = multiply_add(a1, b1, c1, d1, x0, x1, s0, s1, s2, s3)
                    totals[4 * group] += s0
                    totals[4 * group + 1] += s1
                    totals[4 * group + 2] += s2
                    totals[4 * group + 3] += s3
            place = U(at) + U(part) * U(n_sums) + U(4) * (U(neurons) * U(WARP) + U(lane))
            for group in range(groups):
                k = 4 * group
                after = place + U(group * neuron_tiles * WARP * 4)
                store_4(memory, after, totals[k], totals[k + 1], totals[k + 2], totals[k + 3])
            job = U32(job + warps)
        return ZERO

    @device_function
    def add_up(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        losses, i = ZERO, U32(t)
        while i < U32(n_sums):
            tile, within = divided(i, 4 * WARP)
            group, neurons = divided(tile, neuron_tiles)
            lane, element = divided(within, 4)
            b = U32(group * U32(IMAGES) + lane % U32(4) * U32(2) + element % U32(2))
            if b < rows:
                j = U32(neurons * U32(SIDE) + element // U32(2) * U32(8) + lane // U32(4))
                z = ZERO
                for part in range(parts):
                    z += memory[U(i) + U(at + part * n_sums)]
                losses += finish(z * GREY + weights[U(layer.bias) + U(j)], b, j, x[U(labels) + U(b)], step, memory)
            i = U32(i + U32(T))
        return losses

    return [multiply, add_up]


def update_images(layout: CudaLayout, spec: KernelSpec) -> Any:
    """Return the function that adds the gradient of the first layer's weights to `target`, as `layers.update_step`."""
    T, x_stride, layer = layout.threads, layout.x_stride, layout.layers[0]
    pixel_tiles, neuron_tiles, parts = layout.pixel_tiles, layout.neuron_tiles, layout.parts
    n_jobs, warps, n_steps = U32(parts * neuron_tiles), U32(T // WARP), -(-layout.chunk_size // SIDE)
    delta_of, add, n_delta = _delta_parts(layout), _add_four(spec), 12 * n_steps
    n_pixels = 4 * n_steps

    @device_function
    def update(
        t: int, x: Any, rows: int, memory: Any, target: Any, weights: Any, scale: Any, decay: Any, sums: Any
    ) -> None:
        job, lane = divided(t, WARP)
        own = U32(lane % U32(4) * U32(x_stride) + lane // U32(4))
        delta, pixels = cuda.local.array(n_delta, UINT32), cuda.local.array(n_pixels, UINT32)
        while job < n_jobs:
            part, neurons = divided(job, neuron_tiles)
            delta_of(memory, lane, neurons, U32(rows), delta)
            base = U32(U32(layer.weights) + neurons * U32(pixel_tiles * TILE_SIZE) + U32(4) * lane)
            tile = U32(part)
            while tile < U32(pixel_tiles):
                e0 = e1 = e2 = e3 = ZERO
                o0 = o1 = o2 = o3 = ZERO
                at_x = U(own) + U(SIDE // 2) * U(tile)
                for step in range(n_steps):
                    row, k = step * SIDE, 4 * step
                    r0, r1 = x[at_x + U(row * x_stride)], x[at_x + U((row + 4) * x_stride)]
                    r2, r3 = x[at_x + U((row + 8) * x_stride)], x[at_x + U((row + 12) * x_stride)]
                    pixels[k], pixels[k + 1] = permute(r0, r1, LOWER_HALVES), permute(r2, r3, LOWER_HALVES)
                    pixels[k + 2], pixels[k + 3] = permute(r0, r1, UPPER_HALVES), permute(r2, r3, UPPER_HALVES)
                for before in range(3):
                    for step in range(n_steps):
                        k = 12 * step + 4 * (2 - before)
                        d0, d1, d2, d3 = delta[k], delta[k + 1], delta[k + 2], delta[k + 3]
                        k = 4 * step
                        e0, e1, e2, e3 = multiply_add(d0, d1, d2, d3, pixels[k], pixels[k + 1], e0, e1, e2, e3)
                        o0, o1, o2, o3 = multiply_add(d0, d1, d2, d3, pixels[k + 2], pixels[k + 3], o0, o1, o2, o3)
                place = U(base) + U(tile) * U(TILE_SIZE)
                add(target, weights, place, e0, o0, e1, o1, scale, decay)
                add(target, weights, place + U(TILE_SIZE // 2), e2, o2, e3, o3, scale, decay)
                tile = U32(tile + U32(parts))
            job = U32(job + warps)

    return update


def _delta_parts(layout: CudaLayout) -> Any:
    """Return the function that puts the parts of a warp's tiles of delta^T into registers: 16 neurons and 16 images.

    Column 2 t is image t, 2 t + 1 is image t + 4, 2 t + 8 and 2 t + 9 are t + 8 and t + 12: so threads that load pixels
    use different banks.
    """
    d_at, width, n_steps = layout.layers[0].delta, layout.layers[0].width, -(-layout.chunk_size // SIDE)

    @device_function
    def parts(memory: Any, lane: Any, neurons: Any, rows: Any, into: Any) -> None:
        group, member = divided(lane, 4)
        own = U32(member * U32(width) + neurons * U32(SIDE) + group)
        for step in range(n_steps):
            for pair in range(4):
                row = SIDE * step + pair // 2 * 8
                place = U(own) + U(d_at + row * width + pair % 2 * 8)
                # What is beyond the last image is left from others.
                low, high = memory[place], memory[place + U(4 * width)]
                low = low if member + U32(row) < rows else ZERO
                high = high if member + U32(row + 4) < rows else ZERO
                first, second, third = split_2(low, high)
                into[12 * step + pair], into[12 * step + 4 + pair], into[12 * step + 8 + pair] = first, second, third

    return parts


def _add_four(spec: KernelSpec) -> Any:
    """Return the function that adds to four numbers of `target`, as `layers` does to one."""
    scales, l2 = spec.collects, spec.l2

    @device_function
    def add(target: Any, weights: Any, place: Any, a: Any, b: Any, c: Any, d: Any, scale: Any, decay: Any) -> None:
        t0, t1, t2, t3 = load_4(target, place)
        if scales:
            t0, t1, t2, t3 = t0 * scale, t1 * scale, t2 * scale, t3 * scale
        if l2:
            w0, w1, w2, w3 = load_4(weights, place)
            t0, t1, t2, t3 = t0 + decay * w0, t1 + decay * w1, t2 + decay * w2, t3 + decay * w3
        store_4(target, place, t0 + a * GREY, t1 + b * GREY, t2 + c * GREY, t3 + d * GREY)

    return add
