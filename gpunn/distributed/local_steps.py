"""Local steps by any engine, and now and then the mean of all ranks' parameters and moments."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.engines import Engine, Parameters, Recipe
from gpunn.engines.checks import rates_of
from gpunn.engines.data_parallel import Sharing, views
from gpunn.engines.runner import on_host
from gpunn.optimizers import OptimizerState

AVERAGING = 4
"""Second seed component of the seeds of local steps' dropout masks; for others see `gpunn.dropout`."""


@final
class LocalSteps:
    """Trains like an engine: every rank on whole batches of its own, with a mean of all ranks every few steps.

    Of an epoch's batches, rank r of n takes those numbered r, r + n, r + 2 n, ... A rank counts in a mean by the steps
    that it has made since the last one, so those without any left don't count. Dropout's masks differ by rank.
    """

    def __init__(
        self,
        ranks: Sharing,
        backend: Backend,
        make: Callable[[Parameters, Recipe], Engine],
        start: Parameters,
        recipe: Recipe,
        *,
        every: int,
    ) -> None:
        """Start from `start`, on the host, by engines that `make` returns; a mean is taken after `every` steps."""
        self._ranks, self._backend, self._make, self._recipe, self._every = ranks, backend, make, recipe, every
        self._steps = start.steps
        # Each mean begins with dropout's masks of a first epoch, of another seed.
        self._engine = self._made(replace(start, epochs=0))

    def _made(self, start: Parameters) -> Engine:
        seeds = np.random.SeedSequence((self._recipe.seed, AVERAGING, self._steps, self._ranks.rank))
        return self._make(start, replace(self._recipe, seed=int(seeds.generate_state(1)[0])))

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        """Train once on every example in `order`, as an engine does; all ranks are called alike."""
        ranks, m = self._ranks, self._recipe.batch_size
        rates = rates_of(self._recipe, len(order), rates)
        own = np.arange(ranks.rank, len(rates), ranks.size)
        longest = -(-len(rates) // ranks.size)
        loss = 0.0
        for first in range(0, longest, self._every):
            batches = own[first : first + self._every]
            if len(batches):
                # Only the epoch's last batch can be smaller, and it is the last one here too.
                rows = np.concatenate([order[number * m : (number + 1) * m] for number in batches])
                loss += self._engine.run_epoch(rows, rates[batches]) * len(rows)
            self._steps += min(self._every, longest - first)
            self._average(len(batches))
        return ranks.total(loss) / len(order)

    def _average(self, weight: int) -> None:
        """Go on from the mean of all ranks' parameters and moments, in which this one counts `weight` times."""
        found, memory = self._engine.parameters(), self._engine.memory()
        groups: Sequence[Sequence[NDArray[Any]]] = [*on_host(self._backend, found), *memory.moments]
        arrays = [array for group in groups for array in group]
        n = sum(array.size for array in arrays)
        buffer = self._ranks.buffer(np, n + 1, arrays[0].dtype)
        parts = views(buffer, [array.shape for array in arrays])
        for array, part in zip(arrays, parts, strict=True):
            np.multiply(array, weight, out=part)
        buffer[n] = weight
        self._ranks.add_up(buffer)
        buffer[:n] /= buffer[n]
        means = iter(parts)
        weights, biases, *moments = [[next(means) for _ in group] for group in groups]
        state = OptimizerState(self._steps, tuple(moments))
        self._engine = self._made(Parameters(weights, biases, found.functions, state))

    def parameters(self) -> Parameters:
        """Return what `Engine.parameters` does: the last mean."""
        return self._engine.parameters()

    def memory(self) -> OptimizerState:
        """Return what `Engine.memory` does: the last mean."""
        return self._engine.memory()
