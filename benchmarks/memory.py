"""Giving back what libraries keep of a GPU's memory for later, which others need."""

import gc
import sys

from gpunn import Backend


def give_memory_back(backend: Backend) -> None:
    """Free it, on a GPU; JAX, which can't, keeps the most that it has taken."""
    gc.collect()
    if backend.name == "cpu":
        return
    with backend.activate():
        backend.xp.get_default_memory_pool().free_all_blocks()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.empty_cache()


def free_memory(backend: Backend) -> float:
    """Return the free part of a GPU's memory, from 0 to 1; of a CPU's, 1."""
    if backend.name == "cpu":
        return 1.0
    with backend.activate():
        free, total = backend.xp.cuda.runtime.memGetInfo()
    return float(free / total)
