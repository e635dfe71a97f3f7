import inspect
import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import gpunn
from gpunn import MLP, ConfigurationError, DeviceError, backends, devices, get_backend
from gpunn.backends import cuda
from gpunn.backends.base import Backend, self_test
from gpunn.backends.cpu import CpuBackend
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import Parameters, Recipe, choose_engine
from gpunn.kernels import compilation
from gpunn.kernels.overheard import overheard

from .strict_cupy import CUDARuntimeError, OutOfMemoryError, StrictCupy

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("backend", [CpuBackend, CudaBackend])
def test_every_backend_has_the_signatures_of_the_contract(backend: type[Backend]) -> None:
    for name, member in vars(Backend).items():
        if getattr(member, "__isabstractmethod__", False) and not isinstance(member, property):
            ours = inspect.signature(getattr(backend, name))
            contract = inspect.signature(member)
            assert list(ours.parameters) == list(contract.parameters), name
    public = {name for name in vars(backend) if not name.startswith("_")}
    assert public <= {name for name in dir(Backend) if not name.startswith("_")} | {"name"}


@pytest.mark.parametrize("backend", [CpuBackend(), CudaBackend(StrictCupy(), 0)], ids=repr)
def test_arrays_go_to_the_device_and_back_unchanged(backend: Backend) -> None:
    for dtype in (np.uint8, np.float32, np.int64):
        host = np.arange(12, dtype=dtype).reshape(3, 4)
        with backend.activate():
            back = backend.to_host(backend.asarray(host))
        assert type(back) is np.ndarray
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, host)
    backend.synchronize()
    assert backend.describe()["name"]
    with backend.activate():
        assert self_test(backend) is None


def test_cpu_is_always_there() -> None:
    assert get_backend("cpu").xp is np
    (cpu, *_) = devices()
    assert cpu.usable
    assert cpu.name == "cpu"
    assert cpu.description["numpy"] == np.__version__


def test_a_backend_is_passed_through() -> None:
    backend = CpuBackend()
    assert get_backend(backend) is backend


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "", 0, None])
def test_an_unknown_device_is_refused(device: Any) -> None:
    with pytest.raises(ConfigurationError, match="device must be auto, cpu, cuda or cuda:N, got "):
        get_backend(device)


def no_gpu() -> StrictCupy:
    return StrictCupy(n_devices=0)


def broken_runtime() -> StrictCupy:
    cupy = StrictCupy()

    def fail() -> int:
        raise CUDARuntimeError("cudaErrorInsufficientDriver:\n  too old")

    cupy.cuda.runtime.getDeviceCount = fail
    return cupy


class BrokenOnImport:
    """Fails as `import cupy` does if its extension modules were built for another NumPy."""

    def find_spec(self, name: str, *args: object) -> None:
        if name == "cupy":
            raise ValueError("numpy.dtype size changed")


def broken_library() -> Any:
    cupy: Any = StrictCupy()

    def fail(array: Any) -> None:
        raise ImportError("libnvrtc.so.13: cannot open shared object file")

    cupy.exp = fail
    return cupy


def wrong_results() -> Any:
    cupy: Any = StrictCupy()
    cupy.exp = lambda array: array
    return cupy


@pytest.mark.parametrize(
    ("cupy", "cause"),
    [
        (None, "CuPy is not installed"),
        (StrictCupy(driver=0), "no NVIDIA driver"),
        (no_gpu(), "no GPU is visible"),
        (broken_runtime(), "CUDARuntimeError: cudaErrorInsufficientDriver: too old"),
        (broken_library(), "ImportError: libnvrtc.so.13"),
        (wrong_results(), "came out wrong"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_without_a_usable_gpu_cuda_fails_with_the_cause_and_auto_takes_the_cpu(
    install: Any, caplog: pytest.LogCaptureFixture, cupy: Any, cause: str
) -> None:
    install(cupy)
    for device in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=cause) as caught:
            get_backend(device)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("; use device cpu or auto")
    # Who hasn't installed CuPy isn't told so at every run.
    with caplog.at_level("INFO", logger="gpunn"):
        assert get_backend("auto").name == "cpu"
    assert (cause in caplog.text) == (cupy is not None)
    with caplog.at_level("DEBUG", logger="gpunn"):
        get_backend("auto")
    assert cause in caplog.text
    status = devices()[-1]
    assert not status.usable
    assert status.reason is not None
    assert cause in status.reason


def test_a_usable_gpu_is_taken_and_named(install: Any, caplog: pytest.LogCaptureFixture) -> None:
    install(StrictCupy(n_devices=2))
    with caplog.at_level("INFO", logger="gpunn"):
        assert get_backend("auto").name == "cuda:0"
    assert "cuda:0, Stand-in" in caplog.text
    assert get_backend("cuda").name == "cuda:0"
    assert get_backend("cuda:1").name == "cuda:1"
    assert [status.name for status in devices()] == ["cpu", "cuda:0", "cuda:1"]
    assert devices()[1].description["compute capability"] == "9.0"
    assert devices()[1].description["driver"] == "13.0"


def test_a_gpu_that_is_not_there_is_refused_by_number(install: Any) -> None:
    install(StrictCupy(n_devices=2))
    with pytest.raises(DeviceError, match="there is no cuda:2: only cuda:0 to cuda:1 exist"):
        get_backend("cuda:2")


def test_usability_is_found_out_once(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(StrictCupy())
    calls: list[Backend] = []
    monkeypatch.setattr(cuda, "self_test", calls.append)
    for _ in range(3):
        get_backend("auto")
    assert len(calls) == 1


def test_a_gpu_that_was_full_can_be_used_later(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(StrictCupy())

    def fail(backend: Backend) -> None:
        raise OutOfMemoryError("Out of memory allocating 1,024 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(cuda, "self_test", fail)
        with pytest.raises(gpunn.OutOfMemoryError, match=r"cuda:0 is out of memory.*; use device cpu or auto$"):
            get_backend("cuda")
        assert get_backend("auto").name == "cpu"
    assert get_backend("auto").name == "cuda:0"


def test_running_out_of_memory_is_one_line() -> None:
    backend = CudaBackend(StrictCupy(2), 1)
    expected = (
        r"^cuda:1 is out of memory \(Out of memory allocating 1,024 bytes \(allocated so far: 0 bytes\); "
        r"2,147,483,648 of 8,589,934,592 bytes are free\): use a smaller batch, or the CPU$"
    )
    with pytest.raises(gpunn.OutOfMemoryError, match=expected), backend.activate():
        raise OutOfMemoryError("Out of memory allocating 1,024 bytes (allocated so far: 0 bytes).")
    driver_error = type("CUDAError", (Exception,), {"__module__": "cuda.core._utils.cuda_utils"})
    with pytest.raises(gpunn.OutOfMemoryError, match="cuda:1 is out of memory"), backend.activate():
        raise driver_error("CUDA_ERROR_OUT_OF_MEMORY: the API call failed")
    with pytest.raises(DeviceError, match="the CPU is out of memory"), get_backend("cpu").activate():
        raise MemoryError


def test_a_gpu_that_does_not_say_what_is_free_is_full_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = CudaBackend(StrictCupy(), 0)

    def fail() -> None:
        raise CUDARuntimeError("cudaErrorIllegalAddress: the context is lost")

    monkeypatch.setattr(backend.xp.cuda.runtime, "memGetInfo", fail)
    error = type("CUBLASError", (RuntimeError,), {"__module__": "cupy_backends.cuda.libs.cublas"})
    expected = r"^cuda:0 is out of memory \(CUBLAS_STATUS_NOT_INITIALIZED\): use a smaller batch, or the CPU$"
    with pytest.raises(gpunn.OutOfMemoryError, match=expected), backend.activate():
        raise error("CUBLAS_STATUS_NOT_INITIALIZED")


def test_contexts_of_others_are_errors_of_the_device() -> None:
    backend = CudaBackend(StrictCupy(), 0)
    with pytest.raises(DeviceError, match=r"cuda:0 failed .Numba cannot operate on non-primary"), backend.activate():
        raise RuntimeError("Numba cannot operate on non-primary CUDA context 7f")
    with pytest.raises(RuntimeError, match=r"^oh dear$"), backend.activate():
        raise RuntimeError("oh dear")


@pytest.mark.parametrize(
    ("versions", "advice"),
    [
        (
            {"nvidia-nvvm": "13.5.37", "nvidia-nvjitlink": "13.0.88"},
            " (nvidia-nvvm 13.5 is newer than nvidia-nvjitlink 13.0: pip install 'nvidia-nvvm==13.0.*')",
        ),
        (
            {"nvidia-cuda-nvcc-cu12": "12.9.86", "nvidia-nvjitlink-cu12": "12.4.127"},
            " (nvidia-cuda-nvcc-cu12 12.9 is newer than nvidia-nvjitlink-cu12 12.4: "
            "pip install 'nvidia-cuda-nvcc-cu12==12.4.*')",
        ),
        ({"nvidia-nvvm": "13.0.88", "nvidia-nvjitlink": "13.0.39"}, ""),
        ({"nvidia-nvvm": "13.0.88", "nvidia-nvjitlink": "13.5.37"}, ""),
        ({"nvidia-nvjitlink": "13.0.88"}, ""),
    ],
    ids=str,
)
def test_a_compiler_newer_than_its_linker_is_named_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], advice: str
) -> None:
    monkeypatch.setattr(cuda, "version", lambda package: versions.get(package, "not installed"))
    assert cuda._mismatch() == advice


def test_a_failing_gpu_is_one_line_and_other_errors_pass_through() -> None:
    backend = CudaBackend(StrictCupy(), 0)
    with pytest.raises(DeviceError, match=r"cuda:0 failed \(cudaErrorIllegalAddress: oh dear\)"), backend.activate():
        raise CUDARuntimeError("cudaErrorIllegalAddress:\n oh dear")
    for module in ("numba.cuda.cudadrv.driver", "cuda.core._utils.cuda_utils"):
        driver_error = type("CudaAPIError", (Exception,), {"__module__": module})
        with pytest.raises(DeviceError, match=r"cuda:0 failed \(\[700\] oh dear\)"), backend.activate():
            raise driver_error("[700] oh dear")
    typing_error = type("TypingError", (Exception,), {"__module__": "numba.core.errors"})
    with pytest.raises(typing_error), backend.activate():
        raise typing_error("a mistake in a kernel")
    compile_error = type("CompileException", (Exception,), {"__module__": "cupy.cuda.compiler"})
    with pytest.raises(DeviceError, match=r"cuda:0 failed \(error: expected a ;\)"), backend.activate():
        raise compile_error("error: expected a ;")
    with pytest.raises(RuntimeError, match="not the GPU's"), backend.activate():
        raise RuntimeError("not the GPU's")


def test_a_cupy_that_breaks_on_import_is_a_reason_too(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(StrictCupy())
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [BrokenOnImport(), *sys.meta_path])
    assert get_backend("auto").name == "cpu"
    assert "ValueError: numpy.dtype size changed" in str(devices()[-1].reason)


def test_a_gpu_that_multiplies_in_tf32_is_usable(install: Any) -> None:
    def rounded(array: np.ndarray) -> np.ndarray:
        return (array.view(np.uint32) & 0xFFFFE000).view(np.float32)

    class Tf32(StrictCupy):
        def asarray(self, array: Any) -> Any:
            return super().asarray(rounded(array))

    install(Tf32())
    assert get_backend("cuda").name == "cuda:0"


def test_importing_the_backends_leaves_cupy_alone() -> None:
    assert "cupy" not in vars(backends)
    assert "cupy" not in vars(cuda)


WARNING = """
import warnings
warnings.warn("\\n----\\n  CuPy may not function correctly\\n\\n  because there are two of it\\n----\\n")
warnings.warn("and is deprecated", DeprecationWarning)
"""
SAID = "CuPy warns: ---- CuPy may not function correctly because there are two of it ---- (and 1 more)"


@pytest.mark.parametrize("flags", [[], ["-W", "error"], ["-W", "ignore"]], ids=str)
def test_a_cupy_that_warns_is_a_line_and_its_error_the_reason(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text(WARNING + "raise ImportError('no driver')\n")
    done = subprocess.run(
        [sys.executable, *flags, "-m", "gpunn", "devices"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == [SAID]
    assert "cuda    not usable: CUDA can't be used: ImportError: no driver" in done.stdout.splitlines()


def test_a_gpu_whose_libraries_warn_is_used(install: Any) -> None:
    class Warning_(StrictCupy):  # noqa: N801
        def asarray(self, array: Any) -> Any:
            warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
            return super().asarray(array)

    before = list(warnings.filters)
    install(Warning_())
    assert get_backend("auto").name == "cuda:0"
    assert list(warnings.filters) == before


def test_warnings_are_overheard_in_one_thread_alone_and_filters_stay_as_they_were() -> None:
    before, others = list(warnings.filters), []

    def warn() -> None:
        with pytest.raises(UserWarning, match="aloud"):
            warnings.warn("aloud", UserWarning, stacklevel=1)
        others.append(True)

    with overheard(start="he") as heard:
        warnings.warn("he\nwhispers", UserWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="she"):
            warnings.warn("she", UserWarning, stacklevel=1)
        thread = threading.Thread(target=warn)
        thread.start()
        thread.join()
    assert others == [True]
    assert heard == ["he whispers"]
    assert list(warnings.filters) == before


@pytest.mark.parametrize("ours_first", [True, False])
def test_overheard_warnings_and_caught_ones_may_be_left_by_turns(ours_first: bool) -> None:
    before = list(warnings.filters)
    ours, theirs = overheard(), warnings.catch_warnings()
    first, second = (ours, theirs) if ours_first else (theirs, ours)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert list(warnings.filters) == before
    second.__exit__(None, None, None)
    assert list(warnings.filters) == before


def test_with_the_compiler_switched_off_auto_takes_plain_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compilation, "SWITCHED_OFF", True)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert "compiler disabled by NUMBA_DISABLE_JIT: only engine plain works" in CpuBackend().describe()["numba"]
    net, why = MLP([4, 3, 2]), "Numba's compiler is switched off (NUMBA_DISABLE_JIT)"
    start, recipe = Parameters(net.weights, net.biases), Recipe(1, 0.1)
    caplog.set_level("INFO", "gpunn")
    assert choose_engine("auto", CpuBackend(), start, recipe).name == "plain"
    assert f"engine auto: plain, as epoch can't train this network: {why}" in caplog.text
    for name in ("fused", "epoch"):
        with pytest.raises(ConfigurationError, match=f"the engine {name} can't train this network: {re.escape(why)}"):
            choose_engine(name, CpuBackend(), start, recipe)
