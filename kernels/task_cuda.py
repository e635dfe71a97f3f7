"""What the whole-epoch kernel for GPUs is compiled for, besides a layout."""

from typing import NamedTuple


class Task(NamedTuple):
    """The functions of a network, and what its steps are made of."""

    functions: tuple[str, ...]
    """The activations of all layers but the inputs."""
    loss: str = "squared_error"
    optimizer: str = "descent"
    """One of those that `gpunn.kernels.optimizers_cuda` has: "descent", "momentum", "nesterov" and "adam"."""
    l2: bool = False
    """Whether an L2 penalty is a part of the gradients of the weights."""
    decay: bool = False
    """Whether Adam shrinks the weights besides."""

    @property
    def collects(self) -> bool:
        """Whether all batches collect something before their step, and not only large ones."""
        return self.optimizer != "descent"
