"""Activation functions on arrays: those of `gpunn.kernels.formulas`, and softmax, which is not elementwise."""

import functools
from collections.abc import Sequence
from typing import Any

from gpunn.errors import ConfigurationError
from gpunn.kernels.formulas.activations import ACTIVATIONS, Function, Operations

Array = Any
"""An array of `xp`: `numpy.ndarray` or `cupy.ndarray`."""

HIDDEN = tuple(ACTIVATIONS)
"""The names of the activation functions that every layer can have."""

OUTPUT = (*HIDDEN, "softmax")
"""Those that the output layer can have."""


def checked_functions(hidden: str | Sequence[str], output: str, n_layers: int) -> tuple[str, ...]:
    """Return the activation function's name of each of `n_layers` layers; `hidden` is one for all, or one for each.

    Raises `ConfigurationError` for names that there are not, and for too many or too few.
    """
    names = (hidden,) * (n_layers - 1) if isinstance(hidden, str) else tuple(hidden)
    if isinstance(hidden, str) and hidden not in HIDDEN:
        raise ConfigurationError(f"found the hidden layers' activation {hidden!r}, expected {', '.join(HIDDEN)}")
    if len(names) != n_layers - 1:
        raise ConfigurationError(f"found {len(names)} activations for hidden layers, expected {n_layers - 1}")
    for name, known, where in [*((name, HIDDEN, "hidden layer") for name in names), (output, OUTPUT, "output")]:
        if name not in known:
            raise ConfigurationError(f"found the {where}'s activation {name!r}, expected {', '.join(known)}")
    return (*names, output)


def sigmoid(xp: Any, z: Array, *, out: Array | None = None) -> Array:
    """sigma(z) = 1 / (1 + exp(-z)), elementwise, in the dtype of `z`; NaN stays NaN. `out` may be `z`.

    Far below zero exp(-z) overflows to infinity and the result is 0, as it should be. NumPy warns of that unless it is
    told otherwise, `np.errstate(over="ignore")`; saying so at every call would cost as much as the function itself.
    """
    # The formula from the inside out, in one array: for a small batch, making arrays costs more than the arithmetic.
    a = xp.negative(z, out=out)
    xp.exp(a, out=a)
    a += 1
    return xp.reciprocal(a, out=a)


def softmax(xp: Any, z: Array) -> Array:
    """exp(z_j) / sum_k exp(z_k) in each row of `z`, (m, n), whose largest entry is subtracted: nothing overflows."""
    a = z - z.max(axis=1, keepdims=True)
    xp.exp(a, out=a)
    a /= a.sum(axis=1, keepdims=True)
    return a


@functools.cache
def activation(xp: Any, name: str) -> tuple[Function, Function]:
    """Return f and f' of the activation called `name`, on arrays of `xp`; f' takes a = f(z), and f may overwrite z.

    The slope of softmax isn't elementwise, nor needed: its loss takes it in, see `gpunn.losses`.
    """
    if name == "softmax":
        return functools.partial(softmax, xp), _no_slope
    return ACTIVATIONS[name](
        Operations(
            number=float,  # takes the precision of the array that it meets
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
