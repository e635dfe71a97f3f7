"""The first layer's weights and the images that they are multiplied with, sparse or dense."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.engines.threads import part

SPARSE = 0.5
"""The share of lit pixels below which looking at them alone is faster."""


def lit_share(images: NDArray[np.uint8]) -> float:
    """Return the share of pixels that aren't 0, in a sample of `images` (n, n_0)."""
    sample = images[:: max(1, len(images) // 1000)]
    return np.count_nonzero(sample) / sample.size


def are_sparse(images: NDArray[np.uint8]) -> bool:
    """Whether to look at the lit pixels of `images` alone."""
    return lit_share(images) < SPARSE


@final
class DenseInputs:
    """Weights (n_1, n_0), multiplied by BLAS with images put into an array of their own, batch by batch."""

    def __init__(self, kernels: Any, weights: NDArray[np.float32], images: NDArray[np.uint8], batch_size: int) -> None:
        self._kernels = kernels
        self._images = images
        self._weights = np.array(weights)
        self._gradient = np.zeros_like(self._weights)
        self._X = np.zeros((batch_size, images.shape[1]), np.float32)
        self.width = len(weights)

    def multiply(self, rows: NDArray[np.int64], own: slice, *, out: NDArray[np.float32]) -> None:
        """Compute out = X W^T for the images `rows`, which are the examples `own` of their batch."""
        X = self._X[own]
        self._kernels.gather_scale(self._images, rows, out=X)
        np.dot(X, self._weights.T, out=out)

    def descend(
        self, rows: NDArray[np.int64], delta: NDArray[np.float32], learning_rate: float, thread: int, threads: int
    ) -> None:
        """Compute W -= learning_rate delta^T X for the batch `rows`, which was multiplied before; a thread's share."""
        own = part(self.width, thread, threads)
        W, gradient = self._weights[own], self._gradient[own]
        np.dot(delta[:, own].T, self._X[: len(rows)], out=gradient)
        self._kernels.descend(W, gradient, learning_rate, out=W)

    def weights(self) -> NDArray[np.float32]:
        """Return the weights, (n_1, n_0)."""
        return self._weights


@final
class SparseInputs:
    """Weights laid out for the lit pixels of images; `width` is n_1 padded to a multiple of 16."""

    def __init__(self, weights: NDArray[np.float32], images: NDArray[np.uint8], batch_size: int, threads: int) -> None:
        from gpunn.kernels.dense import BLOCK
        from gpunn.kernels.layout import Layout
        from gpunn.kernels.lit import MANY, lit_descend, lit_product
        from gpunn.kernels.lit_pixels import find_lit_pixels

        self._multiply, self._descend = lit_product, lit_descend
        self._pixels = find_lit_pixels(images)
        n_neurons, n_pixels = weights.shape
        self._layout = Layout((n_pixels, n_neurons), sparse=True, batch_size=1)
        self._packed = self._layout.pack([weights], [np.zeros(n_neurons, np.float32)])
        self.width = self._layout.layers[0].width
        self._in_blocks = self._packed[: n_pixels * self.width]
        self._rooms = [np.zeros(BLOCK * n_pixels if batch_size >= MANY else 0, np.float32) for _ in range(threads)]

    def multiply(self, rows: NDArray[np.int64], own: slice, *, out: NDArray[np.float32]) -> None:  # noqa: ARG002
        """Compute out = X W^T for the images `rows`; which examples of the batch they are doesn't matter here."""
        self._multiply(self._pixels, rows, self._in_blocks, out=out)

    def descend(
        self, rows: NDArray[np.int64], delta: NDArray[np.float32], learning_rate: float, thread: int, threads: int
    ) -> None:
        """Compute W -= learning_rate delta^T X for the batch `rows`; a thread's share."""
        room = self._rooms[thread] if self._rooms[thread].size else None
        self._descend(
            self._in_blocks, self._pixels, rows, delta, learning_rate, thread=thread, threads=threads, room=room
        )

    def weights(self) -> NDArray[np.float32]:
        """Return a copy of the weights, (n_1, n_0)."""
        return self._layout.unpack(self._packed)[0][0]
