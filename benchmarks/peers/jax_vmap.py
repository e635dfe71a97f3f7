"""JAX, with an epoch of all networks compiled as one: `vmap` over the scan of `jax_scan`.

Each network has its own order and learning rate; the images are shared.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Place
from benchmarks.peers.jax_scan import train_epoch
from benchmarks.peers.many import ManyPeer
from gpunn import Split
from gpunn.engines import Parameters, Recipe


@final
class JaxVmap(ManyPeer):
    """One call an epoch for all networks."""

    name = "jax.vmap"

    def __init__(
        self, starts: Sequence[Parameters], split: Split, recipe: Recipe, rates: NDArray[np.float32], place: Place
    ) -> None:
        self._device = jax.devices(place.kind)[place.index]
        # On GPUs the default is TF32. CPUs have one precision.
        with jax.default_device(self._device), jax.default_matmul_precision("highest"):
            self._set_up(starts, split, recipe, rates)

    def _set_up(self, starts: Sequence[Parameters], split: Split, recipe: Recipe, rates: NDArray[np.float32]) -> None:
        layers = range(len(starts[0].weights))
        self._parameters: list[tuple[Any, Any]] = [
            (jnp.stack([start.weights[n] for start in starts]), jnp.stack([start.biases[n] for start in starts]))
            for n in layers
        ]
        self._images = jnp.array(split.images)
        self._targets = jnp.array(np.eye(len(starts[0].biases[-1]), dtype=np.float32)[split.labels])
        self._rates = jnp.array(rates)

        def epoch(parameters: Any, order: Any, rate: Any, images: Any, targets: Any) -> Any:
            own: Any = replace(recipe, learning_rate=rate)
            return train_epoch(parameters, images, targets, order, recipe=own, inputs_first=False)

        mapped = jax.jit(jax.vmap(epoch, in_axes=(0, 0, 0, None, None)), donate_argnums=0)
        orders = jnp.zeros((len(starts), len(split)), jnp.int32)
        self._epoch = mapped.lower(self._parameters, orders, self._rates, self._images, self._targets).compile()

    def run_epoch(self, orders: NDArray[np.int64]) -> NDArray[np.float32]:
        with jax.default_device(self._device):
            there = jnp.asarray(orders.astype(np.int32))
        self._parameters, losses = self._epoch(self._parameters, there, self._rates, self._images, self._targets)
        for W, b in self._parameters:
            W.block_until_ready()
            b.block_until_ready()
        return np.array(losses)

    def parameters(self, number: int) -> Parameters:
        return Parameters(
            [np.array(W[number]) for W, _ in self._parameters], [np.array(b[number]) for _, b in self._parameters]
        )
