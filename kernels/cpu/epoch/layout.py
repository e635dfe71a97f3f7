"""Layout of the parameters and the work space of whole-epoch kernels in their arrays."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..matmul import M_TILE, N_BLOCK
from ..memory import CACHE_LINE
from ..sparse import PARTS
from ..vectors import LANES
from .state import Layer

CHUNK, LARGE_CHUNK = 128, 1024
"""Images processed at a time: as many as fit the cache; more with large layers, whose weights don't fit."""

WIDE, FEW = 512, 256
"""Layer width from which, and chunk size up to which, threads share neurons instead of images."""

LARGE = 2**18
"""Number of weights from which a layer is large: 1 MiB."""


def padded(size: int) -> int:
    """Return `size` rounded up to a multiple of 16."""
    return -(-size // LANES) * LANES


def aligned_zeros(size: int) -> NDArray[np.float32]:
    """Return float32 zeros aligned to cache lines, so that no vector straddles two."""
    spare = np.zeros(4 * size + CACHE_LINE, np.uint8)
    start = -spare.ctypes.data % CACHE_LINE
    return spare[start : start + 4 * size].view(np.float32)


class Layout:
    """Layout of the arrays of `run.run_epoch` for a network of `sizes`, trained on sparse or dense images.

    `layers` has a `Layer` each; `n_parameters` and `n_work` are the lengths of the float32 arrays, `chunk_size`
    is the number of images processed at a time, and `n_shares` the maximum number of useful threads, which share
    neurons if `by_columns`, otherwise images. In the first layer of sparse images they share neurons, or with
    `by_pixels` the pixels; then no layer may be so wide that products need work space.
    """

    def __init__(self, sizes: Sequence[int], *, sparse: bool, batch_size: int, by_pixels: bool = False) -> None:
        self.sizes = tuple(sizes)
        self.sparse = sparse
        widths = [padded(size) for size in sizes]
        large = max((n_in * n_out for n_in, n_out in pairwise(sizes[1:])), default=0) >= LARGE
        self.chunk_size = min(batch_size, LARGE_CHUNK if large else CHUNK)
        # A tile is computed as a whole, even if only a part of it is needed.
        rows = -(-self.chunk_size // M_TILE) * M_TILE if self.chunk_size > 1 else 1
        # Activations of every layer, except sparse images; then delta of every layer but the images.
        lengths = np.array([0 if sparse else widths[0], *widths[1:], *widths[1:]]) * rows
        if rows == 1:
            lengths[0] *= 2  # for the previous image, see `first_layer.update_and_multiply`
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        n_layers = len(sizes) - 1
        self.n_work = int(offsets[-1])
        self.layers = []
        offset = 0
        for number, (n_in, n_out) in enumerate(pairwise(sizes)):
            forward = offset
            backward = forward + n_in * widths[number + 1]
            bias = backward + (n_out * widths[number] if number else 0)
            offset = bias + widths[number + 1]
            self.layers.append(
                Layer(
                    n_in=n_in,
                    n_out=n_out,
                    width_in=widths[number],
                    width=widths[number + 1],
                    forward=forward,
                    backward=backward,
                    bias=bias,
                    below=int(offsets[number]),
                    activation=int(offsets[number + 1]),
                    delta_below=int(offsets[n_layers + number]),
                    delta=int(offsets[n_layers + number + 1]),
                )
            )
        self.n_parameters = offset
        self.by_columns = max(widths[1:]) >= WIDE and rows <= FEW
        # With sparse images, sharing the first layer by blocks of columns moves the least between caches.
        self.n_shares = -(-widths[1] // N_BLOCK) if sparse else -(-rows // M_TILE)
        self.by_pixels = by_pixels
        if by_pixels:
            self.n_shares = PARTS

    def pack(
        self, weights: Sequence[NDArray[np.float32]], biases: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Return the parameters, shaped (n_l, n_(l-1)) and (n_l,), as one array in this layout."""
        packed = aligned_zeros(self.n_parameters)
        for number, (layer, W, b) in enumerate(zip(self.layers, weights, biases, strict=True)):
            packed[layer.bias : layer.bias + layer.n_out] = b
            for columns, block in self._forward_blocks(number, packed):
                block[:, : columns.stop - columns.start] = W[columns].T
            if number:
                backward = packed[layer.backward : layer.bias].reshape(layer.n_out, layer.width_in)
                backward[:, : layer.n_in] = W
        return packed

    def unpack(self, packed: NDArray[np.float32]) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return copies of the weights and biases in `packed`."""
        weights, biases = [], []
        for number, layer in enumerate(self.layers):
            W = np.empty((layer.n_out, layer.n_in), np.float32)
            for columns, block in self._forward_blocks(number, packed):
                W[columns] = block[:, : columns.stop - columns.start].T
            weights.append(W)
            biases.append(packed[layer.bias : layer.bias + layer.n_out].copy())
        return weights, biases

    def _forward_blocks(self, number: int, packed: NDArray[np.float32]) -> list[tuple[slice, NDArray[np.float32]]]:
        """Return the blocks of a layer's `forward`: the neurons of each, and a view of it, (n_in, width)."""
        layer = self.layers[number]
        width = N_BLOCK if number == 0 and self.sparse else layer.width
        blocks = []
        for first in range(0, layer.width, width):
            last = min(first + width, layer.width)
            offset = layer.forward + first * layer.n_in
            block = packed[offset : offset + (last - first) * layer.n_in].reshape(layer.n_in, last - first)
            blocks.append((slice(first, min(last, layer.n_out)), block))
        return blocks
