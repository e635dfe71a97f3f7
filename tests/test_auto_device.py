"""Device "auto": the one with the better estimate, said in one line; estimates follow from one table."""

import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Split, evaluate, get_backend, train
from gpunn.backends import cuda
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import Examples, Parameters, Recipe, choose_engine, devices, speed, tuned
from gpunn.engines.speed import BUILT_IN, Cost, Speeds, Work, constants, spoken, with_constants
from gpunn.estimators import MLPClassifier
from gpunn.kernels.cpu.matmul import N_BLOCK
from gpunn.optimizers import OPTIMIZERS

from .conftest import parameters
from .strict_cupy import StrictCupy
from .strict_kernels import strict_gpu

SIZES = (784, 16, 10), (784, 128, 10)
RECIPE: dict[str, Any] = {"epochs": 2, "batch_size": 50, "learning_rate": 0.1}


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "usable_cores", lambda: 2)


def milliseconds(kind: str, engine: str, sizes: tuple[int, ...], batch_size: int, lit: float = 0.19) -> float:
    return 1e3 * BUILT_IN.seconds(kind, engine, Work(sizes, 60_000, batch_size, lit))


# benchmarks/results/speed-intel-xeon-2-cores.txt; 784-16-10 by one thread, as two didn't share its pixels then
MEASURED: dict[tuple[int, ...], dict[int, float]] = {
    (784, 16, 10): {1: 24.2, 10: 16.1, 32: 16.6, 128: 15.9, 1024: 16.1, 60_000: 16.6},
    (784, 128, 10): {1: 151, 10: 75.7, 32: 57.2, 128: 50.4, 1024: 52.1},
    (784, 100, 50, 10): {1: 219, 32: 76.6},
    (784, 1024, 1024, 10): {128: 1910, 1024: 1917},
}


@pytest.mark.parametrize("sizes", MEASURED, ids=str)
def test_estimates_for_a_cpu_are_close_to_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    if sizes == (784, 16, 10):
        monkeypatch.setattr(speed, "usable_cores", lambda: 1)
    for batch_size, measured in MEASURED[sizes].items():
        assert 1 / 1.5 < milliseconds("cpu", "epoch", sizes, batch_size) / measured < 1.5


def test_two_threads_share_the_pixels_of_narrow_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    # Measured on an AMD EPYC: 1.55 times as fast at 128.
    by_two = {batch_size: milliseconds("cpu", "epoch", (784, 16, 10), batch_size) for batch_size in (32, 128, 1024)}
    monkeypatch.setattr(speed, "usable_cores", lambda: 1)
    by_one = {batch_size: milliseconds("cpu", "epoch", (784, 16, 10), batch_size) for batch_size in by_two}
    assert by_one[32] == by_two[32]
    assert 1.3 < by_one[128] / by_two[128] < 2
    assert 1.3 < by_one[1024] / by_two[1024] < 2


def test_on_a_gpu_fused_is_faster_from_a_batch_size_on_that_follows_from_the_launches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = strict_gpu(monkeypatch)
    monkeypatch.setattr("gpunn.engines.cuda.epoch.EpochCudaEngine.unsupported_reason", lambda *_: None)

    def first(sizes: tuple[int, ...], speeds: Speeds = BUILT_IN) -> int:
        """Return the first batch size at which `fused` is chosen, to a few per cent."""
        monkeypatch.setattr(tuned, "BUILT_IN", speeds)
        net = MLP(sizes)
        start = Parameters(net.weights, net.biases)
        for batch_size in sorted({int(1.03**power) for power in range(400)}):
            if choose_engine("auto", gpu, start, Recipe(batch_size, 0.1)).name == "fused":
                return batch_size
        raise AssertionError

    small, large = map(first, SIZES)
    assert 30 <= small <= 60
    assert 6 <= large <= 15
    cheap = with_constants(BUILT_IN, {"gpu_fused.layer": BUILT_IN.gpu_fused.layer / 10})
    assert first(SIZES[0], cheap) < small / 4


def test_more_examples_batches_and_weights_never_take_less_time() -> None:
    for kind in ("cpu", "gpu"):
        for engine in ("plain", "fused", "epoch"):
            base = Work((784, 16, 10), 60_000, 32, 0.19)
            for more in (
                replace(base, n=70_000),
                replace(base, batch_size=1),
                replace(base, sizes=(784, 32, 10)),
                replace(base, sizes=(784, 16, 16, 10)),
                replace(base, moments=2),
                replace(base, lit=1.0),
            ):
                times = [BUILT_IN.seconds(kind, engine, work) for work in (base, more)]
                assert 0 < times[0] <= times[1], (kind, engine, more)


def test_the_table_has_units_and_says_where_each_number_is_from() -> None:
    table = constants(BUILT_IN)
    assert {constant.unit for constant in table.values()} == {"ns", "s", "weights", "networks"}
    for name, constant in table.items():
        assert constant.value > 0
        assert ("reckoned" in constant.source) == name.startswith("gpu_")
        assert ("measured on a" in constant.source) == (not name.startswith("gpu_"))
    assert with_constants(BUILT_IN, {name: constant.value for name, constant in table.items()}) == BUILT_IN
    assert speed.COLUMNS_PER_THREAD == N_BLOCK


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2564, "0.26 s"), (3412.0, "3,400 s"), (0.0121, "12 ms"), (9.9e-5, "99 us"), (0.0, "0 us"), (12.3, "12 s")],
)
def test_times_are_spoken_to_two_digits(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


def table(cpu: float, gpu: float, start: float = 0.0) -> Speeds:
    """Return a table of seconds an example, for every engine."""
    here, there = Cost("made up", example=1e9 * cpu), Cost("made up", example=1e9 * gpu)
    return Speeds(here, here, here, there, there, there, gpu_start=start, gpu_load=0.0)


@pytest.fixture
def gpu(install: Any, monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    found = strict_gpu(monkeypatch)
    install(found.xp)
    monkeypatch.setattr("gpunn.engines.cuda.epoch.EpochCudaEngine.unsupported_reason", lambda *_: "it is a stand-in")
    return found


@pytest.mark.parametrize(
    ("speeds", "device", "line"),
    [
        (
            table(0.01, 0.001, 3.7),
            "cpu",
            "device auto: cpu, estimated at 4 s for 2 epochs (engine epoch); a GPU at 4.1 s or more, start included",
        ),
        (
            table(0.01, 0.001, 3.5),
            "cuda:0",
            "device auto: cuda:0, Stand-in, estimated at 3.9 s for 2 epochs (engine fused); the CPU at 4 s "
            "(engine epoch); the GPU's start included",
        ),
    ],
    ids=["cpu", "cuda"],
)
def test_auto_is_the_device_with_the_better_estimate_and_says_why(
    gpu: CudaBackend,
    small: Split,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    speeds: Speeds,
    device: str,
    line: str,
) -> None:
    caplog.set_level("INFO", "gpunn")
    monkeypatch.setattr(tuned, "BUILT_IN", speeds)
    net = MLP([12, 5, 3])
    history = train(net, small, **RECIPE)
    assert history.device == device
    assert [message for message in caplog.messages if message.startswith("device auto")] == [line]
    # What isn't worth a GPU doesn't start one.
    assert cuda.is_started() == (device != "cpu")
    expected = MLP([12, 5, 3])
    assert train(expected, small, **RECIPE, device="cpu").losses == pytest.approx(history.losses, rel=1e-5)
    for ours, theirs in zip(parameters(net), parameters(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize(("count", "device"), [(1, "cpu"), (8, "cpu"), (40, "cuda:0")])
def test_many_networks_are_worth_a_gpu_that_trains_them_together(
    install: Any,
    small: Split,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    count: int,
    device: str,
) -> None:
    """Two cores train a network a second each; a GPU takes 10 s to start, and a second for 20 networks."""
    caplog.set_level("INFO", "gpunn")
    install(strict_gpu(monkeypatch).xp)
    monkeypatch.setattr(tuned, "BUILT_IN", replace(table(0.005, 0.005, 10.0), gpu_networks=20.0))
    monkeypatch.setattr(devices, "usable_cores", lambda: 2)
    start = Parameters(MLP([12, 5, 3]).weights, MLP([12, 5, 3]).biases)
    job = devices.Job(start, Examples(small.images, small.labels), Recipe(32, 0.1), "epoch", 1)
    monkeypatch.setattr("gpunn.engines.cuda.epoch.EpochCudaEngine.unsupported_reason", lambda *_: None)
    assert devices.training_device([job] * count).name == device
    expected = f"for 1 epoch{f' of {count} networks' if count > 1 else ''} (engine epoch)"
    assert expected in caplog.messages[-1]


def test_no_networks_need_no_gpu(gpu: CudaBackend) -> None:
    assert devices.training_device([]).name == "cpu"


def test_the_start_of_a_gpu_counts_once(gpu: CudaBackend, small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned, "BUILT_IN", table(0.01, 0.001, 5.0))
    assert train(MLP([12, 5, 3]), small, **RECIPE).device == "cpu"
    get_backend("cuda")
    assert train(MLP([12, 5, 3]), small, **RECIPE).device == "cuda:0"


def test_cuda_is_the_gpu_and_the_cpu_the_cpu_whatever_the_estimates(
    gpu: CudaBackend, small: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    for speeds in (table(1, 0), table(0, 1)):
        monkeypatch.setattr(tuned, "BUILT_IN", speeds)
        for device, expected in (("cuda", "cuda:0"), ("cpu", "cpu")):
            assert train(MLP([12, 5, 3]), small, **RECIPE, device=device).device == expected
            model = MLPClassifier((5,), device=device, engine="plain")
            assert model.partial_fit(small.images / 255, small.labels, classes=[0, 1, 2]).device_ == expected


def test_the_estimators_choose_alike(
    gpu: CudaBackend, small: Split, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gpunn.engines.speed.QUICK", 0)
    caplog.set_level("INFO", "gpunn")
    for speeds, expected in ((table(1, 0), "cuda:0"), (table(0, 1), "cpu")):
        monkeypatch.setattr(tuned, "BUILT_IN", speeds)
        model = MLPClassifier((5,), solver="sgd", max_iter=3, tol=0.0, n_iter_no_change=9)
        with pytest.warns(UserWarning, match=r"Maximum iterations \(3\)"):
            model.fit(small.images / 255, small.labels)
        assert model.device_ == expected
    assert sum(message.startswith("device auto: cuda:0, Stand-in, ") for message in caplog.messages) == 1
    assert sum(message.startswith("device auto: cpu, ") for message in caplog.messages) == 1
    assert "for 3 epochs" in caplog.text


def test_what_only_one_device_can_do_is_done_there(
    gpu: CudaBackend, small: Split, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpunn")
    monkeypatch.setattr(tuned, "BUILT_IN", table(0, 1))
    assert train(MLP([12, 5, 3]), small, **RECIPE, precision="tf32").device == "cuda:0"
    assert "device auto: cuda:0, Stand-in, as the CPU can't do it: the engine fused can't train" in caplog.text
    monkeypatch.setattr(tuned, "BUILT_IN", table(1, 0))
    assert train(MLP([12, 5, 3]), small, **RECIPE, engine="epoch").device == "cpu"
    assert "device auto: cpu, as cuda:0, Stand-in can't do it: the engine epoch can't train this net" in caplog.text


def test_without_a_usable_gpu_nothing_is_estimated(
    install: Any, small: Split, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpunn")
    monkeypatch.setattr(devices, "speeds", None)
    install(None)
    assert train(MLP([12, 5, 3]), small, **RECIPE).device == "cpu"
    assert evaluate(MLP([12, 5, 3]), small).confusion.sum() == 200
    assert "device auto" not in caplog.text


def test_a_gpu_that_can_not_be_used_is_found_out_where_it_would_be_worth_it(
    install: Any, small: Split, swift_gpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    install(StrictCupy(n_devices=0))
    caplog.set_level("INFO", "gpunn")
    assert train(MLP([12, 5, 3]), small, **RECIPE).device == "cpu"
    lines = [message for message in caplog.messages if message.startswith("device auto")]
    assert len(lines) == 1
    assert "as there is no usable GPU (CuPy and an NVIDIA driver are installed, but no GPU is visible)" in lines[0]


def test_evaluation_takes_a_gpu_only_if_the_cpu_needs_longer_than_its_start(
    gpu: CudaBackend, small: Split, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpunn")
    net = MLP([12, 5, 3])
    expected = evaluate(net, small, device="cpu")
    for speeds, message in (
        (table(0.03, 0.0, 3.0), "device auto: cpu, estimated at 2 s, a GPU at 3 s, start included"),
        (table(0.03, 0.0, 1.0), "device auto: cuda:0, Stand-in"),
    ):
        monkeypatch.setattr(tuned, "BUILT_IN", speeds)
        found = evaluate(net, small)
        assert caplog.messages[-1] == message
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
        np.testing.assert_array_equal(found.confusion, expected.confusion)
    assert "cupy" in sys.modules


def test_on_a_real_gpu_mnist_is_left_to_the_cpu_until_batches_are_large() -> None:
    def quicker(sizes: tuple[int, ...], batch_size: int) -> bool:
        return milliseconds("gpu", "fused", sizes, batch_size) < milliseconds("cpu", "epoch", sizes, batch_size)

    for sizes, (last, first) in zip(SIZES, ((60, 220), (20, 45)), strict=True):
        assert not quicker(sizes, last)
        assert quicker(sizes, first)
        assert milliseconds("gpu", "epoch", sizes, 32) > milliseconds("cpu", "epoch", sizes, 32)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_moments_cost_time(optimizer: str) -> None:
    net = MLP([784, 16, 10])
    start = Parameters(net.weights, net.biases)
    plain, other = (Work.of(start, Recipe(1, 0.1, optimizer=OPTIMIZERS[name]), 100) for name in ("sgd", optimizer))
    assert BUILT_IN.seconds("cpu", "epoch", other) > 2 * BUILT_IN.seconds("cpu", "epoch", plain)


def test_dense_and_sparse_images_are_told_apart() -> None:
    net, recipe = MLP([784, 16, 10]), Recipe(32, 0.1)
    start = Parameters(net.weights, net.biases)
    rng = np.random.default_rng(0)
    for lit in (0.2, 0.9):
        images = (rng.random((300, 784)) < lit).astype(np.uint8)
        job = devices.Job(start, Examples(images, np.zeros(300, np.uint8)), recipe, "auto", 1)
        assert job.work.lit == pytest.approx(lit if lit < 0.5 else 1.0, abs=0.02)
    assert [n_in * n_out for n_in, n_out in pairwise(job.work.sizes)] == [12544, 160]
