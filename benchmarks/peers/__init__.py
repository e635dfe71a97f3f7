"""The same work done by others, one file each; a library is imported when its peer is loaded."""

from importlib import import_module
from typing import Any, NamedTuple

from benchmarks.peers.base import ManyPeer, Peer, Place

__all__ = ["PEERS", "ManyPeer", "Peer", "Place", "load_peer", "peers_on"]


class Entry(NamedTuple):
    """Where a peer is, how to get its libraries, and on which kinds of device it computes."""

    module: str
    type_name: str
    install: str
    kinds: tuple[str, ...] = ("cpu",)
    many: bool = False
    """Whether it is a `ManyPeer`, which trains many networks at once, instead of a `Peer`."""


BOTH = ("cpu", "cuda")

PEERS = {
    "numpy": Entry("numpy_by_hand", "NumpyByHand", "pip install threadpoolctl"),
    "torch": Entry("torch_eager", "TorchEager", "pip install torch", BOTH),
    "torch.graphs": Entry("torch_graphs", "TorchGraphs", "pip install torch", ("cuda",)),
    "torch.compile": Entry("torch_compiled", "TorchCompiled", "pip install 'torch>=2.13', and a C++ compiler"),
    "jax": Entry("jax_scan", "JaxScan", "pip install jax, or jax[cuda13] for a GPU", BOTH),
    "sklearn": Entry("sklearn_mlp", "SklearnMlp", "pip install scikit-learn"),
    "jax.vmap": Entry("jax_vmap", "JaxVmap", "pip install jax, or jax[cuda13] for a GPU", BOTH, many=True),
    "torch.func": Entry("torch_func", "TorchFunc", "pip install torch", BOTH, many=True),
}


def peers_on(kind: str, *, many: bool = False) -> list[str]:
    """Return the names of the peers that train a network, or `many`, on a "cpu" or on "cuda"."""
    return [name for name, entry in PEERS.items() if kind in entry.kinds and entry.many == many]


def load_peer(name: str) -> Any:
    """Return the type of the peer `name`, a key of `PEERS`; raises `ImportError` where its libraries are missing."""
    entry = PEERS[name]
    return getattr(import_module(f"{__name__}.{entry.module}"), entry.type_name)
