"""Training of many networks at once: one on each core, or one on each multiprocessor of a GPU."""

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.averaging import Averaging
from gpunn.backends import Backend
from gpunn.checkpoint_file import Resumed
from gpunn.checkpoints import Checkpoint, Saver, engine_of, hashes_of, saved
from gpunn.datasets.split import Dataset, Split
from gpunn.defaults import EPOCHS
from gpunn.distortion import Distortion
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import Engine, Examples
from gpunn.engines.cores import on_each_core
from gpunn.engines.cuda.epoch import EpochCudaEngine, EpochCudaGroup, group_key, group_size
from gpunn.engines.devices import Job
from gpunn.engines.runner import Trained, on_device, on_host
from gpunn.engines.stopping import Stopped, check_stopped
from gpunn.errors import ConfigurationError, DataError, DivergenceError
from gpunn.history import History, goes_on
from gpunn.network import MLP, Network
from gpunn.optimizers import PLAIN, Optimizer
from gpunn.plan import Division, Evaluators, Plan, plan_for
from gpunn.schedules import CONSTANT, Schedule
from gpunn.session import Session

logger = logging.getLogger(__name__)

File = str | bytes | os.PathLike[str]
Kept = tuple[Saver | None, Resumed | None]
OnEpoch = Callable[[int, History], bool | None]
OnEnd = Callable[[int, History], None]


def train_many(
    nets: Sequence[MLP],
    data: Split | Dataset,
    *,
    epochs: int = EPOCHS,
    batch_size: int | Sequence[int | None] | NDArray[np.integer] | None = None,
    learning_rate: float | Sequence[float | None] | NDArray[np.floating] | None = None,
    test: Split | None = None,
    device: str | Backend = "auto",
    engine: str = "auto",
    precision: str = "float32",
    loss: str | Sequence[str | None] | None = None,
    optimizer: str | Optimizer | Sequence[str | Optimizer] = PLAIN,
    l2: float | Sequence[float] | NDArray[np.floating] = 0.0,
    schedule: str | Schedule | Sequence[str | Schedule] = CONSTANT,
    dropout: float | Sequence[float] | NDArray[np.floating] = 0.0,
    distort: str | Distortion | Sequence[str | Distortion | None] | None = None,
    label_smoothing: float | Sequence[float] | NDArray[np.floating] = 0.0,
    average: float | Averaging | Sequence[float | Averaging | None] | None = None,
    max_norm: float | Sequence[float] | NDArray[np.floating] = 0.0,
    early_stopping: EarlyStopping | None = None,
    seed: int | Sequence[int] | NDArray[np.integer] = 0,
    checkpoint: Sequence[File | Checkpoint | None] | None = None,
    resume: Sequence[File | None] | None = None,
    on_epoch: OnEpoch | None = None,
    on_end: OnEnd | None = None,
) -> list[History]:
    """Train every network of `nets` as `train` would, many at a time; return their histories in the same order.

    Networks may have different shapes. `batch_size`, `learning_rate`, `loss`, `optimizer`, `l2`, `schedule`, `dropout`,
    `distort`, `label_smoothing`, `average`, `max_norm` and `seed` are one value for all networks, or a list with one
    for each. All arguments mean what they mean to `train`. With the engine `epoch` each network ends with the bits that
    `train` gives it, and with `fused` with those of `train` by as many threads as it has here; with `plain` it is the
    same to rounding.

    - On a CPU every core trains one network at a time; the networks with most parameters come first. The sparse form
      of the images is made once, so that memory grows by the networks alone. With `early_stopping`, a network has its
      own copy of its examples while it is trained.
    - On a GPU one launch trains a network on each multiprocessor, if they have the same shape, functions, loss and rule
      of optimisation, their engine is `epoch`, and neither `distort` nor `average` is asked for; others are trained one
      after another. An epoch's `seconds` are then those of its launch.

    `checkpoint` and `resume` are lists with a file for each network, or None. On a GPU, networks that have one are
    trained one after another.

    `on_epoch` is called with a network's index and its history after each of its epochs; if it returns False, this
    network's training stops. `on_end` is called when a network's training has ended. Only one call is made at a time,
    on a CPU in other threads than the caller's; an exception ends the training of all.

    A network that diverges doesn't end the others' training: its history's `failure` says so, and it keeps the
    parameters of its last finished epoch. After Ctrl-C (`KeyboardInterrupt` propagates) or an error, all networks hold
    the parameters of their last finished epochs. Warnings are added to the histories; they aren't logged as such.

    Raises the errors of `train` but for `DivergenceError`, those of arguments before any training, and
    `ConfigurationError` for a list of the wrong length or a network that is in `nets` twice.
    """
    if isinstance(nets, Network):
        raise ConfigurationError(f"nets must be a list of networks, got one: {nets!r}")
    nets = list(nets)
    if len({id(net) for net in nets}) < len(nets):
        raise ConfigurationError("found one network twice: each network must be an object of its own")
    lists = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "loss": loss,
        "optimizer": optimizer,
        "l2": l2,
        "schedule": schedule,
        "dropout": dropout,
        "distort": distort,
        "label_smoothing": label_smoothing,
        "average": average,
        "max_norm": max_norm,
        "seed": seed,
    }
    settings = {name: _one_each(name, value, len(nets)) for name, value in lists.items()}
    common: dict[str, Any] = {"epochs": epochs, "test": test, "engine": engine, "precision": precision}

    def plan(number: int) -> Plan:
        own = {name: values[number] for name, values in settings.items()}
        with _naming(number):
            return plan_for(nets[number], data, **own, **common, early_stopping=early_stopping)

    plans = [plan(number) for number in range(len(nets))]
    many = _Many(plans, _kept(plans, checkpoint, resume), on_epoch, on_end)
    on_device(device, many.run, lambda: not many.histories and precision == "float32", many.jobs)
    return [many.histories[number] for number in range(len(nets))]


def _kept(
    plans: Sequence[Plan],
    checkpoint: Sequence[File | Checkpoint | None] | None,
    resume: Sequence[File | None] | None,
) -> list[Kept]:
    """Return for each network what writes its checkpoints, and the training to go on with, whose weights it gets."""
    checkpoints, sources = (_files(*each, len(plans)) for each in (("checkpoint", checkpoint), ("resume", resume)))
    places = [each.path if isinstance(each, Checkpoint) else each for each in checkpoints if each is not None]
    if len({os.path.realpath(os.fsdecode(place)) for place in places}) < len(places):
        raise ConfigurationError("found one checkpoint twice: each network must have a file of its own")
    if not places and not any(source is not None for source in sources):
        return [(None, None)] * len(plans)
    hashes, kept = hashes_of(plans[0].data, plans[0].test), list[Kept]()
    for number, (plan, to, source) in enumerate(zip(plans, checkpoints, sources, strict=True)):
        with _naming(number):
            kept.append(saved(to, source, plan.run(hashes), net=plan.net, recipe=plan.recipe, epochs=plan.epochs))
    for plan, (_, resumed) in zip(plans, kept, strict=True):
        if resumed is not None:
            plan.net.weights, plan.net.biases = resumed.kept
    return kept


def _files(name: str, value: Sequence[Any] | None, n: int) -> Sequence[Any]:
    """Return a file, or None, for each of `n` networks."""
    if value is None:
        return [None] * n
    if not isinstance(value, list | tuple) or len(value) != n:
        found = f"{len(value)} values" if isinstance(value, list | tuple) else repr(value)
        raise ConfigurationError(f"{name} must be a list with one file for each of {n} networks, got {found}")
    return value


@contextmanager
def _naming(number: int) -> Iterator[None]:
    """Let errors of arguments say which network they are of."""
    try:
        yield
    except (ConfigurationError, DataError) as error:
        raise type(error)(f"network {number}: {error}") from error


def _one_each(name: str, value: Any, n: int) -> Sequence[Any]:
    """Return one value for each of `n` networks."""
    if not isinstance(value, list | tuple | range | np.ndarray) or (isinstance(value, np.ndarray) and not value.ndim):
        return [value] * n
    if len(value) != n:
        raise ConfigurationError(f"{name} must be one value, or one for each of {n} networks, got {len(value)} values")
    return list(value)


@final
class _Many:
    """Trains networks by their plans."""

    def __init__(
        self, plans: Sequence[Plan], kept: Sequence[Kept], on_epoch: OnEpoch | None, on_end: OnEnd | None
    ) -> None:
        self.histories: dict[int, History] = {}
        """By the network's number, from its first finished epoch, or its end, on."""
        self._plans, self._kept, self._on_epoch, self._on_end = plans, kept, on_epoch, on_end
        self._callbacks, self._preparing = threading.Lock(), threading.Lock()
        self._failure: BaseException | None = None
        """The exception of a callback."""
        self._engines: dict[int, type[Engine]] = {}
        self._evaluators: dict[Hashable, Evaluators] = {}
        self._examples: dict[Hashable, Examples] = {}

    def jobs(self) -> list[Job]:
        """Return what the choice of a device needs to know."""
        return [plan.job(self._examples_like(plan)) for plan in self._plans]

    def run(self, backend: Backend) -> None:
        """Train all networks on `backend`."""
        self._evaluators.clear()  # of a GPU that had too little memory
        for number, plan in enumerate(self._plans):
            with _naming(number):
                preferred = engine_of(self._kept[number][1], backend)
                self._engines[number] = plan.engine_on(backend, self._examples_like(plan), preferred)
        largest_first = sorted(range(len(self._plans)), key=lambda number: -self._plans[number].net.n_parameters)
        if backend.name == "cpu":
            arrays = [examples.inputs for examples in self._examples.values()]
            on_each_core(lambda number: self._run_alone(backend, number), largest_first, arrays)
        else:
            self._run_in_groups(backend, largest_first)
        check_stopped()  # by what called this from a callback

    def _run_alone(self, backend: Backend, number: int) -> None:
        """Train one network; do nothing more if training is to stop."""
        plan, engine = self._plans[number], self._engines[number]
        division = plan.divide()
        session = self._session(number, division, backend, engine)
        try:
            evaluators = self._evaluators_of(plan, division, backend, engine)
            session.run_on(backend, engine, self._examples_of(plan, division), evaluators)
        except DivergenceError as error:
            self._note(error, session.history)
        except Stopped:
            return
        finally:
            saver, _ = self._kept[number]
            if saver is not None:
                saver.flush()
        with suppress(Stopped):
            self._end(number, session.history)

    def _run_in_groups(self, backend: Backend, numbers: Sequence[int]) -> None:
        """Train networks of one kind together, and those that no group can train by themselves."""
        groups: dict[Hashable, list[int]] = {}
        for number in numbers:
            key: Hashable = number
            plan = self._plans[number]
            alone = plan.recipe.distort is not None or plan.recipe.average is not None
            if self._engines[number] is EpochCudaEngine and not alone and self._kept[number] == (None, None):
                with backend.activate():
                    key = group_key(plan.start, plan.recipe), plan.early_stopping is not None and plan.recipe.seed
            groups.setdefault(key, []).append(number)
        for key, members in groups.items():
            if key == members[0]:
                self._run_alone(backend, members[0])
                continue
            with backend.activate():
                size = group_size()
            for first in range(0, len(members), size):
                self._run_group(backend, members[first : first + size])

    def _run_group(self, backend: Backend, numbers: Sequence[int]) -> None:
        """Train the networks `numbers`, which one kernel serves, an epoch of all in one launch."""
        plans = [self._plans[number] for number in numbers]
        division = plans[0].divide()  # with early stopping they hold out the same examples
        sessions = [self._session(number, division, backend, EpochCudaEngine) for number in numbers]
        examples = self._examples_of(plans[0], division)
        evaluators = self._evaluators_of(plans[0], division, backend, EpochCudaEngine)
        with backend.activate(), ThreadPoolExecutor(1, "gpunn") as ahead:
            group = EpochCudaGroup(backend, [p.start for p in plans], examples.on(backend), [p.recipe for p in plans])
            for session in sessions:
                session.evaluators = evaluators
            active = dict(enumerate(sessions))
            orders = {slot: session.begin(1) for slot, session in active.items()}
            last = plans[0].epochs
            for epoch in range(1, last + 1):
                check_stopped()
                # The next epoch's orders are drawn while the GPU works on this one.
                following = ahead.submit(_begin, dict(active) if epoch < last else {}, epoch + 1)
                started = time.perf_counter()
                losses = group.run_epoch(orders)
                seconds = time.perf_counter() - started
                for slot, session in list(active.items()):
                    found = group.parameters(slot)
                    trained = Trained(losses[slot], seconds, *on_host(backend, found), found)
                    if not self._finished(session, epoch, trained) or epoch == last:
                        del active[slot]
                        self._end(numbers[slot], session.history)
                drawn = following.result()
                orders = {slot: drawn[slot] for slot in active}
                if not active:
                    return

    def _finished(self, session: Session, epoch: int, trained: Trained) -> bool:
        """Finish an epoch of a session; return whether its training goes on."""
        try:
            return session.finish(epoch, trained)
        except DivergenceError as error:
            self._note(error, session.history)
            return False

    def _note(self, error: DivergenceError, history: History) -> None:
        """Note that a network has diverged; raise the error again if it came from a callback."""
        if error is self._failure:
            raise error
        history.failure = str(error)

    def _session(self, number: int, division: Division, backend: Backend, engine: type[Engine]) -> Session:
        def tell(history: History) -> bool:
            with self._calling():
                self.histories[number] = history
                return goes_on(None if self._on_epoch is None else self._on_epoch(number, history))

        def warn(message: str) -> None:
            logger.info("network %d: %s", number, message)

        saver, resumed = self._kept[number]
        plan = self._plans[number]
        return Session(plan, division, backend.name, engine.name, tell, warn=warn, saver=saver, resumed=resumed)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Let no other callback run in the block, and none at all after one that failed."""
        with self._callbacks:
            if self._failure is not None:
                raise Stopped
            try:
                yield
            except BaseException as error:
                self._failure = error
                raise

    def _end(self, number: int, history: History) -> None:
        """Record that training of a network has ended."""
        with self._calling():
            self.histories[number] = history
            if self._on_end is not None:
                self._on_end(number, history)

    def _all_examples(self, plan: Plan) -> Examples:
        """Return all examples of a plan: the same arrays for all plans that have the same ones."""
        with self._preparing:
            key = plan.net.dtype, plan.net.sizes[-1], plan.recipe.label_smoothing
            return self._examples.setdefault(key, self._examples.get(key) or plan.examples(Division(plan.data, None)))

    def _examples_like(self, plan: Plan) -> Examples:
        """Return as many examples of the same kind as a plan has to train on, without a copy."""
        inputs, targets, _ = self._all_examples(plan)
        return Examples(inputs[: plan.n], targets[: plan.n])

    def _examples_of(self, plan: Plan, division: Division) -> Examples:
        """Return the examples to train on."""
        return self._all_examples(plan) if plan.early_stopping is None else plan.examples(division)

    def _evaluators_of(self, plan: Plan, division: Division, backend: Backend, engine: type[Engine]) -> Evaluators:
        """Return the evaluators of a plan: without early stopping the same for all plans that have the same ones."""
        if plan.early_stopping is not None:
            return plan.evaluators(backend, engine, division)
        with self._preparing:
            key = plan.net.dtype, plan.net.sizes[-1], plan.recipe.loss, engine.own_threads
            found = self._evaluators.get(key) or plan.evaluators(backend, engine, division)
            return self._evaluators.setdefault(key, found)


def _begin(sessions: dict[int, Session], epoch: int) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64] | None]]:
    return {slot: session.begin(epoch) for slot, session in sessions.items()}
