"""What test_distributed.py runs by mpiexec: `ranks_program.py FOLDER END NAME...` trains the cases of these names.

END is how it ends: "well", or by one rank that is "killed" or "failing" in a further training.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import gpunn
from gpunn import MLP, Dataset, EarlyStopping, History, Split
from gpunn.backends.cuda import CudaBackend
from tests.strict_cupy import StrictCupy

SMALL, LARGE = (784, 16, 10), (784, 256, 128, 10)

SGD: dict[str, Any] = {}
ADAM: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.002, "dropout": 0.2}
MOMENTUM: dict[str, Any] = {
    "optimizer": "momentum",
    "l2": 1e-3,
    "schedule": "cosine",
    "early_stopping": EarlyStopping(2),
}

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain small": (SMALL, {"engine": "plain"} | SGD),
    "plain large": (LARGE, {"engine": "plain"} | ADAM),
    "plain stopped early": (SMALL, {"engine": "plain"} | MOMENTUM),
    "small": (SMALL, SGD),
    "small by adam": (SMALL, ADAM),
    "large": (LARGE, SGD),
    "large by adam": (LARGE, ADAM),
    "stopped early": (LARGE, MOMENTUM),
    "dense": (SMALL, {"dense": True}),
    "distorted": (SMALL, {"distort": "affine"}),
    "rows of targets": (SMALL, {"rows": True}),
    "on a stand-in for GPUs": (SMALL, {"engine": "plain", "device": "gpu"}),
    "averaged": (SMALL, {"engine": "epoch", "average_every": 2}),
    "averaged with dropout": (SMALL, {"engine": "epoch", "dropout": 0.2, "average_every": 2}),
    "averaged by adam": (SMALL, {"engine": "plain", "optimizer": "adam", "learning_rate": 0.002, "average_every": 3}),
}
"""Networks and settings by name; the engine is fused unless it is named."""


def examples(*, dense: bool = False, rows: bool = False) -> Dataset:
    """A part of MNIST whose last batch of 50 has one image, fewer than there are ranks."""

    def part(split: Split, n: int) -> Split:
        if not (dense or rows):
            return split[:n]
        labels = np.eye(10, dtype=np.float32)[split.labels[:n]] if rows else split.labels[:n]
        return Split((split.images[:n] / 255).astype(np.float32) if dense else split.images[:n], labels)

    data = gpunn.load_mnist()
    return Dataset(part(data.train, 401), part(data.test, 203))


RESUMED = ("small by adam", "averaged by adam", "averaged with dropout")
"""Cases that are trained once more, interrupted after two of their three epochs."""


def trained(name: str, communicator: Any = None, **others: Any) -> tuple[MLP, History]:
    """Train the case `name`, with other arguments of `gpunn.train` besides."""
    sizes, recipe = CASES[name]
    settings: dict[str, Any] = (
        {"device": "cpu", "epochs": 3, "batch_size": 50, "seed": 3, "engine": "fused"} | recipe | others
    )
    data = examples(dense=settings.pop("dense", False), rows=settings.pop("rows", False))
    if settings["device"] == "gpu":
        settings["device"] = CudaBackend(StrictCupy(), 0)
    net = MLP(sizes, seed=1)
    return net, gpunn.train(net, data, distributed=communicator, **settings)


def digest(net: MLP) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in (*net.weights, *net.biases))).hexdigest()


def figures(history: History) -> dict[str, Any]:
    """Return what of a history doesn't depend on the clock, and what does."""
    found = history.to_dict()
    for epoch in found["epochs"]:
        epoch.pop("images_per_second")
    return found


def refusal(communicator: Any, **settings: Any) -> str:
    """Return the error that training with `settings` raises."""
    try:
        gpunn.train(MLP(SMALL), examples(), device="cpu", epochs=1, distributed=communicator, **settings)
    except (ArithmeticError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(folder: str, end: str, *names: str) -> None:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    found: dict[str, Any] = {}
    for name in names:
        net, history = trained(name, world)
        np.savez(Path(folder, f"{name} {world.rank}.npz"), *net.weights, *net.biases)
        found[name] = {"digest": digest(net), "history": figures(history)}

    def finish(_: History) -> bool:
        if world.rank == 1 and end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if world.rank == 1 and end == "failing":
            raise RuntimeError("no more")
        return world.rank != 1

    if end == "well":
        for name in RESUMED:
            checkpoint = Path(folder, f"{name}.checkpoint")
            trained(name, world, epochs=2, checkpoint=checkpoint)
            found[f"{name} resumed"] = digest(trained(name, world, resume=checkpoint)[0])
        found["other local steps"] = refusal(
            world, batch_size=50, seed=3, average_every=3, resume=Path(folder, "averaged with dropout.checkpoint")
        )
        found["local steps distorted"] = refusal(world, batch_size=50, distort="affine", average_every=2)
        found["batch smaller"] = refusal(world, batch_size=world.size - 1)
        found["few batches"] = refusal(world, batch_size=401, average_every=2)
        found["engine"] = refusal(world, batch_size=50, engine="epoch")
        found["seeds"] = refusal(world, batch_size=50, seed=world.rank)
        found["diverged"] = refusal(world, batch_size=50, learning_rate=1e30, l2=1.0)
    Path(folder, f"{world.rank}.json").write_text(json.dumps(found))
    history = gpunn.train(MLP(SMALL), examples(), device="cpu", batch_size=50, distributed=world, on_epoch=finish)
    found["stopped"] = len(history.epochs)
    Path(folder, f"{world.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
