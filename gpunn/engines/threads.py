"""How many threads compute, on CPUs."""

import functools
import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

logger = logging.getLogger(__name__)


def blas_threads(threads: int) -> AbstractContextManager[Any]:
    """Let NumPy's BLAS use this many threads inside the `with` block, and as many as before after it.

    Its threads keep their cores busy for about a tenth of a second after a product, waiting for the next one; meanwhile
    two threads of ours are slower than one. Without threadpoolctl nothing is changed, and that is logged.
    """
    try:
        limited: AbstractContextManager[Any] = _controller().limit(limits=threads, user_api="blas")
    except ImportError as error:
        logger.info("BLAS keeps its own threads, which may slow training down: %s", error)
        return nullcontext()
    return limited


@functools.cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def part(count: int, thread: int, threads: int) -> slice:
    """Return which of range(count) are the share of `thread`, 0 to `threads` - 1."""
    return slice(count * thread // threads, count * (thread + 1) // threads)
