"""Dropout in whole-epoch kernels: activations are stored as they are after it, and backward computes the mask again."""

from typing import Any, NamedTuple

from numba import types
from numba.extending import overload

from ...compilation import PART, compiled
from ..activations import slope_of_layer
from ..elementwise import mask
from ..memory import at, pointer


class Dropout(NamedTuple):
    """What masks of hidden layers are made of, see `gpunn.dropout`."""

    keys: Any
    """One for each hidden layer, int64."""
    first: int
    """Position in the epoch of the first example of the call."""
    least: int
    """The threshold of hashes."""
    scale: Any
    """1 / (1 - share), float32."""
    kept: Any
    """1 - share, float32."""


def with_pointers(drop: Any) -> Any:
    """Return a `Dropout` with a pointer for its array; None stays None."""
    raise NotImplementedError("for compiled code only")


@overload(with_pointers, jit_options=PART)
def _with_pointers(drop: Any) -> Any:
    def none(drop: Any) -> Any:
        return None

    def of_arrays(drop: Any) -> Any:
        return Dropout(pointer(drop.keys), drop.first, drop.least, drop.scale, drop.kept)

    return none if drop == types.none else of_arrays


@compiled
def dropped(drop: Any, layer: int, layers: int, example: int, column: int, a: Any) -> Any:
    """Return 16 activations of an example from `column` on after dropout, if there is any in the layer."""
    # Numba prunes this if `drop` is None.
    if drop is not None:  # noqa: SIM102
        if layer + 1 < layers:
            a = a * mask(drop.first + example, column, at(drop.keys, layer), drop.least, drop.scale)
    return a


@compiled
def slope_with_dropout(functions: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
    """Return f'(z) of a hidden layer times dropout's mask, in terms of activations after dropout."""
    if drop is not None:
        kept = mask(drop.first + example, column, at(drop.keys, layer), drop.least, drop.scale)
        return slope_of_layer(functions, layer, a * drop.kept) * kept
    return slope_of_layer(functions, layer, a)
