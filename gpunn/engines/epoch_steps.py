"""Optimisers' steps in the engine `epoch` on CPUs: the moments, and what its kernel has to know of a call."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.engines.base import Parameters, Recipe
from gpunn.optimizers import SGD, Adam

WORTH_WAITING = 20
"""Neurons of the first layer, for each image of a batch, from which the weights of dark pixels wait to be lit.

In larger batches few pixels stay dark, and finding out which ones takes longer than making their steps. Measured with
16 to 512 neurons at batch sizes from 1 to 15.
"""


@final
class EpochSteps:
    """The moments of a network whose parameters are laid out by `layout`, of `gpunn.kernels.layout`."""

    def __init__(self, recipe: Recipe, start: Parameters, layout: Any) -> None:
        """Raise `ConfigurationError` where `start.memory` is that of another optimiser."""
        self._layout = layout
        optimizer = recipe.optimizer
        assert isinstance(optimizer, SGD | Adam)
        self._l2, self._decay = map(float, optimizer.penalties(recipe.l2))
        self._nesterov, self._beta2, self._epsilon = False, 0.0, 0.0
        if isinstance(optimizer, Adam):
            self._momentum, self._beta2, self._epsilon = map(
                float, (optimizer.beta1, optimizer.beta2, optimizer.epsilon)
            )
        else:
            self._momentum, self._nesterov = float(optimizer.momentum), optimizer.nesterov
        self._moments: list[NDArray[np.float32] | None] = [None, None]
        found = optimizer.moments(np, (*start.weights, *start.biases), start.memory)
        n = len(start.weights)
        # The kernel has the gradient times -1.
        for which, (sign, moments) in enumerate(zip((-1, 1), found, strict=False)):
            signed = [sign * moment for moment in moments]
            self._moments[which] = layout.pack(signed[:n], signed[n:])
        self._waits = isinstance(optimizer, SGD) and bool(optimizer.momentum) and layout.sparse
        self._waits &= layout.sizes[1] >= WORTH_WAITING * recipe.batch_size
        self._powers, self._rate = np.zeros((0, 4), np.float32), np.nan

    def rules(self, rates: NDArray[np.float64], steps: int, threads: int) -> list[Any]:
        """Return the `gpunn.kernels.optimizers_cpu.Rule` of each thread, for a call with these learning `rates`.

        So many `steps` have been made before.
        """
        from gpunn.kernels.optimizers_cpu import Rule

        n_pixels, (velocities, squares) = self._layout.sizes[0], self._moments
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is infinite, and seen to diverge
            powers, epsilon, l2 = self._powers_for(rates), np.float32(self._epsilon), np.float32(self._l2)
        return [
            Rule(
                velocities,
                squares,
                self._momentum,
                self._beta2,
                epsilon,
                l2,
                self._decay,
                np.bool_(self._nesterov),
                np.int64(steps),
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
        from gpunn.kernels.dark_pixels import powers_in_the_dark

        if not self._waits or not len(rates) or rates.min() != rates.max():
            return np.zeros((0, 4), np.float32)
        if rates[0] != self._rate or len(self._powers) <= len(rates):
            self._rate = float(rates[0])
            self._powers = powers_in_the_dark(self._rate, self._momentum, self._l2, self._nesterov, len(rates))
        return self._powers

    def moments(self) -> tuple[list[NDArray[Any]], ...]:
        """Return copies of the moments, as in `gpunn.optimizers.Memory`."""
        found = []
        for sign, packed in zip((-1, 1), self._moments, strict=True):
            if packed is not None:
                weights, biases = self._layout.unpack(packed)
                found.append([sign * moment for moment in (*weights, *biases)])
        return tuple(found)
