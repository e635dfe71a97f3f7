"""The whole-epoch kernel on tensor cores, whose matrix instruction the host has by its definition, held to float64."""

import importlib
import logging
import re
from collections.abc import Callable
from itertools import chain
from typing import Any, cast

import numpy as np
import pytest

from gpunn import Dataset
from gpunn.engines import Examples, Parameters, Recipe
from gpunn.engines.cuda.epoch import EpochCudaEngine, EpochCudaGroup
from gpunn.engines.cuda.first_use import difference
from gpunn.engines.cuda.fused import FusedCudaEngine
from gpunn.kernels.cuda.epoch.layout import CudaLayout

from .cuda_compiler import Capability, cuda_compiler, ptx, resources
from .epoch_cases import DEEP, EPOCH_CASES, SMALL, EpochCase
from .host_cuda import BarrierError, Order, backwards, run_on_host, shuffled
from .host_gpu import HostGpu
from .recipes import drawn
from .test_cuda_on_host import assert_follows_float64, both
from .test_host_cuda import Decorator

N = 700
"""Images of an epoch."""

CASES = [EPOCH_CASES[number] for number in (0, 1, 2, 3, 5, 9, 12, 13, 14)]
"""All optimisers and losses; batches smaller than a tile, as a chunk, and larger; weights outside of shared memory."""

CAPABILITIES: list[Capability] = [(8, 0, ""), (8, 6, ""), (8, 9, ""), (9, 0, "a"), (12, 0, "a")]
"""Compute capabilities of an A100, an RTX 3090, an RTX 4090, an H100 and an RTX 5090."""


@pytest.fixture
def cuda() -> Any:
    return cuda_compiler()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> HostGpu:
    found = HostGpu(monkeypatch)
    found.tensor_cores = True
    return found


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels be used without the comparison with `fused`, whose kernels take long to compile."""
    monkeypatch.setattr("gpunn.engines.cuda.epoch._is_right", lambda *_: True)


@pytest.fixture(scope="module")
def images(mnist: Dataset) -> Examples:
    return Examples(mnist.train.images[:N], mnist.train.labels[:N])


def bfloat16(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return random bfloat16 numbers of several magnitudes, as float32."""
    numbers = (rng.normal(size=shape) * 2.0 ** rng.integers(-8, 9, shape)).astype(np.float32)
    return (numbers.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def pairs(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return two bfloat16 numbers a word."""
    return (low.view(np.uint32) >> 16) | high.view(np.uint32)


LANE = np.arange(32)
GROUP, MEMBER = LANE // 4, LANE % 4
"""Those that the manual calls groupID and threadID_in_group."""


@pytest.mark.parametrize("order", [range, backwards, shuffled])
def test_the_hosts_matrix_instruction_multiplies(cuda: Any, order: Order) -> None:
    made, cores = (importlib.import_module(f"gpunn.kernels.cuda.{name}") for name in ("jit", "tensor_cores"))
    multiply_add, kernel = cores.multiply_add, cast("Decorator", made.kernel)

    @kernel
    def multiply(a: Any, b: Any, c: Any, times: int) -> None:
        t = cuda.threadIdx.x
        for _ in range(times):
            d = multiply_add(a[0, t], a[1, t], a[2, t], a[3, t], b[0, t], b[1, t], c[0, t], c[1, t], c[2, t], c[3, t])
            c[0, t], c[1, t], c[2, t], c[3, t] = d

    rng, warps = np.random.default_rng(0), 3
    A, B, C = bfloat16(rng, warps, 16, 16), bfloat16(rng, warps, 16, 8), bfloat16(rng, warps, 16, 8)
    rows, columns = GROUP, 2 * MEMBER
    # By the figures of the manual: A in quarters, first those above each other; B and C in halves.
    a = [pairs(A[:, rows + down, columns + right], A[:, rows + down, columns + right + 1])
         for right in (0, 8) for down in (0, 8)]  # fmt: skip
    b = [pairs(B[:, columns + down, rows], B[:, columns + down + 1, rows]) for down in (0, 8)]
    c = [C[:, rows + down, columns + right] for down in (0, 8) for right in (0, 1)]
    flat = [np.stack(array).reshape(len(array), 32 * warps) for array in (a, b, c)]
    run_on_host(multiply, 1, 32 * warps, *flat, 2, threads=order)
    found = np.empty_like(C)
    for n, (down, right) in enumerate((down, right) for down in (0, 8) for right in (0, 1)):
        found[:, rows + down, columns + right] = flat[2][n].reshape(warps, 32)
    exact, absolute = A.astype(np.float64), np.abs(A).astype(np.float64)
    np.testing.assert_array_less(np.abs(found - (2 * exact @ B + C)), 2**-20 * (2 * absolute @ np.abs(B) + np.abs(C)))
    assert not np.array_equal(found, (2 * exact @ B + C).astype(np.float32))  # it cuts off


def test_a_warp_that_is_not_complete_at_a_matrix_instruction_is_found(cuda: Any) -> None:
    made, cores = (importlib.import_module(f"gpunn.kernels.cuda.{name}") for name in ("jit", "tensor_cores"))
    multiply_add, one, zero = cores.multiply_add, np.uint32(1), np.float32(0)
    kernel = cast("Decorator", made.kernel)

    @kernel
    def some_multiply(out: Any, n: int) -> None:
        t = cuda.threadIdx.x
        if t < n:
            d = multiply_add(one, one, one, one, one, one, zero, zero, zero, zero)
            out[t] = d[0]
        cuda.syncthreads()

    run_on_host(some_multiply, 1, 64, np.zeros(64, np.float32), 32)
    for n, order in ((31, range), (33, backwards), (1, shuffled)):
        message = f"^some_multiply: {n % 32} of 64 threads wait at matrix instructions for others of their warps$"
        with pytest.raises(BarrierError, match=message):
            run_on_host(some_multiply, 1, 64, np.zeros(64, np.float32), n, threads=order)


def test_three_bfloat16_numbers_are_a_float32_number_and_one_is_a_grey_level(cuda: Any) -> None:
    made, cores = (importlib.import_module(f"gpunn.kernels.cuda.{name}") for name in ("jit", "tensor_cores"))
    split_2, grey_levels, kernel = cores.split_2, cores.grey_levels, cast("Decorator", made.kernel)

    @kernel
    def take_apart(numbers: Any, parts: Any, greys: Any) -> None:
        i = cuda.grid(1)
        if i < parts.shape[0]:
            parts[i, 0], parts[i, 1], parts[i, 2] = split_2(numbers[2 * i], numbers[2 * i + 1])
        if i < greys.shape[0]:
            low, high = grey_levels(greys[i, 0])
            greys[i, 0], greys[i, 1] = low, high

    rng = np.random.default_rng(0)
    bits = rng.integers(2**32, size=20_000, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers) & (np.abs(numbers) > 2.0**-110)][: len(numbers) // 4 * 2]
    numbers[:4] = 0, -0.0, 1, np.finfo(np.float32).max
    greys = np.zeros((64, 2), np.uint32)
    greys[:, 0] = np.arange(256, dtype=np.uint8).view(np.uint32)
    parts = np.zeros((len(numbers) // 2, 3), np.uint32)
    run_on_host(take_apart, -(-len(parts) // 256), 256, numbers, parts, greys)
    low, high = (parts << np.uint32(16)).view(np.float32), (parts & np.uint32(0xFFFF0000)).view(np.float32)
    both_halves = np.stack([low, high], axis=1).astype(np.float64)
    np.testing.assert_array_equal(both_halves.sum(axis=-1).ravel(), numbers)
    low, high = (greys << np.uint32(16)).view(np.float32), (greys & np.uint32(0xFFFF0000)).view(np.float32)
    np.testing.assert_array_equal(np.stack([low, high], axis=-1).ravel(), np.arange(256))


@pytest.mark.parametrize("sizes", [SMALL, DEEP, (13, 6, 5, 3), (785, 129, 10), (12, 3)], ids=str)
def test_weights_in_tiles_are_unpacked_as_they_were(sizes: tuple[int, ...]) -> None:
    start = drawn(sizes, ("sigmoid",) * (len(sizes) - 1))
    layout = CudaLayout(sizes, batch_size=32, threads=512, capacity=2**20, tensor_cores=True)
    packed = layout.pack(start.weights, start.biases)
    weights, biases = layout.unpack(packed)
    for mine, given in zip((*weights, *biases), (*start.weights, *start.biases), strict=True):
        np.testing.assert_array_equal(mine, given)
    assert np.count_nonzero(packed) == sum(array.size for array in (*weights, *biases))
    # Neuron 9 and pixel 6 of the first tile: of the second half, thread 4 * 1 + 1 and its number 2.
    if sizes[1] > 9:
        assert packed[layout.layers[0].weights + 4 * (32 + 5) + 2] == start.weights[0][9, 6]


def test_layouts_are_whole_vectors_and_differ_from_those_of_other_kernels() -> None:
    for batch_size in (1, 32, 33, 1000):
        for sizes in (SMALL, DEEP, (785, 129, 10)):
            options: dict[str, Any] = {"batch_size": batch_size, "threads": 512, "capacity": 227 * 1024}
            layout = CudaLayout(sizes, **options, tensor_cores=True)
            assert layout.chunk_size % 8 == layout.n_parameters % 4 == layout.n_work % 4 == layout.partials % 4 == 0
            assert layout.x_stride % 16 == 8
            assert layout != CudaLayout(sizes, **options)
    with pytest.raises(ValueError, match="found images of 2049 pixels, expected at most 2048"):
        CudaLayout((2049, 3), batch_size=1, threads=512, capacity=2**20, tensor_cores=True)


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.xdist_group(f"cores {c}")) for c in CASES], ids=str)
def test_an_epoch_on_tensor_cores_follows_float64_and_has_the_same_bits_in_every_run(
    gpu: HostGpu, case: EpochCase, images: Examples, unchecked: None
) -> None:
    gpu.shared_memory = 1024 * case.capacity
    for batch_size in case.batch_sizes:
        recipe, n = case.recipe(batch_size), N if batch_size > 1 else N // 7
        engines = both(gpu.backend, "epoch", case.start(), images, recipe)
        assert on_tensor_cores(engines[0])
        assert_follows_float64(gpu.backend, engines, recipe, n)
    found = []
    for gpu.threads in (range, backwards):
        engine, _ = both(gpu.backend, "epoch", case.start(), images, recipe)
        loss = engine.run_epoch(np.arange(70))
        found.append([np.array(loss), *arrays(gpu, engine), *chain(*engine.memory().moments)])
    for mine, other in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, other)


def on_tensor_cores(engine: Any) -> bool:
    return bool(engine._group._layout.tensor_cores)


def arrays(gpu: HostGpu, engine: Any) -> list[np.ndarray]:
    found = engine.parameters()
    return [gpu.backend.to_host(array) for array in (*found.weights, *found.biases)]


def test_tensor_cores_are_as_accurate_as_other_kernels(gpu: HostGpu, images: Examples, unchecked: None) -> None:
    case, errors = EPOCH_CASES[0], []
    for gpu.tensor_cores in (True, False):
        ours, theirs = both(gpu.backend, "epoch", case.start(), images, case.recipe(32))
        for engine in (ours, theirs):
            engine.run_epoch(np.arange(N))
        exact = theirs.parameters()
        differences = zip(arrays(gpu, ours), (*exact.weights, *exact.biases), strict=True)
        errors.append([np.sqrt(np.mean((mine - other) ** 2)) for mine, other in differences])
    assert max(errors[1]) < 1e-7
    np.testing.assert_array_less(errors[0], 1.5 * np.array(errors[1]))


@pytest.mark.parametrize(
    ("case", "capabilities", "spilled"),
    [
        (EPOCH_CASES[0], CAPABILITIES, 128),
        (EPOCH_CASES[5], CAPABILITIES[1:4:2], 64),
        (EPOCH_CASES[9], CAPABILITIES[3:4], 480),
    ],
    ids=str,
)
def test_registers_suffice_on_real_gpus(
    gpu: HostGpu, case: EpochCase, capabilities: list[Capability], spilled: int, unchecked: None
) -> None:
    gpu.runs = False
    examples = Examples(*map(gpu.backend.asarray, (np.zeros((2, 784), np.uint8), np.zeros(2, np.uint8))))
    EpochCudaEngine(gpu.backend, case.start(), examples, case.recipe(case.batch_sizes[0]))
    (launch,) = gpu.launches
    code = ptx(launch.kernel, launch.types, CAPABILITIES[0])
    assert ".local" not in code[code.index(".entry") :]
    for instruction in ("ld.global.v4.u32", "ld.shared.v2.u32", "st.shared.v4.u32", "st.shared.v4.f32"):
        assert instruction in code
    for capability in capabilities:
        needed = resources(launch.kernel, launch.types, capability)
        assert needed.functions == 1
        assert max(needed.local_bytes, needed.spilled) <= spilled, (capability, needed)
        assert needed.registers * launch.threads <= 65_536


def wrong(gpu: HostGpu, change: Callable[[list[np.ndarray]], None], loss: float = 1.0) -> Any:
    """Return what makes an engine that trains as `fused` does, and changes its parameters in the end."""

    class Wrong:
        def __init__(self, start: Parameters, examples: Examples, recipe: Recipe) -> None:
            self._engine = FusedCudaEngine(gpu.backend, start, examples, recipe)

        def run_epoch(self, *arguments: Any) -> float:
            return self._engine.run_epoch(*arguments) * loss

        def parameters(self) -> Parameters:
            found = self._engine.parameters()
            layers = [gpu.backend.to_host(array).copy() for array in (*found.weights, *found.biases)]
            change(layers)
            n = len(found.weights)
            on_gpu = [gpu.backend.asarray(array) for array in layers]
            return Parameters(on_gpu[:n], on_gpu[n:])

    return Wrong


def test_what_differs_from_fused_is_found(gpu: HostGpu) -> None:
    def found(change: Callable[[list[np.ndarray]], None], loss: float = 1.0) -> str | None:
        recipe = Recipe(8, 0.1)
        return difference(gpu.backend, wrong(gpu, change, loss), SMALL, ("sigmoid",) * 2, recipe, n=11)

    def a_pixel(layers: list[np.ndarray]) -> None:
        layers[0][:, 5] *= 1.01

    def a_bias(layers: list[np.ndarray]) -> None:
        layers[3][2] = np.nan

    def one_weight(layers: list[np.ndarray]) -> None:
        layers[0][7, 300] += 0.01

    assert found(lambda layers: None) is None
    assert found(one_weight) is None  # a change of sign in one gradient is no fault
    assert found(a_pixel) == "16 of 12,544 parameters of a layer"
    assert found(a_bias) == "1 of 10 parameters of a layer"
    assert str(found(lambda layers: None, np.nan)).startswith("a loss of nan, not ")
    assert str(found(lambda layers: None, 1.001)).startswith("a loss of ")


def test_a_kernel_is_compared_with_fused_once_and_used_if_it_is_right(
    gpu: HostGpu, images: Examples, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    case = EPOCH_CASES[0]
    engines = both(gpu.backend, "epoch", case.start(), images, case.recipe(32))
    assert on_tensor_cores(engines[0])
    assert caplog.messages[-1].endswith("32 images at a time, on tensor cores")
    # Of the same kind, whatever its weights and rates.
    compared = len(gpu.launches)
    starts = [drawn(SMALL, ("sigmoid", "sigmoid"))] * 2
    on_gpu = Examples(*map(gpu.backend.asarray, images[:2]))
    EpochCudaGroup(gpu.backend, starts, on_gpu, [Recipe(32, 0.1), Recipe(32, 0.7)])
    assert len(gpu.launches) == compared + 1
    # A kernel that isn't right, as another's would be that has another formula.
    cores, run = (importlib.import_module(f"gpunn.kernels.cuda.epoch.{name}") for name in ("matrices", "run"))
    monkeypatch.setattr(cores, "UPPER_HALVES", cores.LOWER_HALVES)
    run.compile_epoch.cache_clear()
    recipe = case.recipe(31)
    broken = both(gpu.backend, "epoch", case.start(), images, recipe)
    run.compile_epoch.cache_clear()
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    expected = (
        r"^engine epoch: cuda:0's tensor cores aren't used, as they give 6,2\d\d of 12,544 parameters of a layer$"
    )
    assert re.match(expected, said.getMessage())
    assert not on_tensor_cores(broken[0])
    assert_follows_float64(gpu.backend, broken, recipe, 200)


def test_a_kernel_that_cannot_be_made_or_started_is_not_used(
    gpu: HostGpu, images: Examples, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> str:
        raise RuntimeError("ptxas: unknown\ninstruction")

    monkeypatch.setattr("gpunn.engines.cuda.epoch.difference", fails)
    gpu.runs = False
    engine, _ = both(gpu.backend, "epoch", drawn((784, 21, 10), ("sigmoid",) * 2), images, Recipe(29, 0.1))
    assert not on_tensor_cores(engine)
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith("engine epoch: cuda:0's tensor cores aren't used, as they give RuntimeError: ptxas: unknown")
    assert "\n" not in said


def test_older_gpus_and_larger_networks_do_without(gpu: HostGpu, images: Examples, unchecked: None) -> None:
    gpu.runs = False
    wide, functions = (784, 1600, 10), ("sigmoid", "sigmoid")
    for gpu.tensor_cores, sizes, expected in ((False, SMALL, False), (True, SMALL, True), (True, wide, False)):
        engine, _ = both(gpu.backend, "epoch", drawn(sizes, functions), images, Recipe(8, 0.1))
        assert on_tensor_cores(engine) == expected
