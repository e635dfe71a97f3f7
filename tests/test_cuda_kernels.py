"""CUDA kernels without a GPU: run in Numba's simulator, and compiled for real GPUs.

A further kernel is compiled where `COMPILED` names it, and simulated by tests in `tests/simulator`.
"""

import importlib
import importlib.util
import re
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

from gpunn.kernels.cuda.epoch.layout import CudaLayout, KernelSpec
from gpunn.kernels.formulas.activations import ACTIVATIONS

from .conftest import Simulation

ROOT = Path(__file__).parent.parent


def test_kernels_compute_the_right_numbers_in_the_simulator(simulation: Simulation) -> None:
    code, output = simulation.wait()
    last_line = output.rstrip().rpartition("\n")[2]
    assert code == 0, output
    assert re.search(r"\b[1-9]\d* passed\b", last_line), output
    assert "skipped" not in last_line, output


class Compiled(NamedTuple):
    """A kernel: where it is, or the function that makes it and what that is given; and what is expected of it."""

    module: str
    name: str
    signature: str
    given: tuple[Any, ...] | None = None
    threads: int = 256
    """The most in a block; registers must suffice for all of them."""
    computes_in_float64: bool = False
    spilled: int = 0
    """Bytes that may not find room in registers."""

    def __str__(self) -> str:
        of = f"{self.given or ''} {self.signature}"
        if self.module == "cuda.epoch.run" and self.given:
            of = f"{self.given[0]}, {self.given[0].shared_bytes} bytes, {self.given[1]}"
        return f"{self.module}.{self.name} {of}"


EPOCH = (
    "void(u4[:, ::1], u1[::1], i8[:, ::1], i8[::1], i8[::1], f4[:, :, ::1], f4[:, ::1], "
    "f4[:, ::1], f4[:, ::1], f4[:, ::1], f8[:, ::1])"
)


def epoch(
    *sizes: int,
    capacity: int = 227 * 1024,
    batch_size: int = 32,
    hidden: str = "sigmoid",
    output: str = "sigmoid",
    loss: str = "squared_error",
    optimizer: str = "descent",
    spilled: int = 128,
    **penalty: bool,
) -> Compiled:
    spec = KernelSpec((*[hidden] * (len(sizes) - 2), output), loss, optimizer, **penalty)
    layout = CudaLayout(sizes, batch_size=batch_size, threads=512, capacity=capacity, collects=spec.collects)
    return Compiled("cuda.epoch.run", "compile_epoch", EPOCH, (layout, spec), 512, True, spilled)


COMPILED = [
    epoch(784, 16, 10),
    epoch(784, 16, 10, batch_size=128),
    epoch(784, 48, 10, batch_size=128),
    epoch(784, 100, 50, 10, capacity=64 * 1024),
    epoch(784, 10),
    epoch(784, 128, 10, batch_size=128),
    *(
        epoch(784, 16, 10, hidden=activation, output=activation)
        for activation in ACTIVATIONS
        if activation != "sigmoid"
    ),
    epoch(784, 16, 10, output="identity", loss="binary_cross_entropy"),
    epoch(784, 16, 10, hidden="relu", output="identity", loss="cross_entropy"),
    epoch(784, 16, 10, hidden="relu", output="identity", loss="cross_entropy", l2=True),
    *(
        epoch(784, 16, 10, hidden="relu", output="identity", loss="cross_entropy", optimizer=optimizer)
        for optimizer in ("momentum", "nesterov", "adam")
    ),
    epoch(784, 16, 10, output="identity", loss="cross_entropy", optimizer="momentum", l2=True, batch_size=128),
    epoch(784, 16, 10, output="identity", loss="cross_entropy", optimizer="adam", decay=True, batch_size=128),
    # Parameters, and what is collected of their changes, in the device's memory: addresses don't all find room.
    epoch(784, 100, 50, 10, capacity=64 * 1024, optimizer="momentum", l2=True, spilled=640),
    epoch(784, 100, 50, 10, capacity=64 * 1024, output="identity", loss="cross_entropy", optimizer="adam", spilled=640),
    *(
        Compiled("cuda.elementwise", "_gather_scale", f"void({images}[:, ::1], i8[::1], f4[:, ::1])", (images == "u1",))
        for images in ("u1", "f4")
    ),
    *(
        Compiled("cuda.elementwise", "_add_and_activate", "void(f4[:, ::1], f4[::1], f4[:, ::1])", (activation,))
        for activation in ACTIVATIONS
    ),
    *(
        Compiled("cuda.elementwise", "_multiply_by_slope", "void(f4[:, ::1], f4[:, ::1], f4[:, ::1])", (activation,))
        for activation in ACTIVATIONS
    ),
    Compiled("cuda.elementwise", "_drop", "void(f4[:, ::1], u4, u4, u4, f4, f4[:, ::1])"),
    *(
        Compiled(
            "cuda.outputs",
            "_output_delta",
            f"void(f4[:, ::1], {targets}, f4, f8[::1], f4[:, ::1])",
            (loss, activation, targets == "u1[::1]"),
            threads=1024,
            computes_in_float64=True,
        )
        for targets in ("u1[::1]", "f4[:, ::1]")
        for loss, activation in (
            *(("squared_error", activation) for activation in ACTIVATIONS),
            ("binary_cross_entropy", "sigmoid"),
            ("cross_entropy", "identity"),
        )
    ),
    Compiled("cuda.steps", "_descend", "void(f4[:, ::1], f4[:, ::1], f4, f4, f4[:, ::1])"),
    Compiled("cuda.steps", "_descend", "void(f4[::1], f4[::1], f4, f4, f4[::1])"),
    *(
        Compiled("cuda.steps", "_momentum_step", "void(f4[::1], f4[::1], f4[::1], f4, f4, f4, f4[::1])", (nesterov,))
        for nesterov in (False, True)
    ),
    Compiled("cuda.steps", "_adam_step", f"void(f4[::1], f4[::1], f4[::1], f4[::1], {'f4, ' * 9}f4[::1])"),
    Compiled("cuda.steps", "_descend_sums", "void(f4[::1], f4[:, ::1], f4, f4[::1])", threads=1024),
    Compiled("cuda.steps", "_column_sums", "void(f4[:, ::1], f4[::1])", threads=1024),
]
CAPABILITIES = [(7, 5), (9, 0)]
REGISTERS = 65_536
"""Of a multiprocessor, for all the threads that it runs at once."""


@pytest.fixture(scope="session")
def cuda() -> Any:
    """The CUDA compiler, where there is one."""
    if numba.config.ENABLE_CUDASIM:
        pytest.skip("NUMBA_ENABLE_CUDASIM=1 takes the place of the CUDA compiler")
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip('needs numba-cuda: pip install "gpunn[cuda13]"')
    compilation = importlib.import_module("gpunn.kernels.cuda.jit")
    nvvm = importlib.import_module("numba.cuda.cudadrv.nvvm")
    try:
        nvvm.NVVM()
    except Exception as error:  # what is raised without it differs from version to version
        pytest.skip(f'needs libnvvm: pip install "gpunn[cuda13]" ({" ".join(str(error).split())})')
    return compilation.cuda


def ptx(
    cuda: Any, kernel: Compiled, capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> tuple[str, int | None]:
    """Return the kernel's code, and the most registers that it may have."""
    # Functions that kernels call are compiled for the GPU that is there.
    gpu = SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(importlib.import_module("numba.cuda.dispatcher"), "get_current_device", lambda: gpu)
    found = attrgetter(kernel.name)(importlib.import_module(f"gpunn.kernels.{kernel.module}"))
    dispatcher = found if kernel.given is None else found(*kernel.given)
    code, _ = cuda.compile_ptx(dispatcher.py_func, kernel.signature, cc=capability)
    return str(code), dispatcher.targetoptions.get("max_registers")


@pytest.mark.parametrize("capability", CAPABILITIES, ids="compute capability {0[0]}.{0[1]}".format)
@pytest.mark.parametrize("kernel", COMPILED, ids=str)
def test_kernels_compile_for_real_gpus(
    cuda: Any, kernel: Compiled, capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _ = ptx(cuda, kernel, capability, monkeypatch)
    assert f".target sm_{capability[0]}{capability[1]}" in code
    body = code[code.index("{\n", code.index(".entry")) :]
    assert not re.findall(r".*(?:\.local\b|__local_depot).*", body), "local memory is as slow as the device's"
    assert not re.findall(r".*\bcall\b.*", body), "all that a kernel calls is meant to become part of it"
    in_float64 = re.findall(r"\b(?:add|sub|mul|div|fma|cvt\S*)\.\S*f64.*", body)
    assert bool(in_float64) == kernel.computes_in_float64, in_float64
    # Losses are added up in it, and that is all.
    assert all(re.match(r"add\.(rn\.)?f64|cvt\.f64\.f32", found) for found in in_float64), in_float64


@pytest.mark.parametrize("capability", CAPABILITIES, ids="compute capability {0[0]}.{0[1]}".format)
@pytest.mark.parametrize("kernel", COMPILED, ids=str)
def test_registers_suffice_for_all_threads_of_a_block(
    cuda: Any, kernel: Compiled, capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvjitlink = pytest.importorskip("cuda.bindings.nvjitlink", reason='needs nvjitlink: pip install "gpunn[cuda13]"')
    code, most = ptx(cuda, kernel, capability, monkeypatch)
    options = [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"]
    if most is not None:
        options.append(f"-maxrregcount={most}")
    linker = nvjitlink.create(len(options), options)
    nvjitlink.add_data(linker, nvjitlink.InputType.PTX, code.encode(), len(code), kernel.name)
    nvjitlink.complete(linker)
    log = bytearray(nvjitlink.get_info_log_size(linker))
    nvjitlink.get_info_log(linker, log)
    nvjitlink.destroy(linker)
    said = log.decode()
    assert all(int(spilled) <= kernel.spilled for spilled in re.findall(r"(\d+) bytes spill", said)), said
    (registers,) = re.findall(r"Used (\d+) registers", said)
    # They are given out to warps, 256 at once.
    assert -(-int(registers) // 8) * 8 * kernel.threads <= REGISTERS


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
    for module in ("elementwise", "outputs", "steps"):
        where = f"gpunn.kernels.cuda.{module}.launch"
        monkeypatch.setattr(where, lambda *arguments: launched.append(arguments))
    # Multiples of 96 bytes, the size of 4 x 6 float32: side by side.
    a, b, out = (handle((4, 6), np.float32, 96 * k) for k in (1, 2, 3))
    labels, total = handle((4,), np.uint8, 4096), handle((1,), np.float64, 8192)
    kernels.output_delta(a, labels, 0.5, total, out=out)
    kernels.output_delta(a, labels, 0.5, total, out=handle((4, 6), np.float32, 96))
    kernels.descend_sums(handle((6,), np.float32, 4096), b, 0.5, out=handle((6,), np.float32, 8192))
    (_, grid, block, *arguments), (_, *again), (_, grid_of_sums, block_of_sums, *_) = launched
    assert (grid, block) == (1, (8, 4))
    assert [*map(id, arguments[:2]), id(arguments[3]), id(arguments[4])] == [*map(id, (a, labels, total, out))]
    assert type(arguments[2]) is np.float32
    assert again[2] is a
    assert (grid_of_sums, block_of_sums) == (1, (8, 4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": ((4, 6), np.float64, 4096)}, TypeError, "found z of dtype float64, expected float32"),
        ({"z": ((6, 4), np.float32, 4096)}, ValueError, r"found z of shape \(6, 4\), expected \(4, 6\)"),
        ({"z": ((4, 6), np.float32, 4096, (4, 16))}, ValueError, r"found z with strides \(4, 16\)"),
        ({"z": ((4, 6), np.float32, 92)}, ValueError, "found out overlapping an input"),
        ({"bias": ((6,), np.float32, 96)}, ValueError, "found out overlapping an input"),
        ({"bias": ((6,), np.float32, 188)}, ValueError, "found out overlapping an input"),
        ({"out": ((4, 6), np.float16, 96)}, TypeError, "found out of float16, expected a float32 array"),
        ({"out": ((4, 6), np.float32, 96, (48, 4))}, ValueError, "found an out that is not C-contiguous"),
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
    configuration = launching._configured(kernels._descend, 3, 64, 0, 0)
    assert configuration is launching._configured(kernels._descend, 3, 64, 0, 0)


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
