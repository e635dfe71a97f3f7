"""The host in place of a GPU: threads, blocks and shared memory are a GPU's, and faults of kernels are found."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from .cuda_compiler import cuda_compiler
from .host_cuda import BarrierError, GuardError, Order, backwards, run_on_host, shuffled

ORDERS: list[Order] = [range, backwards, shuffled]
N = 96
"""Threads in the blocks below."""

Decorator = Callable[[Callable[..., None]], Any]
"""Decorator of kernels."""


@pytest.fixture
def cuda() -> Any:
    return cuda_compiler()


@pytest.fixture
def kernel(cuda: Any) -> Decorator:
    made: Decorator = importlib.import_module("gpunn.kernels.cuda.jit").kernel
    return made


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("grid", "block"), [(1, 1), (7, 1024), ((3, 5), (32, 8)), ((2, 3, 4), (4, 8, 16)), ((1, 3000), (2, 2))], ids=str
)
def test_each_thread_of_each_block_runs_once_and_knows_its_place(
    cuda: Any, kernel: Decorator, grid: Any, block: Any, order: Order
) -> None:
    @kernel
    def note(places: Any, sizes: Any) -> None:
        t, b, threads, blocks = cuda.threadIdx, cuda.blockIdx, cuda.blockDim, cuda.gridDim
        thread = (t.z * threads.y + t.y) * threads.x + t.x
        number = (b.z * blocks.y + b.y) * blocks.x + b.x
        places[number, thread] += 1 + t.x + 10 * t.y + 100 * t.z + 1000 * b.x + 10_000 * b.y + 100_000 * b.z
        sizes[0], sizes[1], sizes[2] = threads.x, threads.y, threads.z
        sizes[3], sizes[4], sizes[5] = blocks.x, blocks.y, blocks.z

    (width, height, depth), (across, down, deep) = ((*np.atleast_1d(size), 1, 1)[:3] for size in (block, grid))
    places, sizes = np.zeros((across * down * deep, width * height * depth), np.int64), np.zeros(6, np.int64)
    run_on_host(note, grid, block, places, sizes, blocks=order, threads=order)
    z, y, x = np.ogrid[:depth, :height, :width]
    thread = (1 + x + 10 * y + 100 * z).ravel()
    z, y, x = np.ogrid[:deep, :down, :across]
    number = (1000 * x + 10_000 * y + 100_000 * z).reshape(-1, 1)
    np.testing.assert_array_equal(places, number + thread)
    np.testing.assert_array_equal(sizes, [width, height, depth, across, down, deep])


@pytest.mark.parametrize("order", ORDERS)
def test_blocks_and_threads_run_in_the_order_asked_for(cuda: Any, kernel: Decorator, order: Order) -> None:
    @kernel
    def note(count: Any, numbers: Any) -> None:
        numbers[count[0]] = 10 * cuda.blockIdx.x + cuda.threadIdx.x
        count[0] += 1
        cuda.syncthreads()

    numbers = np.zeros(20, np.int64)
    run_on_host(note, 4, 5, np.zeros(1, np.int64), numbers, blocks=order, threads=order)
    assert numbers.tolist() == [10 * block + thread for block in order(4) for thread in order(5)]


def test_numbers_of_every_type_arrive(kernel: Decorator) -> None:
    @kernel
    def keep(f4: Any, f8: Any, i1: Any, i4: Any, i8: Any, u1: Any, u4: Any, u8: Any, truth: Any, out: Any) -> None:
        out[0], out[1] = f4, f8
        out[2], out[3], out[4] = i1, i4, i8
        out[5], out[6], out[7] = u1, u4, u8
        out[8] = 1 if truth else 0

    for truth in (False, True):
        signed = np.int8(-3), np.int32(-(2**31)), -(2**40)
        unsigned = np.uint8(200), np.uint32(2**32 - 1), np.uint64(2**63)
        numbers, out = (np.float32(1.5), -2.5, *signed, *unsigned, truth), np.zeros(9)
        run_on_host(keep, 1, 1, *numbers, out)
        np.testing.assert_array_equal(out, np.array(numbers, np.float64))


def test_arrays_are_read_and_written_in_place(cuda: Any, kernel: Decorator) -> None:
    @kernel
    def double(x: Any, out: Any) -> None:
        r, c = cuda.grid(2)
        if r < x.shape[0] and c < x.shape[1]:
            out[r, c] = 2 * x[r, c] + x.size

    x, out = np.arange(35, dtype=np.float32).reshape(5, 7), np.zeros((5, 7), np.float64)
    run_on_host(double, (1, 2), (5, 4), x, out)
    np.testing.assert_array_equal(out, 2 * x + 35)


def shift(cuda: Any, kernel: Decorator, *, meets: bool) -> Any:
    """Return a kernel that moves numbers from one thread to the next, which works if they meet in between."""

    @kernel
    def shift(x: Any) -> None:
        t = cuda.threadIdx.x
        shared = cuda.shared.array(N, np.float32)
        shared[t] = x[t]
        if meets:
            cuda.syncthreads()
        x[t] = shared[(t + 1) % N]

    return shift


@pytest.mark.parametrize("order", ORDERS)
def test_a_missing_barrier_shows_in_any_order(cuda: Any, kernel: Decorator, order: Order) -> None:
    expected = np.roll(np.arange(N), -1)
    for meets in (True, False):
        x = np.arange(N, dtype=np.float32)
        run_on_host(shift(cuda, kernel, meets=meets), 1, N, x, threads=order)
        assert np.array_equal(x, expected) == meets


def test_a_barrier_that_some_threads_do_not_reach_is_found(cuda: Any, kernel: Decorator) -> None:
    @kernel
    def some_meet(x: Any, n: int) -> None:
        t = cuda.threadIdx.x
        x[t] = t
        if t < n:
            cuda.syncthreads()
        x[t] += 1

    x = np.zeros(N)
    run_on_host(some_meet, 1, N, x, N)
    np.testing.assert_array_equal(x, np.arange(N) + 1)
    for order in ORDERS:
        for n in (1, N - 1):
            with pytest.raises(BarrierError, match=f"^some_meet: {n} of {N} threads wait at a barrier, the others"):
                run_on_host(some_meet, 1, N, x, n, threads=order)
    run_on_host(some_meet, 1, N, x, 0)


def test_barriers_at_two_places_are_found(cuda: Any, kernel: Decorator) -> None:
    @kernel
    def meet_apart(x: Any, n: int) -> None:
        t = cuda.threadIdx.x
        if t < n:
            x[t] = 1
            cuda.syncthreads()
            x[t] += 1
        else:
            x[t] = 3
            cuda.syncthreads()
            x[t] *= 2

    x = np.zeros(N)
    run_on_host(meet_apart, 1, N, x, N)
    np.testing.assert_array_equal(x, 2)
    with pytest.raises(BarrierError, match=f"^meet_apart: not all of {N} threads wait at the same barrier"):
        run_on_host(meet_apart, 1, N, x, 5)


@pytest.mark.parametrize("place", [-1, N, N + 20])
@pytest.mark.parametrize("dynamic", [False, True])
def test_what_is_written_beside_shared_arrays_is_found(cuda: Any, kernel: Decorator, dynamic: bool, place: int) -> None:
    size = 0 if dynamic else N

    @kernel
    def write(x: Any, place: int) -> None:
        before, shared = cuda.shared.array(4, np.float64), cuda.shared.array(size, np.float32)
        before[1] = 1
        shared[place] = x[0]
        x[0] += shared[place]

    x = np.ones(1)
    for inside in (0, N - 1):
        run_on_host(write, 1, 1, x, inside, shared=4 * N * dynamic)
    assert x[0] == 4
    with pytest.raises(GuardError, match=r"^write wrote to shared memory beside its arrays"):
        run_on_host(write, 1, 1, x, np.uint64(place % 2**64), shared=4 * N * dynamic)


@pytest.mark.parametrize("place", [-1, N, N + 200])
def test_what_is_written_beside_arrays_is_found_and_what_is_read_there_is_nan(kernel: Decorator, place: int) -> None:
    @kernel
    def write(x: Any, place: int, number: float) -> None:
        x[0] = x[place]
        x[place] = number

    x, beside = np.arange(N, dtype=np.float32), np.uint64(place % 2**64)
    run_on_host(write, 1, 1, x, N - 1, 7.0)
    assert (x[0], x[-1]) == (N - 1, 7)
    with pytest.raises(GuardError, match=rf"^write wrote beside an array of shape \({N},\)"):
        run_on_host(write, 1, 1, x, beside, 7.0)

    @kernel
    def read(x: Any, place: int) -> None:
        x[0] = x[place]

    run_on_host(read, 1, 1, x, beside)
    assert np.isnan(x[0])


def test_one_array_given_twice_is_one(cuda: Any, kernel: Decorator) -> None:
    @kernel
    def move(x: Any, y: Any) -> None:
        y[0] = 5
        x[1] = y[0] + x[0]

    x = np.zeros(2)
    run_on_host(move, 1, 1, x, x)
    assert x.tolist() == [5, 10]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shared_memory_is_not_a_number_before_it_is_written(cuda: Any, kernel: Decorator, dtype: Any) -> None:
    @kernel
    def read(x: Any, writes: bool) -> None:
        t, b = cuda.threadIdx.x, cuda.blockIdx.x
        fixed, dynamic = cuda.shared.array(N, dtype), cuda.shared.array(0, dtype)
        if writes:
            fixed[t], dynamic[t] = t, t
        x[b, t] = fixed[t] + dynamic[t] * 0
        x[b + 3, t] = dynamic[t] + fixed[t] * 0

    x = np.zeros((6, N), dtype)
    run_on_host(read, 3, N, x, True, shared=N * x.itemsize)
    np.testing.assert_array_equal(x, np.tile(np.arange(N), (6, 1)))
    run_on_host(read, 3, N, x, False, shared=N * x.itemsize)
    assert np.isnan(x).all()


def test_dynamic_arrays_are_one_memory_of_the_size_asked_for(cuda: Any, kernel: Decorator) -> None:
    @kernel
    def alias(sizes: Any) -> None:
        floats, words = cuda.shared.array(0, np.float32), cuda.shared.array(0, np.uint32)
        floats[3] = 1
        sizes[0], sizes[1], sizes[2] = len(floats), len(words), words[3]

    sizes = np.zeros(3, np.int64)
    run_on_host(alias, 1, 1, sizes, shared=40)
    assert sizes.tolist() == [10, 10, 0x3F800000]


def test_what_the_host_does_not_have_is_named(cuda: Any, kernel: Decorator) -> None:
    @kernel
    def lane(x: Any) -> None:
        x[0] = cuda.laneid

    with pytest.raises(NotImplementedError, match=r"^found a kernel that calls llvm\.nvvm\..*laneid"):
        run_on_host(lane, 1, 1, np.zeros(1))
