"""Momentum and the L2 penalty in the engine `epoch` on CPUs: velocities, and what its kernel has to know of a call."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.engines.base import Parameters, Recipe
from gpunn.optimizers import PLAIN, SGD

WORTH_WAITING = 20
"""Neurons of the first layer, for each image of a batch, from which the weights of dark pixels wait to be lit.

In larger batches few pixels stay dark, and finding out which ones takes longer than making their steps. Measured with
16 to 512 neurons at batch sizes from 1 to 15.
"""


@final
class Momentum:
    """The velocities of a network whose parameters are laid out by `layout`, of `gpunn.kernels.layout`."""

    def __init__(self, recipe: Recipe, start: Parameters, layout: Any) -> None:
        assert isinstance(recipe.optimizer, SGD)
        self._recipe, self._layout = recipe, layout
        momentum, l2 = float(recipe.optimizer.momentum), recipe.l2
        self._momentum, self._l2, self._nesterov = momentum, l2, recipe.optimizer.nesterov
        self._velocities: NDArray[np.float32] | None = None
        if momentum:
            arrays = (*start.weights, *start.biases)
            (velocities,) = recipe.optimizer.moments(np, arrays, start.memory)
            # The kernel has those of -g.
            negative = [-velocity for velocity in velocities]
            self._velocities = layout.pack(negative[: len(start.weights)], negative[len(start.weights) :])
        self._waits = layout.sparse and layout.sizes[1] >= WORTH_WAITING * recipe.batch_size
        self._powers = np.zeros(0, np.float32)
        self._rate = np.nan

    @staticmethod
    def is_needed(recipe: Recipe) -> bool:
        """Whether a recipe has momentum or a penalty."""
        return bool(recipe.optimizer != PLAIN or recipe.l2)

    def rules(self, rates: NDArray[np.float64], threads: int) -> list[Any]:
        """Return the `gpunn.kernels.momentum_cpu.Rule` of each thread, for a call with these learning `rates`."""
        from gpunn.kernels.momentum_cpu import Rule

        n_pixels, powers = self._layout.sizes[0], self._powers_for(rates)
        return [
            Rule(
                self._velocities,
                np.float32(self._momentum),
                np.float32(self._l2),
                np.bool_(self._nesterov),
                rates,
                np.bool_(len(powers) > 0),
                powers.ravel(),
                np.zeros(n_pixels, np.int64),
                np.zeros(2 * n_pixels, np.int64),
            )
            for _ in range(threads)
        ]

    def _powers_for(self, rates: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the matrices of steps in the dark; none where they aren't all of one rate, or no pixel waits."""
        from gpunn.kernels.momentum_cpu import powers_in_the_dark

        if not self._waits or not len(rates) or rates.min() != rates.max():
            return np.zeros((0, 4), np.float32)
        if rates[0] != self._rate or len(self._powers) <= len(rates):
            self._rate = float(rates[0])
            self._powers = powers_in_the_dark(self._rate, self._momentum, self._l2, self._nesterov, len(rates))
        return self._powers

    def moments(self) -> tuple[list[NDArray[Any]], ...]:
        """Return copies of the velocities, as in `gpunn.optimizers.Memory`."""
        if self._velocities is None:
            return ()
        weights, biases = self._layout.unpack(self._velocities)
        return ([-velocity for velocity in (*weights, *biases)],)
