"""A whole epoch of training in one launch: every block trains one network, from its first batch to its last.

The parameters of a small network stay in the shared memory of the multiprocessor that its block runs on; between two
batches nothing is launched, and nothing is read back but the loss. Blocks know nothing of each other, so that one
launch trains as many networks of one shape as are asked for, each with an order, a batch size and learning rates of its
own.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..jit import allow_shared_memory, as_cuda_array, cuda, device_function, kernel, shared_memory
from ..launch import REGISTERS, launch
from .layers import backward_steps, forward_steps, update_step
from .layout import WORDS_A_THREAD, CudaLayout, KernelSpec
from .steps import BETA1, L2, RATE, numbers_at, step_of
from .tiles import N_SUMS, ZERO, F, U

FLOAT32, UINT32 = np.dtype(np.float32), np.dtype(np.uint32)
DARK = np.uint32(0)
"""Four dark pixels."""

logger = logging.getLogger(__name__)


def in_turn(functions: Sequence[Any]) -> Any:
    """Return a function that calls `functions`, adds up what they return, and lets the threads meet after each."""
    if not functions:

        @device_function
        def nothing(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
            return ZERO

        return nothing
    first, others = functions[0], in_turn(functions[1:])

    @device_function
    def run(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        result = first(t, x, rows, step, weights, memory, sums)
        cuda.syncthreads()
        return result + others(t, x, rows, step, weights, memory, sums)

    return run


@functools.lru_cache(maxsize=64)
def compile_epoch(layout: CudaLayout, spec: KernelSpec) -> Any:
    """Return the kernel for networks of a layout and a spec.

    Its arguments are, for B networks: `words` (N, n_words) uint32, the images, four pixels a word; `labels` (N,)
    uint8; `orders` (B, n or more) int64, below N; `counts` (B,) int64, the number n of examples to train each network
    on, 0 to leave it as it is; `batch_sizes` (B,) int64, from 1 to that of the layout, which nothing checks here;
    `numbers` (B, any, 9) float32, those of each batch's step, see `gpunn.kernels.formulas.steps.Numbers`;
    `parameters` (B, n_parameters) float32, which are changed; `collected` likewise with momentum, whose
    velocities they are, and where the layout `collects_outside`, all 0 at first, and (B, any) otherwise;
    `moments` (B, n_parameters) with Nesterov's method and (B, 2 n_parameters) with Adam, float32, which are
    changed, and (B, any) otherwise; `drops` (B, number of layers) uint32 with dropout, the position in the epoch of
    the first of a network's examples and a key for each hidden layer, and (B, any) otherwise; `losses` (B, threads)
    float64, whose rows' sums will be those of the examples' losses, each before its batch's step.
    """
    if layout.tensor_cores:
        from .matrices import transfers
    else:
        from .tiles import transfers
    logger.info("getting the GPU's kernel for %s ready: some seconds the first time", layout)
    forward, backward = in_turn(forward_steps(layout, spec)), in_turn(backward_steps(layout, spec))
    make_step = step_of(layout, spec)
    update, (fetch, store_to_shared) = update_step(layout, spec), transfers(layout)
    T, chunk_size, labels_at = layout.threads, layout.chunk_size, layout.labels
    in_shared, collects_in_shared = layout.in_shared, layout.collects_in_shared
    in_one_memory = in_shared == collects_in_shared
    collects, has_velocities = spec.collects, spec.optimizer == "momentum"
    n_work, n_parameters, n_image_words = layout.n_work, layout.n_parameters, layout.labels
    n_drops, drops_at = layout.n_drops, layout.drops

    @device_function
    def rows_at(first: int, start: int, n: int, batch_size: int) -> Any:
        """Return the number of images in the chunk from `first` on, of the batch from `start` on."""
        return min(chunk_size, min(start + batch_size, n) - first)

    @kernel(max_registers=REGISTERS // T)
    def run_epochs(
        words: Any,
        labels: Any,
        orders: Any,
        counts: Any,
        batch_sizes: Any,
        numbers: Any,
        parameters: Any,
        collected: Any,
        moments: Any,
        drops: Any,
        losses: Any,
    ) -> None:
        network, t = cuda.blockIdx.x, cuda.threadIdx.x
        n = counts[network]
        if n == 0:
            return
        memory, x = cuda.shared.array(0, FLOAT32), cuda.shared.array(0, UINT32)
        order, m = orders[network], batch_sizes[network]
        table, own_moments = numbers[network], moments[network]
        # Factor on the collected array at the start of a batch: the momentum for velocities, otherwise 0.
        rest, penalty = table[0, BETA1] if has_velocities else ZERO, table[0, L2]
        if in_shared:
            weights = memory[n_work:]
            for i in range(t, n_parameters, T):
                weights[i] = parameters[network, i]
        else:
            weights = parameters[network]
        if collects_in_shared:
            collection = memory[n_work + n_parameters :]
            for i in range(t, n_parameters, T):
                collection[i] = collected[network, i] if has_velocities else ZERO
        else:
            collection = collected[network]
        # Images that pad a chunk to whole tiles are dark, so that four dark pixels are skipped there too.
        for i in range(t, n_image_words, T):
            x[i] = DARK
        for i in range(t, n_drops, T):
            x[drops_at + i] = drops[network, i]
        cuda.syncthreads()
        fetched, sums = cuda.local.array(WORDS_A_THREAD, UINT32), cuda.local.array(N_SUMS, FLOAT32)
        loss = 0.0

        first, start, label, number, eta = 0, 0, 0, 0, table[0, RATE]
        rows = rows_at(first, start, n, m)
        fetch(t, words, order, first, rows, fetched)
        if t < rows:
            label = labels[order[first + t]]
        while first < n:
            store_to_shared(t, fetched, rows, x)
            if t < rows:
                x[labels_at + t] = label
            if n_drops and t == 0:
                x[drops_at] = U(drops[network, 0] + U(first))
            cuda.syncthreads()
            # What comes next is on its way while this chunk is worked on.
            after, batch = first + rows, min(m, n - start)
            ends = after == start + batch
            next_start = after if ends else start
            next_rows = rows_at(after, next_start, n, m)
            fetch(t, words, order, after, next_rows, fetched)
            if t < next_rows:
                label = labels[order[after + t]]
            next_number = number + 1 if ends else number
            next_eta = table[U(next_number), RATE] if after < n else eta

            decay = penalty if first == start else ZERO
            if collects:
                scale, step = rest if first == start else F(1), F(1) / F(batch)
            else:
                scale, step = F(1), -eta / F(batch)
                decay *= -eta
            loss += forward(t, x, rows, step, weights, memory, sums)
            backward(t, x, rows, step, weights, memory, sums)
            if collects:
                update(t, x, rows, memory, collection, weights, scale, decay, sums)
            elif in_one_memory:
                target = weights if batch <= chunk_size else collection
                update(t, x, rows, memory, target, weights, scale, decay, sums)
            # Two calls, so that the compiler knows for each in which memory its target is.
            elif batch <= chunk_size:
                update(t, x, rows, memory, weights, weights, scale, decay, sums)
            else:
                update(t, x, rows, memory, collection, weights, scale, decay, sums)
            cuda.syncthreads()
            if ends and (collects or batch > chunk_size):
                step_numbers = numbers_at(table, number)
                for i in range(t, n_parameters, T):
                    make_step(i, weights, collection, own_moments, step_numbers)
                # Threads meet before these are read again: after the next images have been stored. After the last batch
                # each thread only reads those of its own.
            first, start, rows, number, eta = after, next_start, next_rows, next_number, next_eta

        losses[network, t] = loss
        if in_shared:
            for i in range(t, n_parameters, T):
                parameters[network, i] = weights[i]
        if has_velocities and collects_in_shared:
            for i in range(t, n_parameters, T):
                collected[network, i] = collection[i]

    return run_epochs


class EpochKernel:
    """The kernel for networks of `sizes`, with its arguments.

    Raises `ValueError` where the layers don't fit the shared memory of a multiprocessor.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        batch_size: int,
        threads: int,
        spec: KernelSpec | None = None,
        tensor_cores: bool = False,
    ) -> None:
        self._spec = spec or KernelSpec(("sigmoid",) * (len(sizes) - 1))
        self.layout = CudaLayout(
            sizes,
            batch_size=batch_size,
            threads=threads,
            capacity=shared_memory(),
            collects=self._spec.collects,
            dropout=self._spec.dropout > 0,
            tensor_cores=tensor_cores,
        )

    def prepare(
        self,
        *,
        words: Any,
        labels: Any,
        orders: Any,
        batch_sizes: Any,
        numbers: Any,
        parameters: Any,
        collected: Any,
        moments: Any,
        drops: Any,
        losses: Any,
    ) -> None:
        """Take the arguments of `compile_epoch`'s kernel but for the counts, arrays on the device, and compile it.

        They are made Numba's once, and not at every launch. A launch reads and changes them in place.
        """
        self._networks = len(parameters)
        self._before = [as_cuda_array(array) for array in (words, labels, orders)]
        after = (batch_sizes, numbers, parameters, collected, moments, drops, losses)
        self._after = [as_cuda_array(array) for array in after]
        self._kernel = compile_epoch(self.layout, self._spec)

    def compile(self, zeros: Any) -> None:
        """Compile the kernel by launching it for no examples; `zeros` are its counts on the device."""
        self._launch(zeros, 0)
        allow_shared_memory(self._kernel, self.layout.shared_bytes)

    def launch(self, counts: Any) -> None:
        """Train every network on its number of examples, `counts` (B,) int64 on the device; don't wait for it."""
        self._launch(counts, self.layout.shared_bytes)

    def _launch(self, counts: Any, shared: int) -> None:
        arguments = (*self._before, as_cuda_array(counts), *self._after)
        launch(self._kernel, self._networks, self.layout.threads, *arguments, shared=shared)
