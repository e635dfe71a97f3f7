"""`train`: one network, by one engine on one device, or over several processes."""

import logging
import os
from collections.abc import Callable
from typing import Any

from gpunn.averaging import Averaging
from gpunn.backends import Backend
from gpunn.checkpoints import Checkpoint, device_of, engine_of, saved
from gpunn.datasets.split import Dataset, Split
from gpunn.defaults import EPOCHS
from gpunn.distortion import Distortion
from gpunn.distributed import Ranks, over_ranks
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import Parameters
from gpunn.engines.runner import on_device
from gpunn.history import History, goes_on
from gpunn.network import MLP
from gpunn.optimizers import PLAIN, Optimizer
from gpunn.plan import plan_for
from gpunn.schedules import CONSTANT, Schedule
from gpunn.session import Session

logger = logging.getLogger(__name__)


@over_ranks
def train(
    net: MLP,
    data: Split | Dataset,
    *,
    epochs: int = EPOCHS,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    test: Split | None = None,
    device: str | Backend = "auto",
    engine: str = "auto",
    precision: str = "float32",
    loss: str | None = None,
    optimizer: str | Optimizer = PLAIN,
    l2: float = 0.0,
    schedule: str | Schedule = CONSTANT,
    dropout: float = 0.0,
    distort: str | Distortion | None = None,
    label_smoothing: float = 0.0,
    average: float | Averaging | None = None,
    max_norm: float = 0.0,
    early_stopping: EarlyStopping | None = None,
    seed: int = 0,
    checkpoint: str | bytes | os.PathLike[str] | Checkpoint | None = None,
    resume: str | bytes | os.PathLike[str] | None = None,
    progress: bool = False,
    on_epoch: Callable[[History], bool | None] | None = None,
    distributed: Any = None,
    average_every: int | None = None,  # noqa: ARG001 - `over_ranks` takes it
) -> History:
    """Train `net` by mini-batch gradient descent with back-propagation; each epoch replaces its weights and biases.

    `data` is a `Split`, or a `Dataset`, whose test split is used unless `test` is given. After every epoch the `test`
    examples and a sample of the training examples are evaluated. The defaults are those of `gpunn train`: 15 epochs,
    batch size 32 (or all examples if there are fewer), and the learning rate of
    `gpunn.defaults.default_learning_rate`.

    `batch_size=len(split)` is batch gradient descent, 1 is online learning; the last batch of an epoch is smaller if
    the batch size doesn't divide the number of examples. Each epoch shuffles the examples with a generator seeded by
    `seed` on the host, so every device and engine sees the same batches; use another seed to continue training.

    `progress=True` prints one line an epoch. `on_epoch` is called after each epoch with the history so far, when `net`
    is already up to date; if it returns False, training stops. If the network does no better than guessing, the logger
    `gpunn.training` warns once, and the warning is added to the history's `warnings`.

    After Ctrl-C (`KeyboardInterrupt` propagates) or an error, `net` holds the parameters of the last finished epoch,
    or of the best one with early stopping.

    `checkpoint` is a file, or a `Checkpoint`, that keeps the state after finished epochs, also after Ctrl-C or an
    error. With the same arguments, `resume` goes on from such a file, or begins where there is none. The result has the
    bits of an uninterrupted training; on another device or by another engine, which is warned of, it is the same to
    rounding. "auto" is then the device and engine of the file, if they can be used. `epochs` may differ if the learning
    rates of the finished epochs don't depend on it, nor does what `average` counts of them.

    `loss` is a name from `gpunn.losses`; the default is cross-entropy for softmax outputs, otherwise squared error.
    `optimizer` is a name ("sgd", "momentum", "nesterov", "adam", "adamw") or an object from `gpunn.optimizers`;
    `schedule` a name ("constant", "step", "exponential", "cosine", "one-cycle"), optionally with arguments
    ("step:10,0.5"), or an object from `gpunn.schedules`. For `l2`, `dropout` and `max_norm` see
    `gpunn.engines.Recipe`. `distort` is a name ("affine", "simard", "ciresan") or a `gpunn.Distortion`: each epoch then
    trains on images distorted anew, drawn from `seed`; the images of `data` stay as they are, and those evaluated are
    never distorted. Of each class's target, 1, `label_smoothing` is spread evenly over all classes; losses of
    evaluations are those of whole ones. With `average`, a share of the epochs or a `gpunn.Averaging`, the network after
    each of the last epochs is the average of those so far. With
    `early_stopping`, `net` ends with the parameters that were best on the held-out examples. Engines differ in what
    they support: "auto" picks one that supports the settings.

    `precision="tf32"` multiplies with 10-bit mantissas on GPUs, which is faster for large networks; see
    `gpunn.engines.Recipe`. `device="auto"` is the device that is estimated to be done first, see
    `gpunn.engines.devices`; training falls back to the CPU if the GPU's memory is too small.

    `distributed`, a communicator of mpi4py, trains one network over its processes, all of which call this alike and
    return the same weights and history; the first one prints. Each computes its part of every batch, and every step is
    made by the sum of their gradients, so the result is that of one process to rounding. `average_every=N` is another
    way of training, for batches too small to pay for a message each: every process makes N steps on batches of its own,
    then all take the mean of their weights. See `gpunn.distributed`.

    Raises `ConfigurationError` for invalid arguments, and for a checkpoint of another network, recipe or other data;
    `DataError` for data that doesn't fit the network, `ModelFileError` for a damaged checkpoint, `OutputError` if none
    can be written, `DeviceError` if the device can't be used, and `DivergenceError` if the loss or a parameter becomes
    non-finite.
    """
    plan = plan_for(
        net,
        data,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        test=test,
        engine=engine,
        precision=precision,
        loss=loss,
        optimizer=optimizer,
        l2=l2,
        schedule=schedule,
        dropout=dropout,
        distort=distort,
        label_smoothing=label_smoothing,
        average=average,
        max_norm=max_norm,
        early_stopping=early_stopping,
        seed=seed,
    )
    ranks: Ranks | None = distributed
    if ranks is not None:
        plan = plan.over(ranks)

    def tell(history: History) -> bool:
        if progress and (ranks is None or ranks.leads):
            print(history.epochs[-1].line(epochs), flush=True)  # noqa: T201 - requested by `progress`
        going_on = goes_on(None if on_epoch is None else on_epoch(history))
        return going_on if ranks is None else ranks.agree(going_on=going_on)

    saver, resumed = None, None
    if checkpoint is not None or resume is not None:
        own = checkpoint if ranks is None or ranks.leads else None
        saver, resumed = saved(own, resume, plan.run(), net=net, recipe=plan.recipe, epochs=epochs)
    if ranks is not None and resume is not None:
        start = Parameters([], []) if resumed is None else resumed.state.start
        done = 0 if resumed is None else len(resumed.epochs)
        ranks.check_alike(network=(*start.weights, *start.biases), examples=(), settings=(done,))
    asked = device
    if resumed is not None:
        net.weights, net.biases = resumed.kept
        device = device_of(resumed, device)
    division = plan.divide()
    examples = plan.examples(division)

    def run(backend: Backend) -> History:
        backend = backend if ranks is None else ranks.placed(backend, asked)
        engine_type = plan.engine_on(backend, examples, engine_of(resumed, backend))
        logger.info(
            "training %s, %s parameters, on %s, engine %s", net, f"{net.n_parameters:,}", backend.name, engine_type.name
        )
        session = Session(plan, division, backend.name, engine_type.name, tell, saver=saver, resumed=resumed)
        session.run_on(backend, engine_type, examples)
        return session.history

    before = net.weights
    try:
        return on_device(
            device,
            run,
            lambda: ranks is None and net.weights is before and precision == "float32",
            lambda: [plan.job(examples)],
        )
    finally:
        if saver is not None:
            saver.flush()
