"""The contest of a row: gpunn's engines and their peers train the same network, in turn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.bars import Row
from benchmarks.peers import PEERS, load_peer
from benchmarks.standings import Result, survivors
from gpunn import MLP, Split, get_backend
from gpunn.backends.cpu import usable_cores
from gpunn.engines import Engine, Parameters, Recipe, choose_engine
from gpunn.engines.plain import PlainEngine
from gpunn.errors import GpunnError

SETTLE = 0.25
"""Seconds between two epochs, for the threads of one library to fall asleep before the next one's are timed.

Those of OpenBLAS keep a core busy for a good tenth of a second after their last product.
"""


class Network(Protocol):
    """What an `Engine` and a `Peer` have in common."""

    def run_epoch(self, order: NDArray[Any]) -> float: ...

    def parameters(self) -> Parameters: ...


@dataclass
class Contest:
    """The contestants of one row: their results, and why others are absent."""

    results: list[Result] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    networks: list[Network] = field(default_factory=list)

    def enter(self, name: str, threads: int | None, is_peer: bool, make: Callable[[], Network]) -> None:
        """Add the network that `make` returns, or the reason why it can't."""
        try:
            self.networks.append(make())
        except GpunnError as error:
            self.absent[name] = str(error)
        except Exception as error:  # whatever a library raises where its compiler is missing
            if not is_peer:
                raise
            self.absent[name] = f"can't run: {error!r:.200}; {PEERS[name].install}"
        else:
            self.results.append(Result(name, threads, is_peer))


def hold(row: Row, split: Split, engines: Sequence[str], peers: Sequence[str], rounds: int) -> Contest:
    """Return the times of all contestants on `split`, after comparing their networks.

    The first epoch isn't among the timed ones: its results are compared with those of float64, and slow peers leave
    after it. Then come the rounds; each epoch goes on with the network of the one before, in a new order that is the
    same for all, and who goes first changes from round to round.
    """
    net, recipe = MLP(row.sizes), Recipe(row.batch_size, row.learning_rate)
    start = Parameters(net.weights, net.biases)
    contest = Contest()
    for name in peers:
        _enter_peer(contest, name, start, split, recipe)
    for name in engines:
        contest.enter(name, None, False, partial(_engine, name, start, split, recipe))

    order = np.random.default_rng(0).permutation(len(split))
    expected_loss, expected = _in_float64(start, split, recipe, order)
    for result, network in zip(contest.results, contest.networks, strict=True):
        result.first, loss = _timed(network, order)
        result.problem = _difference(loss, network.parameters(), expected_loss, expected)
    remaining = {id(result) for result in survivors(contest.results)}
    runners = [pair for pair in zip(contest.results, contest.networks, strict=True) if id(pair[0]) in remaining]
    for number in range(rounds):
        order = np.random.default_rng(number + 1).permutation(len(split))
        first = number % max(len(runners), 1)
        for result, network in runners[first:] + runners[:first]:
            result.seconds.append(_timed(network, order)[0])
    contest.networks.clear()
    return contest


def _engine(name: str, start: Parameters, split: Split, recipe: Recipe) -> Engine:
    backend = get_backend("cpu")
    return choose_engine(name, backend, start)(backend, start, split.images, split.labels, recipe)


def _enter_peer(contest: Contest, name: str, start: Parameters, split: Split, recipe: Recipe) -> None:
    try:
        peer = load_peer(name)
    except ImportError as error:
        contest.absent[name] = f"not installed: {PEERS[name].install} ({error})"
        return
    for threads in sorted({1, usable_cores()}) if peer.threads_can_be_set else [usable_cores()]:
        contest.enter(name, threads, True, partial(peer, start, split, recipe, threads))


def _timed(network: Network, order: NDArray[Any]) -> tuple[float, float]:
    """Return the seconds and the loss of an epoch."""
    time.sleep(SETTLE)
    started = time.perf_counter()
    loss = network.run_epoch(order)
    return time.perf_counter() - started, loss


def _in_float64(start: Parameters, split: Split, recipe: Recipe, order: NDArray[Any]) -> tuple[float, Parameters]:
    doubled = Parameters([W.astype(np.float64) for W in start.weights], [b.astype(np.float64) for b in start.biases])
    engine = PlainEngine(get_backend("cpu"), doubled, split.images, split.labels, recipe)
    return engine.run_epoch(order), engine.parameters()


def _difference(loss: float, found: Parameters, expected_loss: float, expected: Parameters) -> str | None:
    """Return what is further from float64 than rounding in float32 explains, or None."""
    if not abs(loss - expected_loss) <= 1e-3 * expected_loss:
        return f"found the loss {loss:.6g}, expected {expected_loss:.6g}"
    pairs = zip((*found.weights, *found.biases), (*expected.weights, *expected.biases), strict=True)
    for mine, theirs in pairs:
        off = float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        if not off <= 1e-3:
            return f"found parameters of shape {theirs.shape} that differ by {off:.2g} of the largest"
    return None
