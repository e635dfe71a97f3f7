"""Whether a kernel computes on this GPU what others do: a batch is compared before the kernel trains anything."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.engines.base import Engine, Examples, Parameters, Recipe
from gpunn.engines.cuda.fused import FusedCudaEngine

LARGEST = 1e-4
"""Maximum difference, of the largest step of an array's parameters."""

ROUNDED = 1e-6
"""Maximum difference, of the largest parameter of an array."""

RARE = 1e-4
"""Share of an array's parameters that may differ by more.

Where a gradient is nearly 0, Adam's step can have either sign, and where z is, relu's slope is 0 or 1.
"""

RATE = 0.05


Make = Callable[[Parameters, Examples, Recipe], Engine]
"""Makes an engine, for a new network, examples and a recipe."""


def difference(
    backend: Backend, make: Make, sizes: Sequence[int], functions: Sequence[str], recipe: Recipe, *, n: int
) -> str | None:
    """Return how an engine differs from `fused`, None if it doesn't; both train a new network on `n` random images.

    The recipe is as given but for its rates; the device is active.
    """
    rng = np.random.default_rng(0)
    shapes = [(n_out, n_in) for n_in, n_out in pairwise(sizes)]
    fresh = Parameters(
        [rng.normal(size=shape, scale=shape[1] ** -0.5).astype(np.float32) for shape in shapes],
        [rng.normal(size=n_out, scale=0.1).astype(np.float32) for n_out, _ in shapes],
        functions,
    )
    grey = rng.integers(0, 256, (n, sizes[0]), np.uint8) * (rng.random((n, sizes[0])) < 0.2)
    images, labels = backend.asarray(grey.astype(np.uint8)), backend.asarray(rng.integers(0, sizes[-1], n, np.uint8))
    found = []
    for build, batch_size in ((make, recipe.batch_size), (_fused(backend), min(recipe.batch_size, n))):
        engine = build(fresh, Examples(images, labels), replace(recipe, batch_size=batch_size))
        loss = engine.run_epoch(np.arange(n), np.full(-(-n // batch_size), RATE))
        trained = engine.parameters()
        found.append((loss, [backend.to_host(array) for array in (*trained.weights, *trained.biases)]))
    (loss, ours), (expected, theirs) = found
    if not abs(loss - expected) <= LARGEST * abs(expected):
        return f"a loss of {loss:.6g}, not {expected:.6g}"
    for own, other, before in zip(ours, theirs, (*fresh.weights, *fresh.biases), strict=True):
        if (beyond := _beyond(own, other, before)) > RARE * other.size:
            return f"{beyond:,} of {other.size:,} parameters of a layer"
    return None


def _fused(backend: Backend) -> Make:
    return lambda start, examples, recipe: FusedCudaEngine(backend, start, examples, recipe)


def _beyond(own: NDArray[Any], other: NDArray[Any], before: NDArray[Any]) -> int:
    """Return how many numbers differ by more than rounding does."""
    most = LARGEST * np.abs(other - before).max() + ROUNDED * np.abs(other).max()
    # So written that NaN is beyond.
    return int(np.count_nonzero(~(np.abs(own - other) <= most)))
