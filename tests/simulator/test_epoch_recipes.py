"""Every recipe that the whole-epoch kernel takes, in the simulator, held to plain in float64."""

import numpy as np
import pytest

from gpunn import ConfigurationError
from gpunn.activations import HIDDEN
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import Recipe, choose_engine
from gpunn.schedules import OneCycle

from ..recipes import OPTIMIZERS, OUTPUTS, N, assert_resumes, assert_same, both, drawn, examples


@pytest.mark.parametrize(
    ("hidden", "loss", "output"), [(HIDDEN[i % len(HIDDEN)], *output) for i, output in enumerate(OUTPUTS)]
)
def test_the_epoch_kernel_takes_every_activation_and_loss(
    gpu: CudaBackend, hidden: str, loss: str, output: str
) -> None:
    start, recipe = drawn((12, 5, 4, 3), (hidden, "tanh", output)), Recipe(15, 0.02, loss=loss)
    assert_same(gpu, both(gpu, "epoch", start, recipe), recipe)


@pytest.mark.parametrize(("loss", "output"), [("binary_cross_entropy", "sigmoid"), ("cross_entropy", "softmax")])
@pytest.mark.parametrize("batch_size", [1, N])
def test_a_network_of_one_layer_has_every_loss(gpu: CudaBackend, batch_size: int, loss: str, output: str) -> None:
    start, recipe = drawn((12, 3), (output,)), Recipe(batch_size, 0.02, loss=loss)
    assert_same(gpu, both(gpu, "epoch", start, recipe), recipe)


ROOMS = [(15, 10**5), (N, 7_000), (15, 6_000)]
"""Batch sizes and capacities: all in shared memory, all but what is collected, and nothing."""


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("batch_size", "capacity"), ROOMS)
def test_the_epoch_kernel_takes_every_optimizer_penalties_and_rates(
    gpu: CudaBackend, batch_size: int, optimizer: str, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every optimiser and every room has both.
    l2 = 0.1 * ((list(OPTIMIZERS).index(optimizer) + ROOMS.index((batch_size, capacity))) % 2)
    monkeypatch.setattr("gpunn.kernels.cuda.epoch.run.shared_memory", lambda: capacity)
    start = drawn((12, 9, 6, 3), ("relu", "tanh", "softmax"))
    rate = 0.002 if "Adam" in optimizer else 0.05
    recipe = Recipe(batch_size, rate, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer], l2=l2, schedule=OneCycle())
    # Adam divides small gradients by small roots, and magnifies what they were rounded by.
    assert_same(gpu, both(gpu, "epoch", start, recipe), recipe, magnified=20 if "Adam" in optimizer else 2)


def test_velocities_stay_outside_where_they_do_not_fit_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.kernels.cuda.epoch.layout import CudaLayout

    found = {}
    for capacity in (10**5, 7_000, 6_000):
        layout = CudaLayout((12, 9, 6, 3), batch_size=15, threads=32, capacity=capacity, collects=True)
        found[capacity] = layout.in_shared, layout.collects_in_shared
    assert found == {10**5: (True, True), 7_000: (True, False), 6_000: (False, False)}


@pytest.mark.parametrize("optimizer", ["plain", "Nesterov", "AdamW"])  # without moments, with one and with two
def test_training_goes_on_with_what_is_remembered(gpu: CudaBackend, optimizer: str) -> None:
    recipe = Recipe(7, 0.005, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer])
    start = drawn((12, 5, 3), ("relu", "softmax"))
    assert_resumes(gpu, "epoch", start, recipe, atol=1e-4 if "Adam" in optimizer else 4e-6)


@pytest.mark.parametrize("functions", [("relu", "tanh", "softmax"), ("sigmoid", "elu", "softmax")], ids=str)
@pytest.mark.parametrize(("optimizer", "batch_size"), [("plain", 7), ("plain", N), ("momentum", 15), ("Adam", 15)])
def test_the_epoch_kernel_drops_what_plain_does(
    gpu: CudaBackend, functions: tuple[str, ...], optimizer: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A launch ends after two batches, so that positions in the epoch go on.
    monkeypatch.setattr("gpunn.engines.cuda.epoch.MAX_WORK_PER_CALL", 10_000)
    monkeypatch.setattr("gpunn.kernels.cuda.epoch.run.shared_memory", lambda: 7_000)
    recipe = Recipe(
        batch_size, 0.002, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer], l2=0.01, dropout=0.4, seed=5
    )
    engines = both(gpu, "epoch", drawn((12, 9, 6, 3), functions), recipe)
    assert_same(gpu, engines, recipe, magnified=20)


def test_dropout_goes_on_with_the_masks_of_later_epochs(gpu: CudaBackend) -> None:
    recipe = Recipe(7, 0.005, loss="cross_entropy", dropout=0.4, seed=3)
    assert_resumes(gpu, "epoch", drawn((12, 5, 3), ("relu", "softmax")), recipe, atol=4e-6)


@pytest.mark.parametrize(
    ("optimizer", "loss", "output", "floats"),
    [
        ("plain", "squared_error", "identity", False),
        ("Nesterov", "binary_cross_entropy", "sigmoid", True),
        ("AdamW", "cross_entropy", "softmax", False),
    ],
)
def test_fused_trains_with_simulated_kernels(
    gpu: CudaBackend, optimizer: str, loss: str, output: str, floats: bool
) -> None:
    start = drawn((12, 5, 4, 3), ("elu", "leaky_relu", output))
    recipe = Recipe(15, 0.005, loss=loss, optimizer=OPTIMIZERS[optimizer], l2=0.1, dropout=0.3)
    assert_same(gpu, both(gpu, "fused", start, recipe, floats=floats, rows=floats), recipe, magnified=20)


@pytest.mark.parametrize(
    ("recipe", "kind", "message"),
    [
        (Recipe(7, 0.1), {"floats": True}, r"its inputs must be grey levels \(uint8\), got float32"),
        (Recipe(7, 0.1), {"rows": True}, "its targets must be classes"),
    ],
    ids=str,
)
def test_where_epoch_refuses_auto_takes_fused(
    gpu: CudaBackend, recipe: Recipe, kind: dict[str, bool], message: str
) -> None:
    start = drawn((12, 5, 3), ("sigmoid", "sigmoid"))
    with pytest.raises(ConfigurationError, match=message):
        both(gpu, "epoch", start, recipe, **kind)
    assert choose_engine("auto", gpu, start, recipe, examples(**kind)).name == "fused"
    assert choose_engine("auto", gpu, start, Recipe(7, 0.1)).name == "epoch"
    assert np.isfinite(both(gpu, "auto", start, recipe, **kind)[0].run_epoch(np.arange(N)))
