"""CUDA kernels without a GPU: run in Numba's simulator, and compiled for real GPUs.

A further kernel is compiled if it is among the cases, and simulated by tests in `tests/simulator`.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpunn.distortion import DISTORTIONS
from gpunn.engines import Examples
from gpunn.engines.cuda.epoch import EpochCudaEngine

from . import epoch_cases
from .conftest import Simulation
from .cuda_compiler import Capability, cuda_compiler, ptx, resources
from .epoch_cases import EpochCase
from .host_gpu import HostGpu, Launch
from .kernel_cases import CASES, Case
from .kernel_contract import good_arguments


def test_kernels_compute_the_right_numbers_in_the_simulator(simulation: Simulation) -> None:
    code, output = simulation.wait()
    last_line = output.rstrip().rpartition("\n")[2]
    assert code == 0, output
    assert re.search(r"\b[1-9]\d* passed\b", last_line), output
    assert "skipped" not in last_line, output


CAPABILITIES: list[Capability] = [(7, 5, ""), (8, 6, ""), (9, 0, "a"), (12, 0, "a")]
"""Compute capabilities of a T4, an RTX 3090, an H100 and an RTX 5090."""
REGISTERS = 65_536
"""Registers of a multiprocessor, for all threads that it runs at once."""
PARAMETERS = ("optimizer_step",)
"""Kernels that take arrays of any shape, and get them in one row from engines."""


@pytest.fixture(scope="session")
def cuda() -> Any:
    return cuda_compiler()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> HostGpu:
    """A GPU that only lists what is launched."""
    found = HostGpu(monkeypatch)
    found.runs = False
    return found


def launches_of(gpu: HostGpu, case: Case) -> Iterable[Launch]:
    """Return the launches of a wrapper, one for each kind of arguments, with the largest blocks that it takes."""
    wrapper = getattr(importlib.import_module("gpunn.kernels.cuda.contract"), case.name)
    for m in (1024, 3 * 32 * 1024):  # many rows are summed up by several blocks
        arguments, _, shape, _ = case.draw(np.random.default_rng(0), m, 10 if m > 1024 else 100)
        wrapper(*arguments, out=np.empty(shape, np.float32))
    if case.name in PARAMETERS:
        flat = [value.ravel() if isinstance(value, np.ndarray) else value for value in arguments]
        wrapper(*flat, out=np.empty(np.prod(shape), np.float32))
    return gpu.launches


def launch_of(gpu: HostGpu, case: EpochCase) -> Launch:
    """Return the launch with which the engine `epoch` has its kernel compiled."""
    gpu.shared_memory = 1024 * case.capacity
    start, recipe, asarray = case.start(), case.recipe(case.batch_sizes[0]), gpu.backend.asarray
    examples = Examples(asarray(np.zeros((2, case.sizes[0]), np.uint8)), asarray(np.zeros(2, np.uint8)))
    EpochCudaEngine(gpu.backend, start, examples, recipe)
    (launch,) = gpu.launches
    return launch


def assert_compiles(launch: Launch, *, computes_in_float64: bool) -> None:
    """Look for what is slow on every GPU."""
    code = ptx(launch.kernel, launch.types, CAPABILITIES[0])
    assert ".target sm_75" in code
    body = code[code.index("{\n", code.index(".entry")) :]
    assert not re.findall(r".*(?:\.local\b|__local_depot).*", body), "local memory is as slow as the device's"
    assert not re.findall(r".*\bcall\b.*", body), "all that a kernel calls is meant to become part of it"
    in_float64 = re.findall(r"\b(?:add|sub|mul|div|fma|cvt\S*)\.\S*f64.*", body)
    assert bool(in_float64) == computes_in_float64, in_float64
    # Losses are added up in it, and that is all.
    assert all(re.match(r"add\.(rn\.)?f64|cvt\.f64\.f32", found) for found in in_float64), in_float64


def assert_registers_suffice(
    launch: Launch, *, spilled: int = 0, capabilities: Sequence[Capability] = CAPABILITIES
) -> None:
    """Let all threads of a block have registers, and no more than `spilled` bytes of local memory."""
    for capability in capabilities:
        needed = resources(launch.kernel, launch.types, capability)
        assert needed.functions == 1
        assert needed.local_bytes <= spilled, (capability, needed)
        assert needed.spilled <= spilled, (capability, needed)
        # They are given out to warps, 256 at once.
        assert -(-needed.registers // 8) * 8 * launch.threads <= REGISTERS, (capability, needed)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_compile_for_real_gpus(gpu: HostGpu, case: Case) -> None:
    for launch in launches_of(gpu, case):
        assert_compiles(launch, computes_in_float64=case.name == "output_delta")


def test_the_kernel_that_takes_batches_compiles_for_real_gpus(gpu: HostGpu) -> None:
    words, byte, single = np.zeros(99, np.int64), np.zeros(99, np.uint8), np.zeros((3, 9), np.float32)
    importlib.import_module("gpunn.kernels.cuda.contract").next_batch(
        words, byte, single, words, rows=words, classes=byte, first=np.zeros(1, np.uint32), numbers=single[0]
    )
    assert_compiles(gpu.launches[0], computes_in_float64=False)
    assert_registers_suffice(gpu.launches[0])


def test_the_kernel_that_distorts_images_compiles_for_real_gpus(gpu: HostGpu) -> None:
    images, distortion = np.zeros((99, 28 * 28), np.uint8), DISTORTIONS["ciresan"]
    importlib.import_module("gpunn.kernels.cuda.contract").distort(
        images, np.zeros(99, np.float32), distortion.elastic((28, 28)), distortion.limits(), 1, out=images.copy()
    )
    assert_compiles(gpu.launches[0], computes_in_float64=False)
    assert_registers_suffice(gpu.launches[0])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_registers_suffice_for_all_threads_of_a_block(gpu: HostGpu, case: Case) -> None:
    launches = launches_of(gpu, case)
    assert {launch.threads for launch in launches} & {256, 1024}
    for launch in launches:
        assert_registers_suffice(launch)


@pytest.mark.parametrize("case", epoch_cases.PARAMETERS)
def test_whole_epoch_kernels_compile_for_real_gpus(gpu: HostGpu, case: EpochCase) -> None:
    assert_compiles(launch_of(gpu, case), computes_in_float64=True)


@pytest.mark.parametrize("case", epoch_cases.PARAMETERS)
def test_registers_suffice_for_whole_epoch_kernels(gpu: HostGpu, case: EpochCase) -> None:
    launch = launch_of(gpu, case)
    assert launch.threads == 512
    # For two GPUs each, in turn: every optimiser, loss and depth is in several cases.
    turn = epoch_cases.EPOCH_CASES.index(case) % 2
    assert_registers_suffice(launch, spilled=case.spilled, capabilities=CAPABILITIES[turn::2])


def test_arrays_of_the_host_are_refused(cuda: Any) -> None:
    kernels = importlib.import_module("gpunn.kernels.cuda.contract")
    z = np.zeros((4, 3), np.float32)
    expected = r"^found z of type ndarray, expected an array on the GPU: pass cupy\.asarray\(z\)$"
    with pytest.raises(TypeError, match=expected):
        kernels.bias_activate(z, np.zeros(3, np.float32), out=z)


@pytest.fixture
def handle(cuda: Any) -> Callable[..., Any]:
    """Make handles of arrays in the memory of a GPU that isn't there; only looking at what they hold fails."""
    driver = importlib.import_module("numba.cuda.cudadrv.driver")

    def make(shape: tuple[int, ...], dtype: Any, address: int, strides: tuple[int, ...] | None = None) -> Any:
        like = np.empty(shape, dtype)
        memory = driver.MemoryPointer(SimpleNamespace(), driver.binding.CUdeviceptr(address), size=like.nbytes)
        return cuda.devicearray.DeviceNDArray(shape, strides or like.strides, like.dtype, gpu_data=memory)

    return make


def test_handles_are_launched_with_as_they_are(handle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = importlib.import_module("gpunn.kernels.cuda.contract")
    launched: list[Any] = []
    monkeypatch.setattr("gpunn.kernels.cuda.launch.launch", lambda *arguments: launched.append(arguments))
    # Multiples of 96 bytes, the size of 4 x 6 float32: side by side.
    a, b, out = (handle((4, 6), np.float32, 96 * k) for k in (1, 2, 3))
    labels, total, factor = handle((4,), np.uint8, 4096), handle((1,), np.float64, 8192), handle((1,), np.float32, 64)
    kernels.output_delta(a, labels, 0.5, total, out=out)
    kernels.output_delta(a, labels, factor, total, out=handle((4, 6), np.float32, 96))
    kernels.descend_sums(handle((6,), np.float32, 4096), b, 0.5, out=handle((6,), np.float32, 8192))
    (_, grid, block, *arguments), (_, _, _, *again), (_, grid_of_sums, block_of_sums, *_) = launched
    assert (grid, block) == (1, (8, 4))
    assert [*map(id, arguments[:2]), id(arguments[3]), id(arguments[4])] == [*map(id, (a, labels, total, out))]
    assert type(arguments[2][0]) is np.float32
    assert again[0] is a
    assert again[2] is factor
    assert (grid_of_sums, block_of_sums) == (1, (8, 4))


@pytest.mark.parametrize(
    ("operation", "name", "shape", "dtype"),
    [
        ("output_delta", "factor", (1,), np.float64),
        ("output_delta", "factor", (2,), np.float32),
        ("drop", "key", (1,), np.int64),
        ("drop", "first", (1,), np.float32),
        ("optimizer_step", "numbers", (8,), np.float32),
    ],
)
def test_arrays_that_hold_numbers_are_checked(
    handle: Callable[..., Any], operation: str, name: str, shape: tuple[int, ...], dtype: Any
) -> None:
    kernels = importlib.import_module("gpunn.kernels.cuda.contract")
    given = good_arguments(operation) | {name: handle(shape, dtype, 64)}
    with pytest.raises(TypeError, match=rf"^{name} must be a number, got an array of {np.dtype(dtype)}, "):
        getattr(kernels, operation)(**{key: value for key, value in given.items() if key != "moments"})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": ((4, 6), np.float64, 4096)}, TypeError, "found z of dtype float64, expected float32"),
        ({"z": ((6, 4), np.float32, 4096)}, ValueError, r"found z of shape \(6, 4\), expected \(4, 6\)"),
        ({"z": ((4, 6), np.float32, 4096, (4, 16))}, ValueError, r"found z with strides \(4, 16\)"),
        ({"z": ((4, 6), np.float32, 92)}, ValueError, "out must not overlap an input"),
        ({"bias": ((6,), np.float32, 96)}, ValueError, "out must not overlap an input"),
        ({"bias": ((6,), np.float32, 188)}, ValueError, "out must not overlap an input"),
        ({"out": ((4, 6), np.float16, 96)}, TypeError, "found out of float16, expected a float32 array"),
        ({"out": ((4, 6), np.float32, 96, (48, 4))}, ValueError, "out must be writable and C-contiguous"),
    ],
)
def test_handles_that_break_the_contract_are_refused(
    handle: Callable[..., Any], change: dict[str, tuple[Any, ...]], error: type[Exception], message: str
) -> None:
    kernels = importlib.import_module("gpunn.kernels.cuda.contract")
    f4 = np.float32
    good: dict[str, tuple[Any, ...]] = {"z": ((4, 6), f4, 96), "bias": ((6,), f4, 4096), "out": ((4, 6), f4, 96)}
    with pytest.raises(error, match=message):
        kernels.bias_activate(**{name: handle(*array) for name, array in (good | change).items()})


def test_small_grids_are_launched_without_a_warning(cuda: Any) -> None:
    kernels, launching = (importlib.import_module(f"gpunn.kernels.cuda.{name}") for name in ("steps", "launch"))
    configuration = launching._configured(kernels._descend_sums, 3, 64, 0, 0)
    assert configuration is launching._configured(kernels._descend_sums, 3, 64, 0, 0)


def test_machine_code_for_gpus_is_kept_where_that_for_cpus_is(
    cuda: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keeping = importlib.import_module("gpunn.kernels.compilation")
    compilation = importlib.import_module("gpunn.kernels.cuda.jit")
    monkeypatch.setattr(keeping, "SHELF", keeping.Shelf(tmp_path / "kernels"))

    def fill(array: Any) -> None:
        array[0] = 1

    codegen = SimpleNamespace(magic_tuple=lambda: (None, (9, 0)))
    context = SimpleNamespace(refresh=lambda: None, codegen=lambda: codegen)
    state: dict[str, Any] = dict.fromkeys(("signature", "codelibrary", "call_helper", "extensions"))
    state |= {"cooperative": False, "name": "fill", "debug": False, "lineinfo": False}
    cache = compilation.kernel(fill)._cache
    assert isinstance(cache, importlib.import_module("numba.cuda.dispatcher").CUDACache)
    assert cache.load_overload((1,), context) is None
    cache.save_overload((1,), SimpleNamespace(codegen=codegen, _reduce_states=lambda: state))
    assert cache.load_overload((1,), context).entry_name == "fill"
    assert cache.load_overload((2,), context) is None
    assert [path.suffix for path in (tmp_path / "kernels").iterdir()] == [".nbc"]
