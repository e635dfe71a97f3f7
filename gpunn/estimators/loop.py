"""Fitting a network: choice of device, engine and recipe."""

import logging
import warnings
from dataclasses import replace

import numpy as np

from gpunn.backends import Backend
from gpunn.engines import Examples, Recipe, choose_engine
from gpunn.engines.devices import Job
from gpunn.engines.plain import PlainEngine
from gpunn.engines.runner import on_device, running
from gpunn.estimators.epochs import Epochs
from gpunn.estimators.examples import Batches, Task
from gpunn.estimators.inputs import dense_inputs
from gpunn.estimators.parameters import Settings, optimizer_of
from gpunn.estimators.progress import Progress
from gpunn.estimators.steps import Exact, Penalty

logger = logging.getLogger(__name__)

SMALL = 2_000_000
"""Multiplications per epoch below which compiling and loading kernels takes longer than training (estimated)."""

FEW = 10
"""Batches per `partial_fit` call below which creating an engine takes longer than training (measured)."""


def fit_network(
    settings: Settings, task: Task, progress: Progress, random_state: np.random.RandomState, *, incremental: bool
) -> Warning | None:
    """Train the network of `progress`: for one epoch if `incremental`, otherwise until convergence.

    Returns a warning to issue once the network is stored: training stopped by Ctrl-C or by `max_iter`. For little work,
    device="auto" is the CPU and engine="auto" is `plain`; with sample weights engine="auto" is always `plain`. `plain`
    computes in the precision of `task.X` and the network, the other engines in float32. Even after an error, `progress`
    is that of the last finished epoch. Raises the errors of `gpunn.train`.
    """
    small = task.n * sum(W.size for W in progress.network[0]) < SMALL
    small |= incremental and task.n < FEW * _batch_size(settings, task.n)
    plain = small or task.weights is not None
    engine = "plain" if plain and settings.engine == "auto" else settings.engine
    device = "cpu" if small and settings.device == "auto" else settings.device
    dtype = np.result_type(task.X.dtype, progress.network[0][0]) if engine == "plain" else np.dtype(np.float32)
    weights, biases = progress.network
    progress.network = [W.astype(dtype, copy=False) for W in weights], [b.astype(dtype, copy=False) for b in biases]

    # gpunn's squared error lacks the factor 1/2: its gradients are twice scikit-learn's.
    scale = 2.0 if task.loss == "squared_error" else 1.0
    trained, held_out = task.divide(settings, random_state)
    batches = Batches(trained, _batch_size(settings, len(trained)), task)
    penalty = Penalty(float(settings.alpha), scale)
    epochs = Epochs(settings, task, progress, batches, held_out, penalty, random_state, scale)
    examples = Examples(
        dense_inputs(task.X, dtype, grey=engine != "plain"),
        task.targets if task.targets.ndim == 1 else np.ascontiguousarray(task.targets, dtype),
        None if task.weights is None else task.weights.astype(dtype),
    )
    return on_device(
        device,
        lambda backend: _train_on(backend, engine, examples, epochs, incremental=incremental),
        lambda: not progress.epochs,
        lambda: [Job(epochs.start(), examples, _recipe(epochs), engine, 1 if incremental else settings.max_iter)],
    )


def _train_on(
    backend: Backend, engine: str, examples: Examples, epochs: Epochs, *, incremental: bool
) -> Warning | None:
    settings, progress = epochs.settings, epochs.progress
    start, recipe = epochs.start(), _recipe(epochs)
    with backend.activate():
        engine_type = choose_engine(engine, backend, start, recipe, examples)
    exact = engine_type is PlainEngine
    if exact:
        recipe = replace(recipe, l2=0.0, optimizer=Exact(optimizer_of(settings, epochs.scale), epochs.penalty))
    progress.device, progress.engine = backend.name, engine_type.name
    logger.info("fitting on %s, engine %s, %s", backend.name, engine_type.name, start.weights[0].dtype)
    try:
        with running(backend, engine_type, start, examples, recipe) as runner:
            converged = epochs.run(backend, runner, 1 if incremental else settings.max_iter, exact=exact)
    except KeyboardInterrupt:
        progress.memory = None  # may be in mid-epoch
        return UserWarning(f"training was interrupted{_what_is_left(progress)}")
    return None if converged or incremental else epochs.warning_of_max_iter()


def _what_is_left(progress: Progress) -> str:
    if not progress.epochs:
        return " before the first epoch finished: the estimator is unchanged"
    return f": the network is {'that of the last finished epoch' if progress.best is None else 'the best one so far'}"


def _batch_size(settings: Settings, n: int) -> int:
    asked = settings.batch_size
    if isinstance(asked, str):
        return min(200, n)
    if asked > n:
        message = f"batch_size must be at most {n}, the number of training examples, got {asked}: using {n}"
        warnings.warn(message, stacklevel=2)
    return int(min(asked, n))


def _recipe(epochs: Epochs) -> Recipe:
    """Return the recipe for engines; `plain` replaces its optimiser and penalty by scikit-learn's."""
    batches, settings = epochs.batches, epochs.settings
    return Recipe(
        batches.size,
        epochs.engine_rate,
        loss=epochs.task.loss,
        optimizer=optimizer_of(settings, epochs.scale),
        l2=epochs.scale * float(settings.alpha) / (batches.size * epochs.task.weight),
    )
