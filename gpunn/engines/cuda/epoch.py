"""The `epoch` engine on CUDA: one launch runs a whole epoch, on one multiprocessor."""

import logging
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.engines.base import (
    Engine,
    Examples,
    Parameters,
    Recipe,
    dropout_reason,
    examples_reason,
    in_calls,
    kernels_reason,
    optimizer_reason,
    tf32_reason,
)
from gpunn.engines.checks import checked_order, own_examples, rates_of
from gpunn.equations import Array
from gpunn.kernels.formulas.steps import N_NUMBERS
from gpunn.losses import LOSSES
from gpunn.optimizers import OptimizerState

logger = logging.getLogger(__name__)

THREADS = 512
"""Threads of the block that trains a network."""

MAX_WORK_PER_CALL = 10**10
"""Maximum examples times parameters of a launch: less than a second by estimate.

Ctrl-C is handled between launches, and GPUs with a display stop kernels that take a few seconds.
"""


@final
class EpochCudaEngine(Engine):
    """For small networks and small batches, where launching kernels takes longer than what they compute."""

    name = "epoch"
    own_threads = False

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        images, labels, _ = own_examples(backend.xp, examples, start.sizes[0], start.sizes[-1])
        xp, asarray = backend.xp, backend.asarray
        self._backend, self._recipe, self._functions = backend, recipe, tuple(start.functions)
        self._optimizer = recipe.optimizer
        self._n_images, n_pixels = images.shape
        self._kernel = _kernel(start, recipe)
        self._layout = layout = self._kernel.layout
        # Four pixels a word, so that the images' rows may have to be longer.
        padded = xp.zeros((self._n_images, 4 * layout.n_words), np.uint8)
        padded[:, :n_pixels] = images
        self._parameters = asarray(layout.pack(start.weights, start.biases)[np.newaxis])
        self._collected, self._moments = self._remembered(start)
        self._losses = xp.zeros((1, THREADS), np.float64)
        self._order = xp.zeros((1, self._n_images), np.int64)
        self._numbers = xp.zeros((1, -(-self._n_images // recipe.batch_size), N_NUMBERS), np.float32)
        self._kernel.prepare(
            words=padded.view(np.uint32),
            labels=labels,
            orders=self._order,
            batch_sizes=asarray(np.array([recipe.batch_size], np.int64)),
            numbers=self._numbers,
            parameters=self._parameters,
            collected=self._collected,
            moments=self._moments,
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
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        reason = (
            tf32_reason(recipe)
            or examples_reason(examples)
            or optimizer_reason(recipe)
            or dropout_reason(recipe)
            or kernels_reason(backend, start)
        )
        if reason is not None:
            return reason
        products = recipe.batch_size * start.n_weights
        if products > MAX_WORK_PER_CALL:
            return f"found batches of {products:,} multiplications, expected at most {MAX_WORK_PER_CALL:,} in a launch"
        try:
            with backend.activate():
                _kernel(start, recipe)
        except ValueError as error:
            return str(error)
        return None

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        order = checked_order(order, self._n_images)
        rates = rates_of(self._recipe, len(order), rates)
        asarray, loss = self._backend.asarray, 0.0
        for part, its_rates in in_calls(
            order, rates, self._recipe.batch_size, MAX_WORK_PER_CALL // self._layout.n_parameters
        ):
            self._order[0, : len(part)] = asarray(part)
            with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is seen to diverge
                numbers = self._optimizer.numbers(self._steps, its_rates, self._recipe.l2).astype(np.float32)
            self._numbers[0, : len(its_rates)] = asarray(numbers)
            self._steps += len(its_rates)
            self._count.fill(len(part))
            self._kernel.launch(self._count)
            loss += float(self._backend.to_host(self._losses).sum())
        return loss / len(order)

    def _remembered(self, start: Parameters) -> tuple[Array, Array]:
        """Return what batches collect, velocities with momentum, and other moments, on the device."""
        layout, optimizer = self._layout, self._optimizer
        self._steps = start.steps
        n_layers = len(start.weights)
        moments = optimizer.moments(np, (*start.weights, *start.biases), start.memory)
        packed = [layout.pack(each[:n_layers], each[n_layers:]) for each in moments]
        self._in_collected = _spec(start, self._recipe).optimizer == "momentum"
        collected = np.zeros(layout.n_parameters if layout.collects_outside else 1, np.float32)
        if self._in_collected:
            collected, packed = packed[0], []
        rest = np.concatenate(packed) if packed else np.zeros(1, np.float32)
        return self._backend.asarray(collected[np.newaxis]), self._backend.asarray(rest[np.newaxis])

    def memory(self) -> OptimizerState:
        n, layout = self._optimizer.n_moments, self._layout
        packed = self._backend.to_host(self._collected if self._in_collected else self._moments)[0]
        moments = []
        for number in range(n):
            weights, biases = layout.unpack(packed[number * layout.n_parameters : (number + 1) * layout.n_parameters])
            moments.append([*weights, *biases])
        return OptimizerState(self._steps, tuple(moments))

    def parameters(self) -> Parameters:
        weights, biases = self._layout.unpack(self._parameters[0])
        return Parameters(weights, biases, self._functions)


def _kernel(start: Parameters, recipe: Recipe) -> Any:
    """Return the kernel for a network and a recipe, not compiled yet; raise `ValueError` where there is none."""
    from gpunn.kernels.cuda.epoch.run import EpochKernel

    spec = _spec(start, recipe)
    return EpochKernel(start.sizes, batch_size=recipe.batch_size, threads=THREADS, spec=spec)


def _spec(start: Parameters, recipe: Recipe) -> Any:
    from gpunn.kernels.cuda.epoch.layout import KernelSpec

    penalized, apart = recipe.l2 > 0, recipe.optimizer.decays_apart
    functions, rule = LOSSES[recipe.loss].computed(start.functions), recipe.optimizer.rule
    return KernelSpec(functions, recipe.loss, rule, l2=penalized and not apart, decay=penalized and apart)
