"""The contract of a peer: the work of `gpunn.engines.Engine`, done by another library."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from gpunn import Split
from gpunn.engines import Parameters, Recipe


@dataclass(frozen=True)
class Place:
    """Where a peer computes: "cpu", with a number of threads, or "cuda:N"."""

    device: str = "cpu"
    threads: int = 1
    """Of the CPU; without effect on a GPU, and where a library's can't be set."""

    @property
    def kind(self) -> str:
        """The device without its number: "cpu" or "cuda"."""
        return self.device.partition(":")[0]

    @property
    def index(self) -> int:
        """The device's number."""
        return int(self.device.partition(":")[2] or 0)


class Peer(ABC):
    """Trains a network of its own on one split in float32, an epoch at a call, as an expert in its library would.

    What an epoch computes is what `Engine` says, over the same batches of the same order.
    """

    name: ClassVar[str]
    threads_can_be_set: ClassVar[bool]
    """Whether the library's number of threads can be changed while the process runs."""

    @abstractmethod
    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        """Take a copy of `start` (host arrays, float32) and do what isn't part of an epoch: scale images, compile."""

    @abstractmethod
    def run_epoch(self, order: NDArray[Any]) -> float:
        """Train once on every example of the split in `order` (n,), int64; return the epoch's mean loss.

        The loss of each example is the one before its batch's step. Returns when the device is done.
        """

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return the parameters as they are now, as host arrays shaped as in `MLP`."""
