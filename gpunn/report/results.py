"""What a run of `pytest --benchmark` has found: the rows of its file."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True, order=True)
class Entrant:
    """An engine of gpunn or a peer, on a device."""

    is_peer: bool
    device: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} on {self.device}"


@dataclass(frozen=True)
class Times:
    """The quartiles of some rounds, in seconds; `wide` where they are far apart."""

    low: float
    median: float
    high: float
    wide: bool


@dataclass(frozen=True)
class Task:
    """An epoch that was timed: of a network, at a batch size, over so many images."""

    network: str
    batch_size: int
    dense: bool
    images: int

    @property
    def operations(self) -> int:
        """Floating-point operations an image, as if no pixel were dark: forward, backward, and the update."""
        sizes = [int(size) for size in self.network.split("-")]
        layers = [2 * n_in * n_out for n_in, n_out in pairwise(sizes)]
        return 3 * sum(layers) - layers[0]


@dataclass(frozen=True)
class Epochs:
    """An entrant's epochs; without `times` where there is a `problem` with them."""

    task: Task
    entrant: Entrant
    times: Times | None
    problem: str | None

    @property
    def speed(self) -> float:
        """Images a second; nothing where there is a problem."""
        return 0.0 if self.times is None else self.task.images / self.times.median


@dataclass(frozen=True)
class Kernel:
    """A fused kernel, what it replaces, and a copy of as many bytes; without times where there is a `problem`."""

    device: str
    name: str
    shape: tuple[int, ...]
    n_bytes: int
    fused: Times | None
    unfused: Times | None
    copy: Times | None
    problem: str | None

    @property
    def label(self) -> str:
        """The name and the shape."""
        return f"{self.name} {'x'.join(map(str, self.shape))}"


@dataclass(frozen=True)
class Race:
    """An entrant's way to an accuracy, the `goal`; without `times` where there is a `problem`."""

    network: str
    goal: float
    entrant: Entrant
    batch_size: int
    learning_rate: float
    epochs: tuple[int, ...]
    times: Times | None
    problem: str | None


@dataclass(frozen=True)
class Ceiling:
    """What a device can do at most, where that was measured: bytes copied and operations of a product, a second."""

    device: str
    copied: float | None
    multiplied: float | None


@dataclass(frozen=True)
class Run:
    """One file."""

    path: Path
    started: str
    revision: str
    machine: dict[str, str]
    devices: dict[str, dict[str, str]]
    epochs: tuple[Epochs, ...]
    kernels: tuple[Kernel, ...]
    races: tuple[Race, ...]
    ceilings: tuple[Ceiling, ...]
    skipped: tuple[str, ...]
    """What wasn't timed, and why, in a line each."""
