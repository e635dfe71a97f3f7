"""Training a network: epochs, the order of the examples, evaluation and history."""

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend, get_backend
from gpunn.checks import check_number, check_whole
from gpunn.datasets.split import Split, check_alike, check_fits
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import PRECISIONS, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.threads import blas_threads
from gpunn.equations import Array
from gpunn.errors import ConfigurationError, DivergenceError, OutOfMemoryError
from gpunn.evaluation import Evaluation, evaluate_on_device
from gpunn.history import Epoch, History
from gpunn.losses import loss_for
from gpunn.network import MLP
from gpunn.optimizers import PLAIN, Optimizer
from gpunn.schedules import CONSTANT, Schedule

logger = logging.getLogger(__name__)


def train(
    net: MLP,
    split: Split,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    test: Split | None = None,
    device: str | Backend = "auto",
    engine: str = "auto",
    precision: str = "float32",
    loss: str | None = None,
    optimizer: Optimizer = PLAIN,
    l2: float = 0.0,
    schedule: Schedule = CONSTANT,
    dropout: float = 0.0,
    early_stopping: EarlyStopping | None = None,
    seed: int = 0,
    on_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train `net` by mini-batch gradient descent with back-propagation; each epoch replaces its weights and biases.

    `batch_size=len(split)` is batch gradient descent, 1 is online learning; the last batch of an epoch is smaller
    where the size doesn't divide. Each epoch sees the examples in a new order, drawn from `seed` on the host, so
    that every device and engine sees the same batches; to go on with a trained network, take another seed. `test`
    images are evaluated after every epoch. `on_epoch` is called after each with the history so far, when `net` is
    already up to date.

    After Ctrl-C (`KeyboardInterrupt` passes through) or an error, `net` is as it was after the last finished epoch, or
    with early stopping after the best one.

    `loss` is the name of one of `gpunn.losses`: cross-entropy for softmax outputs and the squared error for others,
    where none is given. `optimizer` is one of `gpunn.optimizers`, `schedule` one of `gpunn.schedules`; what `l2` and
    `dropout` are says `gpunn.engines.Recipe`. With `early_stopping` the network ends as it was when it was best on the
    examples that are held out for that. Not every engine takes every combination: "auto" chooses one that does.

    `precision` "tf32" lets a GPU multiply with 10 bits of each factor's mantissa, which is faster in large networks;
    see `gpunn.engines.Recipe`. With `device="auto"`, what doesn't fit a GPU's memory is trained on the CPU.

    Raises `ConfigurationError` for arguments out of range, `DataError` for data that doesn't fit the network,
    `DeviceError` where the device can't be used, and `DivergenceError` where the loss or a parameter is no longer
    finite.
    """
    net.check()
    check_fits(split, net.sizes)
    if test is not None:
        check_fits(test, net.sizes)
        check_alike(split, test)
    check_whole("epochs", epochs, 1)
    check_whole("seed", seed, 0)
    watched: tuple[EarlyStopping, Split] | None = None
    if dropout and len(net.sizes) == 2:
        raise ConfigurationError("found dropout and a network without hidden layers, expected a layer to drop from")
    if early_stopping is not None:
        if not isinstance(early_stopping, EarlyStopping):
            raise ConfigurationError(f"found early_stopping={early_stopping!r}, expected gpunn.EarlyStopping(...)")
        split, held_out = early_stopping.divide(split, seed)
        watched = early_stopping, held_out
    recipe = _checked_recipe(
        Recipe(
            batch_size,
            learning_rate,
            precision,
            loss_for(net.functions[-1], loss),
            optimizer,
            l2=l2,
            dropout=dropout,
            seed=seed,
            schedule=schedule,
        ),
        len(split),
    )
    backend, before = get_backend(device), net.weights
    run = partial(
        _train_on,
        net=net,
        split=split,
        epochs=epochs,
        recipe=recipe,
        test=test,
        engine=engine,
        watched=watched,
        on_epoch=on_epoch,
    )
    try:
        return run(backend)
    except OutOfMemoryError as error:
        cpu_can = recipe.precision == "float32"
        if device != "auto" or backend.name == "cpu" or net.weights is not before or not cpu_can:
            raise
        logger.info("device auto: cpu, as %s", error)
    return run(get_backend("cpu"))


def _train_on(
    backend: Backend,
    *,
    net: MLP,
    split: Split,
    epochs: int,
    recipe: Recipe,
    test: Split | None,
    engine: str,
    watched: tuple[EarlyStopping, Split] | None,
    on_epoch: Callable[[History], None] | None,
) -> History:
    start = Parameters(net.weights, net.biases, net.functions)
    on_host = Examples(split.inputs(net.dtype), split.targets(net.dtype, net.sizes[-1]))
    with backend.activate():
        engine_type = choose_engine(engine, backend, start, recipe, on_host)
    logger.info(
        "training %s, %s parameters, on %s, engine %s", net, f"{net.n_parameters:,}", backend.name, engine_type.name
    )

    history = History(backend.name, engine_type.name, recipe, None if watched is None else watched[0])
    rng = np.random.default_rng(recipe.seed)
    watch = None if watched is None else watched[0].watch()
    n_batches = -(-len(split) // recipe.batch_size)
    with backend.activate(), blas_threads(1) if engine_type.own_threads else nullcontext():
        examples = Examples(backend.asarray(on_host.inputs), backend.asarray(on_host.targets))
        evaluate_test = _evaluator(backend, net, test, recipe.loss)
        evaluate_held_out = _evaluator(backend, net, None if watched is None else watched[1], recipe.loss)
        runner = engine_type(backend, start, examples, recipe)
        for number in range(1, epochs + 1):
            order = rng.permutation(len(split))
            rates = None
            if recipe.schedule != CONSTANT:
                rates = recipe.learning_rate * recipe.schedule.factors(number - 1, epochs, n_batches)
            started = time.perf_counter()
            loss = runner.run_epoch(order, rates)
            seconds = time.perf_counter() - started

            found = runner.parameters()
            on_device = Parameters(found.weights, found.biases, net.functions)
            weights = [_host_copy(backend, W) for W in on_device.weights]
            biases = [_host_copy(backend, b) for b in on_device.biases]
            evaluation, held_out = evaluate_test(on_device), evaluate_held_out(on_device)
            losses = [loss, *(each.loss for each in (evaluation, held_out) if each is not None)]
            _check_finite(number, losses, [*weights, *biases], recipe.learning_rate)
            epoch = Epoch(number, loss, seconds, len(split) / seconds, evaluation, held_out)
            if watch is not None and held_out is not None:
                weights, biases = watch.see(held_out.loss, weights, biases)
            net.grey, net.kind = split.grey, split.kind or net.kind
            # Nothing is called between the two, so that Ctrl-C finds the network and the history of one epoch.
            net.weights, net.biases = weights, biases
            history.epochs.append(epoch)
            history.kept = number - (0 if watch is None else watch.since)
            if on_epoch is not None:
                on_epoch(history)
            if watch is not None and watch.ended:
                break
    return history


def _evaluator(backend: Backend, net: MLP, split: Split | None, loss: str) -> Callable[[Parameters], Evaluation | None]:
    """Return what evaluates parameters on `split`, which is put on the device once; on no split it finds None."""
    if split is None:
        return lambda _: None
    images = backend.asarray(split.inputs(net.dtype))
    labels = backend.asarray(split.targets(net.dtype, net.sizes[-1]))
    found = split.classes
    classes = None if found is None else backend.asarray(found)
    return lambda parameters: evaluate_on_device(backend, parameters, images, labels, loss, classes=classes)


def _checked_recipe(recipe: Recipe, n_images: int) -> Recipe:
    check_whole("batch size", recipe.batch_size, 1)
    if recipe.batch_size > n_images:
        raise ConfigurationError(
            f"found batch size {recipe.batch_size}, expected at most {n_images}, the number of images to train on"
        )
    for name, found, kind in (
        ("optimizer", recipe.optimizer, Optimizer),
        ("schedule", recipe.schedule, Schedule),
    ):
        if not isinstance(found, kind):
            raise ConfigurationError(f"found the {name} {found!r}, expected one of those in gpunn.{name}s")
    check_number("learning rate", recipe.learning_rate, above=0)
    check_number("L2 penalty", recipe.l2, least=0)
    check_number("dropout", recipe.dropout, least=0, below=1)
    if recipe.precision not in PRECISIONS:
        raise ConfigurationError(f"found the precision {recipe.precision!r}, expected {' or '.join(PRECISIONS)}")
    # A NumPy scalar would promote float32 arrays to float64.
    return replace(
        recipe,
        batch_size=int(recipe.batch_size),
        learning_rate=float(recipe.learning_rate),
        l2=float(recipe.l2),
        dropout=float(recipe.dropout),
        seed=int(recipe.seed),
    )


def _host_copy(backend: Backend, array: Array) -> NDArray[Any]:
    host = backend.to_host(array)
    return host.copy() if host is array else host


def _check_finite(epoch: int, losses: list[float], parameters: list[NDArray[Any]], learning_rate: float) -> None:
    if np.isfinite(losses).all() and all(np.isfinite(array).all() for array in parameters):
        return
    # Sigmoid networks rarely bear a rate above 3; one below that is lowered by a factor that matters.
    suggestion = min(1.0, learning_rate / 10)
    raise DivergenceError(
        f"training diverged in epoch {epoch} (the loss is {losses[-1]:g}, or parameters aren't finite): "
        f"found learning rate {learning_rate:g}, try {suggestion:g}"
    )
