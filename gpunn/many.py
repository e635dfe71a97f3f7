"""Training of many networks at once: one on each core, or one on each multiprocessor of a GPU."""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.backends.limits import at_most_cores, usable_cores
from gpunn.datasets.split import Dataset, Split
from gpunn.defaults import EPOCHS
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import Engine, Examples
from gpunn.engines.cpu.sharing import shared_nonzero
from gpunn.engines.cuda.epoch import EpochCudaEngine, EpochCudaGroup, group_key, group_size
from gpunn.engines.devices import Job
from gpunn.engines.runner import Trained, on_device, on_host
from gpunn.engines.stopping import Stopped, stopped_by
from gpunn.engines.threads import blas_threads
from gpunn.errors import ConfigurationError, DataError, DivergenceError
from gpunn.history import History
from gpunn.network import MLP
from gpunn.optimizers import PLAIN, Optimizer
from gpunn.schedules import CONSTANT, Schedule
from gpunn.training import Evaluators, Plan, Session, goes_on, plan_for

logger = logging.getLogger(__name__)

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
    early_stopping: EarlyStopping | None = None,
    seed: int | Sequence[int] | NDArray[np.integer] = 0,
    on_epoch: OnEpoch | None = None,
    on_end: OnEnd | None = None,
) -> list[History]:
    """Train every network of `nets` as `train` would, many at a time; return their histories in the same order.

    Networks may have different shapes. `batch_size`, `learning_rate`, `loss`, `optimizer`, `l2`, `schedule`, `dropout`
    and `seed` are one value for all networks, or a list with one for each. All arguments mean what they mean to
    `train`, and each network ends with the same bits, as long as its engine is `epoch` or `fused`.

    - On a CPU every core trains one network at a time; the networks with most parameters come first. The sparse form
      of the images is made once, so that memory grows by the networks alone.
    - On a GPU one launch trains a network on each multiprocessor, if they have the same shape, functions, loss and rule
      of optimisation, and their engine is `epoch`; others are trained one after another. An epoch's `seconds` are then
      those of its launch.

    `on_epoch` is called with a network's index and its history after each of its epochs; if it returns False, this
    network's training stops. `on_end` is called when a network's training has ended. Only one call is made at a time,
    on a CPU in other threads than the caller's; an exception ends the training of all.

    A network that diverges doesn't end the others' training: its history's `failure` says so, and it keeps the
    parameters of its last finished epoch. After Ctrl-C (`KeyboardInterrupt` propagates) or an error, all networks hold
    the parameters of their last finished epochs. Warnings are added to the histories; they aren't logged as such.

    Raises the errors of `train` but for `DivergenceError`, those of arguments before any training, and
    `ConfigurationError` for a list of the wrong length or a network that is in `nets` twice.
    """
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
        "seed": seed,
    }
    settings = {name: _one_each(name, value, len(nets)) for name, value in lists.items()}
    common: dict[str, Any] = {"epochs": epochs, "test": test, "engine": engine, "precision": precision}

    def plan(number: int) -> Plan:
        own = {name: values[number] for name, values in settings.items()}
        with _naming(number):
            return plan_for(nets[number], data, **own, **common, early_stopping=early_stopping)

    many = _Many(nets, plan, on_epoch, on_end)
    on_device(device, many.run, lambda: not many.histories and precision == "float32", many.jobs)
    return [many.histories[number] for number in range(len(nets))]


@contextmanager
def _naming(number: int) -> Iterator[None]:
    """Let errors of arguments say which network they are of."""
    try:
        yield
    except (ConfigurationError, DataError) as error:
        raise type(error)(f"network {number}: {error}") from error


def _one_each(name: str, value: Any, n: int) -> Sequence[Any]:
    """Return one value for each of `n` networks."""
    if not isinstance(value, list | tuple | range | np.ndarray):
        return [value] * n
    if len(value) != n:
        raise ConfigurationError(f"{name} must be one value, or one for each of {n} networks, got {len(value)} values")
    return list(value)


@final
class _Many:
    """Trains networks; `plan` returns the plan of the network of a number.

    Plans are made when they are needed, as early stopping makes each of them copy its examples.
    """

    def __init__(
        self, nets: Sequence[MLP], plan: Callable[[int], Plan], on_epoch: OnEpoch | None, on_end: OnEnd | None
    ) -> None:
        self.histories: dict[int, History] = {}
        """By the network's number, from its first finished epoch, or its end, on."""
        self._nets, self._plan, self._on_epoch, self._on_end = nets, plan, on_epoch, on_end
        self._callbacks, self._preparing = threading.Lock(), threading.Lock()
        self._failed = False
        self._engines: dict[int, type[Engine]] = {}
        self._evaluators: dict[Hashable, Evaluators] = {}
        self._examples: dict[Hashable, Examples] = {}

    def jobs(self) -> list[Job]:
        """Return what the choice of a device needs to know."""
        plans = map(self._plan, range(len(self._nets)))
        return [plan.job(self._shared_examples(plan)) for plan in plans]

    def run(self, backend: Backend) -> None:
        """Train all networks on `backend`."""
        for number in range(len(self._nets)):
            plan = self._plan(number)
            with _naming(number):
                self._engines[number] = plan.engine_on(backend, self._shared_examples(plan))
        largest_first = sorted(range(len(self._nets)), key=lambda number: -self._nets[number].n_parameters)
        if backend.name == "cpu":
            self._run_in_threads(backend, largest_first)
        else:
            self._run_in_groups(backend, largest_first)

    def _run_in_threads(self, backend: Backend, numbers: Sequence[int]) -> None:
        """Train each network in one thread."""
        workers = max(1, min(usable_cores(), len(numbers)))
        stop = threading.Event()
        with (
            shared_nonzero(),
            stopped_by(stop),
            at_most_cores(usable_cores() // workers),
            blas_threads(1),
            ThreadPoolExecutor(workers, "gpunn") as pool,
        ):
            futures = [pool.submit(copy_context().run, self._run_alone, backend, number) for number in numbers]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _run_alone(self, backend: Backend, number: int) -> None:
        """Train one network; do nothing more if training is to stop."""
        plan, engine = self._plan(number), self._engines[number]
        examples = self._shared_examples(plan)
        session = self._session(number, plan, backend, engine)
        try:
            session.run_on(backend, engine, examples, self._shared_evaluators(plan, backend, engine))
        except DivergenceError as error:
            session.history.failure = str(error)
        except Stopped:
            return
        with suppress(Stopped):
            self._end(number, session.history)

    def _run_in_groups(self, backend: Backend, numbers: Sequence[int]) -> None:
        """Train networks of one kind together, and those that no group can train by themselves."""
        groups: dict[Hashable, list[int]] = {}
        for number in numbers:
            key: Hashable = number
            if self._engines[number] is EpochCudaEngine:
                plan = self._plan(number)
                with backend.activate():
                    key = group_key(plan.start, plan.recipe), plan.watched is not None and plan.recipe.seed
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
        plans = [self._plan(number) for number in numbers]
        sessions = [
            self._session(number, plan, backend, EpochCudaEngine) for number, plan in zip(numbers, plans, strict=True)
        ]
        # With early stopping they hold out the same examples.
        examples, evaluators = (
            self._shared_examples(plans[0]),
            self._shared_evaluators(plans[0], backend, EpochCudaEngine),
        )
        with backend.activate(), ThreadPoolExecutor(1, "gpunn") as ahead:
            on_gpu = Examples(*(None if part is None else backend.asarray(part) for part in examples))
            group = EpochCudaGroup(backend, [p.start for p in plans], on_gpu, [p.recipe for p in plans])
            for session in sessions:
                session.evaluators = evaluators
            active = dict(enumerate(sessions))
            orders = {slot: session.begin(1) for slot, session in active.items()}
            for epoch in range(1, plans[0].epochs + 1):
                # The next epoch's orders are drawn while the GPU works on this one.
                following = ahead.submit(_begin, dict(active), epoch + 1)
                started = time.perf_counter()
                losses = group.run_epoch(orders)
                seconds = time.perf_counter() - started
                for slot, session in list(active.items()):
                    found = group.parameters(slot)
                    trained = Trained(losses[slot], seconds, *on_host(backend, found), found)
                    if not _finished(session, epoch, trained) or epoch == plans[slot].epochs:
                        del active[slot]
                        self._end(numbers[slot], session.history)
                drawn = following.result()
                orders = {slot: drawn[slot] for slot in active}
                if not active:
                    return

    def _session(self, number: int, plan: Plan, backend: Backend, engine: type[Engine]) -> Session:
        def tell(history: History) -> bool:
            with self._calling():
                self.histories[number] = history
                return goes_on(None if self._on_epoch is None else self._on_epoch(number, history))

        def warn(message: str) -> None:
            logger.info("network %d: %s", number, message)

        return Session(plan, backend.name, engine.name, tell, warn)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Let no other callback run in the block, and none at all after one that failed."""
        with self._callbacks:
            if self._failed:
                raise Stopped
            try:
                yield
            except BaseException:
                self._failed = True
                raise

    def _end(self, number: int, history: History) -> None:
        """Record that training of a network has ended."""
        with self._calling():
            self.histories[number] = history
            if self._on_end is not None:
                self._on_end(number, history)

    def _shared_examples(self, plan: Plan) -> Examples:
        """Return the examples of a plan: the same arrays for all plans that have the same ones."""
        if plan.watched is not None:
            return plan.examples()
        with self._preparing:
            key = plan.net.dtype, plan.net.sizes[-1]
            return self._examples.setdefault(key, self._examples.get(key) or plan.examples())

    def _shared_evaluators(self, plan: Plan, backend: Backend, engine: type[Engine]) -> Evaluators:
        """Return the evaluators of a plan; likewise."""
        if plan.watched is not None:
            return plan.evaluators(backend, engine)
        with self._preparing:
            key = plan.net.dtype, plan.net.sizes[-1], plan.recipe.loss, engine.own_threads
            return self._evaluators.setdefault(key, self._evaluators.get(key) or plan.evaluators(backend, engine))


def _begin(sessions: dict[int, Session], epoch: int) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64] | None]]:
    return {slot: session.begin(epoch) for slot, session in sessions.items()}


def _finished(session: Session, epoch: int, trained: Trained) -> bool:
    """Finish an epoch of a session; return whether its training goes on."""
    try:
        return session.finish(epoch, trained)
    except DivergenceError as error:
        session.history.failure = str(error)
        return False
