"""The contracts of peers: the work of `gpunn.engines.Engine`, done by another library."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
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


PLAIN = "squared_error", "descent"
"""The loss and the rule of steps that every peer can do, with sigmoid neurons."""


def rules(start: Parameters, recipe: Recipe) -> tuple[str, str]:
    """Return the loss and the rule of steps, as far as peers know them: sigmoid throughout, or ReLU and softmax."""
    *hidden, output = start.functions
    sigmoid = {*hidden, output} == {"sigmoid"} and recipe.loss == "squared_error"
    softmax = set(hidden) <= {"relu"} and (output, recipe.loss) == ("softmax", "cross_entropy")
    return recipe.loss if sigmoid or softmax else "other", recipe.optimizer.rule


_scaled: list[tuple[Split, NDArray[np.float32]]] = []
"""The images that were scaled last, and what of them."""


def scaled(split: Split) -> NDArray[np.float32]:
    """Return the images in 0..1, (n, 784): one array for all who ask for those of a split, not to be written to."""
    if not _scaled or _scaled[0][0] is not split:
        _scaled[:] = [(split, split.images.astype(np.float32) / np.float32(255))]
    return _scaled[0][1]


class Peer(ABC):
    """Trains a network of its own on one split in float32, an epoch at a call, as an expert in its library would.

    What an epoch computes is what `Engine` says, over the same batches of the same order.
    """

    name: ClassVar[str]
    threads_can_be_set: ClassVar[bool]
    """Whether the library's number of threads can be changed while the process runs."""
    takes_parts: ClassVar[bool] = True
    """Whether `run_epoch` takes orders of a part of the examples too, by which slow peers are told early."""
    knows: ClassVar[frozenset[tuple[str, str]]] = frozenset(
        {PLAIN, *(("cross_entropy", rule) for rule in ("descent", "nesterov", "adam"))}
    )
    """The losses and rules, as `rules` returns them, that it is written for."""

    @abstractmethod
    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        """Do what isn't part of an epoch: scale images, compile; `start` are host arrays, float32, left unchanged."""

    @abstractmethod
    def reset(self) -> None:
        """Return to `start`, without any memory of steps; what is compiled stays."""

    @abstractmethod
    def run_epoch(self, order: NDArray[Any]) -> float:
        """Train once on every example of the split in `order` (n,), int64; return the epoch's mean loss.

        The loss of each example is the one before its batch's step. Returns when the device is done.
        """

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return the parameters as they are now, as host arrays shaped as in `MLP`."""


class ManyPeer(ABC):
    """Trains networks of one shape in float32 by plain gradient descent, each in its own order and at its own rate."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(
        self, starts: Sequence[Parameters], split: Split, recipe: Recipe, rates: NDArray[np.float32], place: Place
    ) -> None:
        """Compile for B networks from `starts` (host arrays, float32), at the learning `rates` (B,)."""

    @abstractmethod
    def reset(self) -> None:
        """Return to `starts`; what is compiled stays."""

    @abstractmethod
    def run_epoch(self, orders: NDArray[np.int64]) -> NDArray[np.float32]:
        """Train every network once on all examples, each in its row of `orders` (B, n); return the mean losses (B,)."""

    @abstractmethod
    def parameters(self, number: int) -> Parameters:
        """Return the parameters of a network as they are now, as host arrays shaped as in `MLP`."""
