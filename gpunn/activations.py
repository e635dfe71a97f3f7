"""Activation functions on arrays: the elementwise ones of `gpunn.kernels.formulas`, and softmax."""

import functools
from collections.abc import Sequence
from typing import Any

from gpunn.errors import ConfigurationError
from gpunn.kernels.formulas import activations as formulas
from gpunn.kernels.formulas.activations import ACTIVATIONS, Function, Operations

Array = Any
"""An array of `xp`: `numpy.ndarray` or `cupy.ndarray`."""

HIDDEN = tuple(ACTIVATIONS)
"""Activation functions of hidden layers."""

OUTPUT = (*HIDDEN, "softmax")
"""Activation functions of the output layer."""


def checked_functions(hidden: str | Sequence[str], output: str, n_layers: int) -> tuple[str, ...]:
    """Return the activation function names of `n_layers` layers; `hidden` is one name for all, or one for each.

    Raises `ConfigurationError` for unknown names and a wrong number of them.
    """
    names = (hidden,) * (n_layers - 1) if isinstance(hidden, str) else tuple(hidden)
    if isinstance(hidden, str) and hidden not in HIDDEN:
        raise ConfigurationError(f"hidden activation must be one of {', '.join(HIDDEN)}, got {hidden!r}")
    if len(names) != n_layers - 1:
        raise ConfigurationError(
            f"hidden must have one activation for each hidden layer ({n_layers - 1}), got {len(names)}"
        )
    for name, known, where in [*((name, HIDDEN, "hidden") for name in names), (output, OUTPUT, "output")]:
        if name not in known:
            raise ConfigurationError(f"{where} activation must be one of {', '.join(known)}, got {name!r}")
    return (*names, output)


def sigmoid(xp: Any, z: Array, *, out: Array | None = None) -> Array:
    """sigma(z) = 1 / (1 + exp(-z)), elementwise, in the dtype of `z`; NaN stays NaN. `out` may be `z`.

    Far below zero exp(-z) overflows to infinity and the result is correctly 0. Callers silence NumPy's warning with
    `np.errstate(over="ignore")`; doing so here would cost as much as the function itself.
    """
    # In place: for small batches, allocating temporaries costs more than the arithmetic.
    a = xp.negative(z, out=out)
    xp.exp(a, out=a)
    a += 1
    return xp.reciprocal(a, out=a)


def softmax(xp: Any, z: Array) -> Array:
    """exp(z_j) / sum_k exp(z_k) in each row of `z`, (m, n); subtracting the row's maximum first avoids overflow."""
    return formulas.softmax(xp.exp)(z, softmax_row(xp, z))


def softmax_row(xp: Any, z: Array) -> formulas.Row:
    """Return the statistics of the rows of `z` (m, n) that softmax takes, each (m, 1)."""
    largest = z.max(axis=1, keepdims=True)
    total = xp.exp(z - largest).sum(axis=1, keepdims=True)
    return formulas.Row(largest, total, xp.log(total))


@functools.cache
def activation(xp: Any, name: str) -> tuple[Function, Function]:
    """Return f and f' of the activation `name`, on arrays of `xp`; f' takes a = f(z), and f may overwrite z.

    Softmax has no elementwise slope and needs none: it cancels in the cross-entropy, see `gpunn.losses`.
    """
    if name == "softmax":
        return functools.partial(softmax, xp), _no_slope
    return ACTIVATIONS[name](
        Operations(
            number=float,  # adopts the precision of the array operand
            minimum=xp.minimum,
            maximum=xp.maximum,
            positive=lambda a: (a > 0).astype(a.dtype),
            sigmoid=lambda z: sigmoid(xp, z, out=z),
            tanh=xp.tanh,
            expm1=xp.expm1,
        )
    )


def _no_slope(_: Array) -> Array:
    raise NotImplementedError("softmax has no elementwise slope")
