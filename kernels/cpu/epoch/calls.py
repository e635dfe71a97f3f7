"""Compilation of the functions that whole-epoch kernels call by their addresses: those that a recipe needs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import typeof
from numpy.typing import NDArray

from ..activations import STATICS as ACTIVATIONS
from ..addresses import address_of
from ..losses import STATICS as LOSSES
from ..memory import pointed
from ..sparse_matmul import add_sparse, blocks_of, multiply_sparse
from ..steps import STATICS as RULES
from .deferred import CATCH_UP, CATCH_UP_ALL, catch_up, catch_up_all
from .dropout import WITH, WITHOUT
from .first_layer import ADD_SPARSE, MULTIPLY
from .layers import ACTIVATE, SLOPE, TRANSPOSE, activate_rows, multiply_by_slopes, transpose_copy
from .layout import Layout
from .outputs import OUTPUT, compute_output_delta
from .run import SHRINK, shrink
from .state import Calls
from .steps import STEP, STEP_NONZERO, make_step, step_nonzero


def table_of(layout: Layout, activations: Sequence[str], *, drops: bool) -> NDArray[np.int64]:
    """Return the fields of the layers, flat, with the addresses of their functions.

    The last one of the layers' `activations` is the identity if the loss takes z^L. `drops` tells whether hidden layers
    have dropout.
    """
    functions = [ACTIVATIONS[name] for name in activations]
    masks = [WITH if drops else WITHOUT] * (len(functions) - 1)
    activate = [address_of(activate_rows, ACTIVATE, *each) for each in zip(functions, [*masks, WITHOUT], strict=True)]
    slopes = [address_of(multiply_by_slopes, SLOPE, *each) for each in zip(functions, masks, strict=False)]
    found = zip(layout.layers, activate, [0, *slopes], strict=True)
    table = [layer._replace(activate=first, slope=second) for layer, first, second in found]
    return np.array(table, np.int64).ravel()


def calls_of(
    layout: Layout,
    activation: str,
    loss: str,
    pixels: Any,
    scratch: NDArray[np.float32] | None,
    *,
    rule: str | None,
    defers: bool,
    shrinks: bool,
    transposes: bool,
) -> Calls:
    """Return the `Calls` of a recipe.

    `activation` is that of the outputs, as in `table_of`; `pixels` are the sparse inputs, or None. `rule` is that of
    the optimiser's steps, None for plain gradient descent. The others tell whether updates are deferred, a penalty
    shrinks weights, and batches are large enough to transpose weights.
    """
    output = address_of(compute_output_delta, OUTPUT, LOSSES[loss], ACTIVATIONS[activation])
    calls = Calls(output)
    if pixels is not None:
        kind, blocks = pointed(typeof(pixels)), blocks_of(layout.layers[0].width)
        calls = calls._replace(
            multiply_sparse=address_of(multiply_sparse, MULTIPLY, *blocks, kind),
            add_sparse=address_of(add_sparse, ADD_SPARSE, *blocks, kind, pointed(typeof(scratch))),
        )
        if defers and rule is not None:
            calls = calls._replace(
                catch_up=address_of(catch_up, CATCH_UP, kind),
                catch_up_all=address_of(catch_up_all, CATCH_UP_ALL),
                step_nonzero=address_of(step_nonzero, STEP_NONZERO, RULES[rule]),
            )
    if rule is not None:
        calls = calls._replace(make_step=address_of(make_step, STEP, RULES[rule]))
    if transposes:
        calls = calls._replace(transpose_copy=address_of(transpose_copy, TRANSPOSE))
    if shrinks:
        calls = calls._replace(shrink=address_of(shrink, SHRINK))
    return calls
