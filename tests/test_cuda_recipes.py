"""Every recipe on the fused engine for GPUs, held to plain in float64, with stand-ins for a GPU that are as strict."""

from typing import Any

import numpy as np
import pytest

from gpunn import Adam, ConfigurationError
from gpunn.activations import HIDDEN
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import Recipe, choose_engine
from gpunn.optimizers import SGD, OptimizerState
from gpunn.schedules import OneCycle

from .recipes import OPTIMIZERS, OUTPUTS, N, assert_resumes, assert_same, both, drawn, examples
from .strict_kernels import strict_gpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    return strict_gpu(monkeypatch)


@pytest.mark.parametrize(("loss", "output"), OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_fused_takes_every_activation_and_loss(gpu: CudaBackend, hidden: str, loss: str, output: str) -> None:
    start = drawn((12, 9, 6, 3), (hidden, hidden, output))
    recipe = Recipe(7, 0.02, loss=loss)
    assert_same(gpu, both(gpu, "fused", start, recipe), recipe)


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 16, N])
def test_fused_takes_every_optimizer(
    gpu: CudaBackend, batch_size: int, optimizer: str, dropout: float, l2: float
) -> None:
    start = drawn((12, 9, 6, 3), ("relu", "tanh", "softmax"))
    rate = 0.002 if "Adam" in optimizer else 0.01
    recipe = Recipe(
        batch_size, rate, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer], l2=l2, dropout=dropout, seed=5
    )
    # Adam divides small gradients by small roots, and magnifies what they were rounded by.
    assert_same(gpu, both(gpu, "fused", start, recipe), recipe, magnified=20 if "Adam" in optimizer else 2)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize(("loss", "output"), [*OUTPUTS[:2], *OUTPUTS[-2:]])
def test_fused_takes_floats_and_rows_of_targets(
    gpu: CudaBackend, loss: str, output: str, rows: bool, floats: bool
) -> None:
    start = drawn((12, 9, 3), ("tanh", output))
    recipe = Recipe(7, 0.02, loss=loss, dropout=0.3)
    assert_same(gpu, both(gpu, "fused", start, recipe, floats=floats, rows=rows), recipe)


@pytest.mark.parametrize("optimizer", ["plain", "momentum", "AdamW"])
def test_rates_change_from_batch_to_batch(gpu: CudaBackend, optimizer: str) -> None:
    start = drawn((12, 9, 3), ("sigmoid", "sigmoid"))
    recipe = Recipe(7, 0.01, optimizer=OPTIMIZERS[optimizer], schedule=OneCycle(), l2=0.1)
    assert_same(gpu, both(gpu, "fused", start, recipe), recipe, magnified=20)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_with_what_is_remembered(gpu: CudaBackend, optimizer: str) -> None:
    recipe = Recipe(7, 0.005, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer], dropout=0.3)
    start = drawn((12, 9, 3), ("relu", "softmax"))
    assert_resumes(gpu, "fused", start, recipe, atol=1e-4 if "Adam" in optimizer else 4e-6)


def test_the_memory_of_another_optimizer_is_refused(gpu: CudaBackend) -> None:
    start = drawn((12, 3), ("sigmoid",), OptimizerState(1, ()))
    with pytest.raises(ConfigurationError, match="memory must be the state of "):
        both(gpu, "fused", start, Recipe(7, 0.1, optimizer=SGD(0.9)))


def test_weights_of_examples_are_refused(gpu: CudaBackend) -> None:
    start, weighted = drawn((12, 3), ("sigmoid",)), examples()._replace(weights=np.ones(N))
    message = "the engine fused can't train this network: it doesn't support sample weights"
    with pytest.raises(ConfigurationError, match=message):
        choose_engine("fused", gpu, start, Recipe(7, 0.1), weighted)
    assert choose_engine("auto", gpu, start, Recipe(7, 0.1), weighted).name == "plain"


@pytest.mark.parametrize(
    ("options", "launches"),
    [
        ({}, ["descend_sums"] * 3),
        ({"l2": 0.1}, ["descend_sums"] * 3),
        ({"optimizer": SGD(0.9)}, [*["column_sums"] * 3, "optimizer_step"]),
        ({"optimizer": Adam()}, [*["column_sums"] * 3, "optimizer_step"]),
        ({"optimizer": Adam(), "l2": 0.1}, [*["column_sums"] * 3, "optimizer_step", "optimizer_step"]),
    ],
    ids=str,
)
def test_a_step_of_all_layers_takes_few_launches(
    gpu: CudaBackend, options: dict[str, Any], launches: list[str]
) -> None:
    start = drawn((12, 9, 6, 3), ("relu", "relu", "softmax"))
    ours, _ = both(gpu, "fused", start, Recipe(N, 0.1, loss="cross_entropy", **options))
    with gpu.activate():
        ours.run_epoch(np.arange(N))
    passes = ["next_batch", "gather_scale", *["bias_activate"] * 3, "output_delta", *["hidden_delta"] * 2]
    assert gpu.kernels.launched == passes + launches
    # Forward, backward and gradients.
    assert len(gpu.xp.cublas.modes) == 3 + 2 + 3
