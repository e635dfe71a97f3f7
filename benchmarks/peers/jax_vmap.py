"""JAX, with an epoch of all networks compiled as one: `vmap` over the scan of `jax_scan`.

Each network has its own order and learning rate; the images are shared.
"""

from collections.abc import Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import ManyPeer, Place
from benchmarks.peers.jax_scan import device_of, train_epoch
from gpunn import Split
from gpunn.engines import Parameters, Recipe


@final
class JaxVmap(ManyPeer):
    """One call an epoch for all networks."""

    name = "jax.vmap"

    def __init__(
        self, starts: Sequence[Parameters], split: Split, recipe: Recipe, rates: NDArray[np.float32], place: Place
    ) -> None:
        self._device = device_of(place)
        self._starts, self._rates = starts, rates
        # On GPUs the default is TF32. CPUs have one precision.
        with jax.default_device(self._device), jax.default_matmul_precision("highest"):
            self._shared = (
                jnp.array(rates),
                jnp.array(split.images),
                jnp.array(np.eye(len(starts[0].biases[-1]), dtype=np.float32)[split.labels]),
            )

            def epoch(parameters: Any, order: Any, rate: Any, images: Any, targets: Any) -> Any:
                state: Any = (parameters, (), jnp.float32(0))
                options: dict[str, Any] = {"softmax": False, "inputs_first": False}
                state, loss = train_epoch(state, images, targets, order, recipe=recipe, rate=rate, **options)
                return state[0], loss

            mapped = jax.jit(jax.vmap(epoch, in_axes=(0, 0, 0, None, None)), donate_argnums=0)
            self.reset()
            orders = jnp.zeros((len(starts), len(split)), jnp.int32)
            self._epoch = mapped.lower(self._parameters, orders, *self._shared).compile()

    def reset(self) -> None:
        with jax.default_device(self._device):
            self._parameters: list[tuple[Any, Any]] = [
                (
                    jnp.array(np.stack([start.weights[layer] for start in self._starts])),
                    jnp.array(np.stack([start.biases[layer] for start in self._starts])),
                )
                for layer in range(len(self._starts[0].weights))
            ]

    def run_epoch(self, orders: NDArray[np.int64]) -> NDArray[np.float32]:
        with jax.default_device(self._device):
            there = jnp.asarray(orders.astype(np.int32))
        self._parameters, losses = self._epoch(self._parameters, there, *self._shared)
        jax.block_until_ready(self._parameters)  # type: ignore[no-untyped-call,unused-ignore]
        return np.array(losses)

    def parameters(self, number: int) -> Parameters:
        return Parameters(
            [np.array(W[number]) for W, _ in self._parameters], [np.array(b[number]) for _, b in self._parameters]
        )
