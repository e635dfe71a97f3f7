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
    in_calls,
    kernel_refusal,
    rates_of,
    recipe_refusal,
    tf32_refusal,
)
from gpunn.engines.examples import Examples, examples_refusal
from gpunn.optimizers import Memory

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
        from gpunn.kernels.epoch_cuda import EpochKernel

        images, labels, _ = examples
        self._steps = 0 if start.memory is None else start.memory.steps
        xp = backend.xp
        self._backend, self._recipe = backend, recipe
        self._n_images, n_pixels = images.shape
        self._kernel = EpochKernel(start.sizes, batch_size=recipe.batch_size, threads=THREADS)
        self._layout = layout = self._kernel.layout
        # Four pixels a word, so that the images' rows may have to be longer.
        padded = xp.zeros((self._n_images, 4 * layout.n_words), np.uint8)
        padded[:, :n_pixels] = images
        packed = layout.pack(start.weights, start.biases)
        self._parameters = backend.asarray(packed[np.newaxis])
        self._losses = xp.zeros((1, THREADS), np.float64)
        self._order = xp.zeros((1, self._n_images), np.int64)
        self._rates = xp.zeros(1, np.float32)
        self._kernel.prepare(
            words=padded.view(np.uint32),
            labels=labels,
            orders=self._order,
            batch_sizes=backend.asarray(np.array([recipe.batch_size], np.int64)),
            learning_rates=self._rates,
            parameters=self._parameters,
            collected=xp.zeros((1, layout.n_parameters if layout.collects_outside else 1), np.float32),
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
            or recipe_refusal(start, recipe)
            or kernel_refusal(backend, start)
        )
        if reason is None and recipe.schedule.within_epochs:
            return f"a launch has one learning rate, and the schedule {recipe.schedule} changes it from batch to batch"
        if reason is not None:
            return reason
        products = recipe.batch_size * start.n_weights
        if products > AT_ONCE:
            return f"found batches of {products:,} multiplications, expected at most {AT_ONCE:,} in a launch"
        from gpunn.kernels.epoch_cuda import EpochKernel

        try:
            with backend.activate():
                EpochKernel(start.sizes, batch_size=recipe.batch_size, threads=THREADS)
        except ValueError as error:
            return str(error)
        return None

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        order = checked_order(order, self._n_images)
        rates = rates_of(self._recipe, len(order), rates)
        self._steps += len(rates)
        if len(rates) and rates.min() < rates.max():
            raise ValueError("found several learning rates, expected one for all batches of an epoch")
        self._rates.fill(float(rates[0]) if len(rates) else 0.0)
        loss = 0.0
        for part, _ in in_calls(order, rates, self._recipe.batch_size, AT_ONCE // self._layout.n_parameters):
            self._order[0, : len(part)] = self._backend.asarray(part)
            self._count.fill(len(part))
            self._kernel.launch(self._count)
            loss += float(self._backend.to_host(self._losses).sum())
        return loss / len(order)

    def memory(self) -> Memory:
        return Memory(self._steps, ())

    def parameters(self) -> Parameters:
        packed = self._backend.to_host(self._parameters)[0]
        weights, biases = self._layout.unpack(packed)
        asarray = self._backend.asarray
        return Parameters([asarray(W) for W in weights], [asarray(b) for b in biases])
