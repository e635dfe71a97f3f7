"""The operations of `gpunn.kernels.contract` compiled for CPUs: float32 only, one pass over memory, no temporaries.

Arguments are checked before the compiled code is entered, which checks nothing.
"""

from .distort import distort
from .elementwise import bias_activate, drop, gather_scale, hidden_delta
from .outputs import output_delta
from .steps import column_sums, descend_sums, optimizer_step

__all__ = [
    "bias_activate",
    "column_sums",
    "descend_sums",
    "distort",
    "drop",
    "gather_scale",
    "hidden_delta",
    "optimizer_step",
    "output_delta",
]
