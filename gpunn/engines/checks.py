"""Argument checks shared by all engines.

Kernels use these arrays as indices unchecked, so copies are made and checked, which callers can't change afterwards.
"""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.engines.base import Examples, Recipe
from gpunn.equations import is_csr
from gpunn.kernels.checks import check_below, check_type


def checked_order(order: NDArray[Any], n_images: int) -> NDArray[np.int64]:
    """Return a copy of `order` as contiguous int64.

    Raises `TypeError` unless it is an array of integers, `ValueError` if it is empty or not one-dimensional, and
    `IndexError` for an index that no image has.
    """
    check_type("an order", order)
    if order.dtype.kind not in "iu":
        raise TypeError(f"found an order of dtype {order.dtype}, expected integers")
    if order.ndim != 1:
        raise ValueError(f"found an order of {order.ndim} dimensions, expected one")
    if not order.size:
        raise ValueError("order must have at least one index, got none")
    copied = np.array(order, np.int64, order="C")
    check_below("order", copied, n_images)
    return copied


def rates_of(recipe: Recipe, n_examples: int, rates: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the learning rate of each batch of an epoch over `n_examples`: a copy of `rates`, or the recipe's."""
    n_batches = -(-n_examples // recipe.batch_size)
    if rates is None:
        return np.full(n_batches, recipe.learning_rate)
    check_type("learning rates", rates)
    if rates.dtype.kind not in "fiu":
        raise TypeError(f"found learning rates of dtype {rates.dtype}, expected numbers")
    if rates.shape != (n_batches,):
        raise ValueError(f"found learning rates of shape {rates.shape}, expected one for each of {n_batches} batches")
    return np.array(rates, np.float64, order="C")


def check_sparse(X: Any) -> None:
    """Raise `ValueError` if indices of `X`, a sparse matrix in CSR, CSC or BSR form, point outside of it."""
    if (np.diff(X.indptr) < 0).any():  # which SciPy doesn't find if the last one is 0 or less
        raise ValueError("indptr must be a non-decreasing sequence")
    copy.copy(X).check_format(full_check=True)  # which may replace arrays of the matrix


def own_examples(xp: Any, examples: Examples, n_inputs: int, n_outputs: int) -> Examples:
    """Return `examples`, arrays of `xp`, with a copy of their classes, and of a sparse matrix's indices.

    Raises `ValueError` if shapes don't fit each other or the network, or indices of a sparse matrix don't fit it,
    `TypeError` for classes that aren't integers, and `IndexError` for classes without an output.
    """
    inputs, targets, weights = examples
    if xp is np:
        if is_csr(inputs):
            inputs = type(inputs)((inputs.data, inputs.indices.copy(), inputs.indptr.copy()), shape=inputs.shape)
            check_sparse(inputs)  # products read what the indices say
        else:
            check_type("inputs", inputs)
        check_type("targets", targets)
    if inputs.ndim != 2 or inputs.shape[1] != n_inputs:
        raise ValueError(f"found inputs of shape {inputs.shape}, expected (n, {n_inputs})")
    if not examples.labeled:
        if targets.shape != (examples.n, n_outputs):
            raise ValueError(f"found targets of shape {targets.shape}, expected {(examples.n, n_outputs)}")
        return Examples(inputs, targets, weights)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"found labels of dtype {targets.dtype}, expected integers")
    if targets.shape != (examples.n,):
        raise ValueError(f"found labels of shape {targets.shape}, expected {(examples.n,)}")
    labels = xp.array(targets)
    if len(labels):
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= n_outputs:
            raise IndexError(f"found labels from {least} to {most}, expected 0 to {n_outputs - 1}")
    return Examples(inputs, labels, weights)
