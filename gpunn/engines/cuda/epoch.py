"""The `epoch` engine on CUDA: one launch runs a whole epoch, each network on one multiprocessor.

From compute capability 8.0 on, the first layer is multiplied on tensor cores, if a batch shows that the results are
those of `fused` there.
"""

import functools
import itertools
import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.dropout import keys
from gpunn.engines.base import (
    Engine,
    Examples,
    Parameters,
    Recipe,
    examples_reason,
    in_calls,
    kernels_reason,
    max_norm_reason,
    optimizer_reason,
    tf32_reason,
)
from gpunn.engines.checks import checked_order, own_examples, rates_of
from gpunn.engines.cuda.first_use import difference
from gpunn.equations import Array
from gpunn.kernels.formulas.steps import N_NUMBERS
from gpunn.losses import LOSSES
from gpunn.optimizers import OptimizerState
from gpunn.printing import one_line

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

    def __init__(
        self,
        backend: Backend,
        start: Parameters,
        examples: Examples,
        recipe: Recipe,
        *,
        tensor_cores: bool | None = None,
    ) -> None:
        self.threads = 1
        self._group = EpochCudaGroup(backend, [start], examples, [recipe], tensor_cores=tensor_cores)

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        reason = (
            tf32_reason(recipe)
            or ("it doesn't support label smoothing" if recipe.label_smoothing else None)
            or examples_reason(examples)
            or optimizer_reason(recipe)
            or max_norm_reason(recipe)
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
        return self._group.run_epoch({0: (order, rates)})[0]

    def prepare(self, inputs: Array) -> Array:
        return inputs

    def use(self, prepared: Array) -> None:
        self._group.use(prepared)

    def memory(self) -> OptimizerState:
        return self._group.memory(0)

    def parameters(self) -> Parameters:
        return self._group.parameters(0)


@final
class EpochCudaGroup:
    """Trains networks that one kernel serves, each by a block of its own: see `group_key`."""

    def __init__(
        self,
        backend: Backend,
        starts: Sequence[Parameters],
        examples: Examples,
        recipes: Sequence[Recipe],
        *,
        tensor_cores: bool | None = None,
    ) -> None:
        """Take the arguments of an `Engine` for each network; all are trained on `examples`.

        `tensor_cores` says whether they are used, None that they are where they can be. Raises `ValueError` for
        networks of different kinds.
        """
        if len({group_key(*pair) for pair in zip(starts, recipes, strict=True)}) > 1:
            raise ValueError("found networks of different kinds, expected ones that one kernel serves")
        images, labels, _ = own_examples(backend.xp, examples, starts[0].sizes[0], starts[0].sizes[-1])
        xp, asarray = backend.xp, backend.asarray
        self._backend, self._recipes = backend, list(recipes)
        self._functions = [tuple(start.functions) for start in starts]
        self._steps, self._epochs = [start.steps for start in starts], [start.epochs for start in starts]
        n, (self._n_images, n_pixels) = len(starts), images.shape
        if tensor_cores is None:
            tensor_cores = _use_tensor_cores(backend, starts[0], recipes[0])
        self._kernel = _kernel(starts[0], recipes[0], tensor_cores=tensor_cores)
        self._layout = layout = self._kernel.layout
        self._in_collected = _spec(starts[0], recipes[0]).optimizer == "momentum"
        # Each by itself, as equal layouts may differ in this.
        pairs = zip(starts, recipes, strict=True)
        layouts = [_kernel(*pair, tensor_cores=tensor_cores).layout for pair in pairs]
        n_collected = layout.n_parameters if any(each.collects_outside for each in layouts) else 1
        # Four pixels a word, so that the images' rows may have to be longer.
        padded = xp.zeros((self._n_images, 4 * layout.n_words), np.uint8)
        self._images = padded[:, :n_pixels]
        self.use(images)
        self._parameters = asarray(np.stack([layout.pack(start.weights, start.biases) for start in starts]))
        remembered = [self._remembered(*pair, n_collected) for pair in zip(starts, recipes, strict=True)]
        self._collected, self._moments = (asarray(np.stack(arrays)) for arrays in zip(*remembered, strict=True))
        batch_sizes = np.array([recipe.batch_size for recipe in recipes], np.int64)
        self._losses = xp.zeros((n, THREADS), np.float64)
        self._orders = xp.zeros((n, self._n_images), np.int64)
        self._drops = xp.zeros((n, max(1, layout.n_drops)), np.uint32)
        self._numbers = xp.zeros((n, -(-self._n_images // int(batch_sizes.min())), N_NUMBERS), np.float32)
        self._kernel.prepare(
            words=padded.view(np.uint32),
            labels=labels,
            orders=self._orders,
            batch_sizes=asarray(batch_sizes),
            numbers=self._numbers,
            parameters=self._parameters,
            collected=self._collected,
            moments=self._moments,
            drops=self._drops,
            losses=self._losses,
        )
        # No work, but the kernel is compiled here, and not in the first epoch's time.
        self._kernel.compile(xp.zeros(n, np.int64))
        logger.info(
            "engine epoch: parameters in %s memory, %d images at a time%s",
            "shared" if layout.in_shared else "the device's",
            layout.chunk_size,
            ", on tensor cores" if tensor_cores else "",
        )

    def run_epoch(self, epochs: Mapping[int, tuple[NDArray[Any], NDArray[np.float64] | None]]) -> dict[int, float]:
        """Train each network on its order of examples at its rates, both as in `Engine.run_epoch`.

        `epochs` has them by the network's number; networks that it lacks stay as they are. Returns the mean losses.
        """
        orders = {network: checked_order(order, self._n_images) for network, (order, _) in epochs.items()}
        parts = {network: self._parts(network, orders[network], rates) for network, (_, rates) in epochs.items()}
        losses, done = dict.fromkeys(epochs, 0.0), dict.fromkeys(epochs, 0)
        for of_all in itertools.zip_longest(*parts.values()):
            counts = np.zeros(len(self._recipes), np.int64)
            for network, part in zip(parts, of_all, strict=True):
                if part is not None:
                    self._upload(network, *part, first=done[network])
                    counts[network] = len(part[0])
                    done[network] += len(part[0])
            self._kernel.launch(self._backend.asarray(counts))
            sums = self._backend.to_host(self._losses).sum(axis=1)
            for network in np.flatnonzero(counts).tolist():
                losses[network] += float(sums[network])
        for network in epochs:
            self._epochs[network] += 1
        return {network: loss / len(orders[network]) for network, loss in losses.items()}

    def use(self, images: Array) -> None:
        """Train on other `images` (n, n_0), uint8, from now on; they are copied."""
        self._images[...] = images

    def _parts(
        self, network: int, order: NDArray[np.int64], rates: NDArray[np.float64] | None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Yield orders and rates of the launches that make up an epoch."""
        recipe = self._recipes[network]
        rates = rates_of(recipe, len(order), rates)
        return in_calls(order, rates, recipe.batch_size, MAX_WORK_PER_CALL // self._layout.n_parameters)

    def _upload(self, network: int, order: NDArray[np.int64], rates: NDArray[np.float64], *, first: int) -> None:
        """Put the order of a launch that begins at position `first`, and the numbers of its steps, on the device."""
        asarray, recipe = self._backend.asarray, self._recipes[network]
        if recipe.dropout:
            of_layers = keys(recipe.seed, self._epochs[network], self._layout.n_drops - 1)
            self._drops[network] = asarray(np.array([first, *of_layers], np.uint32))
        self._orders[network, : len(order)] = asarray(order)
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is seen to diverge
            numbers = recipe.optimizer.numbers(self._steps[network], rates, recipe.l2).astype(np.float32)
        self._numbers[network, : len(rates)] = asarray(numbers)
        self._steps[network] += len(rates)

    def _remembered(
        self, start: Parameters, recipe: Recipe, n_collected: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what batches collect, velocities with momentum or `n_collected` zeros, and other moments."""
        layout, n_layers = self._layout, len(start.weights)
        moments = recipe.optimizer.moments(np, (*start.weights, *start.biases), start.memory)
        packed = [layout.pack(each[:n_layers], each[n_layers:]) for each in moments]
        collected = np.zeros(n_collected, np.float32)
        if self._in_collected:
            collected, packed = packed[0], []
        return collected, np.concatenate(packed) if packed else np.zeros(1, np.float32)

    def memory(self, network: int) -> OptimizerState:
        """Return a copy of a network's optimiser state, on the host."""
        n, layout = self._recipes[network].optimizer.n_moments, self._layout
        packed = self._backend.to_host(self._collected if self._in_collected else self._moments)[network]
        moments = []
        for number in range(n):
            weights, biases = layout.unpack(packed[number * layout.n_parameters : (number + 1) * layout.n_parameters])
            moments.append([*weights, *biases])
        return OptimizerState(self._steps[network], tuple(moments))

    def parameters(self, network: int) -> Parameters:
        """Return a network's parameters, on the device; the next epoch may change them."""
        weights, biases = self._layout.unpack(self._parameters[network])
        return Parameters(weights, biases, self._functions[network])


def group_size() -> int:
    """Return how many networks the current GPU trains at the same time."""
    from gpunn.kernels.cuda.launch import multiprocessors

    return multiprocessors()


def group_key(start: Parameters, recipe: Recipe) -> Hashable:
    """Return what networks of one `EpochCudaGroup` have in common; the device must be active.

    Raises `ValueError` where `EpochCudaEngine` can't train the network.
    """
    with_tensor_cores = _with_tensor_cores(start, recipe)
    layouts = _kernel(start, recipe).layout, None if with_tensor_cores is None else with_tensor_cores.layout
    return layouts, _spec(start, recipe)


def _use_tensor_cores(backend: Backend, start: Parameters, recipe: Recipe) -> bool:
    """Whether the GPU has tensor cores, such a network fits its memory, and a batch is trained right on them."""
    from gpunn.kernels.cuda.jit import has_tensor_cores

    found = _with_tensor_cores(start, recipe) if has_tensor_cores() else None
    if found is None:
        return False
    penalty = 0.01 if recipe.l2 else 0.0
    checked = Recipe(
        recipe.batch_size, 0.0, loss=recipe.loss, optimizer=recipe.optimizer, l2=penalty, dropout=recipe.dropout
    )
    return _is_right(backend, tuple(start.sizes), tuple(start.functions), checked, found.layout.chunk_size)


@functools.lru_cache(maxsize=256)
def _is_right(
    backend: Backend, sizes: tuple[int, ...], functions: tuple[str, ...], recipe: Recipe, chunk_size: int
) -> bool:
    """Whether a kernel on tensor cores trains as `fused` does; what is found is kept for this process."""
    make = functools.partial(EpochCudaEngine, backend, tensor_cores=True)
    try:
        # A whole batch or chunk, and a part.
        found = difference(backend, make, sizes, functions, recipe, n=min(recipe.batch_size, chunk_size) + 3)
    except MemoryError:
        raise
    except Exception as error:  # whatever it is, the other kernel may do
        found = one_line(f"{type(error).__name__}: {error}")
    if found is not None:
        logger.warning("engine epoch: %s's tensor cores aren't used, as they give %s", backend.name, found)
    return found is None


def _kernel(start: Parameters, recipe: Recipe, *, tensor_cores: bool = False) -> Any:
    """Return the kernel for a network and a recipe, not compiled yet; raise `ValueError` where there is none."""
    from gpunn.kernels.cuda.epoch.run import EpochKernel

    spec, m = _spec(start, recipe), recipe.batch_size
    return EpochKernel(start.sizes, batch_size=m, threads=THREADS, spec=spec, tensor_cores=tensor_cores)


def _with_tensor_cores(start: Parameters, recipe: Recipe) -> Any:
    """Return the kernel that uses tensor cores, or None where a multiprocessor's memory is too small for it."""
    try:
        return _kernel(start, recipe, tensor_cores=True)
    except ValueError:
        return None


def _spec(start: Parameters, recipe: Recipe) -> Any:
    from gpunn.kernels.cuda.epoch.layout import KernelSpec

    penalized, apart = recipe.l2 > 0, recipe.optimizer.decays_apart
    functions, rule = LOSSES[recipe.loss].computed(start.functions), recipe.optimizer.rule
    return KernelSpec(functions, recipe.loss, rule, penalized and not apart, penalized and apart, recipe.dropout)
