"""Dropout in whole-epoch kernels: activations are stored as they are after it, and backward computes the mask again."""

from typing import Any

import numpy as np
from numba.extending import overload

from ...compilation import PART
from ..activations import slope
from ..elementwise import mask
from ..memory import at
from ..vectors import Static
from .state import Dropout

NONE = Dropout(np.zeros(0, np.int64), 0, 0, np.float32(1), np.float32(1))
"""Without dropout."""

WITH, WITHOUT = Static("dropout"), Static("no dropout")


def dropped(dropout: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
    """Return 16 activations of an example from `column` on after dropout, if `dropout` is `WITH`."""
    raise NotImplementedError("for compiled code only")


@overload(dropped, jit_options=PART)
def _dropped(dropout: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
    def masked(dropout: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
        return a * mask(drop.first + example, column, at(drop.keys, layer), drop.least, drop.scale)

    def unchanged(dropout: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
        return a

    return masked if dropout.value == WITH.value else unchanged


def slope_with_dropout(function: Any, dropout: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
    """Return f'(z) times dropout's mask if `dropout` is `WITH`, in terms of activations after dropout."""
    raise NotImplementedError("for compiled code only")


@overload(slope_with_dropout, jit_options=PART)
def _slope_with_dropout(function: Any, dropout: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
    def masked(function: Any, dropout: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
        kept = mask(drop.first + example, column, at(drop.keys, layer), drop.least, drop.scale)
        return slope(function, a * drop.kept) * kept

    def whole(function: Any, dropout: Any, drop: Any, layer: int, example: int, column: int, a: Any) -> Any:
        return slope(function, a)

    return masked if dropout.value == WITH.value else whole
