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
