"""The contract of an engine: it runs epochs of training on a device."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.equations import Array


@dataclass(frozen=True)
class Parameters:
    """Weights and biases, shaped as in `MLP`, on a device or on the host."""

    weights: Sequence[Array]
    biases: Sequence[Array]


@dataclass(frozen=True)
class Recipe:
    """How to train: `batch_size` examples a step, each step `learning_rate` times the gradient."""

    batch_size: int
    learning_rate: float


class Engine(ABC):
    """Trains a network of its own on one split, an epoch at a call. Everything happens inside `backend.activate()`.

    All engines compute the same: mini-batch gradient descent over the batches `order[0:m]`, `order[m:2m]`, ..., the
    last of which may be smaller. They differ in speed alone.
    """

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, backend: Backend, start: Parameters, images: Array, labels: Array, recipe: Recipe) -> None:
        """Take a copy of `start` (host arrays), and the split on the device: uint8, (n, n_0) and (n,)."""

    @abstractmethod
    def run_epoch(self, order: NDArray[Any]) -> float:
        """Train once on every example in `order` (n,), host integers; return the epoch's mean loss.

        The loss of each example is the one before its batch's step. Returns when the device is done.
        """

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return the parameters as they are now, on the device. The next epoch may change these arrays."""
