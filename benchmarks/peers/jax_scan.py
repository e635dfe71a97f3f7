"""JAX, with the whole epoch compiled: a scan over the full batches, then the smaller last one.

The images stay uint8: XLA fuses scaling into the gathering. Parameters and moments are donated, so that they change in
place. XLA's threads are set up once, before JAX is imported, and number as many as there are cores. On a GPU it takes
memory when it needs it; by default it would take most of what there is at once. It opens one GPU, not all there are.
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
from gpunn.optimizers import SGD, Adam


def update(state: Any, gradients: Any, optimizer: Any, rate: Any) -> Any:
    """Return parameters, moments and the number of steps after one more step."""
    parameters, moments, t = state
    over, t = jax.tree.map, t + 1
    if isinstance(optimizer, Adam):
        means, squares = moments
        means = over(lambda m, d: optimizer.beta1 * m + (1 - optimizer.beta1) * d, means, gradients)
        squares = over(lambda v, d: optimizer.beta2 * v + (1 - optimizer.beta2) * d * d, squares, gradients)
        scale, correction = rate / (1 - optimizer.beta1**t), 1 / jnp.sqrt(1 - optimizer.beta2**t)
        new = over(
            lambda w, m, v: w - scale * m / (jnp.sqrt(v) * correction + optimizer.epsilon), parameters, means, squares
        )
        return new, (means, squares), t
    if optimizer.momentum:
        (velocities,) = moments
        velocities = over(lambda v, d: optimizer.momentum * v + d, velocities, gradients)
        gradients = over(lambda v, d: d + optimizer.momentum * v, velocities, gradients)
        moments = (velocities,)
    return over(lambda w, d: w - rate * d, parameters, gradients), moments, t


def train_epoch(
    state: Any, images: Any, targets: Any, order: Any, *, recipe: Recipe, softmax: bool, inputs_first: bool, rate: Any
) -> tuple[Any, Any]:
    """Return parameters, moments and the number of steps after an epoch over `order`, and its mean loss."""
    m = recipe.batch_size

    def loss(parameters: Any, X: Any, Y: Any) -> Any:
        for layer, (W, b) in enumerate(parameters, 1):
            X = X @ (W if inputs_first else W.T) + b
            if layer < len(parameters):
                X = jax.nn.relu(X) if softmax else jax.nn.sigmoid(X)
        errors = -Y * jax.nn.log_softmax(X) if softmax else (jax.nn.sigmoid(X) - Y) ** 2
        return jnp.sum(errors) / len(Y)

    def step(state: tuple[Any, Any], batch: Any) -> tuple[tuple[Any, Any], None]:
        trained, total = state
        X = images[batch].astype(jnp.float32) * (1 / 255)
        mean, gradients = jax.value_and_grad(loss)(trained[0], X, targets[batch])
        return (update(trained, gradients, recipe.optimizer, rate), total + mean * len(batch)), None

    full = len(order) // m * m
    found, _ = lax.scan(step, (state, jnp.float32(0)), order[:full].reshape(-1, m))
    if full < len(order):
        found, _ = step(found, order[full:])
    state, total = found
    return state, total / len(order)


_opened: dict[int, Any] = {}
"""The one GPU of this process, by number."""


def device_of(place: Place) -> Any:
    """Return JAX's device; raises `RuntimeError` for a second GPU, which JAX can't open later."""
    if place.kind == "cpu":
        return jax.devices("cpu")[0]
    if not _opened:
        jax.config.update("jax_cuda_visible_devices", str(place.index))
        (_opened[place.index],) = jax.devices("cuda")
    if place.index not in _opened:
        raise RuntimeError(f"JAX has opened cuda:{next(iter(_opened))} in this process, and opens no other GPU")
    return _opened[place.index]


def fresh_state(parameters: Any, optimizer: Any) -> Any:
    """Return copies of `parameters` with moments of zero and no step made."""
    number = 2 if isinstance(optimizer, Adam) else int(isinstance(optimizer, SGD) and optimizer.momentum > 0)
    moments = tuple(jax.tree.map(jnp.zeros_like, parameters) for _ in range(number))
    return jax.tree.map(jnp.copy, parameters), moments, jnp.float32(0)


@final
class JaxScan(Peer):
    """One call an epoch."""

    name = "jax"
    threads_can_be_set = False
    takes_parts = False

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        # Measured with JAX 0.10 on a CPU: wide layers are several times faster at small batches with weights
        # (n_in, n_out), everything else is faster as it is.
        self._inputs_first = place.kind == "cpu" and recipe.batch_size < 32 and len(start.biases[0]) >= 64
        self._device, self._optimizer, self._functions = device_of(place), recipe.optimizer, start.functions
        # On GPUs the default is TF32. CPUs have one precision.
        asked = {"tf32": "tensorfloat32", "float32": "highest"}[recipe.precision] if place.kind == "cuda" else None
        with jax.default_device(self._device), jax.default_matmul_precision(asked):
            self._start = [
                (jnp.array(W.T if self._inputs_first else W), jnp.array(b))
                for W, b in zip(start.weights, start.biases, strict=True)
            ]
            self._examples = (
                jnp.array(split.images),
                jnp.array(np.eye(len(start.biases[-1]), dtype=np.float32)[split.labels]),
            )
            fixed: dict[str, Any] = {"softmax": start.functions[-1] == "softmax", "inputs_first": self._inputs_first}
            epoch = partial(train_epoch, recipe=recipe, rate=recipe.learning_rate, **fixed)
            compiled: Any = jax.jit(epoch, donate_argnums=0)
            self.reset()
            order = jnp.arange(len(split), dtype=jnp.int32)
            self._epoch = compiled.lower(self._state, *self._examples, order).compile()
        # The first call of compiled code does more than others.
        self.run_epoch(np.arange(len(split)))
        self.reset()

    def reset(self) -> None:
        with jax.default_device(self._device):
            self._state = fresh_state(self._start, self._optimizer)
        jax.block_until_ready(self._state)  # type: ignore[no-untyped-call,unused-ignore]

    def run_epoch(self, order: NDArray[Any]) -> float:
        with jax.default_device(self._device):
            on_device = jnp.asarray(order.astype(np.int32))
        self._state, loss = self._epoch(self._state, *self._examples, on_device)
        jax.block_until_ready(self._state)  # type: ignore[no-untyped-call,unused-ignore]
        return float(loss)

    def parameters(self) -> Parameters:
        # Of copies: JAX keeps what was read of an array, and how long reading takes shows whether the device is done.
        weights = [np.array(jnp.copy(W.T if self._inputs_first else W)) for W, _ in self._state[0]]
        return Parameters(weights, [np.array(jnp.copy(b)) for _, b in self._state[0]], self._functions)
