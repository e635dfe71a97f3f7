"""Launches of CUDA kernels: the shapes of grids and blocks, and CuPy's stream.

Blocks are rectangles of threads: neighbouring threads, x, take neighbouring columns, so that a warp reads and writes
memory in one piece, and y are rows. Both sizes of a rectangle are powers of two. All shapes follow from those of the
arrays and the GPU alone, so the same work is divided in the same way every time.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, final

from ..overheard import overheard
from .jit import SIMULATED, bind, cuda, current_device, current_stream

# The simulator runs a thread of the operating system for each of these.
THREADS = 8 if SIMULATED else 256
"""Threads of a block that work independently."""
TEAM_THREADS = 16 if SIMULATED else 1024
"""Threads of a block that add up one sum together."""
MOST_THREADS = 1024
"""Maximum threads per block, on any GPU."""
REGISTERS = 65_536
"""Registers that the threads of a block share."""
WARP = 32
PART_ROWS = 1024
"""Rows that a block adds up by itself; more are shared by several, whose sums another launch adds up."""
MOST_PARTS = 1024
"""Maximum blocks that share a sum."""
BLOCKS_A_MULTIPROCESSOR = 8
"""Blocks that fill a multiprocessor; kernels go over larger arrays in steps of the whole grid."""

Shape = tuple[int, ...]


def multiprocessors() -> int:
    """Return the number of multiprocessors of the current GPU."""
    return _multiprocessors(current_device())


@functools.cache
def _multiprocessors(device: int) -> int:  # noqa: ARG001 - the current one
    return 2 if SIMULATED else int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


def line(size: int) -> tuple[int, int]:
    """Return the number of blocks and of threads for `size` elements in a row."""
    return min(-(-size // THREADS), BLOCKS_A_MULTIPROCESSOR * multiprocessors()), THREADS


def rectangles(rows: int, columns: int) -> tuple[Shape, Shape]:
    """Return the shapes of grid and block, both (x, y), for all elements of a matrix."""
    width, height = _rectangle(rows, columns, THREADS)
    most = BLOCKS_A_MULTIPROCESSOR * multiprocessors()
    across = min(-(-columns // width), most)
    return (across, min(-(-rows // height), max(1, most // across))), (width, height)


def team(rows: int, columns: int) -> Shape:
    """Return the shape (x, y) of a block that goes over all rows of a matrix, or of a part of its columns."""
    return _rectangle(rows, columns, TEAM_THREADS)


def parts(rows: int) -> int:
    """Return the number of blocks that share the sums over `rows`, on any GPU the same."""
    return max(1, min(-(-rows // PART_ROWS), MOST_PARTS))


def _rectangle(rows: int, columns: int, threads: int) -> Shape:
    width = min(WARP, threads, _power_of_two(columns))
    return width, min(threads // width, _power_of_two(rows))


def _power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least `n`."""
    return 1 << max(0, n - 1).bit_length()


def launch(kernel: Any, grid: int | Shape, block: int | Shape, *arguments: Any, shared: int = 0) -> None:
    """Run `kernel` with `arguments` after everything that CuPy's current stream has been given; don't wait for it.

    `shared` is the dynamic shared memory of a block in bytes.
    """
    _configured(kernel, grid, block, current_stream(), shared)(*arguments)


class Call(NamedTuple):
    """A kernel, the shapes of its launch, and its arguments, which have been checked."""

    kernel: Any
    grid: int | Shape
    block: int | Shape
    arguments: tuple[Any, ...]


@final
class Operation:
    """An operation of the contract, made of the function that checks its arguments and returns the launches it takes.

    It is called like that function.
    """

    def __init__(self, plan: Callable[..., list[Call]]) -> None:
        self._plan = plan
        functools.update_wrapper(self, plan)

    def __call__(self, *arguments: Any, **options: Any) -> None:
        for call in self._plan(*arguments, **options):
            launch(call.kernel, call.grid, call.block, *call.arguments)

    def prepare(self, *arguments: Any, **options: Any) -> list[Callable[[], None]]:
        """Check the arguments, compile the kernels, and return functions that launch them in turn, as often as wanted.

        They find CuPy's stream when they are called; the GPU is the one that is current now.
        """
        return [_prepare(call) for call in self._plan(*arguments, **options)]


def _prepare(call: Call) -> Callable[[], None]:
    if SIMULATED:
        return functools.partial(launch, call.kernel, call.grid, call.block, *call.arguments)
    return bind(call.kernel, _three(call.grid), _three(call.block), call.arguments)


def _three(shape: int | Shape) -> Shape:
    sizes = (shape,) if isinstance(shape, int) else shape
    return (*sizes, *(1,) * (3 - len(sizes)))


def _configure(kernel: Any, grid: int | Shape, block: int | Shape, stream: Any, shared: int) -> Any:
    # A batch of a small network has work for no more than a few blocks; Numba can't know.
    with overheard(start="Grid size"):
        return kernel[grid, block, stream, shared]


# A kernel of the simulator doesn't return its configuration, it keeps the latest.
_configured = _configure if SIMULATED else functools.lru_cache(maxsize=1024)(_configure)
