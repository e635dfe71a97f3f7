"""The steps that a block of threads takes with a chunk of images: forward, backward and the update.

Activations and delta are in shared memory, `memory`, and the parameters there or in the device's memory, `weights`.
Each sum is added up by one thread, or by several in one order, so that the same input gives the same bits.

Every layer gets functions of its own, for which its sizes and places are constants. Between any two of them the threads
meet; `t` is the number of the one that calls.
"""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

from ..activations import FORMULAS
from ..jit import device_function
from .dropout import before_dropout, drop_step
from .layout import TILE, CudaLayer, CudaLayout, KernelSpec
from .outputs import output_steps
from .tiles import GREY, N_SUMS, U32, ZERO, U, clear, divided, tile_products

ROWS = 8
"""Images whose gradients are added without a loop."""


def forward_steps(layout: CudaLayout, spec: KernelSpec) -> list[Any]:
    """Return the functions that compute all activations and the last layer's delta; what they return is the loss."""
    if layout.tensor_cores:
        from .matrices import forward_images
    else:
        forward_images = _forward_images
    finish_last, after = output_steps(layout, spec.functions[-1], spec.loss)
    hidden = zip(layout.layers[:-1], spec.functions, strict=False)
    finish = [*(_finish(layer, function) for layer, function in hidden), finish_last]
    pairs = enumerate(pairwise(layout.layers), start=1)
    upper = [_forward(layout, below, layer, finish[number]) for number, (below, layer) in pairs]
    steps = [forward_images(layout, finish[0]), *([function] for function in upper)]
    if spec.dropout:
        for number, layer in enumerate(layout.layers[:-1]):
            steps[number] = [*steps[number], drop_step(layout, spec, number, layer.activation)]
    return [*chain.from_iterable(steps), *after]


def backward_steps(layout: CudaLayout, spec: KernelSpec) -> list[Any]:
    """Return the functions that compute delta of all layers below the last one; they return 0."""
    pairs = zip(pairwise(layout.layers), spec.functions, strict=False)
    steps = []
    for number, ((below, layer), function) in enumerate(pairs):
        step = _backward(layout, below, layer, function, before_dropout(spec))
        steps.append([step, drop_step(layout, spec, number, below.delta)] if spec.dropout else [step])
    return list(chain.from_iterable(steps[::-1]))


def _finish(layer: CudaLayer, activation: str) -> Any:
    """Return the function that stores neuron j's activation for image b; it returns 0."""
    activate, _ = FORMULAS[activation]
    n_out, width, a_at = layer.n_out, layer.width, layer.activation

    @device_function
    def finish(z: Any, b: int, j: int, label: int, step: Any, memory: Any) -> Any:
        memory[U(a_at + b * width + j)] = activate(z) if j < n_out else ZERO
        return ZERO

    return finish


def _forward_images(layout: CudaLayout, finish: Any) -> list[Any]:
    """Return the functions for the first layer.

    Where there are more threads than tiles, several work on one, each on a part of the words.
    """
    add_forward, _ = tile_products(layout)
    layer, T, n_words, labels, at = layout.layers[0], layout.threads, layout.n_words, layout.labels, layout.partials
    groups, columns, bias = layout.groups, layer.width // TILE, layer.bias
    n_tiles = groups * columns
    slices = T // n_tiles

    @device_function
    def multiply(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        part, tile = t // n_tiles, t % n_tiles
        if part < slices:
            clear(sums)
            begin, end = n_words * part // slices, n_words * (part + 1) // slices
            add_forward(x, tile // columns, weights, tile % columns, begin, end, sums)
            for k in range(N_SUMS):
                memory[U(at + k * T + t)] = sums[k]
        return ZERO

    @device_function
    def add_up(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        losses = ZERO
        for i in range(t, N_SUMS * n_tiles, T):
            k, tile = i // n_tiles, i % n_tiles
            b = tile // columns + groups * (k // TILE)
            if b < rows:
                j = tile % columns + columns * (k % TILE)
                z = ZERO
                for part in range(slices):
                    z += memory[U(at + k * T + part * n_tiles + tile)]
                losses += finish(z * GREY + weights[U(bias + j)], b, j, x[U(labels + b)], step, memory)
        return losses

    @device_function
    def tile_by_tile(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        losses = ZERO
        for tile in range(t, n_tiles, T):
            row, column = tile // columns, tile % columns
            if row < rows:
                clear(sums)
                add_forward(x, row, weights, column, 0, n_words, sums)
                for k in range(N_SUMS):
                    b, j = row + groups * (k // TILE), column + columns * (k % TILE)
                    if b < rows:
                        z = sums[k] * GREY + weights[U(bias + j)]
                        losses += finish(z, b, j, x[U(labels + b)], step, memory)
        return losses

    return [multiply, add_up] if slices > 1 else [tile_by_tile]


def _forward(layout: CudaLayout, below: CudaLayer, layer: CudaLayer, finish: Any) -> Any:
    """Return the function for a layer above the first."""
    T, labels, four, n_whole = layout.threads, layout.labels, _four(layout), layer.n_in // TILE * TILE

    @device_function
    def forward(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        losses = ZERO
        for i in range(t, rows * layer.width, T):
            b, j = divided(i, layer.width)
            z = ZERO
            if j < layer.n_out:
                z = weights[U(layer.bias + j)]
                a, w = U(below.activation) + U(b) * U(below.width), U(layer.weights) + U(j)
                for k in range(0, n_whole, TILE):
                    a0, a1, a2, a3 = four(memory, a + U(k))
                    z += a0 * weights[w + U(k * layer.stride)]
                    z += a1 * weights[w + U((k + 1) * layer.stride)]
                    z += a2 * weights[w + U((k + 2) * layer.stride)]
                    z += a3 * weights[w + U((k + 3) * layer.stride)]
                for k in range(n_whole, layer.n_in):
                    z += memory[a + U(k)] * weights[w + U(k * layer.stride)]
            losses += finish(z, b, j, x[U(labels + b)], step, memory)
        return losses

    return forward


def _four(layout: CudaLayout) -> Any:
    """Return the function that loads four numbers, from a multiple of four on: at once, where the compiler can."""
    if layout.tensor_cores:
        from ..tensor_cores import load_4

        return load_4

    @device_function
    def four(array: Any, place: Any) -> Any:
        return array[place], array[place + U(1)], array[place + U(2)], array[place + U(3)]

    return four


def _backward(layout: CudaLayout, below: CudaLayer, layer: CudaLayer, activation: str, before: Any) -> Any:
    """Return the function for delta of the layer below `layer`."""
    _, slope = FORMULAS[activation]
    T = layout.threads

    @device_function
    def backward(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        for i in range(t, rows * below.width, T):
            b, k = divided(i, below.width)
            s = ZERO
            if k < layer.n_in:
                for j in range(layer.n_out):
                    d = memory[U(layer.delta + b * layer.width + j)]
                    s += d * weights[U(layer.weights + k * layer.stride + j)]
                s *= slope(before(memory[U(below.activation + i)]))
            memory[U(below.delta + i)] = s
        return ZERO

    return backward


def update_step(layout: CudaLayout, spec: KernelSpec) -> Any:
    """Return the function that adds all gradients, times the step, to `target`.

    `target` are the parameters, or what is collected of their changes. Where all batches collect, it is multiplied by
    `scale` first. With an L2 penalty `decay` times the `weights` is added too, but for the biases'.
    """
    if layout.tensor_cores:
        from .matrices import update_images

        add_images = update_images(layout, spec)
    else:
        add_images = _update_images(layout, _adder(spec, of_weights=True))
    T, adders = layout.threads, (_adder(spec, of_weights=True), _adder(spec, of_weights=False))
    pairs = [(None, layout.layers[0]), *pairwise(layout.layers)]
    others = _update_all([_update(layout, below, layer, adders) for below, layer in pairs])

    @device_function
    def update(
        t: int, x: Any, rows: int, memory: Any, target: Any, weights: Any, scale: Any, decay: Any, sums: Any
    ) -> None:
        # The last threads come first here, as the first ones have most to do in the first layer.
        others(T - 1 - t, rows, memory, target, weights, scale, decay)
        add_images(t, x, rows, memory, target, weights, scale, decay, sums)

    return update


def _update_images(layout: CudaLayout, add: Any) -> Any:
    """Return the function for the first layer's weights."""
    _, add_update = tile_products(layout)
    bottom, T, n_words = layout.layers[0], layout.threads, layout.n_words
    columns = bottom.width // TILE

    @device_function
    def update(
        t: int, x: Any, rows: int, memory: Any, target: Any, weights: Any, scale: Any, decay: Any, sums: Any
    ) -> None:
        for i in range(t, n_words * columns, T):
            word, column = i // columns, i % columns
            clear(sums)
            add_update(x, word, memory, column, rows, sums)
            place = bottom.weights + 4 * word * bottom.stride + column
            for k in range(N_SUMS):
                own = place + k // TILE * bottom.stride + k % TILE * columns
                add(target, weights, own, sums[k] * GREY, scale, decay)

    return update


def _adder(spec: KernelSpec, *, of_weights: bool) -> Any:
    """Return the function that adds to a number of `target`."""
    scales, l2 = spec.collects, spec.l2 and of_weights

    @device_function
    def add(target: Any, weights: Any, place: int, change: Any, scale: Any, decay: Any) -> None:
        before = target[U(place)]
        if scales:
            before *= scale
        if l2:
            before += decay * weights[U(place)]
        target[U(place)] = before + change

    return add


def _update_all(functions: Sequence[Any]) -> Any:
    """Return a function that calls `functions`."""
    if len(functions) == 1:
        return functions[0]
    first, others = functions[0], _update_all(functions[1:])

    @device_function
    def run(t: int, rows: int, memory: Any, target: Any, weights: Any, scale: Any, decay: Any) -> None:
        first(t, rows, memory, target, weights, scale, decay)
        others(t, rows, memory, target, weights, scale, decay)

    return run


def _row_sums(layout: CudaLayout, layer: CudaLayer, below: CudaLayer) -> tuple[Any, Any, Any]:
    """Return functions that add up over the rows: a neuron's delta, and its products with one or four activations.

    Eight rows are added without a loop, at places that differ by constants.
    """
    a_at, a_width, d_at, width, four = below.activation, below.width, layer.delta, layer.width, _four(layout)

    @device_function
    def sum_of_delta(memory: Any, j: int, rows: int) -> Any:
        s, d, left = ZERO, U(d_at) + U(j), U32(rows)
        while left >= U32(ROWS):
            for b in range(ROWS):
                s += memory[d + U(b * width)]
            d, left = d + U(ROWS * width), U32(left - U32(ROWS))
        while left > U32(0):
            s += memory[d]
            d, left = d + U(width), U32(left - U32(1))
        return s

    @device_function
    def sum_of_products(memory: Any, k: int, j: int, rows: int) -> Any:
        s, a, d, left = ZERO, U(a_at) + U(k), U(d_at) + U(j), U32(rows)
        while left > U32(0):
            s += memory[a] * memory[d]
            a, d, left = a + U(a_width), d + U(width), U32(left - U32(1))
        return s

    @device_function
    def four_sums(memory: Any, k: int, j: int, rows: int) -> Any:
        s0 = s1 = s2 = s3 = ZERO
        a, d, left = U(a_at) + U(k), U(d_at) + U(j), U32(rows)
        while left >= U32(ROWS):
            for b in range(ROWS):
                a0, a1, a2, a3 = four(memory, a + U(b * a_width))
                delta = memory[d + U(b * width)]
                s0, s1, s2, s3 = s0 + a0 * delta, s1 + a1 * delta, s2 + a2 * delta, s3 + a3 * delta
            a, d, left = a + U(ROWS * a_width), d + U(ROWS * width), U32(left - U32(ROWS))
        while left > U32(0):
            a0, a1, a2, a3 = four(memory, a)
            delta = memory[d]
            s0, s1, s2, s3 = s0 + a0 * delta, s1 + a1 * delta, s2 + a2 * delta, s3 + a3 * delta
            a, d, left = a + U(a_width), d + U(width), U32(left - U32(1))
        return s0, s1, s2, s3

    return sum_of_delta, sum_of_products, four_sums


def _update(layout: CudaLayout, below: CudaLayer | None, layer: CudaLayer, adders: tuple[Any, Any]) -> Any:
    """Return the function for a layer's biases, and where there is a layer below, its weights."""
    T, (add_to_weight, add_to_bias) = layout.threads, adders
    n_fours = layer.n_in // TILE * layer.n_out if below is not None else 0
    first_left = layer.n_in // TILE * TILE
    n_left = (layer.n_in - first_left) * layer.n_out if below is not None else 0
    sum_of_delta, sum_of_products, four_sums = _row_sums(layout, layer, below or layer)

    @device_function
    def update(t: int, rows: int, memory: Any, target: Any, weights: Any, scale: Any, decay: Any) -> None:
        for j in range(t, layer.n_out, T):
            s = sum_of_delta(memory, j, rows)
            add_to_bias(target, weights, layer.bias + j, s, scale, decay)
        for i in range(t, n_fours, T):
            four, j = divided(i, layer.n_out)
            s0, s1, s2, s3 = four_sums(memory, TILE * four, j, rows)
            place = layer.weights + TILE * four * layer.stride + j
            add_to_weight(target, weights, place, s0, scale, decay)
            add_to_weight(target, weights, place + layer.stride, s1, scale, decay)
            add_to_weight(target, weights, place + 2 * layer.stride, s2, scale, decay)
            add_to_weight(target, weights, place + 3 * layer.stride, s3, scale, decay)
        for i in range(t, n_left, T):
            k, j = divided(i, layer.n_out)
            s = sum_of_products(memory, first_left + k, j, rows)
            add_to_weight(target, weights, layer.weights + (first_left + k) * layer.stride + j, s, scale, decay)

    return update
