"""The operations of `gpunn.kernels.contract` on GPUs: float32 only, one pass over memory, no temporaries.

Arrays are on the GPU: CuPy's, or handles of them, made once by `as_handle`, with which a launch takes a fraction of the
time. Nothing here waits for the GPU. Whatever breaks the contract is refused before the launch, but for row numbers and
labels, as looking at them would mean waiting: where one is out of range, nothing is read there, and the example's
outputs become NaN, as does a loss that it adds to. The same input gives the same bits every time.

A kernel is made once for each function that it contains, when that is first asked for.
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
