"""The stand-ins for CuPy and for kernels refuse what a GPU's libraries refuse."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunn import OutOfMemoryError
from gpunn.backends.cuda import CudaBackend
from gpunn.engines import Recipe

from .recipes import N, both, drawn
from .strict_cupy import METHODS, CUBLASError, DeviceArray, OutsideError, StrictCupy
from .strict_kernels import Handle, strict_gpu

A = np.arange(12, dtype=np.float32).reshape(3, 4)

REFUSED: dict[str, tuple[Callable[[Any, Any], Any], type[Exception], str]] = {
    "a NumPy array": (lambda cupy, a: a + A, TypeError, "Unsupported type"),
    "a NumPy scalar": (lambda cupy, a: a * np.float32(2), TypeError, "Unsupported type"),
    "an implicit copy": (lambda cupy, a: np.asarray(a), TypeError, "Implicit conversion"),
    "a method": (lambda cupy, a: a.tobytes(), AttributeError, "no attribute 'tobytes'"),
    "an attribute": (lambda cupy, a: a.ctypes, AttributeError, "no attribute 'ctypes'"),
    "an argument": (lambda cupy, a: a.sum(where=a > 0), TypeError, r"sum.* got the arguments"),
    "casting": (lambda cupy, a: a.astype(np.int64, casting="safe"), TypeError, r"astype.* got the arguments"),
    "too many arguments": (lambda cupy, a: a.max(0, None, False, 7), TypeError, r"max.* got the arguments"),
    "an initial value": (lambda cupy, a: a.max(initial=3), TypeError, r"max.* got the arguments"),
    "a function": (lambda cupy, a: cupy.hypot(a, a), AttributeError, "no attribute 'hypot'"),
    "where": (lambda cupy, a: cupy.exp(a, where=a > 0), TypeError, "exp got the keyword arguments"),
    "where of NumPy's": (lambda cupy, a: np.exp(a, where=a > 0), TypeError, "exp got the keyword arguments"),
    "casting of a function": (lambda cupy, a: np.add(a, a, casting="no"), TypeError, "add got the keyword arguments"),
    "subok": (lambda cupy, a: np.add(a, a, subok=False), TypeError, "add got the keyword arguments"),
    "at": (lambda cupy, a: np.add.at(a, 0, 1.0), TypeError, "returned NotImplemented"),
    "reduceat": (lambda cupy, a: np.add.reduceat(a, [0, 1]), TypeError, "returned NotImplemented"),
    "accumulate": (lambda cupy, a: np.add.accumulate(a), TypeError, "returned NotImplemented"),
    "a view by columns": (lambda cupy, a: a.T.view(np.uint8), ValueError, "must be C-contiguous"),
    "indices on the host": (lambda cupy, a: a[np.array([0])], TypeError, "Unsupported type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_refuse_what_cupys_refuse(name: str) -> None:
    cupy = StrictCupy()
    do, error, message = REFUSED[name]
    with cupy.cuda.Device(0):
        array = cupy.asarray(A)
        with pytest.raises(error, match=message):
            do(cupy, array)


def test_arrays_compute_as_numpys_do() -> None:
    cupy = StrictCupy()
    with cupy.cuda.Device(0):
        a = cupy.asarray(A)
        found = [a + 1, a @ a.T, -a, a.sum(axis=0), a.reshape(2, 6), a.reshape((2, 6)), a.take(cupy.arange(2), axis=0)]
        found += [cupy.exp(a, out=cupy.empty((3, 4), np.float32)), a[1:, ::2], a.argmax(axis=1, keepdims=True)]
        rows = cupy.array([0, 4])
        found += [a[rows], a.take(rows, axis=0)]  # out of range: wraps around
        expected = [A + 1, A @ A.T, -A, A.sum(axis=0), A.reshape(2, 6), A.reshape(2, 6), A[:2]]
        expected += [np.exp(A), A[1:, ::2], A.argmax(axis=1, keepdims=True), A[:2], A[:2]]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(cupy.asnumpy(ours), theirs)
        total = a.sum()
        assert isinstance(total, DeviceArray)
        assert float(total) == A.sum()
        a += 1
        a[0] = 7.0
        assert float(a[0, 0]) == 7
    assert all(hasattr(np.ndarray, name) for name in METHODS)


def test_arrays_are_made_and_used_on_a_device_that_is_active() -> None:
    cupy = StrictCupy()
    for make in (lambda: cupy.asarray(A), lambda: cupy.zeros(3), lambda: cupy.array([1])):
        with pytest.raises(OutsideError, match=r"inside backend\.activate\(\)"):
            make()
    with cupy.cuda.Device(0):
        a = cupy.asarray(A)
    uses: tuple[Callable[[], Any], ...] = (lambda: a + 1, a.sum, lambda: a[0], lambda: cupy.exp(a, out=a))
    for use in uses:
        with pytest.raises(OutsideError, match=r"inside backend\.activate\(\)"):
            use()
    np.testing.assert_array_equal(cupy.asnumpy(a), A)


def test_arrays_of_two_devices_do_not_meet() -> None:
    cupy = StrictCupy(n_devices=2)
    with cupy.cuda.Device(0):
        a = cupy.asarray(A)
    with cupy.cuda.Device(1):
        b = cupy.asarray(A)
        assert (a.device.id, b.device.id) == (0, 1)
        for use in (
            lambda: a + b,
            lambda: b + a,
            lambda: cupy.concatenate([a, b]),
            a.copy,
            lambda: Handle(a),
        ):
            with pytest.raises(ValueError, match="Array device must be same as the current device: 0 != 1"):
                use()
        with cupy.cuda.Device(0):
            assert cupy.cuda.runtime.getDevice() == 0
            assert float((a + a).sum()) == 2 * A.sum()


def test_memory_can_be_full() -> None:
    cupy = StrictCupy()
    gpu = CudaBackend(cupy, 0)
    cupy.runtime.free[0] = 100
    with gpu.activate():
        a = gpu.asarray(A)
        view = a[1:]
        assert cupy.cuda.runtime.memGetInfo()[0] == 100 - A.nbytes
        assert cupy.get_default_memory_pool().total_bytes() == A.nbytes
    message = r"cuda:0 is out of memory \(Out of memory allocating 60 bytes .*; 52 of 8,589,934,592 bytes are free\)"
    with pytest.raises(OutOfMemoryError, match=message), gpu.activate():
        cupy.empty(15, np.float32)
    assert cupy.runtime.used == [A.nbytes]
    del a, view
    assert cupy.runtime.used == [0]
    with gpu.activate():
        cupy.empty(25, np.float32)


def test_streams_are_current_where_they_were_entered() -> None:
    cupy, others = StrictCupy(), []
    cuda = cupy.cuda
    assert cuda.get_current_stream() is cuda.Stream.null
    assert cuda.Stream.null.ptr == 0
    with cuda.Stream(non_blocking=True) as stream:
        assert cuda.get_current_stream() is stream
        assert stream.ptr
        thread = threading.Thread(target=lambda: others.append(cuda.get_current_stream()))
        thread.start()
        thread.join()
        stream.synchronize()
    assert others == [cuda.Stream.null]
    assert cuda.get_current_stream() is cuda.Stream.null


def test_cublas_refuses_empty_products_and_numbers_for_addresses() -> None:
    cupy = StrictCupy()
    with cupy.cuda.Device(0):
        arrays = [cupy.zeros(4, np.float32) for _ in range(3)]
        a, b, out = (array.__cuda_array_interface__["data"][0] for array in arrays)
        handle = cupy.cuda.get_cublas_handle()
        with pytest.raises(CUBLASError, match="CUBLAS_STATUS_INVALID_VALUE"):
            cupy.cublas.sgemm(handle, 0, 0, 0, 2, 2, a, a, 2, b, 2, a, out, 2)
        wrong: list[Any] = [1.0, np.float32(1), np.array(1.0)]
        for factor in wrong:
            with pytest.raises(AssertionError):
                cupy.cublas.sgemm(handle, 0, 0, 2, 2, 2, factor, a, 2, b, 2, a, out, 2)


def test_a_handle_of_cublas_is_one_of_a_device_and_a_thread() -> None:
    cupy, handles = StrictCupy(n_devices=2), []

    def note() -> None:
        with cupy.cuda.Device(0):
            handles.append(cupy.cuda.get_cublas_handle())

    for device in (0, 1):
        with cupy.cuda.Device(device):
            handles.append(cupy.cuda.get_cublas_handle())
    thread = threading.Thread(target=note)
    thread.start()
    thread.join()
    assert len(set(handles)) == 3
    with cupy.cuda.Device(1), pytest.raises(AssertionError):
        cupy.cublas.setMathMode(handles[0], 3)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (lambda cupy: A, TypeError, "type ndarray, expected one on the GPU"),
        (lambda cupy: cupy.zeros(3, np.float64), TypeError, "found an array of float64"),
        (lambda cupy: cupy.zeros(3, np.int32), TypeError, "found an array of int32"),
        (lambda cupy: cupy.asarray(A).T, ValueError, "strides .*, expected a C-contiguous one"),
        (lambda cupy: cupy.zeros(13, np.uint8)[1:].view(np.uint32), ValueError, "isn't a multiple of its size"),
    ],
)
def test_handles_are_of_arrays_that_kernels_take(array: Any, error: type[Exception], message: str) -> None:
    cupy = StrictCupy()
    with cupy.cuda.Device(0), pytest.raises(error, match=message):
        Handle(array(cupy))


def test_handles_of_the_same_memory_are_the_same_array_and_others_must_not_overlap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = strict_gpu(monkeypatch)
    kernels = gpu.kernels
    with gpu.activate():
        z, bias = gpu.asarray(A), gpu.asarray(A[0])
        handle, again = kernels.as_handle(z), kernels.as_handle(z[:])
        kernels.bias_activate(handle, kernels.as_handle(bias), "identity", out=again)
        np.testing.assert_array_equal(gpu.to_host(z), A + A[0])
        with pytest.raises(ValueError, match="out must not overlap an input"):
            kernels.bias_activate(handle, kernels.as_handle(z[0]), "identity", out=handle)
    assert kernels.handles == 4
    assert kernels.launched == ["bias_activate", "bias_activate"]


def test_later_epochs_make_no_handles_and_as_many_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = strict_gpu(monkeypatch)
    ours, _ = both(gpu, "fused", drawn((12, 9, 3), ("relu", "sigmoid")), Recipe(7, 0.1))
    made, launches = [], []
    for _ in range(3):
        gpu.kernels.launched.clear()
        with gpu.activate():
            ours.run_epoch(np.arange(N))
        made.append(gpu.kernels.handles)
        launches.append(len(gpu.kernels.launched))
    assert made[0] == made[1] == made[2]
    assert launches[0] == launches[1] == launches[2]
