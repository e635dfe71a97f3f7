"""Networks and recipes that the whole-epoch kernel for GPUs is compiled for: each value of each choice, not each pair.

A kernel is made for sizes, functions, loss and kind of optimiser, and for what finds room in shared memory.
"""

from dataclasses import replace
from typing import NamedTuple

import pytest

from gpunn.engines import Parameters, Recipe

from .recipes import OPTIMIZERS, drawn


class EpochCase(NamedTuple):
    """One kernel, and how it is used."""

    sizes: tuple[int, ...]
    functions: tuple[str, ...]
    loss: str
    optimizer: str
    batch_sizes: tuple[int, ...]
    l2: float = 0.0
    capacity: int = 227
    """KiB of shared memory that a block may have: those of an H100, or of a T4, 64."""
    rate: float = 0.05
    spilled: int = 64
    """Bytes that may not find room in registers: more with dropout, or where what batches collect is outside."""
    dropout: float = 0.0

    def __str__(self) -> str:
        sizes, functions = "-".join(map(str, self.sizes)), "-".join(self.functions)
        more = " L2" * bool(self.l2) + " dropout" * bool(self.dropout)
        return f"{sizes} {functions} {self.loss} {self.optimizer}{more}, {self.batch_sizes[0]}, {self.capacity} KiB"

    def start(self) -> Parameters:
        return drawn(self.sizes, self.functions)

    def recipe(self, batch_size: int) -> Recipe:
        optimizer = OPTIMIZERS[self.optimizer]
        found = Recipe(batch_size, self.rate, loss=self.loss, optimizer=optimizer, l2=self.l2)
        return replace(found, dropout=self.dropout, seed=5)


SQUARED, LOG, SOFTMAX = "squared_error", "binary_cross_entropy", "cross_entropy"
SMALL, DEEP = (784, 16, 10), (784, 100, 50, 10)

EPOCH_CASES = [
    EpochCase(SMALL, ("sigmoid", "sigmoid"), SQUARED, "plain", (32,), rate=0.5),
    EpochCase(SMALL, ("tanh", "tanh"), SQUARED, "plain", (128, 1000)),
    EpochCase(SMALL, ("leaky_relu", "elu"), SQUARED, "plain", (1,), l2=0.01, rate=0.01),
    EpochCase((784, 10), ("sigmoid",), LOG, "plain", (32,)),
    EpochCase((784, 48, 10), ("identity", "identity"), SQUARED, "plain", (1000,), l2=0.1),
    EpochCase((784, 128, 10), ("relu", "leaky_relu"), SQUARED, "plain", (128,)),
    EpochCase(DEEP, ("elu", "sigmoid", "softmax"), SOFTMAX, "plain", (32, 1000), capacity=64),
    EpochCase(SMALL, ("relu", "softmax"), SOFTMAX, "plain", (32,), l2=0.1),
    EpochCase(SMALL, ("relu", "softmax"), SOFTMAX, "momentum", (32, 128), rate=0.02),
    EpochCase((784, 30, 10), ("tanh", "sigmoid"), LOG, "momentum", (128, 1000), l2=0.1, rate=0.02, spilled=480),
    EpochCase(
        DEEP, ("sigmoid", "tanh", "relu"), SQUARED, "momentum", (128,), l2=0.1, capacity=64, rate=0.02, spilled=480
    ),
    EpochCase(SMALL, ("elu", "softmax"), SOFTMAX, "Nesterov", (1,), rate=0.002),
    EpochCase(
        (784, 32, 16, 10),
        ("leaky_relu", "relu", "sigmoid"),
        LOG,
        "Nesterov",
        (32, 1000),
        l2=0.1,
        rate=0.02,
        spilled=480,
    ),
    EpochCase(SMALL, ("identity", "softmax"), SOFTMAX, "Adam", (32, 1000), rate=0.002),
    EpochCase(SMALL, ("sigmoid", "sigmoid"), LOG, "AdamW", (128,), l2=0.1, rate=0.002),
    EpochCase(DEEP, ("tanh", "elu", "identity"), SQUARED, "Adam", (32,), l2=0.1, capacity=64, rate=0.002, spilled=480),
    EpochCase(DEEP, ("relu", "tanh", "softmax"), SOFTMAX, "plain", (32, 1000), spilled=96, dropout=0.5),
    EpochCase(SMALL, ("elu", "sigmoid"), LOG, "Nesterov", (128,), rate=0.02, dropout=0.2),
    EpochCase((784, 10), ("softmax",), SOFTMAX, "AdamW", (1000,), l2=0.1, capacity=64, rate=0.002, spilled=480),
]

PARAMETERS = [pytest.param(case, id=str(case), marks=pytest.mark.xdist_group(str(case))) for case in EPOCH_CASES]
"""The cases for tests. Those of one case are left to one process, where its kernel is compiled once."""
