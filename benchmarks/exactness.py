"""Whether a network was trained right: how far it is from the one that `plain` trains in float64."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpunn_engine import GpunnEngine
from gpunn import Split
from gpunn.engines import Parameters, Recipe

TOLERANCES = {"float32": 1e-3, "tf32": 2e-2}
"""How far a network may be from the one of float64, relative to the loss and to the largest change of each array."""

EPS = float(np.finfo(np.float32).eps)


def exact_epoch(
    start: Parameters, split: Split, recipe: Recipe, order: NDArray[Any], device: str
) -> tuple[float, Parameters]:
    """Return the loss and the parameters of `plain` after an epoch in float64 on `device`."""
    doubled = Parameters([W.astype(np.float64) for W in start.weights], [b.astype(np.float64) for b in start.biases])
    exact = Recipe(recipe.batch_size, recipe.learning_rate)
    engine = GpunnEngine("plain", device, doubled, split, exact)
    return engine.run_epoch(order), engine.parameters()


def deviation_of(  # noqa: PLR0917 - what was found, and what was expected
    n_examples: int, loss: float, found: Parameters, start: Parameters, exact_loss: float, exact: Parameters
) -> tuple[float, str]:
    """Return how far a network is from that of float64, and in words what differs most; infinity where it has NaN.

    Parameters are measured by how far they were to move: a wide layer moves so little in a few steps that the largest
    weight says nothing. They may be off by the roundings of a step for each example, which walk at random.
    """
    rounding = EPS * math.sqrt(n_examples)
    all_off = [(abs(loss - exact_loss) / exact_loss, f"found the loss {loss:.6g}, expected {exact_loss:.6g}")]
    arrays = zip(*((*each.weights, *each.biases) for each in (found, start, exact)), strict=True)
    for mine, before, theirs in arrays:
        away = float(np.abs(mine - theirs).max()) - rounding * float(np.abs(theirs).max())
        off = max(away, 0.0) / max(float(np.abs(theirs - before).max()), float(np.finfo(np.float32).tiny))
        all_off.append((off, f"found parameters of shape {theirs.shape} that differ by {off:.2g} of their change"))
    return max((off if math.isfinite(off) else math.inf, what) for off, what in all_off)
