"""What the engine `plain` takes besides plain steps, on a GPU: held to float64 on the CPU."""

from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Adam, Backend, Dataset, train
from gpunn.activations import HIDDEN
from gpunn.dropout import mask
from gpunn.optimizers import SGD
from gpunn.schedules import OneCycle

from ..conftest import parameters

pytestmark = pytest.mark.gpu

RECIPES: list[dict[str, Any]] = [
    {"optimizer": Adam(), "learning_rate": 0.002, "l2": 1e-4},
    {"optimizer": Adam(decoupled=True), "learning_rate": 0.002, "l2": 1e-2, "schedule": OneCycle()},
    {"optimizer": SGD(0.9, nesterov=True), "learning_rate": 0.02, "dropout": 0.3},
    {"loss": "binary_cross_entropy", "learning_rate": 0.05},
]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999999])
def test_masks_are_the_same_bits_on_both(gpu: Backend, share: float) -> None:
    with gpu.activate():
        found = gpu.to_host(mask(gpu.xp, 4_000_000_007, 59_000, (700, 300), share=share, dtype=np.float32))
    np.testing.assert_array_equal(found, mask(np, 4_000_000_007, 59_000, (700, 300), share=share, dtype=np.float32))


@pytest.mark.parametrize("options", RECIPES, ids=str)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_plain_follows_float64_with_every_recipe(
    gpu: Backend, mnist: Dataset, hidden: str, options: dict[str, Any]
) -> None:
    nets = []
    for device, dtype in ((gpu, np.float32), ("cpu", np.float64)):
        output = "sigmoid" if "loss" in options else "softmax"
        net = MLP([784, 30, 10], hidden=hidden, output=output, init="xavier", dtype=dtype)
        train(net, mnist.train[:1000], epochs=1, batch_size=64, **options, device=device, engine="plain")
        nets.append(net)
    for ours, theirs in zip(*map(parameters, nets), strict=True):
        # Adam divides small gradients by small roots, and magnifies what they were rounded by.
        assert np.abs(ours - theirs).max() <= 2e-4 * max(1, np.abs(theirs).max())
