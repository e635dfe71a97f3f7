"""JAX, with the whole epoch compiled: a scan over the full batches, then the smaller last one.

The images stay uint8: XLA fuses scaling into the gathering. The parameters are donated, so that they change in place.
XLA's threads are set up once, before JAX is imported, and number as many as there are cores. On a GPU it takes memory
when it needs it; by default it would take most of what there is at once. It opens one GPU, and not all there are.
"""

import os
from functools import partial
from typing import Any, final

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # read when JAX is imported

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from benchmarks.peers.base import Peer, Place
from gpunn import Split
from gpunn.engines import Parameters, Recipe


def train_epoch(
    parameters: Any, images: Any, targets: Any, order: Any, *, recipe: Recipe, inputs_first: bool
) -> tuple[Any, Any]:
    """Return the parameters after an epoch over `order` and its mean loss."""
    m = recipe.batch_size

    def loss(parameters: Any, X: Any, Y: Any) -> Any:
        for W, b in parameters:
            X = jax.nn.sigmoid(X @ (W if inputs_first else W.T) + b)
        return jnp.sum((X - Y) ** 2) / len(Y)

    def step(state: tuple[Any, Any], batch: Any) -> tuple[tuple[Any, Any], None]:
        parameters, total = state
        X = images[batch].astype(jnp.float32) * (1 / 255)
        mean, gradients = jax.value_and_grad(loss)(parameters, X, targets[batch])
        parameters = jax.tree.map(lambda parameter, d: parameter - recipe.learning_rate * d, parameters, gradients)
        return (parameters, total + mean * len(batch)), None

    full = len(order) // m * m
    state, _ = lax.scan(step, (parameters, jnp.float32(0)), order[:full].reshape(-1, m))
    if full < len(order):
        state, _ = step(state, order[full:])
    parameters, total = state
    return parameters, total / len(order)


_opened: dict[int, Any] = {}
"""The one GPU of this process, by number."""


def _device(place: Place) -> Any:
    """Return JAX's device; raises `RuntimeError` for a second GPU, which JAX can't open later."""
    if place.kind == "cpu":
        return jax.devices("cpu")[0]
    if not _opened:
        jax.config.update("jax_cuda_visible_devices", str(place.index))
        (_opened[place.index],) = jax.devices("cuda")
    if place.index not in _opened:
        raise RuntimeError(f"JAX has opened cuda:{next(iter(_opened))} in this process, and opens no other GPU")
    return _opened[place.index]


@final
class JaxScan(Peer):
    """One call an epoch."""

    name = "jax"
    threads_can_be_set = False

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        # Measured with JAX 0.10 on a CPU: wide layers are several times faster at small batches with weights
        # (n_in, n_out), everything else is faster as it is.
        self._inputs_first = place.kind == "cpu" and recipe.batch_size < 32 and len(start.biases[0]) >= 64
        self._device = _device(place)
        # On GPUs the default is TF32. CPUs have one precision.
        asked = {"tf32": "tensorfloat32", "float32": "highest"}[recipe.precision] if place.kind == "cuda" else None
        with jax.default_device(self._device), jax.default_matmul_precision(asked):
            self._set_up(start, split, recipe)
            self._warm_up()

    def _set_up(self, start: Parameters, split: Split, recipe: Recipe) -> None:
        self._parameters: list[tuple[Any, Any]] = [
            (jnp.array(W.T if self._inputs_first else W), jnp.array(b))
            for W, b in zip(start.weights, start.biases, strict=True)
        ]
        self._images = jnp.array(split.images)
        self._targets = jnp.array(np.eye(len(start.biases[-1]), dtype=np.float32)[split.labels])
        epoch: Any = jax.jit(partial(train_epoch, recipe=recipe, inputs_first=self._inputs_first), donate_argnums=0)
        order = jnp.arange(len(split), dtype=jnp.int32)
        self._epoch = epoch.lower(self._parameters, self._images, self._targets, order).compile()

    def _warm_up(self) -> None:
        """Run an epoch with a network that is thrown away: the first call of compiled code does more than others."""
        copies = [(jnp.copy(W), jnp.copy(b)) for W, b in self._parameters]
        order = jnp.arange(len(self._images), dtype=jnp.int32)
        _, loss = self._epoch(copies, self._images, self._targets, order)
        loss.block_until_ready()

    def run_epoch(self, order: NDArray[Any]) -> float:
        with jax.default_device(self._device):
            on_device = jnp.asarray(order.astype(np.int32))
        self._parameters, loss = self._epoch(self._parameters, self._images, self._targets, on_device)
        for W, b in self._parameters:
            W.block_until_ready()
            b.block_until_ready()
        return float(loss)

    def parameters(self) -> Parameters:
        # Of copies: JAX keeps what was read of an array, and how long reading takes shows whether the device is done.
        weights = [np.array(jnp.copy(W.T if self._inputs_first else W)) for W, _ in self._parameters]
        return Parameters(weights, [np.array(jnp.copy(b)) for _, b in self._parameters])
