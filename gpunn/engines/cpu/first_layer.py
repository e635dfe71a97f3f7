"""The first layer's weights and inputs, sparse or dense."""

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from gpunn.engines.base import Examples
from gpunn.engines.cpu.sharing import nonzero_of, writable_of
from gpunn.engines.cpu.steps import Descent, ParamAndMoments
from gpunn.engines.cpu.threads import part
from gpunn.equations import Array
from gpunn.max_norm import limit_norms

SPARSE = 0.5
"""Share of non-zero pixels below which sparse products are faster."""


def nonzero_share(images: NDArray[np.uint8]) -> float:
    """Return the share of non-zero pixels in a sample of `images` (n, n_0)."""
    sample = images[:: max(1, len(images) // 1000)]
    return np.count_nonzero(sample) / sample.size


def are_sparse(images: NDArray[np.uint8]) -> bool:
    """Whether sparse products of `images` are faster."""
    return nonzero_share(images) < SPARSE


def multiplied_sparsely(examples: Examples) -> bool:
    """Whether products of the inputs skip zeros: those of sparse matrices, and of images if that is faster."""
    return examples.sparse or (examples.grey and are_sparse(examples.inputs))


@final
class SparseImages:
    """Images (n, n_0) for forward passes: stands for the array of activations a^0, float32, in X[rows] and X @ W.T.

    Products have its rounding errors, but not the same ones.
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        """Take grey levels (n, n_0), which are copied, as far as they aren't zero."""
        self._pixels = nonzero_of(writable_of(images))
        self._rows = np.arange(len(images))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> Self:
        part = object.__new__(type(self))
        part._pixels, part._rows = self._pixels, self._rows[rows]
        return part

    def __matmul__(self, W: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the product with `W`, (n_0, n_1) float32."""
        from gpunn.kernels.cpu.epoch.layout import Layout
        from gpunn.kernels.cpu.sparse_matmul import sparse_product

        n_pixels, n_neurons = W.shape
        layout = Layout((n_pixels, n_neurons), sparse=True, batch_size=1)
        width = layout.layers[0].width
        packed = layout.pack([W.T], [np.zeros(n_neurons, np.float32)])
        out = np.empty((len(self), width), np.float32)
        sparse_product(self._pixels, self._rows, packed[: n_pixels * width], out=out)
        return out if width == n_neurons else out[:, :n_neurons].copy()


@final
class DenseInputs:
    """Weights (n_1, n_0), multiplied by BLAS with the gathered inputs of each batch."""

    def __init__(self, kernels: Any, param_and_moments: ParamAndMoments, inputs: Array, batch_size: int) -> None:
        """Copy the weights and their moments, `param_and_moments`; `inputs` are uint8 or float32, (n, n_0)."""
        self._kernels = kernels
        self._inputs = inputs
        self._param_and_moments = [np.array(array) for array in param_and_moments]
        self._X = np.zeros((batch_size, inputs.shape[1]), np.float32)
        self.width = len(self._param_and_moments[0])

    def multiply(self, rows: NDArray[np.int64], own: slice, *, out: NDArray[np.float32]) -> None:
        """Compute out = X W^T for the examples `rows`, the part `own` of their batch."""
        X = self._X[own]
        self._kernels.gather_scale(self._inputs, rows, out=X)
        np.dot(X, self._param_and_moments[0].T, out=out)

    def step(
        self, descent: Descent, rows: NDArray[np.int64], delta: NDArray[np.float32], thread: int, threads: int
    ) -> None:
        """Make a thread's share of the step for the batch `rows`, after `multiply`."""
        own = part(self.width, thread, threads)
        descent.step_rows(self._param_and_moments, delta, self._X[: len(rows)], own, thread)

    @property
    def n_gradient(self) -> int:
        """Number of elements of a gradient in `differentiate`."""
        return self._param_and_moments[0].size

    def differentiate(
        self,
        rows: NDArray[np.int64],
        delta: NDArray[np.float32],
        thread: int,
        threads: int,
        *,
        out: NDArray[np.float32],
    ) -> None:
        """Write a thread's share of the gradient for the batch `rows`, after `multiply`, to `out` (n_gradient,)."""
        own = part(self.width, thread, threads)
        np.dot(delta[:, own].T, self._X[: len(rows)], out=out.reshape(self.width, -1)[own])

    def step_by_gradient(self, descent: Descent, gradient: NDArray[np.float32], thread: int, threads: int) -> None:
        """Make a thread's share of the step, given the `gradient` (n_gradient,)."""
        own = part(self.width, thread, threads)
        descent.step([array[own] for array in self._param_and_moments], gradient.reshape(self.width, -1)[own])

    def limit_norms(self, most: float, thread: int, threads: int) -> None:
        """Scale down weights of a thread's share of the neurons where their norm is above `most`."""
        limit_norms(np, self._param_and_moments[0][part(self.width, thread, threads)], most)

    def prepare(self, inputs: Array) -> Array:
        """Return other inputs, (n, n_0), in the form that `use` takes."""
        return inputs

    def use(self, prepared: Array) -> None:
        """Multiply what `prepare` returned from now on."""
        self._inputs = prepared

    def compile(self, nothing: NDArray[np.int64]) -> None:
        """Do nothing: steps use BLAS, and `multiply` compiles its own kernel."""

    def copy_of(self, number: int) -> NDArray[np.float32]:
        """Return a copy of the weights (`number` 0) or of a moment (from 1 on), (n_1, n_0)."""
        return self._param_and_moments[number].copy()


@final
class SparseInputs:
    """Weights in blocks for sparse inputs, with neurons padded to a multiple of 16."""

    def __init__(
        self,
        param_and_moments: ParamAndMoments,
        inputs: Array,
        batch_size: int,
        threads: int,
        *,
        implicit: bool,
        padded: bool,
    ) -> None:
        """Copy the weights and their moments, `param_and_moments`; `inputs` as in `nonzero_of`.

        With `implicit`, see `is_implicit`, steps are made without a gradient. With `padded`, outputs and delta have
        columns for the padding, which are 0 in delta; that saves copies.
        """
        from gpunn.kernels.cpu.epoch.layout import Layout
        from gpunn.kernels.cpu.matmul import N_BLOCK
        from gpunn.kernels.cpu.sparse_matmul import ACCUMULATE_FROM, sparse_descend, sparse_product

        self._multiply, self._descend = sparse_product, sparse_descend
        self._pixels = nonzero_of(inputs)
        self._implicit = implicit
        n_neurons, self._n_pixels = param_and_moments[0].shape
        self._layout = Layout((self._n_pixels, n_neurons), sparse=True, batch_size=1)
        self._padded = self._layout.layers[0].width
        self.width = self._padded if padded else n_neurons
        nothing = np.zeros(n_neurons, np.float32)
        self._packed = [self._layout.pack([array], [nothing]) for array in param_and_moments]
        self._all = self._packed[0][: self._n_pixels * self._padded]
        self._blocks = []
        """First column, weights and moments of each block."""
        for column in range(0, self._padded, N_BLOCK):
            block = slice(column * self._n_pixels, min(column + N_BLOCK, self._padded) * self._n_pixels)
            self._blocks.append((column, [packed[block] for packed in self._packed]))
        needed = not implicit or batch_size >= ACCUMULATE_FROM
        self._scratches = [np.zeros(N_BLOCK * self._n_pixels if needed else 0, np.float32) for _ in range(threads)]
        self._products = np.zeros((0 if padded else batch_size, self._padded), np.float32)
        self._deltas = [np.zeros(batch_size * min(N_BLOCK, self._padded), np.float32) for _ in range(threads)]

    def multiply(self, rows: NDArray[np.int64], own: slice, *, out: NDArray[np.float32]) -> None:
        """Compute out = X W^T for the examples `rows`, the part `own` of their batch."""
        if self.width == self._padded:
            self._multiply(self._pixels, rows, self._all, out=out)
        else:
            products = self._products[own]
            self._multiply(self._pixels, rows, self._all, out=products)
            out[...] = products[:, : self.width]

    def step(
        self, descent: Descent, rows: NDArray[np.int64], delta: NDArray[np.float32], thread: int, threads: int
    ) -> None:
        """Make a thread's share of the step for the batch `rows`."""
        scratch = self._scratches[thread]
        sums = scratch if scratch.size else None
        if self._implicit and self.width == self._padded:
            self._descend(
                self._all, self._pixels, rows, delta, descent.eta, thread=thread, threads=threads, scratch=sums
            )
            return
        for column, param_and_moments in self._blocks[thread::threads]:
            own = self._part(delta, column, len(param_and_moments[0]) // self._n_pixels, self._deltas[thread])
            if self._implicit:
                self._descend(param_and_moments[0], self._pixels, rows, own, descent.eta, scratch=sums)
                continue
            gradient = scratch[: len(param_and_moments[0])]
            self._differentiate(rows, own, out=gradient)
            descent.step(param_and_moments, gradient)

    def _differentiate(self, rows: NDArray[np.int64], delta: NDArray[np.float32], *, out: NDArray[np.float32]) -> None:
        """Write a block's gradient to `out`; `delta` has its columns."""
        out.fill(0)
        self._descend(out, self._pixels, rows, delta, -1.0)

    @property
    def n_gradient(self) -> int:
        """Number of elements of a gradient in `differentiate`, padding included."""
        return len(self._all)

    def differentiate(
        self,
        rows: NDArray[np.int64],
        delta: NDArray[np.float32],
        thread: int,
        threads: int,
        *,
        out: NDArray[np.float32],
    ) -> None:
        """Write a thread's share of the gradient for the batch `rows` to `out` (n_gradient,)."""
        for column, param_and_moments in self._blocks[thread::threads]:
            first, size = column * self._n_pixels, len(param_and_moments[0])
            own = self._part(delta, column, size // self._n_pixels, self._deltas[thread])
            self._differentiate(rows, own, out=out[first : first + size])

    def step_by_gradient(self, descent: Descent, gradient: NDArray[np.float32], thread: int, threads: int) -> None:
        """Make a thread's share of the step, given the `gradient` (n_gradient,)."""
        for column, param_and_moments in self._blocks[thread::threads]:
            first = column * self._n_pixels
            descent.step(param_and_moments, gradient[first : first + len(param_and_moments[0])])

    def limit_norms(self, most: float, thread: int, threads: int) -> None:
        """Scale down weights of a thread's share of the neurons where their norm is above `most`."""
        for _, (weights, *_) in self._blocks[thread::threads]:
            limit_norms(np, weights.reshape(self._n_pixels, -1), most, axis=0)

    def prepare(self, inputs: NDArray[np.uint8]) -> Any:
        """Return other images, (n, n_0), in the form that `use` takes."""
        return nonzero_of(inputs)

    def use(self, prepared: Any) -> None:
        """Multiply what `prepare` returned from now on."""
        self._pixels = prepared

    def compile(self, nothing: NDArray[np.int64]) -> None:
        """Compile the kernels of `step` by a step on `nothing`, an empty batch."""
        scratch = self._scratches[0] if self._implicit and self._scratches[0].size else None
        at_once = self._implicit and self.width == self._padded
        blocks = [self._all] if at_once else [param_and_moments[0] for _, param_and_moments in self._blocks]
        for weights in {len(block): block for block in blocks}.values():
            delta = np.zeros((0, len(weights) // self._n_pixels), np.float32)
            self._descend(weights, self._pixels, nothing, delta, 0.0, scratch=scratch)

    @staticmethod
    def _part(delta: NDArray[np.float32], column: int, n: int, scratch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return columns [column, column + n) of `delta`, zero-padded; copied to `scratch` unless that is all of it."""
        if n == delta.shape[1]:
            return delta
        own = scratch[: len(delta) * n].reshape(-1, n)
        found = delta[:, column : column + n]
        own[:, : found.shape[1]] = found
        if found.shape[1] < n:
            own[:, found.shape[1] :] = 0
        return own

    def copy_of(self, number: int) -> NDArray[np.float32]:
        """Return a copy of the weights (`number` 0) or of a moment (from 1 on), (n_1, n_0)."""
        return self._layout.unpack(self._packed[number])[0][0]
