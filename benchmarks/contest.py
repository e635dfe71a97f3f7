"""The contest of a row: gpunn's engines and their peers train the same network, in turn."""

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.bars import Row
from benchmarks.exactness import TOLERANCES, deviation_of, exact_epoch
from benchmarks.gpunn_engine import GpunnEngine
from benchmarks.memory import give_memory_back
from benchmarks.peers import PEERS, Place, load_peer
from benchmarks.standings import Result, survivors
from benchmarks.words import in_a_line
from gpunn import MLP, Split, get_backend
from gpunn.backends.limits import usable_cores
from gpunn.engines import Parameters, Recipe
from gpunn.errors import DeviceError, GpunnError

SETTLE = 0.25
"""Seconds between two epochs, for the threads of one library to fall asleep before the next one's are timed.

Those of OpenBLAS keep a core busy for a good tenth of a second after their last product.
"""


class Network(Protocol):
    """What a `GpunnEngine` and a `Peer` have in common."""

    def run_epoch(self, order: NDArray[Any]) -> float: ...

    def parameters(self) -> Parameters: ...


@dataclass(frozen=True)
class Conditions:
    """Where and how a contest is held; as they are, those of the CPU."""

    device: str = "cpu"
    precision: str = "float32"
    exact_on: str = "cpu"
    """The device of the float64 network that all are compared with."""
    settle: float = SETTLE
    seconds: float = math.inf
    """Of rounds; after these none but the first begins."""
    stop_on_error: bool = True
    """Whether an error that isn't a refusal ends everything, or is noted and the contest goes on."""


@dataclass
class Contest:
    """The contestants of one row: their results, and why others are absent."""

    results: list[Result] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)
    """How far each network was from the one of float64 after the first epoch, relative as `TOLERANCES` are."""
    tracebacks: dict[str, str] = field(default_factory=dict)
    auto: str | None = None
    """The engine that `auto` stands for, where that was found out."""
    keeps_memory: bool = False
    """Whether the process still holds much of the GPU's memory, which others will need."""


class DeviceLostError(Exception):
    """After what a contestant did, nothing works on the device any more in this process."""

    def __init__(self, name: str, reason: str, trace: str) -> None:
        super().__init__(name, reason, trace)
        self.name, self.reason, self.trace = name, reason, trace


Watch = Callable[[str, str], None]
"""Is told the name of whoever has its turn, and what it is about to do: "prepare" or "train"."""


def hold(
    row: Row,
    split: Split,
    engines: Sequence[str],
    peers: Sequence[str],
    rounds: int,
    *,
    conditions: Conditions | None = None,
    watch: Watch = lambda _name, _act: None,
) -> Contest:
    """Return the times of all contestants on `split`, after comparing their networks.

    `engines` are names of gpunn's, on the device of the contest or, for example, "auto on cpu".

    The first epoch isn't among the timed ones: its results are compared with those of float64, and slow peers leave
    after it. Then come the rounds; each epoch goes on with the network of the one before, in a new order that is the
    same for all, and who goes first changes from round to round.
    """
    conditions = conditions or Conditions()
    net, recipe = MLP(row.sizes), recipe_of(row, conditions.precision)
    start = Parameters(net.weights, net.biases)
    contest = Contest()
    order = np.random.default_rng(0).permutation(len(split))
    watch("float64", "prepare")
    # Before others take their memory; what it took is given back to them.
    exact = exact_epoch(start, split, recipe, order, conditions.exact_on)
    give_memory_back(get_backend(conditions.exact_on))
    runners = []
    for result, make in _contestants(contest, engines, peers, conditions, start=start, split=split, recipe=recipe):
        watch(result.name, "prepare")
        network = _enter(contest, result, make, conditions)
        if network is not None:
            runners.append((result, network))

    for result, network in runners:
        watch(result.name, "train")
        with _noted(contest, result, conditions):
            result.first, loss = _timed(network, order, conditions)
            deviation, what = deviation_of(len(split), loss, network.parameters(), start, *exact)
            contest.deviations[result.name] = deviation
            result.problem = None if deviation <= TOLERANCES[conditions.precision] else what
    remaining = {id(result) for result in survivors(contest.results)}
    runners = [pair for pair in runners if id(pair[0]) in remaining]
    started = time.perf_counter()
    for number in range(rounds):
        if number > 0 and time.perf_counter() - started > conditions.seconds:
            break
        order = np.random.default_rng(number + 1).permutation(len(split))
        first = number % max(len(runners), 1)
        for result, network in runners[first:] + runners[:first]:
            watch(result.name, "train")
            with _noted(contest, result, conditions):
                result.seconds.append(_timed(network, order, conditions)[0])
        runners = [pair for pair in runners if pair[0].problem is None]
    return contest


def recipe_of(row: Row, precision: str) -> Recipe:
    """Return the recipe of `row`."""
    return Recipe(row.batch_size, row.learning_rate, precision)


def _contestants(
    contest: Contest,
    engines: Sequence[str],
    peers: Sequence[str],
    conditions: Conditions,
    *,
    start: Parameters,
    split: Split,
    recipe: Recipe,
) -> Iterator[tuple[Result, Callable[[], Network]]]:
    """Yield each contestant with what makes its network; note whose libraries are missing.

    Peers come last, and the last of them JAX, which keeps the memory that it has taken.
    """
    for name in engines:
        engine, _, device = name.partition(" on ")
        make = partial(GpunnEngine, engine, device or conditions.device, start, split, recipe)
        yield Result(name, None, is_peer=False), make
    kind = conditions.device.partition(":")[0]
    for name in sorted(peers, key=lambda name: name == "jax"):
        if kind not in PEERS[name].kinds:
            contest.absent[name] = f"computes on {' and '.join(PEERS[name].kinds)}, and the device is {kind}"
            continue
        try:
            peer = load_peer(name)
        except Exception as error:  # a broken installation raises more than ImportError
            contest.absent[name] = f"not installed: {PEERS[name].install} ({error})"
            continue
        can_choose = kind == "cpu" and peer.threads_can_be_set
        for threads in sorted({1, usable_cores()}) if can_choose else [usable_cores()]:
            result = Result(name, threads if kind == "cpu" else None, is_peer=True)
            yield result, partial(peer, start, split, recipe, Place(conditions.device, threads))


def _enter(contest: Contest, result: Result, make: Callable[[], Network], conditions: Conditions) -> Network | None:
    """Return the network that `make` makes, or note why it can't."""
    try:
        network = make()
    except Exception as error:  # whatever a library raises where its compiler is missing
        if isinstance(error, GpunnError) and (conditions.stop_on_error or not isinstance(error, DeviceError)):
            contest.absent[result.name] = str(error)
        elif result.is_peer:
            contest.absent[result.name] = f"can't run: {error!r:.200}; {PEERS[result.name].install}"
            contest.tracebacks[result.name] = traceback.format_exc()
            _check_device(result.name, conditions)
        else:
            contest.results.append(result)
            with _noted(contest, result, conditions):
                raise
        return None
    contest.results.append(result)
    return network


@contextmanager
def _noted(contest: Contest, result: Result, conditions: Conditions) -> Iterator[None]:
    """Take an error inside the block for the contestant's problem, if the contest is to go on."""
    try:
        yield
    except Exception as error:
        if conditions.stop_on_error:
            raise
        result.problem = f"failed: {in_a_line(error)}"
        contest.tracebacks[result.name] = traceback.format_exc()
        _check_device(result.name, conditions)


def _check_device(name: str, conditions: Conditions) -> None:
    """Raise `DeviceLostError` where an error left the device unusable, as a wrong address on a GPU does."""
    if conditions.device == "cpu":
        return
    trace = traceback.format_exc()
    try:
        backend = get_backend(conditions.device)
        with backend.activate():
            backend.to_host(backend.xp.zeros(1))
            backend.synchronize()
    except Exception as error:
        raise DeviceLostError(name, in_a_line(error), trace) from error


def _timed(network: Network, order: NDArray[Any], conditions: Conditions) -> tuple[float, float]:
    """Return the seconds and the loss of an epoch."""
    time.sleep(conditions.settle)
    started = time.perf_counter()
    loss = network.run_epoch(order)
    return time.perf_counter() - started, loss
