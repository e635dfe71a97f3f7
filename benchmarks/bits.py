"""The bits of trained networks: whether two revisions of gpunn make the same ones, and by how much they differ.

    python -m benchmarks.bits before.npz            # writes the networks of every combination
    python -m benchmarks.bits after.npz before.npz  # writes them, and compares

Bits depend on the processor and on NumPy's BLAS, so that both have to run on one machine.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import gpunn
from gpunn import MLP, Split
from gpunn.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Combination:
    """A network, its training, and the kind of its inputs: "sparse" grey levels, "dense" ones, or "floats"."""

    engine: str
    sizes: tuple[int, ...] = (784, 16, 10)
    hidden: str = "sigmoid"
    output: str = "sigmoid"
    loss: str = "squared_error"
    optimizer: str = "sgd"
    l2: float = 0.0
    dropout: float = 0.0
    batch_size: int = 32
    inputs: str = "sparse"

    def __str__(self) -> str:
        sizes = "-".join(map(str, self.sizes))
        parts = [self.engine, sizes, self.hidden, self.output, self.loss, self.optimizer, f"b{self.batch_size}"]
        return " ".join(
            [*parts, self.inputs, *([f"l2={self.l2}"] * bool(self.l2)), *(["dropout"] * bool(self.dropout))]
        )


def combinations() -> Iterator[Combination]:
    """Yield what is recorded: every engine with every optimiser, loss, kind of inputs and way to divide a batch."""
    wide, deep = (784, 128, 10), (784, 100, 50, 10)
    outputs = [("softmax", "cross_entropy"), ("sigmoid", "binary_cross_entropy"), ("identity", "squared_error")]
    for engine in ("epoch", "fused", "plain"):
        for optimizer in OPTIMIZERS:
            for l2 in (0.0, 0.1):
                yield Combination(engine, optimizer=optimizer, l2=l2)
                yield Combination(engine, wide, "relu", "softmax", "cross_entropy", optimizer, l2, batch_size=100)
            yield Combination(engine, optimizer=optimizer, inputs="floats")
            yield Combination(engine, deep, "tanh", optimizer=optimizer, inputs="dense", batch_size=10)
        for hidden in ("identity", "tanh", "relu", "leaky_relu", "elu"):
            for output, loss in outputs:
                yield Combination(engine, deep, hidden, output, loss, batch_size=20)
        for batch_size in (1, 7, 1000):
            for optimizer in ("sgd", "adam"):
                yield Combination(engine, optimizer=optimizer, batch_size=batch_size)
            yield Combination(engine, wide, batch_size=batch_size)
        yield Combination(engine, (784, 10), output="softmax", loss="cross_entropy")
        yield Combination(engine, (784, 512, 256, 10), batch_size=128)
    for engine in ("fused", "plain"):
        for optimizer in ("sgd", "nesterov", "adamw"):
            yield Combination(engine, deep, "relu", "softmax", "cross_entropy", optimizer, dropout=0.3)


def images(kind: str, n: int) -> Split:
    """Return `n` of MNIST's training images, without a zero pixel ("dense") or as floats with negative ones."""
    some = gpunn.load_mnist().train[:n]
    if kind == "dense":
        return Split(np.maximum(some.images, 1), some.labels)
    if kind == "floats":
        return Split(some.images.astype(np.float32) / 255 - np.float32(0.25), some.labels)
    return some


def trained(combination: Combination, n: int = 2000) -> NDArray[np.float32]:
    """Return all weights and biases after two epochs of `n` images, and the loss, in one array."""
    c = combination
    net = MLP(c.sizes, hidden=c.hidden, output=c.output, seed=3)
    rate = {"sgd": 0.1, "momentum": 0.02, "nesterov": 0.02}.get(c.optimizer, 1e-3)
    rate /= {"softmax": 2, "sigmoid": 4, "identity": 100}[c.output]  # so that nothing diverges
    history = gpunn.train(
        net,
        images(c.inputs, n),
        epochs=2,
        batch_size=c.batch_size,
        learning_rate=rate,
        engine=c.engine,
        device="cpu",
        loss=c.loss,
        optimizer=c.optimizer,
        l2=c.l2,
        dropout=c.dropout,
    )
    loss = np.float32(history.epochs[-1].loss)
    return np.concatenate([*(W.ravel() for W in net.weights), *net.biases, [loss]]).astype(np.float32)


def ulps(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the largest distance of `a` and `b` in units in the last place of their largest number."""
    unit = np.spacing(np.maximum(np.abs(a), np.abs(b)).max())
    return float(np.max(np.abs(a.astype(np.float64) - b)) / unit)


def main(arguments: list[str]) -> int:
    """Write the networks, compare them where a second file is named, and return the exit code: 1 where some differ."""
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m benchmarks.bits WRITTEN.npz [COMPARED.npz]", file=sys.stderr)
        return 2
    found = {str(combination): trained(combination) for combination in combinations()}
    np.savez(Path(arguments[0]), allow_pickle=False, **found)
    print(f"{len(found)} networks written to {arguments[0]}")
    if len(arguments) == 1:
        return 0
    with np.load(arguments[1]) as before:
        other = {
            name: ulps(found[name], before[name]) for name in found if not np.array_equal(found[name], before[name])
        }
    for name, distance in other.items():
        print(f"{name}: {distance:.2g} ulps")
    print(f"{len(found) - len(other)} of {len(found)} the same")
    return 1 if other else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
