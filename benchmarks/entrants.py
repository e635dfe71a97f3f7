"""Who is timed by `pytest --benchmark`: gpunn's engines and their peers, on a device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.contest import Network
from benchmarks.gpunn_engine import GpunnEngine
from benchmarks.peers import PEERS, Place, load_peer
from benchmarks.words import in_a_line
from gpunn import Backend, Split
from gpunn.backends.limits import usable_cores
from gpunn.engines import Parameters, Recipe
from gpunn.equations import Array
from gpunn.errors import ConfigurationError, GpunnError, OutOfMemoryError

Prepare = Callable[[], Network]


class AbsentError(Exception):
    """The entrant can't train this network here; the message says why."""


@dataclass(frozen=True)
class Entrant:
    """An engine of gpunn, or a peer, on the device of that name."""

    name: str
    device: str
    is_peer: bool = False

    def __str__(self) -> str:
        return f"{self.device}-{self.name}"


def ways_to_prepare(  # noqa: PLR0917 - who, where and what
    entrant: Entrant, backend: Backend, on_device: tuple[Array, Array], start: Parameters, split: Split, recipe: Recipe
) -> dict[int | None, Prepare]:
    """Return what makes a network for `entrant`, by the number of threads; None: the entrant chooses it itself.

    gpunn's engines find the images and labels of `split` `on_device`; a peer takes the split as it is, and what it
    does with it is part of its preparation. Raises `AbsentError` where a peer's library is missing.
    """
    if not entrant.is_peer:
        engine = partial(GpunnEngine, entrant.name, backend, start, split, recipe, on_device=on_device)
        return {None: partial(_prepared, engine, (ConfigurationError, OutOfMemoryError), "")}
    kinds, install = PEERS[entrant.name].kinds, PEERS[entrant.name].install
    kind = entrant.device.partition(":")[0]
    if kind not in kinds:
        raise AbsentError(f"{entrant.name} computes on {' and '.join(kinds)} here, and the device is {entrant.device}")
    try:
        peer = load_peer(entrant.name)
    except Exception as error:  # a broken installation raises more than ImportError
        raise AbsentError(f"{entrant.name} is not installed: {install} ({in_a_line(error)})") from error
    choice = sorted({1, usable_cores()}) if kind == "cpu" and peer.threads_can_be_set else [None]
    ways: dict[int | None, Prepare] = {}
    for threads in choice:
        place = Place(entrant.device, threads or usable_cores())
        network = partial(peer, start, split, recipe, place)
        # Whatever a library raises where its compiler is missing.
        ways[threads] = partial(_prepared, network, (Exception,), f"{entrant.name} can't run ({install}): ")
    return ways


def _prepared(make: Prepare, refusals: tuple[type[Exception], ...], prefix: str) -> Network:
    try:
        return make()
    except refusals as error:
        reason = str(error) if isinstance(error, GpunnError) else in_a_line(error)
        raise AbsentError(prefix + reason) from error
