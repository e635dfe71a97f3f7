"""What the whole-epoch kernel for GPUs is compiled for, besides a layout."""

from typing import NamedTuple


class Task(NamedTuple):
    """The functions of a network, and what its steps are made of."""

    functions: tuple[str, ...]
    """The activations of all layers but the inputs."""
    loss: str = "squared_error"
    momentum: bool = False
    l2: bool = False
