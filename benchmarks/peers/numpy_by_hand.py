"""What one would write in NumPy for this network and nothing else: one hidden layer, no abstraction, no generality."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn import MLP, Split


def run_epoch(net: MLP, split: Split, order: NDArray[Any], batch_size: int, learning_rate: float) -> float:
    """Train `net`, of one hidden layer and float32, in place for an epoch over `order`; return its mean loss."""
    (W1, W2), (b1, b2) = net.weights, net.biases
    targets = np.eye(len(b2), dtype=np.float32)
    total = 0.0
    with np.errstate(over="ignore"):
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            X = split.images.take(batch, axis=0).astype(np.float32)
            X /= 255
            Y = targets[split.labels[batch]]
            hidden = 1 / (1 + np.exp(-(X @ W1.T + b1)))
            output = 1 / (1 + np.exp(-(hidden @ W2.T + b2)))
            error = output - Y
            total += float(np.vdot(error, error))
            delta2 = 2 / len(batch) * error * output * (1 - output)
            delta1 = (delta2 @ W2) * hidden * (1 - hidden)
            W2 -= learning_rate * (delta2.T @ hidden)
            b2 -= learning_rate * delta2.sum(axis=0)
            W1 -= learning_rate * (delta1.T @ X)
            b1 -= learning_rate * delta1.sum(axis=0)
    return total / len(order)
