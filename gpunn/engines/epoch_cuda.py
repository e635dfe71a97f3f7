"""The `epoch` engine on CUDA: one launch runs a whole epoch, on one multiprocessor."""

import logging
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.engines.base import (
    Engine,
    Parameters,
    Recipe,
    checked_order,
    dropout_refusal,
    in_calls,
    kernel_refusal,
    rates_of,
    tf32_refusal,
)
from gpunn.engines.examples import Examples, examples_refusal
from gpunn.optimizers import SGD, Memory

logger = logging.getLogger(__name__)

THREADS = 512
"""In the block that trains the network."""

AT_ONCE = 10**11
"""Examples times parameters that one launch is given: a few seconds' work, reckoned. Between two Ctrl-C is heeded."""


@final
class EpochCudaEngine(Engine):
    """For small networks and small batches, where launching kernels takes longer than what they compute."""

    name = "epoch"
    own_threads = False

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        images, labels, _ = examples
        self._steps = 0 if start.memory is None else start.memory.steps
        xp, asarray = backend.xp, backend.asarray
        self._backend, self._recipe, self._functions = backend, recipe, tuple(start.functions)
        self._n_images, n_pixels = images.shape
        self._kernel = _kernel(start, recipe)
        self._layout = layout = self._kernel.layout
        # Four pixels a word, so that the images' rows may have to be longer.
        padded = xp.zeros((self._n_images, 4 * layout.n_words), np.uint8)
        padded[:, :n_pixels] = images
        self._parameters = asarray(layout.pack(start.weights, start.biases)[np.newaxis])
        moments = recipe.optimizer.moments(np, (*start.weights, *start.biases), start.memory)
        n_layers = len(start.weights)
        if moments:
            collected = layout.pack(moments[0][:n_layers], moments[0][n_layers:])
        else:
            collected = np.zeros(layout.n_parameters if layout.collects_outside else 1, np.float32)
        self._collected = asarray(collected[np.newaxis])
        self._losses = xp.zeros((1, THREADS), np.float64)
        self._order = xp.zeros((1, self._n_images), np.int64)
        self._rates = xp.zeros((1, -(-self._n_images // recipe.batch_size)), np.float32)
        self._kernel.prepare(
            words=padded.view(np.uint32),
            labels=labels,
            orders=self._order,
            batch_sizes=asarray(np.array([recipe.batch_size], np.int64)),
            learning_rates=self._rates,
            momenta=asarray(np.array([_momentum(recipe)], np.float32)),
            penalties=asarray(np.array([recipe.l2], np.float32)),
            parameters=self._parameters,
            collected=self._collected,
            losses=self._losses,
        )
        self._count = xp.zeros(1, np.int64)
        # No work, but the kernel is compiled here, and not in the first epoch's time.
        self._kernel.compile(self._count)
        logger.info(
            "engine epoch: parameters in %s memory, %d images at a time",
            "shared" if layout.in_shared else "the device's",
            layout.chunk_size,
        )

    @classmethod
    def refusal(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        reason = (
            tf32_refusal(recipe)
            or examples_refusal(examples)
            or _optimizer_refusal(recipe)
            or dropout_refusal(recipe)
            or kernel_refusal(backend, start)
        )
        if reason is not None:
            return reason
        products = recipe.batch_size * start.n_weights
        if products > AT_ONCE:
            return f"found batches of {products:,} multiplications, expected at most {AT_ONCE:,} in a launch"
        try:
            with backend.activate():
                _kernel(start, recipe)
        except ValueError as error:
            return str(error)
        return None

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        order = checked_order(order, self._n_images)
        rates = rates_of(self._recipe, len(order), rates)
        self._steps += len(rates)
        asarray, loss = self._backend.asarray, 0.0
        for part, its_rates in in_calls(order, rates, self._recipe.batch_size, AT_ONCE // self._layout.n_parameters):
            self._order[0, : len(part)] = asarray(part)
            self._rates[0, : len(its_rates)] = asarray(its_rates.astype(np.float32))
            self._count.fill(len(part))
            self._kernel.launch(self._count)
            loss += float(self._backend.to_host(self._losses).sum())
        return loss / len(order)

    def memory(self) -> Memory:
        if not self._recipe.optimizer.n_moments:
            return Memory(self._steps, ())
        weights, biases = self._layout.unpack(self._backend.to_host(self._collected)[0])
        return Memory(self._steps, ([*weights, *biases],))

    def parameters(self) -> Parameters:
        packed = self._backend.to_host(self._parameters)[0]
        weights, biases = self._layout.unpack(packed)
        asarray = self._backend.asarray
        return Parameters([asarray(W) for W in weights], [asarray(b) for b in biases], self._functions)


def _kernel(start: Parameters, recipe: Recipe) -> Any:
    """Return the kernel for a network and a recipe, not compiled yet; raise `ValueError` where there is none."""
    from gpunn.kernels.epoch_cuda import EpochKernel
    from gpunn.kernels.task_cuda import Task

    momentum, l2 = _momentum(recipe) > 0, recipe.l2 > 0
    task = Task(tuple(start.functions), recipe.loss, momentum=momentum, l2=l2)
    return EpochKernel(start.sizes, batch_size=recipe.batch_size, threads=THREADS, task=task)


def _momentum(recipe: Recipe) -> float:
    return recipe.optimizer.momentum if isinstance(recipe.optimizer, SGD) else 0.0


def _optimizer_refusal(recipe: Recipe) -> str | None:
    """Return the refusal of an optimiser that isn't SGD with or without momentum, or None."""
    optimizer = recipe.optimizer
    if isinstance(optimizer, SGD) and not optimizer.nesterov:
        return None
    return f"it takes gradient descent and momentum alone, and found the optimiser {optimizer}"
