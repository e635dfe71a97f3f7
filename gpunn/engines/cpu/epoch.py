"""The `epoch` engine: one compiled kernel runs a whole epoch."""

import logging
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.backends.limits import usable_cores
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
from gpunn.engines.cpu.first_layer import multiplied_sparsely
from gpunn.engines.cpu.sharing import nonzero_of, writable_of
from gpunn.engines.cpu.steps import EpochSteps
from gpunn.engines.kinds import kind_of
from gpunn.engines.speed import SHARED_DENSE, SHARED_SPARSE, shares_pixels
from gpunn.equations import Array
from gpunn.losses import LOSSES
from gpunn.optimizers import PLAIN, OptimizerState

logger = logging.getLogger(__name__)

MAX_WORK_PER_CALL = 10**10
"""Examples times parameters that they use, per call of the kernel (at least one batch): about a second's work.

Ctrl-C takes effect between two calls.
"""

RELEASE_ALL = 2**62
"""A barrier count no run reaches; storing it releases every waiting thread."""


@final
class EpochEngine(Engine):
    """Runs a whole epoch in one compiled call; the fastest engine for all but the largest networks."""

    name = "epoch"
    own_threads = True

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:  # noqa: ARG002
        from gpunn.engines.cpu.threads import Team
        from gpunn.kernels.announcement import announced
        from gpunn.kernels.cpu.epoch.calls import calls_of, table_of
        from gpunn.kernels.cpu.epoch.layout import Layout, aligned_zeros
        from gpunn.kernels.cpu.epoch.run import TRANSPOSE_FROM, run_epoch
        from gpunn.kernels.cpu.matmul import scratch_size
        from gpunn.kernels.cpu.threads import HAS_SCHED_YIELD

        self._steps, self._epoch = start.steps, start.epochs
        self._run = run_epoch
        self._names = tuple(start.functions)
        self._recipe = recipe
        sizes = start.sizes
        examples = own_examples(np, examples, sizes[0], sizes[-1])
        self._n_images = examples.n
        sparse = multiplied_sparsely(examples)
        by_pixels = sparse and examples.grey and shares_pixels(sizes, recipe.batch_size)
        self._layout = Layout(sizes, sparse=sparse, batch_size=recipe.batch_size, by_pixels=by_pixels)
        self._parameters = self._layout.pack(start.weights, start.biases)
        steps_differ = recipe.optimizer != PLAIN or (recipe.l2 and not sparse)
        share = examples.inputs.nnz / max(1, examples.n * sizes[0]) if examples.sparse else None
        self._stepping = EpochSteps(recipe, start, self._layout, share=share) if steps_differ else None
        if self._stepping is None:  # raises for the state of another optimiser
            recipe.optimizer.moments(np, (*start.weights, *start.biases), start.memory)
        collects = recipe.batch_size > self._layout.chunk_size or self._stepping is not None
        self._collected = aligned_zeros(self._layout.n_parameters if collects else 0)
        self._work = aligned_zeros(self._layout.n_work)

        threads = min(usable_cores(), self._layout.n_shares)
        worth = recipe.batch_size >= (SHARED_SPARSE if sparse else SHARED_DENSE)
        self._team = Team(threads if worth and HAS_SCHED_YIELD else 1)
        self.threads = self._team.threads
        scratch = scratch_size(self._layout.chunk_size, sizes)
        self._scratches = [aligned_zeros(scratch) if scratch else None for _ in range(self._team.threads)]
        # The first element starts a cache line that no other data shares.
        self._counter = aligned_zeros(16).view(np.int64)
        if start.memory is None:  # not again where training resumes
            logger.info(
                "engine epoch: %d thread%s, %s inputs",
                self._team.threads,
                "s" * (self._team.threads > 1),
                "sparse" if sparse else "dense",
            )
        self._work_of_example = self._layout.n_parameters
        if share is not None:  # an example uses so many weights of the first layer, and a batch steps all of them
            unused = 1 - min(1.0, share + 1 / recipe.batch_size)
            self._work_of_example -= int(unused * sizes[0] * self._layout.layers[0].width)
        with announced(kind_of(self.name, start, recipe, examples, sparse=sparse, wide=bool(scratch))):
            self._data = _data(examples, sizes, self._layout.layers[-1].width, sparse=sparse)
            activations = LOSSES[recipe.loss].computed(self._names)
            self._table = table_of(self._layout, activations, drops=bool(recipe.dropout))
            self._calls = calls_of(
                self._layout,
                activations[-1],
                recipe.loss,
                self._data.pixels,
                self._scratches[0],
                rule=None if self._stepping is None else recipe.optimizer.rule,
                defers=self._stepping is not None and self._stepping.defers,
                shrinks=self._stepping is None and bool(recipe.l2),
                transposes=recipe.batch_size >= TRANSPOSE_FROM,
            )
            # An empty epoch compiles the kernel here, not in the time of the first epoch.
            self._run_batches(np.zeros(0, np.int64), np.zeros(0), Team(1), self._dropout(0))

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        return (
            tf32_reason(recipe)
            or examples_reason(examples, floats=True, rows=True, sparse=True)
            or optimizer_reason(recipe)
            or max_norm_reason(recipe)
            or kernels_reason(backend, start, "numba")
        )

    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        order = checked_order(order, self._n_images)
        rates = rates_of(self._recipe, len(order), rates)
        parts = in_calls(order, rates, self._recipe.batch_size, MAX_WORK_PER_CALL // self._work_of_example)
        total, first, drop = 0.0, 0, self._dropout(self._epoch)
        for part in parts:
            total += self._run_batches(*part, self._team, drop._replace(first=first))
            first += len(part[0])
        self._epoch += 1
        return total / len(order)

    def _dropout(self, epoch: int) -> Any:
        """Return the kernel's `Dropout` for an epoch, from 0."""
        from gpunn.kernels.cpu.epoch.dropout import NONE
        from gpunn.kernels.cpu.epoch.state import Dropout
        from gpunn.kernels.formulas.dropout import threshold

        share = self._recipe.dropout
        if not share:
            return NONE
        of_layers = np.array(keys(self._recipe.seed, epoch, len(self._names) - 1), np.int64)
        return Dropout(of_layers, 0, threshold(share), np.float32(1 / (1 - share)), np.float32(1 - share))

    def _run_batches(self, order: NDArray[np.int64], rates: NDArray[np.float64], team: Any, drop: Any) -> float:
        """Train on the examples `order`, whole batches, at the learning `rates`; return the sum of their losses."""
        from gpunn.kernels.cpu.epoch.state import Worker
        from gpunn.kernels.cpu.epoch.steps import NO_PLAN

        self._counter[0] = 0
        plans = [NO_PLAN] * team.threads
        steps, penalty = rates, float(self._recipe.l2)
        if self._stepping is not None:
            plans = self._stepping.plans(rates, self._steps, team.threads)
            steps, penalty = np.full(len(rates), -1.0), 0.0

        def run(thread: int) -> Any:
            try:
                return self._run(
                    Worker(thread, team.threads, self._counter, self._scratches[thread]),
                    self._data,
                    order,
                    self._table,
                    self._parameters,
                    self._collected,
                    self._work,
                    self._recipe.batch_size,
                    self._layout.chunk_size,
                    self._layout.by_columns,
                    self._layout.by_pixels,
                    steps,
                    penalty,
                    self._calls,
                    plans[thread],
                    drop,
                )
            except BaseException:
                self._counter[0] = RELEASE_ALL
                raise

        self._steps += len(rates)
        try:
            return float(sum(team.run(run)))
        except BaseException:
            # If interrupted before all threads have started, those that have would wait for ever.
            self._counter[0] = RELEASE_ALL
            raise

    def prepare(self, inputs: Array) -> Any:
        return _inputs(inputs, sparse=self._layout.sparse)

    def use(self, prepared: Any) -> None:
        pixels, images = prepared
        if type(pixels) is not type(self._data.pixels):
            raise TypeError("found inputs of another kind than the engine was made for")
        self._data = self._data._replace(pixels=pixels, images=images)

    def memory(self) -> OptimizerState:
        return OptimizerState(self._steps, () if self._stepping is None else self._stepping.moments())

    def parameters(self) -> Parameters:
        return Parameters(*self._layout.unpack(self._parameters), self._names)


def _data(examples: Examples, sizes: Sequence[int], width: int, *, sparse: bool) -> Any:
    """Return the examples as the kernel's `Data`; `width` is the padded width of the last layer."""
    from gpunn.kernels.checks import check_array
    from gpunn.kernels.cpu.epoch.state import Data, Targets

    inputs, targets, _ = examples
    n = examples.n
    if not examples.sparse:  # those are checked when they are coded
        check_array("images", inputs, np.dtype(np.uint8 if examples.grey else np.float32), (n, sizes[0]))
    labels = np.zeros(0, np.uint8)
    if examples.labeled:
        check_array("labels", targets, np.dtype(np.uint8), (n,))
        labels = targets
        rows = np.eye(sizes[-1], width, dtype=np.float32)
    else:
        check_array("targets", targets, np.dtype(np.float32), (n, sizes[-1]))
        rows = np.pad(targets, ((0, 0), (0, width - sizes[-1])))
    return Data(*_inputs(inputs, sparse=sparse), Targets(labels, rows.ravel(), np.bool_(examples.labeled)))


def _inputs(inputs: Array, *, sparse: bool) -> tuple[Any, Array | None]:
    """Return inputs as the kernel's `Data` has them: their non-zero pixels, or all."""
    return (nonzero_of(inputs), None) if sparse else (None, writable_of(inputs).ravel())
