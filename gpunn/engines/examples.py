"""The examples that an engine trains on: inputs, targets, and how much each counts."""

from typing import NamedTuple

import numpy as np

from gpunn.equations import Array


class Examples(NamedTuple):
    """`n` examples, on one device or on the host; engines say which kinds they take.

    - `inputs` (n, n_0): grey levels, uint8, which are divided by 255, or floats of the parameters' dtype;
    - `targets`: the classes, uint8 (n,), or what the outputs should be, floats of the parameters' dtype, (n, n_L);
    - `weights`, floats (n,), at least 0, or None where all examples count the same: a batch's loss is the average of
      its examples', weighted by these.
    """

    inputs: Array
    targets: Array
    weights: Array | None = None

    @property
    def grey(self) -> bool:
        """Whether the inputs are grey levels."""
        return bool(self.inputs.dtype == np.uint8)

    @property
    def labeled(self) -> bool:
        """Whether the targets are classes."""
        return bool(self.targets.ndim == 1)


def examples_refusal(
    examples: Examples | None, *, floats: bool = False, rows: bool = False, weights: bool = False
) -> str | None:
    """Return the refusal of an engine that takes grey levels and classes, and more only where it says so, or None."""
    if examples is None:
        return None
    if examples.weights is not None and not weights:
        return "it takes examples that all count the same, and found weights of examples"
    if not examples.grey and not floats:
        return f"it takes inputs of uint8 grey levels alone, and found {examples.inputs.dtype}"
    if not examples.labeled and not rows:
        return "it takes classes as targets alone, and found a row of numbers for each example"
    return None
