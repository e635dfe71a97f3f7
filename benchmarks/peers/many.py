"""The contract of a peer that trains many networks at once, as an expert in its library would."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Place
from gpunn import Split
from gpunn.engines import Parameters, Recipe


class ManyPeer(ABC):
    """Trains networks of one shape in float32, each in its own order and at its own learning rate."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(
        self, starts: Sequence[Parameters], split: Split, recipe: Recipe, rates: NDArray[np.float32], place: Place
    ) -> None:
        """Take copies of `starts` (host arrays, float32), B of them, and of `rates` (B,), and compile.

        `recipe` has what all networks share.
        """

    @abstractmethod
    def run_epoch(self, orders: NDArray[np.int64]) -> NDArray[np.float32]:
        """Train every network once on all examples, each in its row of `orders` (B, n); return the mean losses (B,)."""

    @abstractmethod
    def parameters(self, number: int) -> Parameters:
        """Return the parameters of a network as they are now, as host arrays shaped as in `MLP`."""


MANY_PEERS = {
    "jax.vmap": ("jax_vmap", "JaxVmap", "pip install jax"),
    "torch.func": ("torch_func", "TorchFunc", "pip install torch"),
}
"""Their modules and types, and how to install them."""


def load_many_peer(name: str) -> type[ManyPeer]:
    """Return the peer called `name`, a key of `MANY_PEERS`; raises `ImportError` where its libraries are missing."""
    module, type_name, _ = MANY_PEERS[name]
    peer: type[ManyPeer] = getattr(import_module(f"benchmarks.peers.{module}"), type_name)
    return peer
