"""Dropout in the whole-epoch kernel: steps of their own, after a layer's activations and after its delta.

Activations are stored as they are after it, and backward computes the mask again, see `gpunn.dropout`.
"""

from typing import Any

from ...formulas.dropout import threshold
from ..elementwise import hashed
from ..jit import device_function
from .layout import CudaLayout, KernelSpec
from .tiles import ZERO, F, U


def drop_step(layout: CudaLayout, spec: KernelSpec, number: int, at: int) -> Any:
    """Return the function that multiplies numbers of the hidden layer `number` by its mask; it returns 0.

    They start at `at`: its activations or its delta.
    """
    layer, T, position, key_at = layout.layers[number], layout.threads, layout.drops, layout.drops + 1 + number
    n_out, width = layer.n_out, layer.width
    least, scale = U(threshold(spec.dropout)), F(1 / (1 - spec.dropout))

    @device_function
    def drop(t: int, x: Any, rows: int, step: Any, weights: Any, memory: Any, sums: Any) -> Any:
        first, key = x[U(position)], x[U(key_at)]
        for i in range(t, rows * width, T):
            b, j = i // width, i % width
            if j < n_out:
                memory[U(at + i)] *= scale if hashed(U(first + U(b)), U(j), key) >= least else ZERO
        return ZERO

    return drop


def before_dropout(spec: KernelSpec) -> Any:
    """Return the function that gives an activation as it was before dropout, if that has kept it."""
    kept = F(1 - spec.dropout)

    @device_function
    def as_it_is(a: Any) -> Any:
        return a

    @device_function
    def before(a: Any) -> Any:
        return a * kept

    return before if spec.dropout else as_it_is
