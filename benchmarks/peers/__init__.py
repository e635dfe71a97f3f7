"""The same work done by others, one file each; a library is imported when its peer is loaded."""

from importlib import import_module
from typing import NamedTuple

from benchmarks.peers.base import Peer, Place

__all__ = ["PEERS", "Peer", "Place", "load_peer", "peers_on"]


class Entry(NamedTuple):
    """Where a peer is, how to get its libraries, and on which kinds of device it computes."""

    module: str
    type_name: str
    install: str
    kinds: tuple[str, ...] = ("cpu",)


PEERS = {
    "numpy": Entry("numpy_by_hand", "NumpyByHand", "pip install threadpoolctl"),
    "torch": Entry("torch_eager", "TorchEager", "pip install torch", ("cpu", "cuda")),
    "torch.graphs": Entry("torch_graphs", "TorchGraphs", "pip install torch", ("cuda",)),
    "torch.compile": Entry("torch_compiled", "TorchCompiled", "pip install 'torch>=2.13', and a C++ compiler"),
    "jax": Entry("jax_scan", "JaxScan", "pip install jax, or jax[cuda13] for a GPU", ("cpu", "cuda")),
    "sklearn": Entry("sklearn_mlp", "SklearnMlp", "pip install scikit-learn"),
    "thinc": Entry("thinc_model", "ThincModel", "pip install thinc"),
}


def peers_on(kind: str) -> list[str]:
    """Return the names of the peers that compute on a "cpu", or on "cuda"."""
    return [name for name, entry in PEERS.items() if kind in entry.kinds]


def load_peer(name: str) -> type[Peer]:
    """Return the peer called `name`, a key of `PEERS`; raises `ImportError` where its libraries are missing."""
    entry = PEERS[name]
    peer: type[Peer] = getattr(import_module(f"{__name__}.{entry.module}"), entry.type_name)
    return peer
