"""How the whole-epoch kernel ends a batch: each thread makes the steps of parameters of its own."""

from collections.abc import Sequence
from typing import Any

from ...formulas.steps import Numbers
from ..jit import device_function
from ..steps import step_adam, step_nesterov
from .layout import CudaLayer, CudaLayout, KernelSpec
from .tiles import ZERO, F, U

CONSTANTS = 6
"""Of a network: momentum or beta1, 1 - beta1, beta2, 1 - beta2, epsilon, and the L2 penalty."""

RATES = 3
"""Of a batch: the learning rate, for Adam divided by 1 - beta1^t; 1 / sqrt(1 - beta2^t); and by what weights decay."""


def step_of(layout: CudaLayout, spec: KernelSpec) -> Any:
    """Return the function that makes parameter i's step, see `gpunn.optimizers`.

    `collection` has what was collected in the batch: changes without an optimiser, velocities with momentum, and
    gradients with Nesterov's or Adam; these have one or two `moments` for each parameter, the second after all of the
    first. `rates` and `constants` are those of `RATES` and of `CONSTANTS`, but for the penalty.
    """
    if spec.optimizer == "adam":
        return _adam(layout, spec.decay)
    return {"descent": _add, "momentum": _descend, "nesterov": _nesterov}[spec.optimizer]


@device_function
def _add(i: int, weights: Any, collection: Any, moments: Any, rates: Any, constants: Any) -> None:
    weights[i] += collection[i]
    collection[i] = ZERO


@device_function
def _descend(i: int, weights: Any, collection: Any, moments: Any, rates: Any, constants: Any) -> None:
    weights[i] -= rates[0] * collection[i]


@device_function
def _nesterov(i: int, weights: Any, collection: Any, moments: Any, rates: Any, constants: Any) -> None:
    numbers = Numbers(rates[0], ZERO, constants[0], ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    weights[i], moments[i] = step_nesterov(weights[i], collection[i], moments[i], numbers)


def _adam(layout: CudaLayout, decays: bool) -> Any:
    n, is_bias = layout.n_parameters, _is_bias(layout.layers)

    @device_function
    def adam(i: int, weights: Any, collection: Any, moments: Any, rates: Any, constants: Any) -> None:
        keep = F(1) - rates[2] if decays and not is_bias(i) else F(1)
        beta1, rest1, beta2, rest2, epsilon = constants
        numbers = Numbers(rates[0], rates[1], beta1, rest1, beta2, rest2, epsilon, ZERO, keep)
        w, mean, square = step_adam(weights[i], collection[i], moments[i], moments[U(n + i)], numbers)
        weights[i], moments[i], moments[U(n + i)] = w, mean, square

    return adam


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
