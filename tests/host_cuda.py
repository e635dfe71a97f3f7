"""Kernels for GPUs run on the host, at full size: the code that numba-cuda makes of them, compiled for the CPU.

numba-cuda turns a kernel into LLVM's IR, and libnvvm that into a GPU's code. Here LLVM turns it into the host's, with
`host_machine` in place of a multiprocessor. Blocks run one after another, and a block's threads in turn, from barrier
to barrier, in an order that is the same every time.

What this can't show: blocks that run at once, how a GPU rounds exp and the like, time; of warps it knows that their
threads meet at matrix instructions.
"""

import ctypes
import functools
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numpy.typing import NDArray

from .cuda_compiler import translated, types_of
from .host_machine import AXES, BARRIER, CONTEXT, FRAGMENT, MOST_THREADS, MULTIPLY, NAMES, STATE, WARP, machine
from .host_matrices import multiply_add

MOST_SHARED = 227 * 1024
"""Bytes of dynamic shared memory that there is room for."""
GUARD = 64
"""Bytes of noise before and after each array in shared memory; also its alignment."""
MARGIN = 4096
"""Bytes of noise before and after each array in the device's memory."""
STACK = 128 * 1024
"""Bytes for the variables of a thread."""
OPTIMIZATION = 2
"""LLVM's level: with 1 compiling takes as long, and running twice as long; with 0 half as long, and 4 to 20 times."""

DECLARED = (
    "@gpu_shared = external global i8",
    "declare i32 @gpu_shared_bytes()",
    "declare i32 @gpu_permute(i32, i32, i32)",
    f"declare {FRAGMENT} @gpu_multiply_add(i32, i32, i32, i32, i32, i32, float, float, float, float)",
)
"""What of the machine no kernel declares itself."""

Size = int | tuple[int, ...]
Order = Callable[[int], Sequence[int]]
"""Puts the numbers below that of blocks, or of a block's threads, in the order in which they run."""


class BarrierError(Exception):
    """Not all threads of a block came to a barrier."""


class GuardError(Exception):
    """A kernel wrote to memory beside its arrays."""


def backwards(n: int) -> Sequence[int]:
    return range(n)[::-1]


def shuffled(n: int) -> Sequence[int]:
    order: list[int] = np.random.default_rng(n).permutation(n).tolist()
    return order


def noise(n_bytes: int) -> NDArray[np.uint8]:
    """Return random bytes that are NaN as float32 and as float64."""
    words = np.random.default_rng(0).integers(2**32, size=2 * -(-n_bytes // 8), dtype=np.uint32)
    return (words | np.uint32(0x7FF80000)).view(np.uint8)[:n_bytes]


def run_on_host(
    kernel: Any,
    grid: Size,
    block: Size,
    *arguments: Any,
    shared: int = 0,
    blocks: Order = range,
    threads: Order = range,
) -> None:
    """Launch `kernel`, a dispatcher of numba-cuda's, with NumPy arrays and numbers; return when it is done.

    `shared` are the bytes of dynamic shared memory. When a block begins, all shared memory holds noise, as does memory
    beside the arrays. Raises `BarrierError` or `GuardError` for what has no defined result on a GPU.
    """
    memory, compiled = DeviceMemory(), _compiled(kernel, types_of(arguments))
    given = [memory.array(value) if isinstance(value, np.ndarray) else value for value in arguments]
    compiled.launch(_three(grid), _three(block), given, shared, blocks, threads)
    memory.copy_back(kernel.py_func.__name__)


def _three(size: Size) -> tuple[int, ...]:
    sizes = (size,) if isinstance(size, int) else size
    return (*sizes, *(1,) * (3 - len(sizes)))


class DeviceMemory:
    """Arrays as a GPU has them, in memory of their own, with noise around each."""

    def __init__(self) -> None:
        self._noise = noise(MARGIN)
        self._copies: dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.uint8], NDArray[Any]]] = {}

    def array(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of `array`; of one and the same memory it is the same."""
        place = array.ctypes.data, array.nbytes
        if place not in self._copies:
            memory = np.concatenate([self._noise, array.reshape(-1).view(np.uint8), self._noise])
            copy = memory[MARGIN : MARGIN + array.nbytes].view(array.dtype).reshape(array.shape)
            self._copies[place] = array, memory, copy
        return self._copies[place][-1].reshape(array.shape)

    def copy_back(self, kernel: str) -> None:
        for array, memory, copy in self._copies.values():
            for margin in (memory[:MARGIN], memory[MARGIN + array.nbytes :]):
                if not np.array_equal(margin, self._noise):
                    raise GuardError(f"{kernel} wrote beside an array of shape {array.shape}")
            array[...] = copy


class HostKernel:
    """A kernel compiled for the host, for arguments of some types."""

    def __init__(self, kernel: Any, types: tuple[Any, ...]) -> None:
        if platform.libc_ver()[0] != "glibc":
            pytest.skip("needs glibc, which switches between the stacks of threads")
        gpus = translated(kernel, types)
        entry, modules = gpus.library.get_function(gpus.entry_name), list(dict.fromkeys(gpus.library.modules))
        self._name = kernel.py_func.__name__
        memory = _SharedMemory(modules)
        self._arrays, self._dynamic = memory.arrays, memory.dynamic
        size = self._dynamic + MOST_SHARED + GUARD if memory.places else 0
        with _opaque_pointers():
            texts = [_for_host(module, memory.places) for module in modules]
            # Threads meet at barriers, and at these.
            self._has_matrices = any(MULTIPLY in str(module) for module in modules)
            texts += [_caller(entry), machine(size)]
        self._has_barriers = self._has_matrices or any(BARRIER in module.globals for module in modules)
        self._engine = _machine_code(texts)
        self._state = self._variable("state", np.uint64, len(STATE))
        self._threads = self._variable("threads", np.int32, MOST_THREADS)
        self._arguments = self._variable("arguments", np.uint64, len(entry.args))
        self._contexts = self._variable("contexts", np.uint64, 1)
        self._shared = self._variable("shared", np.uint8, size)
        if self._has_matrices:
            self._set(multiply=multiply_add().address)
        self._run_block = self._function("block" if self._has_barriers else "block_without_barriers")
        self._start = self._function("start", ctypes.c_int64)

    def _variable(self, name: str, dtype: Any, size: int) -> NDArray[Any]:
        """Return a variable of the machine as an array."""
        address = self._engine.get_global_value_address(f"gpu_{name}")
        return np.frombuffer((ctypes.c_uint8 * (size * np.dtype(dtype).itemsize)).from_address(address), dtype)

    def _function(self, name: str, *types: Any) -> Any:
        return ctypes.CFUNCTYPE(None, *types)(self._engine.get_function_address(f"gpu_{name}"))

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self._state[STATE[name]] = value

    def launch(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Any],
        shared: int,
        blocks: Order,
        threads: Order,
    ) -> None:
        """Run all blocks, see `run_on_host`; sizes are (x, y, z)."""
        n_threads, n_blocks = math.prod(block), math.prod(grid)
        assert 1 <= n_threads <= MOST_THREADS
        assert not self._has_matrices or n_threads % WARP == 0
        assert n_blocks >= 1
        assert 0 <= shared <= MOST_SHARED
        for axis, width, across in zip(AXES, block, grid, strict=True):
            self._set(**{f"ntid_{axis}": width, f"nctaid_{axis}": across})
        self._set(shared_bytes=shared, threads=n_threads)
        self._threads[:n_threads] = threads(n_threads)
        self._arguments[:] = [slot for value in arguments for slot in _slots(value)]
        before, kept = noise(len(self._shared)), self._begin(n_threads) if self._has_barriers else None
        for number in blocks(n_blocks):
            row, x = divmod(number, grid[0])
            z, y = divmod(row, grid[1])
            self._set(ctaid_x=x, ctaid_y=y, ctaid_z=z)
            self._shared[:] = before
            self._run_block()
            if self._has_barriers:
                self._check_barrier(n_threads)
            self._check_guards(before, shared)
        del kept

    def _begin(self, n_threads: int) -> list[Any]:
        """Give threads stacks, and let them wait for a block; return what must be kept until the end."""
        libc = ctypes.CDLL(None)
        room, stacks = np.empty(CONTEXT * (MOST_THREADS + 1) + 64, np.uint8), np.empty(STACK * n_threads, np.uint8)
        self._contexts[0] = first = -(-room.ctypes.data // 64) * 64
        entry = ctypes.c_void_p(self._engine.get_function_address("gpu_thread"))
        for turn in range(n_threads):
            context = first + CONTEXT * turn
            libc.getcontext(ctypes.c_void_p(context))
            # A `ucontext_t` has here what comes after it, its stack, and how large that is.
            for offset, value in ((8, 0), (16, stacks.ctypes.data + STACK * turn), (32, STACK)):
                ctypes.c_uint64.from_address(context + offset).value = value
            libc.makecontext(ctypes.c_void_p(context), entry, 0)
            self._start(turn)
        return [room, stacks]

    def _check_barrier(self, n_threads: int) -> None:
        waiting, finished = (int(self._state[STATE[name]]) for name in ("waiting", "finished"))
        if stuck := n_threads - waiting - finished:
            raise BarrierError(
                f"{self._name}: {stuck} of {n_threads} threads wait at matrix instructions for others of their warps"
            )
        if waiting and finished:
            raise BarrierError(
                f"{self._name}: {waiting} of {n_threads} threads wait at a barrier, the others have ended"
            )
        if waiting:
            raise BarrierError(f"{self._name}: not all of {n_threads} threads wait at the same barrier")

    def _check_guards(self, before: NDArray[np.uint8], shared: int) -> None:
        begin = 0
        for place, size in (*self._arrays, (self._dynamic, shared), (len(before), 0)):
            if not np.array_equal(self._shared[begin:place], before[begin:place]):
                raise GuardError(f"{self._name} wrote to shared memory beside its arrays")
            begin = place + size


_compiled = functools.cache(HostKernel)


def _slots(value: Any) -> list[int]:
    """Return the arguments that Numba makes of one, in 64 bits each."""
    if isinstance(value, np.ndarray):
        # Who owns it, its parent, how many elements there are, their size, the memory, shape and strides.
        return [0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides]
    if isinstance(value, tuple):
        return [slot for each in value for slot in _slots(each)]
    return [int.from_bytes(np.asarray(value).tobytes(), "little")]


@contextmanager
def _opaque_pointers() -> Iterator[None]:
    """Let llvmlite write pointers as LLVM reads them. For libnvvm it writes them with types, and keeps such texts."""
    with (
        patch("llvmlite.ir.types.ir_layer_typed_pointers_enabled", False),
        patch("llvmlite.ir._utils._StrCaching.__str__", lambda self: self._to_string()),
        patch("llvmlite.ir._utils._StringReferenceCaching.get_reference", lambda self: self._get_reference()),
    ):
        yield


class _SharedMemory:
    """Where the arrays of modules are in shared memory: static ones, and then, all at one place, dynamic ones."""

    def __init__(self, modules: Sequence[ir.Module]) -> None:
        self.places: dict[Any, int] = {}
        self.arrays: list[tuple[int, int]] = []
        """Places and sizes of the static ones, in bytes."""
        found = [value for module in modules for value in module.global_values if getattr(value, "addrspace", 0) == 3]
        place = GUARD
        for value in found:
            if value.initializer is not None:
                self.places[value], size = place, _n_bytes(value.value_type)
                self.arrays.append((place, size))
                place += -(-size // GUARD) * GUARD + GUARD
        self.dynamic = place
        self.places |= {value: place for value in found if value.initializer is None}


def _n_bytes(kind: ir.Type) -> int:
    if isinstance(kind, ir.ArrayType):
        return int(kind.count) * _n_bytes(kind.element)
    return {ir.HalfType: 2, ir.FloatType: 4, ir.DoubleType: 8}.get(type(kind)) or int(kind.width) // 8


def _for_host(module: ir.Module, places: dict[Any, int]) -> str:
    """Return a module's IR with the machine's functions and shared memory in place of a GPU's."""
    lines, names = list(DECLARED), dict(NAMES)
    for value in module.global_values:
        if value in places:
            at = f"getelementptr (i8, ptr @gpu_shared, i64 {places[value]})"
            names[value.get_reference()] = f"addrspacecast (ptr {at} to ptr addrspace(3))"
        elif isinstance(value, ir.Function) or not value.name.startswith("llvm."):
            lines.append(str(value))
    text = "\n".join([*lines, *map(str, module.metadata)])
    for of_gpu, of_host in names.items():
        text = text.replace(of_gpu, of_host)
    return text


def _caller(entry: ir.Function) -> str:
    """Return the function that calls a kernel with the arguments that are in `gpu_arguments`."""
    types = [str(argument.type) for argument in entry.args]
    places = (f"ptr getelementptr (i64, ptr @gpu_arguments, i64 {n})" for n in range(len(types)))
    loads = (f"  %a{n} = load {kind}, {place}\n" for n, (kind, place) in enumerate(zip(types, places, strict=True)))
    given = ", ".join(f"{kind} %a{n}" for n, kind in enumerate(types))
    return f"""
@gpu_arguments = global [{len(types)} x i64] zeroinitializer
declare void {entry.get_reference()}({", ".join(types)})
define void @gpu_kernel() {{
{"".join(loads)}
  call void {entry.get_reference()}({given})
  ret void
}}"""


def _machine_code(texts: Sequence[str]) -> Any:
    """Return LLVM's engine with the code of all modules."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.load_library_permanently("libm.so.6")
    whole = llvm.parse_assembly(texts[0])
    for text in texts[1:]:
        whole.link_in(llvm.parse_assembly(text))
    whole.verify()
    for name in [function.name for function in whole.functions if function.is_declaration]:
        # LLVM would end the process.
        known = llvm.address_of_symbol(name) is not None or (name.startswith("llvm.") and ".nvvm." not in name)
        if not known:
            raise NotImplementedError(f"found a kernel that calls {name}, which the host doesn't have")
    whole.triple = llvm.get_process_triple()
    target = llvm.Target.from_triple(whole.triple).create_target_machine(
        opt=OPTIMIZATION, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )
    passes = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(OPTIMIZATION))
    passes.getModulePassManager().run(whole, passes)
    engine = llvm.create_mcjit_compiler(whole, target)
    engine.finalize_object()
    return engine
