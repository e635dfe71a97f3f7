"""Images distorted in one pass: see `gpunn.kernels.formulas.distortion`."""

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from ..checks import HostArrays
from ..compilation import PART, compiled
from ..distortion import Elastic, check_distort
from ..formulas.distortion import (
    BORDER,
    CHOICE,
    DOWN,
    DRAWS,
    HEIGHT,
    MIDDLE,
    RIGHT,
    ROTATION,
    SHEAR,
    WIDTH,
    Limits,
    Operations,
    affine_of,
    cosine_of,
    sine_of,
)
from .elementwise import WHOLE, constants, hashes
from .memory import BYTES, at, element, load, pointer, put, store
from .threads import share
from .vectors import (
    I32,
    LANES,
    VECTOR,
    LanesType,
    Static,
    add_scaled,
    fma,
    maximum,
    minimum,
    multiply_add,
    pack,
    unpack,
    zeros,
)

F = np.float32
ONE, TWO = Static(1), Static(2)

BLOCK = 2 * LANES
"""Pixels of a row that are made together."""

ARRAYS = HostArrays()


class _Sizes(NamedTuple):
    rows: int
    columns: int
    width: int
    """Columns, padded to whole blocks."""
    padded: int
    """Columns of nodes, padded to vectors."""
    stride: int
    """Columns of an image with its border, to the left and twice to the right."""


class _Space(NamedTuple):
    """Work space of a thread."""

    pairs: Any
    """For each pixel, with the border, its grey level and that of the pixel below, uint16; the border stays 0."""
    draws: Any
    """Those of the affine part, and noise of the nodes, for rows and then for columns."""
    smoothed: Any
    """The nodes' noise, smoothed along rows: one number for each row of nodes and each pixel of a row."""
    image: Any
    """The distorted image, with room for a block behind it."""


def distort(
    images: NDArray[np.uint8],
    ease: NDArray[np.float32],
    elastic: Elastic,
    limits: Limits,
    key: int,
    *,
    out: NDArray[np.uint8],
    thread: int = 0,
    threads: int = 1,
) -> None:
    """Put distorted `images` into `out`, both (n, rows x columns) uint8: of n images the share of `thread`.

    `ease` (n,) float32 are factors of images' angles; `elastic` and `limits` say how far images are distorted, and
    `key`, a 32-bit number, which numbers are drawn. An image depends on its number, but not on other images.
    """
    images, ease, down, across, out = check_distort(ARRAYS, images, ease, key, elastic, limits, out)
    (rows, n_down), (n_across, columns) = down.shape, across.shape
    width = -(-columns // BLOCK) * BLOCK
    sizes = _Sizes(rows, columns, width, -(-n_across // LANES) * LANES, columns + 3 * BORDER)
    padded = np.zeros((n_across, width), np.float32)
    padded[:, :columns] = across
    from_centre = np.arange(width, dtype=np.float32) - F((columns - 1) / 2)
    space = _Space(
        np.zeros((rows + 2 * BORDER) * sizes.stride + 1, np.uint16),
        np.zeros(DRAWS + 2 * n_down * sizes.padded, np.float32),
        np.zeros(2 * n_down * width, np.float32),
        np.zeros(rows * columns + BLOCK, np.uint8),
    )
    # Numba would compile for arrays that are read-only and for others.
    unchanged = images.ravel()
    unchanged.flags.writeable = False
    arrays = unchanged, ease, down.ravel(), padded.ravel(), from_centre, out.ravel()
    grids = elastic.of_rows, elastic.of_columns
    _distort(*arrays, *grids, limits, sizes, space, key, len(images), thread, threads)


@compiled
def _distort(
    images: Any,
    ease: Any,
    down: Any,
    across: Any,
    from_centre: Any,
    out: Any,
    of_rows: Any,
    of_columns: Any,
    limits: Any,
    sizes: Any,
    space: Any,
    key: int,
    n: int,
    thread: int,
    threads: int,
) -> None:
    images, ease, down, out = pointer(images), pointer(ease), pointer(down), pointer(out)
    across, from_centre = pointer(across), pointer(from_centre)
    space = _Space(pointer(space.pairs), pointer(space.draws), pointer(space.smoothed), pointer(space.image))
    n_pixels = sizes.rows * sizes.columns
    first, last = share(n, 1, thread, threads)
    for image in range(first, last):
        _pair(images, image * n_pixels, sizes, space.pairs)
        _draw(space.draws, image, key, of_rows.n, of_columns.n, sizes.padded)
        _smooth(space, across, of_rows.n, of_columns, sizes)
        place = _affine_of(space.draws, limits, at(ease, image), sizes)
        _sample(space, down, from_centre, of_rows, place, sizes)
        for pixel in range(n_pixels):
            put(out, image * n_pixels + pixel, at(space.image, pixel))


@compiled
def _pair(images: Any, start: int, sizes: Any, pairs: Any) -> None:
    """Fill `pairs` with an image, which starts at images[start]."""
    columns, above = sizes.columns, BORDER
    for column in range(columns):
        put(pairs, above + column, at(images, start + column) << 8)
    for _ in range(sizes.rows - 1):
        above += sizes.stride
        for column in range(columns):
            put(pairs, above + column, at(images, start + column) | at(images, start + columns + column) << 8)
        start += columns
    above += sizes.stride
    for column in range(columns):
        put(pairs, above + column, at(images, start + column))


@compiled
def _draw(draws: Any, image: int, key: int, n_down: int, n_across: int, padded: int) -> None:
    """Fill `draws` with the numbers of an image."""
    store(draws, 0, _uniform(image, key))
    number, place = DRAWS, DRAWS
    for _ in range(2 * n_down):
        for column in range(0, n_across, LANES):
            store(draws, place + column, _noise(image, number + column, key))
        number += n_across
        place += padded


@compiled
def _smooth(space: Any, across: Any, n_down: int, grid: Any, sizes: Any) -> None:
    """Smooth the nodes' noise along rows."""
    to_columns = n_down * sizes.padded
    for x in range(0, sizes.width, BLOCK):
        begin = (x + grid.lead) // grid.spacing
        end = min(grid.n, (x + BLOCK - 1 + grid.lead) // grid.spacing + grid.span)
        for row in range(n_down):
            noise = DRAWS + row * sizes.padded
            down, right = zeros(ONE, TWO), zeros(ONE, TWO)
            for node in range(begin, end):
                weights = load(across, node * sizes.width + x, TWO)
                down = add_scaled(down, at(space.draws, noise + node), weights)
                right = add_scaled(right, at(space.draws, noise + to_columns + node), weights)
            store(space.smoothed, row * sizes.width + x, down)
            store(space.smoothed, (n_down + row) * sizes.width + x, right)


@compiled
def _affine_of(draws: Any, limits: Any, ease: float, sizes: Any) -> Any:
    return _affine(
        at(draws, ROTATION),
        at(draws, SHEAR),
        at(draws, HEIGHT),
        at(draws, WIDTH),
        at(draws, DOWN),
        at(draws, RIGHT),
        at(draws, CHOICE),
        limits,
        ease,
        F(sizes.rows - 1) * F(0.5) + F(BORDER),
        F(sizes.columns - 1) * F(0.5) + F(BORDER),
    )


@compiled
def _sample(space: Any, down: Any, from_centre: Any, grid: Any, place: Any, sizes: Any) -> None:
    """Make the distorted image out of `space`."""
    lowest, rightmost = F(sizes.rows + BORDER), F(sizes.columns + BORDER)
    for row in range(sizes.rows):
        y = F(row) - F(sizes.rows - 1) * F(0.5)
        top, left = _fma(place.yy, y, place.top), _fma(place.xy, y, place.left)
        begin = (row + grid.lead) // grid.spacing
        end = min(grid.n, begin + grid.span)
        for column in range(0, sizes.columns, BLOCK):
            ys, xs = zeros(ONE, TWO), zeros(ONE, TWO)
            for node in range(begin, end):
                weight = at(down, row * grid.n + node)
                ys = add_scaled(ys, weight, load(space.smoothed, node * sizes.width + column, TWO))
                xs = add_scaled(xs, weight, load(space.smoothed, (grid.n + node) * sizes.width + column, TWO))
            x = load(from_centre, column, TWO)
            ys = minimum(lowest, maximum(F(0), fma(x, place.yx, top) + ys))  # 0 for NaN
            xs = minimum(rightmost, maximum(F(0), fma(x, place.xx, left) + xs))
            _put_sampled(space.image, row * sizes.columns + column, space.pairs, sizes.stride, ys, xs)


@intrinsic
def _fma(_typing: Any, left: Any, right: Any, summand: Any) -> Any:
    """Return left * right + summand, rounded once; all are numbers, float32."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32"), args)

    return types.float32(types.float32, types.float32, types.float32), generate


# Not cached: they become part of their callers' machine code.
_sine, _cosine = (numba.njit(**PART)(function_of(F, _fma)) for function_of in (sine_of, cosine_of))
_affine = numba.njit(**PART)(affine_of(Operations(F, _fma, _sine, _cosine)))


@intrinsic
def _uniform(_typing: Any, image: Any, key: Any) -> Any:
    """Return an image's first 16 draws as numbers from -1 to 1."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        drawn = builder.lshr(hashes(builder, args[0], ir.Constant(args[0].type, 0), args[1]), constants(8))
        signed = builder.sitofp(builder.sub(drawn, constants(2**23)), VECTOR)
        return pack(builder, [builder.fmul(signed, ir.Constant(VECTOR, [2.0**-23] * LANES))])

    return LanesType(1)(types.int64, types.int64), generate


@intrinsic
def _noise(_typing: Any, image: Any, number: Any, key: Any) -> Any:
    """Return an image's 16 draws from `number` on as noise: nearly normal, of mean 0."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        drawn, total = hashes(builder, *args), constants(-MIDDLE)
        for byte in range(4):
            total = builder.add(total, builder.and_(builder.lshr(drawn, constants(8 * byte)), constants(255)))
        return pack(builder, [builder.sitofp(total, VECTOR)])

    return LanesType(1)(types.int64, types.int64, types.int64), generate


@intrinsic
def _put_sampled(_typing: Any, out: Any, index: Any, pairs: Any, stride: Any, ys: Any, xs: Any) -> Any:
    """Store grey levels between those at rows `ys` and columns `xs`, lanes, from out[index] on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (kind, _, kind_of_pairs, *_), count = signature.args, ys.vectors
        rows_and_columns = zip(unpack(builder, args[4], count), unpack(builder, args[5], count), strict=True)
        for number, (y, x) in enumerate(rows_and_columns):
            down, right = (builder.fptosi(place, WHOLE) for place in (y, x))
            y, x = (builder.fsub(p, builder.sitofp(whole, VECTOR)) for p, whole in ((y, down), (x, right)))
            words = ir.Constant(WHOLE, ir.Undefined)
            for lane in range(LANES):
                row, column = (
                    builder.sext(builder.extract_element(whole, I32(lane)), args[3].type) for whole in (down, right)
                )
                offset = builder.add(builder.mul(row, args[3]), column)
                start = element(context, builder, kind_of_pairs, I32, args[2], offset, 2)
                words = builder.insert_element(words, builder.load(start, align=2), I32(lane))
            levels = _interpolated(builder, words, y, x)
            offset = builder.add(args[1], ir.Constant(args[1].type, number * LANES))
            builder.store(levels, element(context, builder, kind, BYTES, args[0], offset, LANES), align=1)
        return context.get_dummy_value()

    return types.none(out, types.int64, pairs, types.int64, ys, xs), generate


def _interpolated(builder: Any, words: Any, y: Any, x: Any) -> Any:
    """Return grey levels, bytes, at `y` down and `x` to the right of four pixels: two pairs are in each of `words`."""

    def levels(byte: int) -> Any:
        return builder.sitofp(builder.and_(builder.lshr(words, constants(8 * byte)), constants(255)), VECTOR)

    def between(one: Any, other: Any, share: Any) -> Any:
        return multiply_add(builder, builder.fsub(other, one), share, one)

    upper, lower = (between(levels(byte), levels(byte + 2), x) for byte in (0, 1))
    level = builder.fadd(between(upper, lower, y), ir.Constant(VECTOR, [0.5] * LANES))
    return builder.trunc(builder.fptosi(level, WHOLE), BYTES)
