"""What `pytest --benchmark` was asked to time."""

import math
from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.bars import Row, chosen_rows
from benchmarks.entrants import Entrant
from benchmarks.goals import GOALS, Goal
from benchmarks.peers import PEERS, peers_on
from gpunn import Backend, devices, get_backend
from gpunn.engines import ENGINES
from gpunn.errors import ConfigurationError
from gpunn.files import check_writable

N_PIXELS, N_CLASSES, N_IMAGES = 784, 10, 60_000

DEFAULT_NETWORK = "784-16-10"

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Choices:
    """The options, checked; how each is spelled is in the root `conftest.py`."""

    networks: tuple[str, ...]
    named: bool
    """Whether `networks` were chosen, or are the default."""
    batch_sizes: tuple[int, ...]
    backends: tuple[Backend, ...]
    engines: tuple[str, ...]
    """None named: all."""
    peers: tuple[str, ...] | None
    """None: all that compute on the device."""
    dense: bool
    images: int
    seconds: float
    """How long the rounds of an entrant may take, but for the least number of them."""
    results: Path | None
    assert_speed: bool = False
    """Whether the run fails where a row is below its bar."""
    absent: dict[str, str] = field(default_factory=dict)
    """The devices that can't be used, and why, where none were asked for by name."""

    def rows(self) -> list[Row]:
        """Return what is timed, in the order of the table."""
        return chosen_rows(self.networks, self.batch_sizes, dense=self.dense)

    def goals(self) -> list[Goal]:
        """Return the accuracies to be reached: those of the chosen networks, of all if none was chosen.

        The settings that reach them are those for all of MNIST, as it is.
        """
        if self.dense or self.images < N_IMAGES:
            return []
        return [goal for goal in GOALS if not self.named or goal.network in self.networks]

    def entrants(self) -> list[Entrant]:
        """Return who is timed on each row, in the order of the columns."""
        return list(self._entrants(self.engines or tuple(ENGINES)))

    def racers(self) -> list[Entrant]:
        """Return who is timed on its way to a goal: gpunn as it comes, unless engines were chosen, and the peers."""
        return list(self._entrants(self.engines or ("auto",)))

    def _entrants(self, engines: Sequence[str]) -> Iterator[Entrant]:
        for backend in self.backends:
            yield from (Entrant(name, backend.name) for name in engines)
        for backend in self.backends:
            names = peers_on(backend.name.partition(":")[0]) if self.peers is None else self.peers
            yield from (Entrant(name, backend.name, is_peer=True) for name in names)

    def to_dict(self) -> dict[str, Any]:
        """Return the choices as JSON's types."""
        return {
            "networks": self.networks,
            "batch_sizes": self.batch_sizes,
            "devices": [backend.name for backend in self.backends],
            "engines": self.engines or "all",
            "peers": "all" if self.peers is None else self.peers,
            "dense": self.dense,
            "images": self.images,
            "seconds": self.seconds,
        }


def choices_of(option: Namespace) -> Choices:
    """Return the checked options; raises `GpunnError`, in one line, for what can't be done."""
    if option.assert_speed and option.images is not None:
        raise ConfigurationError("found --images with --assert-speed, expected all images: the bars are for them")
    backends, absent = _backends(option.devices)
    if option.assert_speed and "cpu" not in {backend.name for backend in backends}:
        raise ConfigurationError("found --assert-speed without the device cpu, expected it: the bars are for CPUs")
    results = None if option.results is None else Path(option.results).absolute()
    if results is not None:
        check_writable(results)
    choices = Choices(
        networks=_unique(_network(sizes) for sizes in option.network or [DEFAULT_NETWORK]),
        named=bool(option.network),
        batch_sizes=_unique(_whole("the batch size", size) for size in option.batch_sizes.split(",")),
        backends=backends,
        engines=() if option.engines == "all" else _names("engine", option.engines, ["all", "auto", *ENGINES]),
        peers=_peers(option.peers or ("all" if option.assert_speed else "none")),
        dense=option.dense,
        images=N_IMAGES if option.images is None else _whole("the number of images", option.images, N_IMAGES),
        seconds=_seconds(option.seconds),
        results=results,
        assert_speed=option.assert_speed,
        absent=absent,
    )
    if choices.assert_speed and all(row.bar is None for row in choices.rows()):
        raise ConfigurationError(
            "found --assert-speed and no row that has a bar, expected some: see benchmarks/bars.py"
        )
    return choices


def _unique(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    return tuple(dict.fromkeys(choices))


def _backends(names: str) -> tuple[tuple[Backend, ...], dict[str, str]]:
    if names == "all":
        found = devices()
        absent = {status.name: status.reason or "can't be used" for status in found if not status.usable}
        return tuple(get_backend(status.name) for status in found if status.usable), absent
    # By name, as cuda and cuda:0 are one device.
    chosen = {backend.name: backend for backend in map(get_backend, names.split(","))}
    return tuple(chosen.values()), {}


def _peers(names: str) -> tuple[str, ...] | None:
    if names == "all":
        return None
    return () if names == "none" else _names("peer", names, ["all", "none", *PEERS])


def _names(what: str, names: str, known: Collection[str]) -> tuple[str, ...]:
    chosen = _unique(names.split(","))
    for name in chosen:
        if name not in known:
            raise ConfigurationError(f"found the {what} {name!r}, expected some of {', '.join(known)}")
    return chosen


def _network(sizes: str) -> str:
    layers = sizes.split("-")
    whole = len(layers) > 1 and all(layer.isascii() and layer.isdigit() and int(layer) > 0 for layer in layers)
    if not whole or (int(layers[0]), int(layers[-1])) != (N_PIXELS, N_CLASSES):
        raise ConfigurationError(
            f"found the network {sizes!r}, expected layer sizes from {N_PIXELS} pixels to {N_CLASSES} digits, "
            f"such as {DEFAULT_NETWORK}"
        )
    return "-".join(str(int(layer)) for layer in layers)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 3600:
        raise ConfigurationError(f"found {text!r} for the seconds of a row, expected a number from 0 to 3600")
    return seconds


def _whole(what: str, number: str, most: int = 2**31 - 1) -> int:
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= most):
        raise ConfigurationError(f"found {number!r} for {what}, expected a whole number from 1 to {most}")
    return int(number)
