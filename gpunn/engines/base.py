"""The contract of an engine: it runs epochs of training on a device."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpunn.backends import Backend
from gpunn.equations import Array
from gpunn.errors import ConfigurationError


@dataclass(frozen=True)
class Parameters:
    """Weights and biases, shaped as in `MLP`, on a device or on the host."""

    weights: Sequence[Array]
    biases: Sequence[Array]

    @property
    def sizes(self) -> list[int]:
        """The layer sizes n_0, ..., n_L."""
        return [self.weights[0].shape[1], *map(len, self.biases)]

    @property
    def n_weights(self) -> int:
        """How many weights there are: the multiplications that one example takes in a forward pass."""
        return sum(W.size for W in self.weights)


PRECISIONS = ("float32", "tf32")


@dataclass(frozen=True)
class Recipe:
    """How to train: `batch_size` examples a step, each step `learning_rate` times the gradient.

    `precision` is that of the factors in matrix products, one of `PRECISIONS`: "tf32" keeps 10 bits of their mantissas,
    which GPUs of compute capability 8.0 and newer multiply several times as fast; sums are float32 all the same.
    """

    batch_size: int
    learning_rate: float
    precision: str = "float32"


class Engine(ABC):
    """Trains a network of its own on one split, an epoch at a call. Everything happens inside `backend.activate()`.

    All engines compute the same: mini-batch gradient descent over the batches `order[0:m]`, `order[m:2m]`, ..., the
    last of which may be smaller. They differ in speed alone.
    """

    name: ClassVar[str]

    own_threads: ClassVar[bool]
    """Whether it may compute in threads of its own, which those of BLAS had better leave the cores to."""

    @abstractmethod
    def __init__(self, backend: Backend, start: Parameters, images: Array, labels: Array, recipe: Recipe) -> None:
        """Take a copy of `start` (host arrays), and the split on the device: uint8, (n, n_0) and (n,)."""

    @classmethod
    @abstractmethod
    def refusal(cls, backend: Backend, start: Parameters, recipe: Recipe) -> str | None:
        """Return in a few words why the engine can't train these parameters on this backend like this, or None."""

    @abstractmethod
    def run_epoch(self, order: NDArray[Any]) -> float:
        """Train once on every example in `order` (n,), host integers; return the epoch's mean loss.

        The loss of each example is the one before its batch's step. Returns when the device is done.
        """

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return the parameters as they are now, on the device. The next epoch may change these arrays."""


def checked_order(order: NDArray[Any], n_images: int) -> NDArray[np.int64]:
    """Return `order` as contiguous int64; raises `IndexError` where a number isn't that of an image."""
    from gpunn.kernels.contract import check_below

    order = np.ascontiguousarray(order, np.int64)
    check_below("order", order, n_images)
    return order


def in_calls(order: NDArray[np.int64], batch_size: int, most: int) -> Iterator[NDArray[np.int64]]:
    """Yield `order` in parts of whole batches: of at most `most` examples, or of one batch if that is more."""
    step = batch_size * max(1, most // batch_size)
    for first in range(0, len(order), step):
        yield order[first : first + step]


def tf32_refusal(recipe: Recipe) -> str | None:
    """Return the refusal of an engine that multiplies in the parameters' own precision, or None."""
    return (
        None
        if recipe.precision == "float32"
        else "TF32 takes the engine fused and a GPU of compute capability 8.0 or newer"
    )


def kernel_refusal(backend: Backend, start: Parameters, *modules: str) -> str | None:
    """Return the refusal of an engine with compiled float32 kernels, which needs `modules`, or None."""
    dtype = start.weights[0].dtype
    if dtype != np.float32:
        return f"it computes in float32, and the network is {dtype}"
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:  # OSError: of a shared library that it needs
            return f"{module} can't be imported ({error})"
    try:
        backend.kernels  # noqa: B018 - whether they are there is found out by asking for them
    except ConfigurationError as error:
        return str(error)
    return None
