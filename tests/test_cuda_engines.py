"""Engines for GPUs, held to float64 on the CPU, with stand-ins for CuPy and the kernels that are as strict as a GPU."""

import ctypes
import re
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Adam, ConfigurationError, OutOfMemoryError, Split, get_backend, train
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import ENGINES, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.cuda.arrays import Cublas
from gpunn.kernels.cuda.epoch.layout import CudaLayout

from .conftest import parameters, random_split
from .fake_driver import build
from .strict_cupy import StrictCupy
from .strict_graphs import ADDRESS, Graphs
from .strict_kernels import StrictKernels, strict_gpu

CPU = get_backend("cpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    return strict_gpu(monkeypatch)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 200])
@pytest.mark.parametrize("sizes", [(12, 3), (12, 5, 3), (12, 9, 6, 3)], ids=str)
def test_fused_on_a_gpu_follows_float64(gpu: CudaBackend, sizes: tuple[int, ...], batch_size: int) -> None:
    split = random_split(200, 12, 3)
    net, exact = MLP(sizes), MLP(sizes, dtype=np.float64)
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": batch_size, "learning_rate": 0.1}
    history = train(net, split, **recipe, device=gpu, engine="fused", test=split)
    expected = train(exact, split, **recipe, device="cpu", engine="plain", test=split)
    assert history.engine == "fused"
    assert history.losses == pytest.approx(expected.losses, rel=1e-5)
    for ours, theirs in zip(parameters(net), parameters(exact), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_fused_goes_on_with_orders_of_any_length(gpu: CudaBackend, small: Split) -> None:
    net, exact = MLP([12, 5, 3]), MLP([12, 5, 3], dtype=np.float64)
    theirs = ENGINES["plain"](CPU, start(exact), Examples(small.images, small.labels), Recipe(32, 0.1))
    with gpu.activate():
        images, labels = gpu.asarray(small.images), gpu.asarray(small.labels)
        ours: Any = choose_engine("fused", gpu, start(net), Recipe(32, 0.1))
        ours = ours(gpu, start(net), Examples(images, labels), Recipe(32, 0.1))
        for order in (np.arange(50), np.arange(200)[::-1], np.arange(3)):
            assert ours.run_epoch(order) == pytest.approx(theirs.run_epoch(order), rel=1e-5)
        for order in (np.arange(201), np.array([-1])):
            with pytest.raises(IndexError, match="found order"):
                ours.run_epoch(order)


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_an_epoch_prepares_nothing_but_its_numbers(gpu: CudaBackend, small: Split, batch_size: int, l2: float) -> None:
    with gpu.activate():
        net, recipe = MLP([12, 5, 3]), Recipe(batch_size, 0.1, l2=l2)
        examples = Examples(gpu.asarray(small.images), gpu.asarray(small.labels))
        engine = choose_engine("fused", gpu, start(net), recipe)(gpu, start(net), examples, recipe)
        engine.run_epoch(np.arange(200))  # the smaller last batch is prepared now
        gpu.kernels.launched.clear()
        gpu.xp.cublas.modes.clear()
        handles, n_batches = gpu.kernels.handles, -(-200 // batch_size)
        engine.run_epoch(np.arange(200)[::-1])
        assert gpu.kernels.handles == handles
        # next_batch, gather_scale, twice bias_activate, output_delta, hidden_delta, twice descend_sums.
        assert len(gpu.kernels.launched) == 8 * n_batches
        assert len(gpu.xp.cublas.modes) == 5 * n_batches


@pytest.mark.parametrize("options", [{}, {"l2": 0.1, "dropout": 0.3}, {"optimizer": Adam(), "l2": 0.1}], ids=str)
def test_replayed_batches_are_those_that_are_launched(
    gpu: CudaBackend, small: Split, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    with gpu.activate():

        def trained() -> tuple[list[float], list[np.ndarray]]:
            recipe = Recipe(3, 0.1, precision="tf32", **options)
            examples = Examples(gpu.asarray(small.images), gpu.asarray(small.labels))
            engine = choose_engine("fused", gpu, start(net), recipe)(gpu, start(net), examples, recipe)
            losses = [engine.run_epoch(np.arange(n), np.linspace(0.1, 0.05, -(-n // 3))) for n in (200, 151, 30, 7)]
            found = engine.parameters()
            return losses, [gpu.to_host(array) for array in (*found.weights, *found.biases)]

        net, cublas = MLP([12, 5, 3]), gpu.xp.cublas
        expected = trained()
        ordinary = gpu.kernels.launched.copy()
        gpu.kernels.launched.clear()
        graphs = Graphs(monkeypatch, gpu.xp)
        gpu.kernels.submit = graphs.submit
        cublas.modes.clear()
        losses, arrays = trained()
        assert losses == expected[0]
        for mine, other in zip(arrays, expected[1], strict=True):
            np.testing.assert_array_equal(mine, other)
        assert gpu.kernels.launched == ordinary
        assert set(cublas.modes) == {3}
        # Of 66 batches the first is launched, then of 50, 10 and 2; of the last ones there is no whole batch.
        one = graphs.replays[4]
        assert graphs.replays == [*[16 * one] * 4, one, *[16 * one] * 3, *[one] * 2, *[one] * 10, *[one] * 2]


def test_batches_are_launched_where_they_can_not_be_recorded(
    gpu: CudaBackend, small: Split, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpunn")
    graphs = Graphs(monkeypatch, gpu.xp)
    gpu.kernels.submit = graphs.submit
    monkeypatch.setattr(graphs, "cublasSgemm_v2", lambda *arguments: 14)
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 7, "learning_rate": 0.1, "test": small}
    history = train(MLP([12, 5, 3]), small, **recipe, device=gpu, engine="fused")
    expected = train(MLP([12, 5, 3], dtype=np.float64), small, **recipe, device="cpu", engine="plain")
    assert history.losses == pytest.approx(expected.losses, rel=1e-5)
    assert graphs.replays == []
    reason = "engine fused: every batch is launched by itself, as RuntimeError: cublasSgemm_v2 returned 14"
    assert caplog.messages.count(reason) == 1


def test_products_are_those_of_matrices_in_either_order(gpu: CudaBackend) -> None:
    with gpu.activate():
        rng, cublas, asarray = np.random.default_rng(0), Cublas(gpu.xp), gpu.asarray
        for m, n, k in ((1, 1, 1), (1, 5, 3), (4, 1, 3), (4, 5, 1), (4, 5, 3)):
            a, b, out = (rng.normal(size=shape).astype(np.float32) for shape in ((m, k), (k, n), (m, n)))
            for ours, theirs in product((asarray(a), asarray(a.T.copy()).T), (asarray(b), asarray(b.T.copy()).T)):
                for factors in ((1.0, 0.0), (-0.5, 2.0), asarray(np.array([0.25, -1], np.float32))):
                    found = asarray(out)
                    multiply = cublas.prepare(ours, theirs, out=found, factors=factors)
                    with cublas.in_use("float32"):
                        multiply()
                        multiply()
                    alpha, beta = factors if isinstance(factors, tuple) else (0.25, -1)
                    once = alpha * (a @ b) + beta * out
                    np.testing.assert_allclose(gpu.to_host(found), alpha * (a @ b) + beta * once, rtol=1e-5, atol=1e-5)
                    assert gpu.xp.cublas.pointer_mode == 0


def test_cublas_is_called_directly_as_it_wants_to_be(
    gpu: CudaBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gpu.activate():
        monkeypatch.setattr(gpu.xp.cublas, "getVersion", lambda handle: 990_100)  # none that might be there
        # That of CuPy has been loaded from anywhere; afterwards its name is enough.
        build("libcublas.c", tmp_path / "libcublas.so.99")
        ctypes.CDLL(str(tmp_path / "libcublas.so.99"))
        rng, cublas, asarray = np.random.default_rng(0), Cublas(gpu.xp), gpu.asarray
        a, b, out = (rng.normal(size=shape).astype(np.float32) for shape in ((7, 4), (4, 5), (7, 5)))
        found, space = asarray(out), gpu.xp.zeros(2**20, np.uint8)
        multiply = cublas.prepare(asarray(a), asarray(b.T.copy()).T, out=found, factors=(0.5, -1.0))
        with cublas.in_use("float32"):
            with cublas.recorded(ADDRESS, space):
                multiply()
            assert gpu.xp.cublas.modes == []
            np.testing.assert_allclose(gpu.to_host(found), 0.5 * (a @ b) - out, rtol=1e-5, atol=1e-6)
            multiply()
            assert gpu.xp.cublas.modes == [0]
            with cublas.recorded(ADDRESS, space[:0]), pytest.raises(RuntimeError, match=r"^cublasSgemm_v2 returned 1$"):
                multiply()


def test_tf32_is_used_when_asked_for_and_never_else(gpu: CudaBackend, small: Split) -> None:
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 50, "learning_rate": 0.1, "device": gpu}
    cublas = gpu.xp.cublas
    cublas.mode = 3
    train(MLP([12, 5, 3]), small, **recipe, engine="fused")
    assert set(cublas.modes) == {0}
    cublas.modes.clear()
    cublas.mode = 0
    assert train(MLP([12, 5, 3]), small, **recipe, precision="tf32").to_dict()["precision"] == "tf32"
    assert set(cublas.modes) == {3}
    assert cublas.mode == 0


@pytest.mark.parametrize("engine", ["plain", "epoch"])
def test_tf32_is_refused_where_it_is_not(gpu: CudaBackend, small: Split, engine: str) -> None:
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 50, "learning_rate": 0.1, "precision": "tf32"}
    for device in ("cpu", gpu):
        with pytest.raises(ConfigurationError, match=f"^the engine {engine} can't .*; choose the precision float32$"):
            train(MLP([12, 5, 3]), small, **recipe, device=device, engine=engine)
    with pytest.raises(ConfigurationError, match="TF32 needs the engine fused and a GPU"):
        train(MLP([12, 5, 3]), small, **recipe, device="cpu")
    with pytest.raises(ConfigurationError, match="precision must be float32 or tf32, got 'float16'"):
        train(MLP([12, 5, 3]), small, **recipe | {"precision": "float16"}, device="cpu")


@pytest.mark.parametrize(("override", "precision", "warned"), [
    ("1", "float32", True),
    ("1", "tf32", False),
    ("0", "float32", False),
    (None, "float32", False),
])  # fmt: skip
def test_nvidias_override_of_float32_is_warned_of(
    gpu: CudaBackend,
    small: Split,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    override: str | None,
    precision: str,
    warned: bool,
) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 50, "learning_rate": 0.1, "engine": "fused"}
    train(MLP([12, 5, 3]), small, **recipe, precision=precision, device=gpu)
    train(MLP([12, 5, 3]), small, **recipe, device="cpu")
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    message = "NVIDIA_TF32_OVERRIDE is 1: cuBLAS multiplies in TF32, although the precision is float32"
    assert warnings.count(message) == warned


def test_tf32_takes_a_gpu_that_has_it(gpu: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = gpu.xp.cuda.runtime.getDeviceProperties(0) | {"major": 7, "minor": 5}
    monkeypatch.setattr(gpu.xp.cuda.runtime, "getDeviceProperties", lambda index: properties, raising=False)
    with pytest.raises(ConfigurationError, match=r"TF32 needs compute capability 8\.0, and cuda:0 has 7\.5"):
        choose_engine("fused", gpu, start(MLP([12, 5, 3])), Recipe(32, 0.1, "tf32"))


def test_auto_goes_on_on_the_cpu_where_the_gpu_is_too_small(
    gpu: CudaBackend, small: Split, swift_gpu: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpunn")
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 50, "learning_rate": 0.1}
    gpu.xp.runtime.free[0] = 4000  # room for the images, and little more
    monkeypatch.setattr("gpunn.engines.runner.get_backend", lambda name: CPU if name == "cpu" else gpu)
    monkeypatch.setattr("gpunn.engines.devices.usable_gpu", lambda: gpu)
    assert train(MLP([12, 5, 3]), small, **recipe, engine="plain").device == "cpu"
    message = (
        r"device auto: cpu, as cuda:0 is out of memory \(Out of memory allocating [\d,]+ bytes \(allocated so far: "
        r"[23],\d{3}\); 1?,?\d{3} of 8,589,934,592 bytes are free\)"
    )
    assert any(re.match(message, line) for line in caplog.messages)
    with pytest.raises(OutOfMemoryError, match=r"cuda:0 is out of memory .* use a smaller batch, or the CPU"):
        train(MLP([12, 5, 3]), small, **recipe, engine="plain", device="cuda")


def test_tf32_does_not_go_on_on_the_cpu(gpu: CudaBackend, small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.xp.runtime.free[0] = 4000
    monkeypatch.setattr("gpunn.engines.runner.get_backend", lambda name: CPU if name == "cpu" else gpu)
    monkeypatch.setattr("gpunn.engines.devices.usable_gpu", lambda: gpu)
    with pytest.raises(OutOfMemoryError, match="cuda:0 is out of memory"):
        train(MLP([12, 5, 3]), small, epochs=1, batch_size=50, learning_rate=0.1, precision="tf32")


def test_a_trial_without_memory_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, cupy = StrictKernels(), StrictCupy()
    gpu = CudaBackend(cupy, 0)
    monkeypatch.setitem(sys.modules, "gpunn.kernels.cuda.contract", kernels)
    monkeypatch.setattr("gpunn.kernels.cuda.contract", kernels, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(cupy.runtime, "free", [10])
        with pytest.raises(OutOfMemoryError, match="is out of memory"):
            _ = gpu.kernels
    assert gpu.kernels is kernels


def test_a_gpu_without_compiled_kernels_has_plain(small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpunn.kernels.cuda.contract", None)
    gpu = CudaBackend(StrictCupy(), 0)
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 50, "learning_rate": 0.1, "device": gpu}
    assert train(MLP([12, 5, 3]), small, **recipe).engine == "plain"
    for engine in ("fused", "epoch"):
        with pytest.raises(ConfigurationError, match=r"its kernels can't be used: .*choose the engine auto, or plain"):
            train(MLP([12, 5, 3]), small, **recipe, engine=engine)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numba.cuda.cudadrv.error", "NvvmSupportError"),
        ("cuda.bindings.nvjitlink", "nvJitLinkError"),
        ("cuda.core._utils.cuda_utils", "CUDAError"),
    ],
)
def test_kernels_that_do_not_compile_leave_plain_and_say_why(
    small: Split, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, module: str, name: str
) -> None:
    caplog.set_level("INFO", "gpunn")
    kernels: Any = StrictKernels()
    monkeypatch.setitem(sys.modules, "gpunn.kernels.cuda.contract", kernels)
    monkeypatch.setattr("gpunn.kernels.cuda.contract", kernels, raising=False)
    error = type(name, (Exception,), {"__module__": module})

    def fail(z: Any, bias: Any, out: Any) -> None:
        raise error("libNVVM cannot be found")

    kernels.bias_activate = fail
    gpu = CudaBackend(StrictCupy(), 0)
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 50, "learning_rate": 0.1, "device": gpu}
    history = train(MLP([12, 5, 3]), small, **recipe)
    assert (history.device, history.engine) == ("cuda:0", "plain")
    assert f"its kernels can't be used: {name}: libNVVM cannot be found" in caplog.text
    with pytest.raises(ConfigurationError, match=f"{name}: libNVVM cannot be found.*choose the engine auto, or plain"):
        train(MLP([12, 5, 3]), small, **recipe, engine="epoch")


def test_kernels_that_compute_nonsense_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = StrictKernels()
    monkeypatch.setitem(sys.modules, "gpunn.kernels.cuda.contract", kernels)
    monkeypatch.setattr("gpunn.kernels.cuda.contract", kernels, raising=False)
    assert CudaBackend(StrictCupy(), 0).kernels is kernels
    kernels.bias_activate = lambda z, bias, out: None
    with pytest.raises(ConfigurationError, match="a sigmoid came out wrong"):
        _ = CudaBackend(StrictCupy(), 0).kernels


def start(net: MLP) -> Parameters:
    return Parameters(net.weights, net.biases)


@pytest.mark.parametrize(
    ("hidden", "batch_size", "capacity", "chunk_size"),
    [(16, 32, 227, 32), (16, 1000, 227, 32), (32, 32, 64, 16), (32, 30, 64, 16), (128, 1, 64, 4), (16, 129, 227, 28)],
)
def test_the_chunks_of_a_batch_are_alike(hidden: int, batch_size: int, capacity: int, chunk_size: int) -> None:
    layout = CudaLayout((784, hidden, 10), batch_size=batch_size, threads=512, capacity=1024 * capacity)
    assert layout.chunk_size == chunk_size
    assert layout.shared_bytes <= 1024 * capacity
