"""The operations of `gpunn.kernels.contract` on GPUs: float32 only, one pass over memory, no temporaries.

Arrays are CuPy's, or handles of them made once by `as_handle`, with which a launch takes a fraction of the time.
Nothing here waits for the GPU. Arguments are checked before the launch, except the values of row numbers and labels,
which only the kernel reads: one that is out of range makes the example's outputs NaN, and the loss that it adds to. The
same input gives the same bits every time.

A kernel is compiled at its first launch, once for each activation, loss or rule in it.

Each operation can be prepared: `bias_activate.prepare(z, bias, out=z)` checks and packs its arguments once, and returns
functions that launch it. So that such launches need not be changed from batch to batch, arrays on the GPU may hold some
numbers, which kernels read when they run: `factor` float32 (1,), `key` and `first` uint32 (1,), `numbers` of a step
float32 (9,). `next_batch` fills such arrays.
"""

from .batches import next_batch
from .distort import distort
from .elementwise import bias_activate, drop, gather_scale, hidden_delta
from .jit import as_cuda_array as as_handle
from .outputs import output_delta
from .steps import column_sums, descend_sums, optimizer_step

__all__ = [
    "as_handle",
    "bias_activate",
    "column_sums",
    "descend_sums",
    "distort",
    "drop",
    "gather_scale",
    "hidden_delta",
    "next_batch",
    "optimizer_step",
    "output_delta",
]
