"""Max-norm: a limit on the norm of the weights into each hidden neuron, after each step."""

from typing import Any

from gpunn.activations import Array


def limit_norms(xp: Any, W: Array, most: float, *, axis: int = 1) -> None:
    """Scale weights in place so that no neuron's have a norm above `most`; a neuron's are along `axis` of `W`.

    Weights of smaller norm keep their bits. Source: Srivastava et al., "Dropout", 2014, section 5.1.
    """
    norms = xp.sqrt((W * W).sum(axis=axis, keepdims=True))
    W *= most / xp.maximum(norms, most)
