"""Training a network: epochs, the order of the examples, evaluation and history."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend, get_backend
from gpunn.checks import check_whole
from gpunn.datasets.split import Split, check_fits
from gpunn.engines import PRECISIONS, Parameters, Recipe, choose_engine
from gpunn.engines.threads import blas_threads
from gpunn.equations import Array
from gpunn.errors import ConfigurationError, DivergenceError, OutOfMemoryError
from gpunn.evaluation import evaluate_on_device
from gpunn.history import Epoch, History
from gpunn.network import MLP

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
    seed: int = 0,
    on_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train `net` by mini-batch gradient descent with back-propagation; each epoch replaces its weights and biases.

    `batch_size=len(split)` is batch gradient descent, 1 is online learning; the last batch of an epoch is smaller
    where the size doesn't divide. Each epoch sees the examples in a new order, drawn from `seed` on the host, so
    that every device and engine sees the same batches; to go on with a trained network, take another seed. `test`
    images are evaluated after every epoch. `on_epoch` is called after each with the history so far, when `net` is
    already up to date.

    After Ctrl-C (`KeyboardInterrupt` passes through) or an error, `net` is as it was after the last finished epoch.

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
    recipe = _checked_recipe(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
        n_images=len(split),
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
        seed=seed,
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
    seed: int,
    on_epoch: Callable[[History], None] | None,
) -> History:
    start = Parameters(net.weights, net.biases)
    with backend.activate():
        engine_type = choose_engine(engine, backend, start, recipe)
    logger.info(
        "training %s, %s parameters, on %s, engine %s", net, f"{net.n_parameters:,}", backend.name, engine_type.name
    )

    history = History(
        backend.name, engine_type.name, recipe.batch_size, recipe.learning_rate, int(seed), precision=recipe.precision
    )
    rng = np.random.default_rng(seed)
    with backend.activate(), blas_threads(1) if engine_type.own_threads else nullcontext():
        images, labels = backend.asarray(split.images), backend.asarray(split.labels)
        if test is not None:
            test_images, test_labels = backend.asarray(test.images), backend.asarray(test.labels)
        runner = engine_type(backend, start, images, labels, recipe)
        for number in range(1, epochs + 1):
            order = rng.permutation(len(split))
            started = time.perf_counter()
            loss = runner.run_epoch(order)
            seconds = time.perf_counter() - started

            on_device = runner.parameters()
            weights = [_host_copy(backend, W) for W in on_device.weights]
            biases = [_host_copy(backend, b) for b in on_device.biases]
            evaluation = None
            if test is not None:
                evaluation = evaluate_on_device(backend, on_device, test_images, test_labels)
            losses = [loss] if evaluation is None else [loss, evaluation.loss]
            _check_finite(number, losses, [*weights, *biases], recipe.learning_rate)
            epoch = Epoch(number, loss, seconds, len(split) / seconds, evaluation)
            # Nothing is called between the two, so that Ctrl-C finds the network and the history of one epoch.
            net.weights, net.biases = weights, biases
            history.epochs.append(epoch)
            if on_epoch is not None:
                on_epoch(history)
    return history


def _checked_recipe(
    *, epochs: int, batch_size: int, learning_rate: float, precision: str, seed: int, n_images: int
) -> Recipe:
    for name, value, lowest in (("epochs", epochs, 1), ("batch size", batch_size, 1), ("seed", seed, 0)):
        check_whole(name, value, lowest)
    if batch_size > n_images:
        raise ConfigurationError(f"found batch size {batch_size}, expected at most {n_images}, the number of images")
    if not isinstance(learning_rate, int | float | np.number) or not 0 < learning_rate < math.inf:
        raise ConfigurationError(f"found learning rate {learning_rate!r}, expected a finite number above 0")
    if precision not in PRECISIONS:
        raise ConfigurationError(f"found the precision {precision!r}, expected {' or '.join(PRECISIONS)}")
    # A NumPy scalar would promote float32 arrays to float64.
    return Recipe(int(batch_size), float(learning_rate), precision)


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
