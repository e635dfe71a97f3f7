"""What reaches the driver: kernels compiled, cached, loaded and launched as on a GPU, by a driver that isn't there."""

from pathlib import Path

import pytest

from gpunn.kernels.cuda.epoch.layout import CudaLayout

from .fake_driver import Calls, build_driver, run_on_driver
from .kernel_cases import CASES

MAX_DYNAMIC_SHARED = 8
"""The driver's number of the attribute with which a kernel asks for more shared memory."""
LEGACY = 1
"""The driver's number of the stream that all threads of a process share."""

ALL_OPERATIONS = """
import numpy as np
from tests.fake_driver import Cupy, DriverArray
from tests.kernel_cases import CASES
cupy = Cupy()
from gpunn.kernels.cuda import contract
for case in CASES:
    arguments, _, shape, _ = case.draw(np.random.default_rng(0), 33, 20)
    there = [DriverArray(value) if isinstance(value, np.ndarray) else value for value in arguments]
    operation, out = getattr(contract, case.name), DriverArray(np.empty(shape, np.float32))
    operation(*there, out=out)
"""

PREPARED = (
    """
import ctypes
import cuda.core
from numba.cuda import dispatcher
launched, launch = [], cuda.core.launch
def note(stream, config, kernel, *arguments):
    numbers = [number.value if isinstance(number, ctypes._SimpleCData) else int(number) for number in arguments]
    launched.append([repr(config), kernel, *numbers])
    launch(stream, config, kernel, *arguments)
cuda.core.launch = dispatcher.launch = note
"""
    + ALL_OPERATIONS
    + """
    (ordinary,) = launched
    launched.clear()
    for prepared in operation.prepare(*there, out=out):
        assert not launched
        for cupy.pointer in (0, 4096):
            prepared()
    cupy.pointer = 0
    assert launched == [ordinary, ordinary], (case, launched, ordinary)
    launched.clear()
"""
)

FUSED = """
import numpy as np
from tests.fake_driver import Cupy
from tests.recipes import drawn
from tests.strict_cupy import StrictCupy
current = Cupy()
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import Examples, Recipe
from gpunn.engines.cuda.fused import FusedCudaEngine
from gpunn.kernels.cuda import contract
xp, products = StrictCupy(), []
xp.cublas.sgemm = lambda *arguments: products.append(arguments)
gpu = CudaBackend(xp, 0)
xp.cuda.Device(0).__enter__()  # as `Backend.activate` does
gpu._kernels = contract  # which would fail a test of what they compute
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (320, 784), np.uint8), rng.integers(0, 10, 320, np.uint8)
examples = Examples(gpu.asarray(images), gpu.asarray(labels))
recipe = Recipe(32, 0.1)
start = drawn((784, 16, 10), ("sigmoid", "sigmoid"))
engine = FusedCudaEngine(gpu, start, examples, recipe)
current.pointer = 4096
engine.run_epoch(np.arange(320))
products.clear()
current.pointer = 8192
engine.run_epoch(np.arange(320))
print(len(products))
"""

MANY_ROWS = """
import numpy as np
from tests.fake_driver import Cupy, DriverArray
cupy = Cupy()
from gpunn.kernels.cuda import contract
def array(*shape, dtype=np.float32):
    return DriverArray(np.zeros(shape, dtype))
output, bias = array(60_000, 10), array(10)
labels, total = array(60_000, dtype=np.uint8), array(1, dtype=np.float64)
contract.output_delta(output, labels, 0.5, total, out=output)
contract.descend_sums(bias, output, 0.5, out=bias)
"""

EPOCH_ON_TWO_GPUS = """
import numpy as np
from tests.fake_driver import Cupy, DriverArray
from gpunn.kernels.formulas.steps import N_NUMBERS
cupy = Cupy()
from gpunn.kernels.cuda.epoch.run import EpochKernel
for device, stream in ((0, 0), (1, 0), (1, 4096)):
    cupy.use(device)
    cupy.pointer = stream
    kernel = EpochKernel((784, 16, 10), batch_size=32, threads=512)
    n = kernel.layout.n_parameters
    arrays = {
        "words": ((9, 196), np.uint32), "labels": (9, np.uint8), "orders": ((3, 9), np.int64),
        "batch_sizes": (3, np.int64), "numbers": ((3, 1, N_NUMBERS), np.float32), "parameters": ((3, n), np.float32),
        "collected": ((3, 1), np.float32), "moments": ((3, 1), np.float32), "drops": ((3, 1), np.uint32),
        "losses": ((3, 512), np.float64),
    }
    kernel.prepare(**{name: DriverArray(np.zeros(shape, dtype)) for name, (shape, dtype) in arrays.items()})
    count = DriverArray(np.zeros(1, np.int64))
    kernel.compile(count)
    kernel.launch(count)
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    build_driver(folder)
    return folder


@pytest.fixture(scope="module")
def epochs(driver: Path) -> Calls:
    return run_on_driver(driver, EPOCH_ON_TWO_GPUS)


def test_the_whole_epoch_kernel_is_launched_with_the_shared_memory_that_it_asked_for(epochs: Calls) -> None:
    layout = CudaLayout((784, 16, 10), batch_size=32, threads=512, capacity=227 * 1024)
    assert layout.shared_bytes > 48 * 1024
    compiled, *_ = launches = epochs.launches
    assert (compiled.grid, compiled.block, compiled.shared) == ((3, 1, 1), (512, 1, 1), 0)
    # With no examples first, which compiles it.
    assert [launch.shared for launch in launches] == [0, layout.shared_bytes] * 3
    assert {launch.kernel for launch in launches} == {compiled.kernel}
    assert "run_epochs" in compiled.kernel
    assert epochs.attributes == [(MAX_DYNAMIC_SHARED, layout.shared_bytes, device) for device in (0, 1, 1)]


def test_kernels_are_launched_on_the_current_gpu_and_stream(epochs: Calls) -> None:
    assert epochs.loads == [0], "the driver takes it to the other GPU by itself"
    assert [launch.device for launch in epochs.launches] == [0, 0, 1, 1, 1, 1]
    assert [launch.stream for launch in epochs.launches] == [LEGACY] * 4 + [4096] * 2
    assert epochs.others == []


def test_kernels_are_compiled_once_for_all_processes(driver: Path, epochs: Calls) -> None:
    def kept() -> dict[Path, int]:
        # A file that is written again is another one.
        return {path: path.stat().st_ino for path in (driver / "cache").rglob("*run_epochs*.nbc")}

    before = kept()
    assert len(before) == 1
    assert run_on_driver(driver, EPOCH_ON_TWO_GPUS).launches == epochs.launches
    assert kept() == before


def test_every_operation_of_the_contract_is_launched_without_waiting(driver: Path) -> None:
    calls = run_on_driver(driver, ALL_OPERATIONS)
    names = ("gather_scale", "add_and_activate", "multiply_by_slope", "output_delta", "_drop")
    for name in (*names, "optimizer_step", "_descend_sums", "_column_sums"):
        assert any(name in launch.kernel for launch in calls.launches), name
    assert {launch.stream for launch in calls.launches} == {LEGACY}
    assert calls.others == []


def test_kernels_stay_on_cupys_stream_where_threads_have_streams_of_their_own(driver: Path) -> None:
    calls = run_on_driver(driver, ALL_OPERATIONS, CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM="1")
    assert all(launch.thread_streams for launch in calls.launches)
    assert {launch.stream for launch in calls.launches} == {LEGACY}


def test_prepared_launches_are_what_numba_makes_of_them_each_time(driver: Path) -> None:
    calls = run_on_driver(driver, PREPARED)
    thrice = [calls.launches[k : k + 3] for k in range(0, len(calls.launches), 3)]
    assert len(thrice) == len(CASES)
    for ordinary, again, on_a_stream in thrice:
        assert again == ordinary
        assert on_a_stream == ordinary._replace(stream=4096)
    assert calls.others == []


def test_a_batch_of_fused_is_the_same_launches_every_time(driver: Path) -> None:
    calls = run_on_driver(driver, FUSED)
    # next_batch, gather_scale, twice bias_activate, output_delta, hidden_delta, twice descend_sums; and five products.
    launches = [launch._replace(stream=0) for launch in calls.launches]
    assert launches == launches[:8] * 20
    assert [launch.stream for launch in calls.launches] == [4096] * 80 + [8192] * 80
    assert calls.output == "50\n"
    assert calls.others == []


def test_sums_over_many_rows_are_shared_by_many_blocks(driver: Path) -> None:
    losses, all_losses, parts, sums = run_on_driver(driver, MANY_ROWS).launches
    assert (losses.grid, losses.block) == ((59, 1, 1), (16, 64, 1))
    assert (all_losses.grid, all_losses.block) == ((1, 1, 1), (1, 64, 1))
    assert (parts.grid, parts.block) == ((1, 59, 1), (16, 64, 1))
    assert (sums.grid, sums.block) == ((1, 1, 1), (16, 64, 1))
