"""Contestants: gpunn's engines and their peers, made, started again and timed alike."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from benchmarks.peers import PEERS, Place, load_peer
from benchmarks.peers.base import rules
from benchmarks.schema import FULL, Contestant, Task
from benchmarks.timing.device import in_a_line
from benchmarks.timing.exactness import Problem, Trained, engine_of, on_host, parameters_of
from benchmarks.timing.interference import Watch
from gpunn import History, get_backend, train, train_many
from gpunn.backends.limits import at_most_cores, usable_cores
from gpunn.engines import Parameters, Recipe, choose_engine
from gpunn.errors import ConfigurationError, GpunnError, OutOfMemoryError

SETTLE = 0.25
"""Seconds before a round on a CPU, for the threads of one library to fall asleep before the next one's are timed.

Those of OpenBLAS keep a core busy for a good tenth of a second after their last product.
"""

SHORT, ALIKE = 1.0, 1.2
"""Seconds of a first round up to which a second one follows where the first leaves something in doubt.

That is whether a contestant is too slow, or which number of threads is best where none is `ALIKE` times as fast as the
other.
"""

MANY_STEPS, PARTS = 20_000, 50
"""Steps of an epoch from which on a fiftieth of it shows whether a contestant is too slow for the others."""

LATE_SHARE, LATE_SECONDS = 0.05, 1e-3
"""What a device may still be computing when a round's time is taken: this share of it, and what a clock can't tell."""

MANY, IN_TURN = "train_many", "train in turn"
"""gpunn's contestants where many networks are trained."""


class AbsentError(Exception):
    """The contestant can't train this network here; the message says why."""


class Network(Protocol):
    """What gpunn's engines and `Peer` have in common."""

    def reset(self) -> None: ...

    def run_epoch(self, order: NDArray[Any]) -> float: ...

    def parameters(self) -> Parameters: ...


class GpunnNetwork:
    """A network that an engine of gpunn trains, called as a peer is, with host arrays."""

    def __init__(self, engine: str, device: str, start: Parameters, problem: Problem, recipe: Recipe) -> None:
        self._backend = get_backend(device)
        self._make = partial(engine_of, engine, self._backend, start, problem.split, recipe)
        self.reset()

    def reset(self) -> None:
        with self._backend.activate():
            self._engine = self._make()
            self._backend.synchronize()

    def run_epoch(self, order: NDArray[Any]) -> float:
        with self._backend.activate():
            loss = self._engine.run_epoch(order)
            self._backend.synchronize()
        return loss

    def parameters(self) -> Parameters:
        with self._backend.activate():
            return on_host(self._backend, self._engine.parameters())


def network(
    contestant: Contestant, threads: int | None, start: Parameters, problem: Problem, recipe: Recipe
) -> Network:
    """Return a network of one's own; raises `AbsentError` where that can't be."""
    with _absences(contestant):
        if not contestant.is_peer:
            return GpunnNetwork(contestant.name, contestant.device, start, problem, recipe)
        peer = _peer(contestant.name)
        if rules(start, recipe) not in peer.knows:
            raise AbsentError(f"{contestant.name} isn't written for this recipe here")
        made: Network = peer(start, problem.split, recipe, Place(contestant.device, threads or usable_cores()))
        return made


@contextmanager
def _absences(contestant: Contestant) -> Iterator[None]:
    """Raise `AbsentError` instead of errors that aren't failures of gpunn's."""
    try:
        yield
    except AbsentError:
        raise
    except (ConfigurationError, OutOfMemoryError) as error:
        raise AbsentError(str(error)) from error
    except Exception as error:
        if not contestant.is_peer:
            raise
        # Whatever a library raises, such as where its compiler is missing.
        reason = str(error) if isinstance(error, GpunnError) else in_a_line(error)
        raise AbsentError(f"{contestant.name} can't run ({PEERS[contestant.name].install}): {reason}") from error


def _peer(name: str) -> Any:
    try:
        return load_peer(name)
    except Exception as error:  # a broken installation raises more than ImportError
        raise AbsentError(f"{name} is not installed: {PEERS[name].install} ({in_a_line(error)})") from error


class Team(Protocol):
    """All networks of a task."""

    def reset(self) -> None: ...

    def train(self) -> Sequence[float]:
        """Train for a round, which is timed; return the mean losses of all networks in the last epoch."""

    def parameters(self, number: int) -> Parameters: ...


class _One:
    """The one network of a task."""

    def __init__(self, contestant: Contestant, threads: int | None, problem: Problem) -> None:
        self._orders = [order[0] for order in problem.orders]
        self._network = network(contestant, threads, problem.starts[0], problem, problem.recipe())
        self.reset = self._network.reset
        self.takes_parts: bool = getattr(self._network, "takes_parts", True)

    def train_on(self, first: int) -> None:
        """Train on the first examples alone."""
        self._network.run_epoch(self._orders[0][:first])

    def train(self) -> Sequence[float]:
        losses = [self._network.run_epoch(order) for order in self._orders]
        return losses[-1:]

    def parameters(self, number: int) -> Parameters:
        assert number == 0
        return self._network.parameters()


class _GpunnTeam:
    """Networks by `train_many`, with everything that a call does, or by `train`, one after another on one core."""

    def __init__(self, contestant: Contestant, problem: Problem) -> None:
        self._problem, self._in_turn = problem, contestant.name == IN_TURN
        task = problem.task
        self._settings: dict[str, Any] = {
            "epochs": task.epochs,
            "batch_size": task.batch_size,
            "device": contestant.device,
        }
        self.reset()

    def reset(self) -> None:
        self._nets = [self._problem.net(number) for number in range(self._problem.task.networks)]

    def train(self) -> Sequence[float]:
        return [history.losses[-1] for history in self._histories()]

    def _histories(self) -> list[History]:
        split, rates, numbers = self._problem.split, self._problem.rates, range(len(self._nets))
        if not self._in_turn:
            return train_many(self._nets, split, **self._settings, learning_rate=rates, seed=numbers)
        with at_most_cores(1):
            return [
                train(net, split, **self._settings, learning_rate=float(rates[number]), seed=number)
                for number, net in enumerate(self._nets)
            ]

    def parameters(self, number: int) -> Parameters:
        return parameters_of(self._nets[number])


class _PeerTeam:
    """Networks by a `ManyPeer`, compiled before."""

    def __init__(self, contestant: Contestant, problem: Problem) -> None:
        place, recipe = Place(contestant.device, usable_cores()), problem.recipe()
        with _absences(contestant):
            peer = _peer(contestant.name)(problem.starts, problem.split, recipe, problem.rates, place)
        self._peer, self._orders = peer, problem.orders
        self.reset, self.parameters = peer.reset, peer.parameters

    def train(self) -> Sequence[float]:
        losses = [self._peer.run_epoch(orders) for orders in self._orders]
        return [float(loss) for loss in losses[-1]]


def team(contestant: Contestant, threads: int | None, problem: Problem) -> Team:
    """Return the networks of a task; raises `AbsentError` where the contestant can't train them."""
    if problem.task.networks == 1:
        return _One(contestant, threads, problem)
    return (_PeerTeam if contestant.is_peer else _GpunnTeam)(contestant, problem)


def thread_choices(contestant: Contestant) -> list[int | None]:
    """Return the numbers of threads that are tried; None: the contestant chooses by itself."""
    can_choose = contestant.is_peer and contestant.device == "cpu" and not PEERS[contestant.name].many
    if not (can_choose and _peer(contestant.name).threads_can_be_set):
        return [None]
    return list(dict.fromkeys((1, usable_cores())))


class Outcome(NamedTuple):
    """A round: its seconds, the compared networks after it, and what may be wrong with the time."""

    seconds: float
    networks: list[Trained]
    late: float
    """How much longer reading the parameters took right after the round than once more after that."""
    cores: float
    """Cores that the process had, on average."""
    disturbed: str | None

    @property
    def problem(self) -> str | None:
        """Why this time counts for nothing, or None; what disturbed the round may have delayed the reading, too."""
        if self.disturbed is not None or self.late <= LATE_SHARE * self.seconds + LATE_SECONDS:
            return None
        return (
            f"the device was still computing when the time was taken: after {self.seconds * 1e3:.1f} ms its "
            f"parameters could be read {self.late * 1e3:.1f} ms later"
        )


class Entry(NamedTuple):
    """How a contestant begins: with how many threads, how long it prepared, and its first round."""

    threads: int | None
    preparation: float
    first: Outcome
    seconds: float
    """Of the first round, or of a second one where that was faster."""


class Seat:
    """A contestant at a task: prepared once, then timed round by round, always from the same start."""

    def __init__(self, task: Task, contestant: Contestant) -> None:
        self._problem, self._contestant = Problem(task), contestant
        self._settle = SETTLE if contestant.device == "cpu" and task.images == FULL else 0.0

    def enter(self, limit: float = math.inf) -> Entry:
        """Prepare with the number of threads that is the fastest, or with the contestant's.

        Raises `AbsentError` where that can't be, and where a part of an epoch of many steps shows that all of it would
        take more than `limit` seconds.
        """
        choices = [self._contestant.threads] if self._contestant.threads else thread_choices(self._contestant)
        found: list[tuple[Entry, Team]] = []
        for threads in choices:
            made, preparation = self._prepared(threads)
            expected = self._expected(made)
            if expected > min([limit, *(2 * entry.seconds for entry, _ in found)]):
                continue
            first = self._round(made)
            found.append((Entry(threads, preparation, first, first.seconds), made))
        if not found:
            raise AbsentError(f"too slow: a round would take about {expected:.0f} s")
        entry, self._team = min(self._again_in_doubt(found, limit), key=lambda pair: pair[0].seconds)
        return entry

    def _prepared(self, threads: int | None) -> tuple[Team, float]:
        """Return the networks with everything compiled, and the seconds that took."""
        started = time.perf_counter()
        made = team(self._contestant, threads, self._problem)
        if isinstance(made, _One) and made.takes_parts:
            made.train_on(2 * self._problem.task.batch_size)  # which may compile, and starts threads
        for number in self._problem.compared:  # which may compile too
            made.parameters(number)
        return made, time.perf_counter() - started

    def _again_in_doubt(self, found: list[tuple[Entry, Team]], limit: float) -> list[tuple[Entry, Team]]:
        """Return what was found, with a second short round where the first ones leave in doubt who is slow."""
        fastest = min(entry.seconds for entry, _ in found)
        alike = [pair for pair in found if pair[0].seconds < ALIKE * fastest]
        if fastest > SHORT or (len(alike) == 1 and fastest <= limit):
            return alike
        return [(entry._replace(seconds=min(entry.seconds, self._round(made).seconds)), made) for entry, made in alike]

    def _expected(self, made: Team) -> float:
        """Return the seconds of a round by those of a part of it; 0 where it has few steps, or isn't divisible."""
        n, steps = self._problem.task.images, self._problem.task.images // self._problem.task.batch_size
        if steps < MANY_STEPS or not isinstance(made, _One) or not made.takes_parts:
            return 0.0
        made.reset()
        part = n // PARTS
        started = time.perf_counter()
        made.train_on(part)
        return (time.perf_counter() - started) * n / part

    def round(self) -> Outcome:
        """Train for a round from the start."""
        return self._round(self._team)

    def close(self) -> None:
        """Let go of what was prepared."""
        self._team = None  # type: ignore[assignment]

    def _round(self, of: Team) -> Outcome:
        of.reset()
        time.sleep(self._settle)
        watch = Watch()
        started = time.perf_counter()
        losses = of.train()
        seconds = time.perf_counter() - started
        cores, disturbed = watch.told(seconds)
        reads = []
        for _ in range(2):
            started = time.perf_counter()
            found = [Trained(float(losses[number]), of.parameters(number)) for number in self._problem.compared]
            reads.append(time.perf_counter() - started)
        # A copy: the next round goes on in the same arrays.
        found = [Trained(loss, copied(parameters)) for loss, parameters in found]
        return Outcome(seconds, found, max(0.0, reads[0] - reads[1]), cores, disturbed)


def copied(parameters: Parameters) -> Parameters:
    """Return a copy."""
    weights, biases = ([array.copy() for array in arrays] for arrays in (parameters.weights, parameters.biases))
    return Parameters(weights, biases, parameters.functions)


def auto_engine(task: Task, device: str) -> str:
    """Return the engine that gpunn chooses by itself for a task on a device."""
    if task.networks > 1:
        return MANY
    problem, backend = Problem(task), get_backend(device)
    with backend.activate():
        return choose_engine("auto", backend, problem.starts[0], problem.recipe()).name
