"""The operations of `gpunn.kernels.contract` on GPUs: float32 only, one pass over memory, no temporaries.

Arrays are CuPy's, or handles of them made once by `as_handle`, with which a launch takes a fraction of the time.
Nothing here waits for the GPU. Arguments are checked before the launch, except the values of row numbers and labels,
which only the kernel reads: one that is out of range makes the example's outputs NaN, and the loss that it adds to. The
same input gives the same bits every time.

A kernel is compiled at its first launch, once for each activation, loss or rule in it.
"""

from .elementwise import bias_activate, drop, gather_scale, hidden_delta
from .jit import as_cuda_array as as_handle
from .outputs import output_delta
from .steps import column_sums, descend_sums, optimizer_step

__all__ = [
    "as_handle",
    "bias_activate",
    "column_sums",
    "descend_sums",
    "drop",
    "gather_scale",
    "hidden_delta",
    "optimizer_step",
    "output_delta",
]
