"""Conversion of the estimators' inputs for engines: floats, sparse ones too, or grey levels if multiples of 1/255."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from gpunn.backends.limits import available_memory
from gpunn.engines.checks import check_sparse
from gpunn.equations import scale
from gpunn.errors import DataError

COLUMN = 4
"""Bytes of a non-zero's column in the form that engines make of a sparse matrix, besides the value."""

SHARE = 4
"""A sparse matrix made dense may take 1 / `SHARE` of the memory."""

SAMPLE = 64
"""Rows checked before all are."""

CHUNK = 1 << 18
"""Values converted at once, few enough for a cache."""

LEVELS: NDArray[np.float32] = scale(np.arange(256, dtype=np.uint8), np.float32)
"""Grey levels as engines scale them."""


def check_inputs(X: Any) -> None:
    """Raise `DataError` if `X` is a sparse matrix with indices that point outside of it, which SciPy would follow."""
    if not sparse.issparse(X):
        return
    try:
        if hasattr(X, "indptr"):
            check_sparse(X)
        elif X.format == "coo" and X.ndim == 2:
            sparse.coo_array((X.data, (X.row, X.col)), X.shape)  # which checks them
    except ValueError as error:
        raise DataError(f"found a sparse X that isn't a valid {X.format} matrix: {error}") from error


def engine_inputs(X: Any, dtype: DTypeLike, *, grey: bool, stays_sparse: bool) -> Any:
    """Return `X` (n, n_0), an array or a sparse matrix, as an array of `dtype`, or with `grey` as uint8 if possible.

    That is possible if every value, rounded to float32, is a grey level of 0 to 255 divided by 255: engines compute
    the same numbers from a quarter of the memory. Arrays of `dtype` are not copied. With `stays_sparse`, a sparse
    matrix becomes a CSR matrix of `dtype`, unless the array takes no more memory and isn't too large. Without, raises
    `DataError` if the array would be too large.
    """
    if not sparse.issparse(X):
        found = grey_levels(X) if grey else None
        return np.ascontiguousarray(X, dtype) if found is None else found
    X = X.tocsr()
    if not X.has_canonical_format:  # duplicate entries count as their sum
        X = X.copy()
        X.sum_duplicates()
    found = grey_levels(X.data.reshape(1, -1)) if grey else None
    values = X.data if found is None else found[0]
    kind = np.dtype(dtype if found is None else np.uint8)
    needed, memory = X.shape[0] * X.shape[1] * kind.itemsize, available_memory() or np.inf
    too_large = needed > memory / SHARE
    if stays_sparse and (too_large or needed > X.nnz * (np.dtype(dtype).itemsize + COLUMN)):
        return sparse.csr_array((X.data.astype(dtype, copy=False), X.indices, X.indptr), X.shape)
    if too_large:
        raise DataError(
            f"found a sparse X of shape {X.shape}, which takes {needed / 2**30:,.1f} GiB when it is dense, expected at "
            f"most a quarter of {memory / 2**30:,.1f} GiB: train on the device cpu, where it stays sparse"
        )
    dense: NDArray[Any] = sparse.csr_array((values.astype(kind, copy=False), X.indices, X.indptr), X.shape).toarray()
    return dense


def grey_levels(X: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return `X` (m, n) times 255 as uint8, or None unless every value is exactly a scaled grey level."""
    rows = max(1, CHUNK // max(1, X.shape[1]))
    sample = X[:: max(1, len(X) // SAMPLE)][:SAMPLE, :CHUNK]
    if _levels(sample) is None:
        return None
    found = np.empty(X.shape, np.uint8)
    for first in range(0, len(X), rows):
        levels = _levels(X[first : first + rows])
        if levels is None:
            return None
        found[first : first + rows] = levels
    return found


def _levels(X: NDArray[Any]) -> NDArray[np.uint8] | None:
    # Values outside of [0, 1] become arbitrary levels, and fail the comparison below.
    with np.errstate(invalid="ignore", over="ignore"):
        values = X.astype(np.float32, copy=False)
        levels: NDArray[np.uint8] = (values * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return levels if np.array_equal(LEVELS[levels], values) else None
