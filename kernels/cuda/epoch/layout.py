"""Specification of a whole-epoch kernel on GPUs, and the layout of the network and of a block's work space."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TILE = 4
"""Images, pixels and neurons that a thread works on together: 4 x 4 sums in its registers."""

WARP = 32

WORDS_A_THREAD = 16
"""Words of four pixels that a thread fetches ahead, into registers."""

MOST_PIXELS = 4 * WARP * WORDS_A_THREAD
"""Pixels of an image that one warp can fetch at once."""

SIDE = 16
"""Neurons, and pixels, of the first layer's weights that tensor cores multiply at once."""

IMAGES = 8
"""Images whose activations they compute at once; gradients take `SIDE`."""


class KernelSpec(NamedTuple):
    """Activation functions, loss and optimiser of a kernel."""

    functions: tuple[str, ...]
    """Activation functions of the layers; the last one is the identity if the loss takes logits."""
    loss: str = "squared_error"
    optimizer: str = "descent"
    """The rule of its steps, one of `gpunn.kernels.formulas.steps.RULES`."""
    l2: bool = False
    """Whether the weights' gradients contain an L2 penalty."""
    decay: bool = False
    """Whether weight decay is decoupled (AdamW)."""
    dropout: float = 0.0
    """Share of the hidden activations that are dropped."""

    @property
    def collects(self) -> bool:
        """Whether all batches collect something before their step, and not only large ones."""
        return self.optimizer != "descent"


class CudaLayer(NamedTuple):
    """A layer's sizes, and where its arrays start.

    The weights into all neurons from input k start at `weights + k * stride`; `stride` is odd, so that threads that
    read one neuron's weights from consecutive inputs use different banks of shared memory. In the first layer with
    tensor cores they lie in tiles instead, see `CudaLayout`. Activations and delta have
    `width` numbers an image, `n_out` of which count and the others are 0.
    """

    n_in: int
    n_out: int
    width: int
    stride: int
    weights: int
    bias: int
    activation: int
    delta: int


class CudaLayout:
    """Layout of a network of `sizes` and a block of `threads` in shared memory of at most `capacity` bytes.

    `layers` are the layers, and `groups` is the number of groups of four images in a chunk. Offsets count 4-byte
    numbers: the work space comes first, then the parameters if `in_shared`, then the changes collected by a batch of
    several chunks, or with `collects` by every batch, if `collects_in_shared`; `shared_bytes` is the total. Two layouts
    are equal if the same compiled kernel serves both. Raises `ValueError` if the work space alone doesn't fit.

    With `dropout`, the work space ends with `n_drops` uint32 numbers from `drops` on: the position in the epoch of a
    chunk's first image, and a key for each hidden layer.

    With `tensor_cores` the first layer's weights lie as the threads of a warp hold them, tile by tile of 16 neurons and
    16 pixels, see `_into_tiles`; images are bfloat16 in shared memory, and 8, 16, ... are in a chunk. `parts` is the
    number of warps that share the pixels of one tile of neurons.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        batch_size: int,
        threads: int,
        capacity: int,
        collects: bool = False,
        dropout: bool = False,
        tensor_cores: bool = False,
    ) -> None:
        self.sizes = tuple(sizes)
        self.n_drops = len(sizes) - 1 if dropout else 0
        self.threads = threads
        self.tensor_cores = tensor_cores
        self.pixel_tiles, self.neuron_tiles = -(-sizes[0] // SIDE), -(-sizes[1] // SIDE)
        self.parts = min(max(1, threads // WARP // self.neuron_tiles), self.pixel_tiles)
        # Strides for which the threads of a warp use different banks of shared memory.
        if tensor_cores:
            self.n_words, self.x_stride = 4 * self.pixel_tiles, 8 * (self.pixel_tiles | 1)
        else:
            self.n_words = -(-sizes[0] // 4)
            self.x_stride = self.n_words | 1
        at_once = 4 if tensor_cores else 1
        steps = at_once * -(-self.n_words // (at_once * WARP))
        if steps > WORDS_A_THREAD:
            raise ValueError(f"found images of {sizes[0]} pixels, expected at most {MOST_PIXELS}")
        # Whole tiles, as they take as much room, and so that more batch sizes have one layout.
        self._unit = IMAGES if tensor_cores else TILE
        most = min(-(-batch_size // self._unit) * self._unit, threads // WARP * (WORDS_A_THREAD // steps))
        for rows in range(most, 0, -self._unit if tensor_cores else -1):
            self._place(sizes, rows)
            if 4 * self.n_work <= capacity:
                break
        else:
            raise ValueError(
                f"found layers that need {4 * self.n_work} bytes of shared memory, expected at most {capacity}"
            )
        # As many chunks, but equal ones: a small last one would take nearly as long as a full one.
        equal = -(-batch_size // -(-batch_size // self.chunk_size))
        self._place(sizes, min(self.chunk_size, -(-equal // self._unit) * self._unit))
        needed = 4 * (self.n_work + self.n_parameters * np.arange(3))
        self.in_shared = bool(needed[1] <= capacity)
        collects = collects or batch_size > self.chunk_size
        self.collects_in_shared = bool(collects and needed[2] <= capacity)
        self.collects_outside = collects and not self.collects_in_shared
        self.shared_bytes = int(needed[self.in_shared + self.collects_in_shared])
        # Everything else follows from these.
        self._key = (
            self.sizes,
            threads,
            tensor_cores,
            self.n_drops,
            self.chunk_size,
            self.in_shared,
            self.collects_in_shared,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CudaLayout) and self._key == other._key

    def __str__(self) -> str:
        return "-".join(map(str, self.sizes))

    def __hash__(self) -> int:
        return hash(self._key)

    def _place(self, sizes: Sequence[int], chunk_size: int) -> None:
        """Lay out `chunk_size` images at a time."""
        self.chunk_size = chunk_size
        self.groups = -(-chunk_size // TILE)
        rows = -(-chunk_size // SIDE) * SIDE if self.tensor_cores else self.groups * TILE
        self.labels = rows * self.x_stride
        self.partials = self.labels + rows
        first_width = SIDE * self.neuron_tiles
        sums = self.parts * chunk_size * first_width if self.tensor_cores else TILE * TILE * self.threads
        place = self.partials + sums
        parameters = 0
        self.layers: list[CudaLayer] = []
        for number, (n_in, n_out) in enumerate(pairwise(sizes)):
            if self.tensor_cores and not number:
                width = stride = first_width
            else:
                width = -(-n_out // TILE) * TILE
                stride = width | 1
            bias = parameters + (n_in if number else 4 * self.n_words) * stride
            self.layers.append(
                CudaLayer(n_in, n_out, width, stride, parameters, bias, place, place + rows * width),
            )
            place += 2 * rows * width
            parameters = bias + width
        self.drops = place
        # Whole vectors of four, so that what follows, and each network's parameters, begin with one.
        self.n_work, self.n_parameters = place + -(-self.n_drops // 4) * 4, -(-parameters // 4) * 4

    def pack(
        self, weights: Sequence[NDArray[np.float32]], biases: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Return the parameters, shaped (n_l, n_(l-1)) and (n_l,), as one array in this layout."""
        packed = np.zeros(self.n_parameters, np.float32)
        for layer, W, b in zip(self.layers, weights, biases, strict=True):
            if self._in_tiles(layer):
                packed[layer.weights : layer.bias] = self._into_tiles(W)
            else:
                self._weights(layer, packed)[...] = W.T
            packed[layer.bias : layer.bias + layer.n_out] = b
        return packed

    def unpack(self, packed: NDArray[np.float32]) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return copies of the weights and biases in `packed`."""
        weights = [
            self._out_of_tiles(layer, packed) if self._in_tiles(layer) else self._weights(layer, packed).T.copy()
            for layer in self.layers
        ]
        return weights, [packed[layer.bias : layer.bias + layer.n_out].copy() for layer in self.layers]

    @staticmethod
    def _weights(layer: CudaLayer, packed: NDArray[np.float32]) -> NDArray[np.float32]:
        end = layer.weights + layer.n_in * layer.stride
        return packed[layer.weights : end].reshape(layer.n_in, layer.stride)[:, : layer.n_out]

    def _in_tiles(self, layer: CudaLayer) -> bool:
        return self.tensor_cores and layer is self.layers[0]

    def _into_tiles(self, W: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first layer's weights (n_1, n_0), padded, in the order of `kernels.cuda.epoch.matrices`.

        In a tile, thread 4 g + t of a warp has four pixels from 4 t on, of neuron g, and then those of neuron g + 8.
        """
        padded = np.zeros((SIDE * self.neuron_tiles, SIDE * self.pixel_tiles), np.float32)
        padded[: W.shape[0], : W.shape[1]] = W
        tile, half, g, pixels, t, pixel = 0, 1, 2, 3, 4, 5
        shaped = padded.reshape(self.neuron_tiles, 2, 8, self.pixel_tiles, 4, 4)
        return shaped.transpose(tile, pixels, half, g, t, pixel).ravel()

    def _out_of_tiles(self, layer: CudaLayer, packed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a copy of the weights that `_into_tiles` put into that order."""
        tile, pixels, half, g, t, pixel = range(6)
        shaped = packed[layer.weights : layer.bias].reshape(self.neuron_tiles, self.pixel_tiles, 2, 8, 4, 4)
        padded = shaped.transpose(tile, half, g, pixels, t, pixel)
        flat = padded.reshape(SIDE * self.neuron_tiles, SIDE * self.pixel_tiles)
        return flat[: layer.n_out, : layer.n_in].copy()
