"""Optimiser steps in the whole-epoch kernel: each thread makes those of its own parameters."""

from collections.abc import Sequence
from typing import Any

from ...formulas.steps import Numbers
from ..jit import device_function
from ..steps import RULES
from .layout import CudaLayer, CudaLayout, KernelSpec
from .tiles import ZERO, F, U

RATE, BETA1, L2 = (Numbers._fields.index(name) for name in ("rate", "beta1", "l2"))
"""Columns of the table of `Numbers`, a row a batch, that the kernel is given."""

descent, nesterov, adam = RULES["descent"], RULES["nesterov"], RULES["adam"]


def step_of(layout: CudaLayout, spec: KernelSpec) -> Any:
    """Return the function that makes parameter i's step, see `gpunn.optimizers`.

    `collection` has what was collected in the batch: changes without an optimiser, velocities with momentum, and
    gradients with Nesterov's or Adam; these have one or two `moments` for each parameter, the second after all of the
    first. L2 penalties are in it already. `numbers` are those of the batch's step.
    """
    if spec.optimizer == "adam":
        return _adam(layout, spec.decay)
    return {"descent": _add, "momentum": _descend, "nesterov": _nesterov}[spec.optimizer]


@device_function
def numbers_at(table: Any, batch: int) -> Any:
    """Return the `Numbers` of a batch's step, without the penalty in the gradient."""
    row = table[U(batch)]
    return Numbers(row[0], row[1], row[2], row[3], row[4], row[5], row[6], ZERO, row[8])  # by field


@device_function
def _add(i: int, weights: Any, collection: Any, moments: Any, numbers: Any) -> None:
    weights[i] += collection[i]
    collection[i] = ZERO


@device_function
def _descend(i: int, weights: Any, collection: Any, moments: Any, numbers: Any) -> None:
    weights[i], _, _ = descent(weights[i], collection[i], ZERO, ZERO, numbers)


@device_function
def _nesterov(i: int, weights: Any, collection: Any, moments: Any, numbers: Any) -> None:
    weights[i], moments[i], _ = nesterov(weights[i], collection[i], moments[i], ZERO, numbers)


def _adam(layout: CudaLayout, decays: bool) -> Any:
    n, is_bias = layout.n_parameters, _is_bias(layout.layers)

    @device_function
    def step(i: int, weights: Any, collection: Any, moments: Any, numbers: Any) -> None:
        keep = F(1) if not decays or is_bias(i) else numbers.keep
        averages = numbers.beta1, numbers.rest1, numbers.beta2, numbers.rest2
        own = Numbers(numbers.rate, numbers.correction, *averages, numbers.epsilon, ZERO, keep)
        w, mean, square = adam(weights[i], collection[i], moments[i], moments[U(n + i)], own)
        weights[i], moments[i], moments[U(n + i)] = w, mean, square

    return step


def _is_bias(layers: Sequence[CudaLayer]) -> Any:
    """Return the function that says whether parameter i is a bias."""
    begin, end = layers[0].bias, layers[0].bias + layers[0].width
    if len(layers) == 1:

        @device_function
        def of_one(i: int) -> Any:
            return begin <= i < end

        return of_one
    others = _is_bias(layers[1:])

    @device_function
    def of_several(i: int) -> Any:
        return begin <= i < end or others(i)

    return of_several
