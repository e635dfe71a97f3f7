"""Batches recorded as CUDA graphs, each of which the host launches as one."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunn.engines.cuda.arrays import Cublas

logger = logging.getLogger(__name__)

AT_ONCE = 16
"""Batches of the larger graph."""

WORK_SPACE = 2**25
"""Bytes for cuBLAS in graphs: what NVIDIA advises for the GPUs that need most."""

Replay = tuple[int, Callable[[], None]]
"""A number of batches, and the function that runs as many on CuPy's stream."""


def record(cupy: Any, cublas: Cublas, launches: Sequence[Callable[[], None]]) -> list[Replay]:
    """Return replays of what `launches` do in turn: of `AT_ONCE` batches, and of one.

    They must have run before, and read all that differs from batch to batch on the GPU. `cublas` must be in use, and
    be what the products among them were prepared by. Where CUDA can't record them there are no replays, and the log
    says why.
    """
    try:
        stream, space = cupy.cuda.Stream(non_blocking=True), cupy.empty(WORK_SPACE, np.uint8)
        with stream, cublas.recorded(stream.ptr, space):
            return [(n, _replay(stream, launches, n, space)) for n in (AT_ONCE, 1)]
    except Exception as error:  # CuPy, cuBLAS and the driver raise many types, and launching goes on working
        reason = " ".join(str(error).split())
        logger.info("engine fused: every batch is launched by itself, as %s: %s", type(error).__name__, reason)
        return []


def _replay(stream: Any, launches: Sequence[Callable[[], None]], n: int, space: Any) -> Callable[[], None]:
    stream.begin_capture()
    try:
        for _ in range(n):
            for launch in launches:
                launch()
    finally:
        graph = stream.end_capture()

    def replay(kept: Any = space) -> None:  # noqa: ARG001 - kept alive
        graph.launch()

    return replay
