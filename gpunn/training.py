"""Training loop: epochs, shuffling, evaluation and history."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from gpunn.averaging import Average, Averaging, averaging_for
from gpunn.backends import Backend
from gpunn.checkpoint_file import Resumed, State
from gpunn.checkpoints import Checkpoint, Saver, place_of, run_of, saved
from gpunn.checks import check_number, check_whole
from gpunn.datasets.split import Dataset, Split, check_alike, check_fits
from gpunn.defaults import EPOCHS, default_batch_size, default_learning_rate
from gpunn.distortion import Distortion, distortion_for, shape_to_distort
from gpunn.distributed import Ranks, over_ranks
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import PRECISIONS, Engine, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.devices import Job
from gpunn.engines.distorting import Distorted
from gpunn.engines.runner import Runner, Trained, alone, on_device, running
from gpunn.errors import ConfigurationError, DivergenceError
from gpunn.evaluation import Evaluation, evaluate_on_device, inputs_on_device
from gpunn.guessing import ENOUGH_EXAMPLES, ENOUGH_STEPS, Guessing
from gpunn.history import Epoch, History, goes_on
from gpunn.losses import loss_for, smoothed
from gpunn.network import MLP
from gpunn.optimizers import PLAIN, Optimizer, optimizer_for
from gpunn.schedules import CONSTANT, Schedule, schedule_for

logger = logging.getLogger(__name__)

TRAIN_SAMPLE = 10_000
"""Number of training examples, evenly spaced, for the training accuracy after each epoch."""


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
    rates of the finished epochs don't depend on it.

    `loss` is a name from `gpunn.losses`; the default is cross-entropy for softmax outputs, otherwise squared error.
    `optimizer` is a name ("sgd", "momentum", "nesterov", "adam", "adamw") or an object from `gpunn.optimizers`;
    `schedule` a name ("constant", "step", "exponential", "cosine", "one-cycle"), optionally with arguments
    ("step:10,0.5"), or an object from `gpunn.schedules`. For `l2` and `dropout` see `gpunn.engines.Recipe`. `distort`
    is a name ("affine", "simard", "ciresan") or a `gpunn.Distortion`: each epoch then trains on images distorted anew,
    drawn from `seed`; the images of `data` stay as they are, and those evaluated are never distorted. Of each class's
    target, 1, `label_smoothing` is spread evenly over all classes; losses of evaluations are those of whole ones. With
    `average`, a share of the epochs or a `gpunn.Averaging`, the network after each of the last epochs is the average of
    those so far. With
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
        early_stopping=early_stopping,
        seed=seed,
    )
    ranks: Ranks | None = distributed
    if ranks is not None:
        plan = plan.over(ranks)
    if plan.recipe.average is not None and not (checkpoint is None and resume is None):
        raise ConfigurationError("checkpoints don't keep the average so far: choose average, or checkpoint and resume")

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
    asked, adopted = device, engine
    if resumed is not None:
        net.weights, net.biases = resumed.kept
        device, adopted = place_of(resumed, device, engine)
    division = plan.divide()
    examples = plan.examples(division)

    def run(backend: Backend) -> History:
        backend = backend if ranks is None else ranks.placed(backend, asked)
        try:
            engine_type = replace(plan, engine=adopted).engine_on(backend, examples)
        except ConfigurationError:
            if adopted == engine:
                raise
            engine_type = plan.engine_on(backend, examples)
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


Evaluator = Callable[[Parameters], Evaluation | None]
"""Evaluates parameters on some examples; without examples it returns None."""


class Evaluators(NamedTuple):
    """Evaluators of the test examples, of a sample of the training examples, and of those held out."""

    test: Evaluator
    train: Evaluator
    held_out: Evaluator


class Division(NamedTuple):
    """The examples to train on, and those held out for early stopping."""

    split: Split
    held_out: Split | None


@dataclass(frozen=True)
class Plan:
    """How a network is to be trained, checked. `suited` is the learning rate that suits it.

    It holds no copy of the examples: see `divide`.
    """

    net: MLP
    data: Split
    """All examples, those held out included."""
    epochs: int
    recipe: Recipe
    suited: float
    test: Split | None
    engine: str
    early_stopping: EarlyStopping | None
    ranks: Ranks | None = None
    """The processes that train it together."""

    def over(self, ranks: Ranks) -> "Plan":
        """Return this plan for `ranks`; raises `ConfigurationError` if theirs differ, or have too little to do."""
        net, split = self.net, self.data
        splits = [split] if self.test is None else [split, self.test]
        arrays = ((*net.weights, *net.biases), [array for each in splits for array in (each.images, each.labels)])
        settings = (
            *(net.functions, self.epochs, self.recipe, self.early_stopping, self.test is None, self.engine),
            ranks.average_every,
        )
        ranks.check_alike(network=arrays[0], examples=arrays[1], settings=settings)
        ranks.check_enough(self.n, self.recipe.batch_size)
        if self.recipe.distort is not None and ranks.average_every is not None:
            raise ConfigurationError("distort needs ranks that share batches: choose it or average_every")
        return replace(self, ranks=ranks)

    @property
    def start(self) -> Parameters:
        """The network's parameters."""
        return Parameters(self.net.weights, self.net.biases, self.net.functions)

    def run(self) -> dict[str, Any]:
        """Return what a checkpoint, and a training that goes on from it, have in common, in JSON types."""
        found, ranks = run_of(self.net, self.recipe, self.early_stopping, self.data, self.test), self.ranks
        if ranks is not None and ranks.average_every is not None:  # which makes another network
            found |= {"average_every": ranks.average_every, "ranks": ranks.size}
        return found

    @property
    def n(self) -> int:
        """Number of examples to train on."""
        n, rule = len(self.data), self.early_stopping
        return n if rule is None else n - rule.n_held_out(n)

    def divide(self) -> Division:
        """Return the examples to train on and those held out: with early stopping copies, otherwise all and none."""
        if self.early_stopping is None:
            return Division(self.data, None)
        return Division(*self.early_stopping.divide(self.data, self.recipe.seed))

    def examples(self, division: Division) -> Examples:
        """Return the training examples, on the host."""
        split, net = division.split, self.net
        return Examples(split.inputs(net.dtype), self.targets(split))

    def targets(self, split: Split) -> NDArray[Any]:
        """Return the targets of `split` to train on."""
        dtype, n_outputs, share = self.net.dtype, self.net.sizes[-1], self.recipe.label_smoothing
        targets = split.targets(dtype, n_outputs)
        return smoothed(targets, n_outputs, share, dtype) if share else targets

    def distorted(self, division: Division) -> Distorted | None:
        """Return how the examples to train on are distorted, or None if they aren't."""
        split, distortion = division.split, self.recipe.distort
        if distortion is None:
            return None
        return Distorted(distortion, shape_to_distort(split), distortion.ease(split), self.recipe.seed)

    def job(self, examples: Examples) -> Job:
        """Return what the choice of a device needs to know."""
        return Job(self.start, examples, self.recipe, self.engine, self.epochs)

    def evaluators(self, backend: Backend, engine: type[Engine], division: Division) -> Evaluators:
        """Return the evaluations after each epoch of `engine`, with their examples on the device of `backend`."""
        split, held_out = division
        sample = None if self.test is None else _sample(split)
        with backend.activate():
            # Only compiled engines for CPUs have threads of their own.
            evaluator = partial(
                _evaluator, backend, self.net, loss=self.recipe.loss, compiled=engine.own_threads, ranks=self.ranks
            )
            return Evaluators(*map(evaluator, (self.test, sample, held_out)))

    def engine_on(self, backend: Backend, examples: Examples) -> type[Engine]:
        """Return the engine that trains this on `backend`; raises the errors of `choose_engine`."""
        with backend.activate():
            choose = choose_engine if self.ranks is None else self.ranks.choose_engine
            return choose(self.engine, backend, self.start, self.recipe, examples)


def plan_for(
    net: MLP,
    data: Split | Dataset,
    *,
    epochs: int,
    batch_size: int | None,
    learning_rate: float | None,
    test: Split | None,
    engine: str,
    precision: str,
    loss: str | None,
    optimizer: str | Optimizer,
    l2: float,
    schedule: str | Schedule,
    dropout: float,
    early_stopping: EarlyStopping | None,
    seed: int,
    distort: str | Distortion | None = None,
    label_smoothing: float = 0.0,
    average: float | Averaging | None = None,
) -> Plan:
    """Return the plan for the arguments of `train`; raises `ConfigurationError` and `DataError` as that does."""
    if not isinstance(net, MLP):
        raise ConfigurationError(f"net must be an MLP, got {type(net).__name__}")
    net.check()
    if isinstance(data, Dataset):
        split, test = data.train, data.test if test is None else test
    else:
        split = data
    check_fits(split, net.sizes)
    if test is not None:
        check_fits(test, net.sizes)
        check_alike(split, test)
    check_whole("epochs", epochs, 1)
    check_whole("seed", seed, 0)
    n = len(split)
    if dropout and len(net.sizes) == 2:
        raise ConfigurationError("dropout needs at least one hidden layer")
    if early_stopping is not None:
        if not isinstance(early_stopping, EarlyStopping):
            raise ConfigurationError(f"early_stopping must be a gpunn.EarlyStopping, got {early_stopping!r}")
        n -= early_stopping.n_held_out(n)
    if label_smoothing and not split.labeled:
        raise ConfigurationError("label_smoothing needs labels that are classes, got rows of targets")
    distortion = distortion_for(distort)
    if distortion is not None:
        shape_to_distort(split)
        distortion.ease(split)
    optimizer, loss = optimizer_for(optimizer), loss_for(net.functions[-1], loss)
    suited = default_learning_rate(net.sizes, net.functions, loss, optimizer)
    recipe = _checked_recipe(
        Recipe(
            default_batch_size(n) if batch_size is None else batch_size,
            suited if learning_rate is None else learning_rate,
            precision,
            loss,
            optimizer,
            l2=l2,
            dropout=dropout,
            seed=seed,
            schedule=schedule_for(schedule),
            distort=distortion,
            label_smoothing=label_smoothing,
            average=averaging_for(average),
        ),
        n,
    )
    return Plan(net, split, epochs, recipe, suited, test, engine, early_stopping)


@final
class Session:
    """The training of one network: the order of the examples, evaluation after each epoch, and the history.

    `tell` gets the history after each epoch; training ends if it returns False. `warn` logs a warning. `saver` writes
    checkpoints, of what `run_on` trains; the training goes on from `resumed`, which the network already has.
    """

    evaluators: Evaluators
    """To be set before the first epoch is finished."""
    _put: Callable[[NDArray[Any]], Any]
    """Copies an array to the device."""

    def __init__(
        self,
        plan: Plan,
        division: Division,
        device: str,
        engine: str,
        tell: Callable[[History], bool],
        *,
        warn: Callable[[str], None] = logger.warning,
        saver: Saver | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        history = History(device, engine, plan.recipe, plan.early_stopping, planned=plan.epochs, n_examples=plan.n)
        if plan.ranks is not None:
            history.ranks, history.average_every = plan.ranks.size, plan.ranks.average_every
            warn = warn if plan.ranks.leads else lambda _: None
        self.history = history
        self._plan, self._division, self._tell, self._warn = plan, division, tell, warn
        self._rng = np.random.default_rng(plan.recipe.seed)
        rule, watched = plan.early_stopping, None if resumed is None else resumed.state.watched
        self._watch = None if rule is None else rule.watch(watched)
        self._saver, self._resumed = saver, resumed
        self._runner: Runner | None = None
        self._where: dict[str, str] = {}
        average = plan.recipe.average
        self._average = None if average is None else Average(average, plan.epochs)
        self._n_batches = -(-plan.n // plan.recipe.batch_size)
        n_outputs = plan.net.sizes[-1]
        test = plan.test
        judged = plan.targets(division.split) if test is None else test.targets(plan.net.dtype, n_outputs)
        self._guessing = Guessing.on(judged, n_outputs, plan.recipe.loss)

    def run_on(
        self, backend: Backend, engine: type[Engine], examples: Examples, evaluators: Evaluators | None = None
    ) -> None:
        """Train on `examples` (host arrays) by `engine` on `backend`; `evaluators` are the plan's by default."""
        plan, resumed, start, done = self._plan, self._resumed, self._plan.start, 0
        make = alone if plan.ranks is None else plan.ranks.make
        if self._saver is not None or resumed is not None:
            self._where = {"device": backend.name, "engine": engine.name} | backend.describe()
            self._where["ranks"] = f"{self.history.ranks} rank{'s' * (self.history.ranks > 1)}"
        if resumed is not None:
            start, done = resumed.state.start, len(resumed.epochs)
            if self._go_on(resumed):
                return
        with running(backend, engine, start, examples, plan.recipe, make=make) as runner:
            self._runner, self._put = runner, backend.asarray
            self.evaluators = evaluators or plan.evaluators(backend, engine, self._division)
            runner.run(plan.epochs, self.begin, self.finish, plan.distorted(self._division), done=done)

    def _go_on(self, resumed: Resumed) -> bool:
        """Restore the state and the history; return whether the training is over already."""
        net, split, history, watch = self._plan.net, self._division.split, self.history, self._watch
        self._rng.bit_generator.state = resumed.state.order
        history.epochs, history.warnings = list(resumed.epochs), list(resumed.warnings)
        history.kept = len(history.epochs) - (0 if watch is None else watch.since)
        net.grey, net.kind, net.training = split.grey, split.kind or net.kind, history
        over = len(history.epochs) >= self._plan.epochs or (watch is not None and watch.ended)
        if not over and (changes := resumed.changes(self._where)):
            self._warn(f"{resumed.name} {changes}: the numbers will be the same to rounding")
        return over

    def begin(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Return the order of the examples in epoch `number`, from 1, and its batches' learning rates if they vary."""
        recipe, order = self._plan.recipe, self._rng.permutation(self._plan.n)
        if recipe.schedule == CONSTANT:
            return order, None
        factors = recipe.schedule.factors(number - 1, self._plan.epochs, self._n_batches)
        return order, recipe.learning_rate * factors

    def finish(self, number: int, trained: Trained) -> bool:
        """Evaluate and record epoch `number`, and update the network; return whether training goes on.

        Raises `DivergenceError` if a loss or a parameter isn't finite.
        """
        plan, history, watch = self._plan, self.history, self._watch
        net, n, split = plan.net, plan.n, self._division.split
        if plan.ranks is not None:
            trained = trained._replace(seconds=plan.ranks.longest(trained.seconds))
        loss, seconds, weights, biases, parameters = trained
        if self._average is not None:
            weights, biases = self._average.see(number, weights, biases)
            parameters = Parameters(list(map(self._put, weights)), list(map(self._put, biases)), net.functions)
        evaluate = self.evaluators
        evaluation, held_out = evaluate.test(parameters), evaluate.held_out(parameters)
        losses = [each.loss for each in (evaluation, held_out) if each is not None]
        if not trained.is_finite(*losses):
            raise _divergence(number, [loss, *losses][-1], plan.recipe.learning_rate, plan.suited)
        epoch = Epoch(number, loss, seconds, n / seconds, evaluation, held_out, evaluate.train(parameters))
        if watch is not None and held_out is not None:
            weights, biases = watch.see(held_out.loss, weights, biases)
        net.grey, net.kind, net.training = split.grey, split.kind or net.kind, history
        # No calls in between, so Ctrl-C leaves the network and the history at the same epoch.
        net.weights, net.biases = weights, biases
        history.epochs.append(epoch)
        history.kept = number - (0 if watch is None else watch.since)
        enough = number * self._n_batches >= ENOUGH_STEPS and number * n >= ENOUGH_EXAMPLES
        new = not history.warnings and (enough or number == plan.epochs) and self._guessing.is_all(epoch)
        if new:
            history.warnings.append(_no_progress(history, plan.suited, enough=enough))
        self._keep(number, trained)
        goes_on = self._tell(history)
        if new:
            self._warn(history.warnings[-1])
        if self._saver is not None:
            self._saver.write_if_due()
        return goes_on and not (watch is not None and watch.ended)

    def _keep(self, number: int, trained: Trained) -> None:
        """Keep the state after epoch `number` for a checkpoint, if there are any."""
        if self._saver is None or self._runner is None:
            return
        memory, functions = self._runner.optimizer_state(), self._plan.net.functions
        start = Parameters(trained.weights, trained.biases, functions, memory, epochs=number)
        watched = None if self._watch is None else self._watch.watched
        self._saver.keep(State(start, self._rng.bit_generator.state, watched), self.history, self._where)


def _no_progress(history: History, suited: float, *, enough: bool) -> str:
    """Return the warning that the network does no better than guessing."""
    epoch, rate = history.epochs[-1], history.recipe.learning_rate
    measured = f"loss {epoch.loss:.4f}" if epoch.test is None else f"test accuracy {epoch.test.accuracy:.2%}"
    if not suited / 5 <= rate <= 1.5 * suited:
        advice = f"learning rate {suited:g}"
    else:
        advice = "another initialisation, activation or learning rate" if enough else "more epochs or smaller batches"
    return (
        f"after epoch {epoch.number}, the network does no better than guessing ({measured}, learning rate {rate:g}): "
        f"try {advice}"
    )


def _sample(split: Split) -> Split:
    """Return `TRAIN_SAMPLE` of the examples, or all if there are fewer."""
    return split[:: -(-len(split) // TRAIN_SAMPLE)]


def _evaluator(
    backend: Backend, net: MLP, split: Split | None, *, loss: str, compiled: bool, ranks: Ranks | None
) -> Evaluator:
    """Return a function that evaluates parameters on `split`, kept on the device; it returns None without a split.

    Of `ranks`, each keeps a part of the labeled examples, and all get the result of the whole.
    """
    if split is None:
        return lambda _: None
    if ranks is not None and split.labeled and ranks.size <= len(split):
        part = split[ranks.own(slice(0, len(split)))]
        own = _evaluator(backend, net, part, loss=loss, compiled=compiled, ranks=None)
        return ranks.evaluator(own, len(part), len(split))
    images = inputs_on_device(backend, split.inputs(net.dtype), compiled=compiled)
    labels = backend.asarray(split.targets(net.dtype, net.sizes[-1]))
    found = split.classes
    classes = None if found is None else backend.asarray(found)
    return lambda parameters: evaluate_on_device(backend, parameters, images, labels, loss, classes=classes)


def _checked_recipe(recipe: Recipe, n_images: int) -> Recipe:
    if recipe.batch_size > n_images:
        raise ConfigurationError(
            f"batch_size must be at most {n_images}, the number of training examples, got {recipe.batch_size}"
        )
    check_number("learning_rate", recipe.learning_rate, above=0)
    check_number("l2", recipe.l2, least=0)
    check_number("dropout", recipe.dropout, least=0, below=1)
    check_number("label_smoothing", recipe.label_smoothing, least=0, below=1)
    if recipe.precision not in PRECISIONS:
        raise ConfigurationError(f"precision must be {' or '.join(PRECISIONS)}, got {recipe.precision!r}")
    # A NumPy scalar would promote float32 arrays to float64.
    return replace(
        recipe,
        batch_size=int(recipe.batch_size),
        learning_rate=float(recipe.learning_rate),
        l2=float(recipe.l2),
        dropout=float(recipe.dropout),
        label_smoothing=float(recipe.label_smoothing),
        seed=int(recipe.seed),
    )


def _divergence(epoch: int, loss: float, learning_rate: float, suited: float) -> DivergenceError:
    suggestion = suited if learning_rate > 1.5 * suited else learning_rate / 10
    return DivergenceError(
        f"training diverged in epoch {epoch} (loss {loss:g}, or non-finite parameters) with learning rate "
        f"{learning_rate:g}: try {suggestion:g}"
    )
