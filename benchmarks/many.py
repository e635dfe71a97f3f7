"""Many networks at once: gpunn's `train_many` beside `train`, JAX's `vmap` and `torch.func`.

    python -m benchmarks.many [--networks 1,16,100] [--epochs 5] [--device cuda] [--peers jax.vmap] [--json PATH]

All networks have one shape and a batch size, and each has its own start, order and learning rate. A row's time is that
of all epochs of all networks: gpunn's with everything that a call does, the peers' after they were compiled. After
the first epoch the first and the last network of each contestant are compared with those of float64. Contestants take
turns; whoever needs too long in a row is left out of the larger ones.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import SETTLE
from benchmarks.exactness import TOLERANCES, deviation_of, exact_epoch
from benchmarks.machine import describe_machine
from benchmarks.peers.base import Place
from benchmarks.peers.many import MANY_PEERS, load_many_peer
from benchmarks.timing import quartiles
from gpunn import MLP, History, Split, get_backend, load_mnist, train, train_many
from gpunn.backends.limits import at_most_cores, usable_cores
from gpunn.engines import Parameters, Recipe
from gpunn.errors import GpunnError
from gpunn.files import check_writable, write_whole

NETWORKS = "1,16,132,1000"
LONG = 120.0
"""Seconds that a contestant may be expected to take for a row."""

MANY, IN_TURN = "train_many", "train in turn"


class Task(NamedTuple):
    """Networks of `sizes`, one for each learning rate, to be trained for `epochs` epochs."""

    sizes: Sequence[int]
    rates: NDArray[np.float32]
    epochs: int
    recipe: Recipe
    split: Split
    device: str = "cpu"

    def nets(self) -> list[MLP]:
        """Return the networks at their start."""
        return [MLP(self.sizes, seed=number) for number in range(len(self.rates))]

    def orders(self) -> list[NDArray[np.int64]]:
        """Return the orders of each epoch, (B, n): those that `gpunn.train` draws from the networks' numbers."""
        generators = [np.random.default_rng(number) for number in range(len(self.rates))]
        return [np.stack([rng.permutation(len(self.split)) for rng in generators]) for _ in range(self.epochs)]


@dataclass
class Timed:
    """A contestant's times of a row, in seconds, and what is wrong with its networks or why it has none."""

    seconds: list[float] = field(default_factory=list)
    problem: str | None = None


class Trained(NamedTuple):
    """The seconds that training took, each network's loss in the first epoch, and what returns a network."""

    seconds: float
    losses: Sequence[float]
    parameters: Callable[[int], Parameters]


def gpunn_many(task: Task, nets: list[MLP]) -> list[History]:
    """Train by `train_many`."""
    return train_many(nets, task.split, **_settings(task), learning_rate=task.rates, seed=range(len(nets)))


def gpunn_in_turn(task: Task, nets: list[MLP]) -> list[History]:
    """Train by `train`, one network after another, on one core or a GPU."""
    with at_most_cores(1):
        return [
            train(net, task.split, **_settings(task), learning_rate=float(task.rates[number]), seed=number)
            for number, net in enumerate(nets)
        ]


def _settings(task: Task) -> dict[str, Any]:
    return {"epochs": task.epochs, "batch_size": task.recipe.batch_size, "device": task.device}


GPUNN: dict[str, Callable[[Task, list[MLP]], list[History]]] = {MANY: gpunn_many, IN_TURN: gpunn_in_turn}


def run_gpunn(name: str, task: Task) -> Trained:
    """Train by gpunn."""
    nets = task.nets()
    started = time.perf_counter()
    histories = GPUNN[name](task, nets)
    seconds = time.perf_counter() - started
    return Trained(seconds, [history.losses[0] for history in histories], lambda number: _parameters(nets[number]))


def run_peer(name: str, task: Task) -> Trained:
    """Train by a peer; compiling isn't timed."""
    place = Place(task.device, usable_cores())
    peer = load_many_peer(name)([_parameters(net) for net in task.nets()], task.split, task.recipe, task.rates, place)
    orders = task.orders()
    time.sleep(SETTLE)
    started = time.perf_counter()
    losses = [peer.run_epoch(order) for order in orders]
    return Trained(time.perf_counter() - started, losses[0].tolist(), peer.parameters)


def _parameters(net: MLP) -> Parameters:
    return Parameters(net.weights, net.biases)


def run(name: str, task: Task) -> Trained:
    """Train by the contestant `name`."""
    time.sleep(SETTLE)
    return (run_gpunn if name in GPUNN else run_peer)(name, task)


def problem_of(name: str, task: Task) -> tuple[float, str | None]:
    """Return the seconds of one epoch, and what is wrong with the first or the last network after it."""
    once = task._replace(epochs=1)
    trained = run(name, once)
    orders, nets = once.orders()[0], once.nets()
    for number in (0, len(nets) - 1):
        start, recipe = _parameters(nets[number]), Recipe(task.recipe.batch_size, float(task.rates[number]))
        exact = exact_epoch(start, task.split, recipe, orders[number], "cpu")
        found = trained.losses[number], trained.parameters(number)
        deviation, what = deviation_of(len(task.split), *found, start, *exact)
        if deviation > TOLERANCES["float32"]:
            return trained.seconds, f"network {number}: {what}"
    return trained.seconds, None


def contest(task: Task, contestants: Sequence[str], rounds: int, seconds: dict[str, float]) -> dict[str, Timed]:
    """Return the times of all contestants, in turn; `seconds` are those of an epoch of a network, by earlier rows."""
    found = {name: Timed() for name in contestants}
    n_epochs = len(task.rates) * task.epochs
    for name, timed in found.items():
        expected = seconds.get(name, 0.0) * n_epochs
        if expected > LONG:
            timed.problem = f"left out: {expected:.0f} s a round, by a smaller row"
            continue
        try:
            first, timed.problem = problem_of(name, task)
        except ImportError as error:
            timed.problem = f"not installed: {MANY_PEERS[name][2]} ({error})"
            continue
        if first * task.epochs > LONG:
            timed.problem = timed.problem or f"left out: {first * task.epochs:.0f} s a round, by its first epoch"
            seconds[name] = first / len(task.rates)
    for number in range(rounds):
        turn = [name for name, timed in found.items() if timed.problem is None]
        for name in turn[number % max(1, len(turn)) :] + turn[: number % max(1, len(turn))]:
            found[name].seconds.append(run(name, task).seconds)
    for name, timed in found.items():
        if timed.seconds:
            seconds[name] = quartiles(timed.seconds)[1] / n_epochs
    return found


def lines(task: Task, found: dict[str, Timed]) -> list[str]:
    """Return a row of the table: each contestant's milliseconds of a network's epoch, and the ratio to gpunn's."""
    n_epochs = len(task.rates) * task.epochs
    printed = [f"{len(task.rates):,} networks, {task.epochs} epochs each"]
    mine = quartiles(found[MANY].seconds)[1] if found[MANY].seconds else float("nan")
    for name, timed in found.items():
        if not timed.seconds:
            printed.append(f"    {name:<18}{timed.problem}")
            continue
        low, median, high = quartiles(timed.seconds)
        spread = (high - low) / median
        printed.append(
            f"    {name:<18}{median:9.2f} s{1e3 * median / n_epochs:9.2f} ms a network and epoch"
            f"{median / mine:8.2f} x train_many, spread {spread:.0%}"
        )
    return printed


def _numbers(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    try:
        numbers = [int(number) for number in value.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise click.BadParameter(f"found {value!r}, expected whole numbers such as 1,16,132")
    return numbers


@click.command()
@click.option("--networks", default=NETWORKS, show_default=True, callback=_numbers, help="Numbers of networks.")
@click.option("--sizes", default="784-16-10", show_default=True, help="Layer sizes of all of them.")
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda or cuda:N.")
@click.option("--epochs", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--images", type=click.IntRange(min=1), help="Train on the first ones only.")
@click.option("--peers", default=",".join(MANY_PEERS), show_default=True, help="Or none.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all numbers there.")
def main(  # noqa: PLR0917 - one argument an option, passed by name
    networks: list[int],
    sizes: str,
    device: str,
    epochs: int,
    batch_size: int,
    images: int | None,
    peers: str,
    rounds: int,
    json_path: Path | None,
) -> None:
    """Print a row for each number of networks; exit with 1 where a network is wrong."""
    chosen = [] if peers == "none" else peers.split(",")
    if unknown := set(chosen) - set(MANY_PEERS):
        raise click.UsageError(f"found the peer {min(unknown)!r}, expected {', '.join(MANY_PEERS)} or none")
    try:
        layers = [int(size) for size in sizes.split("-")]
    except ValueError as error:
        raise click.UsageError(f"found the sizes {sizes!r}, expected sizes such as 784-16-10") from error
    try:
        device = get_backend(device).name
        if json_path is not None:
            check_writable(json_path)
    except GpunnError as error:
        raise click.UsageError(str(error)) from error
    logging.getLogger("gpunn.training").setLevel(logging.ERROR)  # low rates of few epochs learn nothing, as expected
    machine = describe_machine(["torch", "jax"])
    click.echo("; ".join(f"{key} {value}" for key, value in machine.items()))
    click.echo(f"{sizes}, batch size {batch_size}, on {device}, median of {rounds} rounds")
    split, seconds, records, wrong = load_mnist().train[:images], dict[str, float](), [], []
    for number in sorted(networks):
        rates = np.linspace(0.1, 1.0, number, dtype=np.float32)
        task = Task(layers, rates, epochs, Recipe(batch_size, 1.0), split, device)
        found = contest(task, [*GPUNN, *chosen], rounds, seconds)
        click.echo("\n".join(lines(task, found)))
        times = {name: {"seconds": timed.seconds, "problem": timed.problem} for name, timed in found.items()}
        records.append({"networks": number, "epochs": epochs, "contestants": times})
        wrong += [
            f"{number} networks: {name}, {timed.problem}"
            for name, timed in found.items()
            if timed.problem is not None and timed.problem.startswith("network ")
        ]
        if json_path is not None:
            about = {"machine": machine, "device": device, "network": sizes, "batch_size": batch_size, "rows": records}
            write_whole(json_path, json.dumps(about, indent=1).encode())
    if wrong:
        raise click.ClickException("\n".join(wrong))


if __name__ == "__main__":
    main()
