"""The same work done by others, one file each; a library is imported when its peer is loaded."""

from importlib import import_module
from typing import NamedTuple

from benchmarks.peers.base import Peer

__all__ = ["PEERS", "Peer", "load_peer"]


class Entry(NamedTuple):
    """Where a peer is, and how to get its libraries."""

    module: str
    type_name: str
    install: str


PEERS = {
    "numpy": Entry("numpy_by_hand", "NumpyByHand", "pip install threadpoolctl"),
    "torch": Entry("torch_eager", "TorchEager", "pip install torch"),
    "torch.compile": Entry("torch_compiled", "TorchCompiled", "pip install 'torch>=2.13', and a C++ compiler"),
    "jax": Entry("jax_scan", "JaxScan", "pip install jax"),
    "sklearn": Entry("sklearn_mlp", "SklearnMlp", "pip install scikit-learn"),
}


def load_peer(name: str) -> type[Peer]:
    """Return the peer called `name`, a key of `PEERS`; raises `ImportError` where its libraries are missing."""
    entry = PEERS[name]
    peer: type[Peer] = getattr(import_module(f"{__name__}.{entry.module}"), entry.type_name)
    return peer
