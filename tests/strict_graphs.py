"""A stand-in for CUDA graphs: launches and products of a stream that is captured are noted, and run by the graph."""

from collections.abc import Callable
from functools import partial

import pytest

from .strict_cupy import ADDRESSES, StrictCupy

ADDRESS = 4096
"""The address of a stream."""


class Graphs:
    """Puts streams that can be captured into `cupy`; everything that is launched has to be given to `submit`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cupy: StrictCupy) -> None:
        self.replays: list[int] = []
        """How many launches and products each replay had."""
        self._captured: list[Callable[[], None]] | None = None
        self._cublas, self._multiply = cupy.cuda.cublas, cupy.cuda.cublas.sgemm
        self._stream = self._workspace = 0
        monkeypatch.setattr(cupy.cuda, "Stream", partial(Stream, self), raising=False)
        monkeypatch.setattr(self._cublas, "sgemm", self._refuse)
        monkeypatch.setattr("gpunn.engines.cuda.arrays.cublas_library", self._library)

    def submit(self, work: Callable[[], None]) -> None:
        if self._captured is None:
            work()
        else:
            self._captured.append(work)

    def begin(self) -> None:
        assert self._captured is None
        self._captured = []

    def end(self) -> "Graph":
        assert self._captured is not None
        graph, self._captured = Graph(self, self._captured), None
        return graph

    def _refuse(self, *arguments: int) -> None:
        """Multiply as CuPy does."""
        if self._captured is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        self._stream = self._workspace = 0
        self._multiply(*arguments)

    def _library(self, version: int) -> "Graphs":
        assert version == self._cublas.getVersion(self._cublas.handle())
        return self

    # The functions of cuBLAS that are called directly.
    def cublasSetStream_v2(self, handle: int, stream: int) -> int:  # noqa: N802
        assert (handle, stream) == (self._cublas.handle(), ADDRESS)
        self._stream, self._workspace = stream, 0
        return 0

    def cublasSetWorkspace_v2(self, handle: int, address: int, size: int) -> int:  # noqa: N802
        assert handle == self._cublas.handle()
        assert address in ADDRESSES
        self._workspace = size
        return 0

    def cublasSgemm_v2(self, *arguments: int) -> int:  # noqa: N802
        assert self._captured is not None
        assert self._stream == ADDRESS
        assert self._workspace >= 2**22
        # Modes are those of the time when it is captured.
        mode, pointer_mode = self._cublas.mode, self._cublas.pointer_mode

        def multiply() -> None:
            before = self._cublas.mode, self._cublas.pointer_mode
            self._cublas.mode, self._cublas.pointer_mode = mode, pointer_mode
            self._multiply(*arguments)
            self._cublas.mode, self._cublas.pointer_mode = before

        self.submit(multiply)
        return 0


class Stream:
    def __init__(self, graphs: Graphs, *, non_blocking: bool) -> None:
        assert non_blocking, "others would have to wait for it"
        self._graphs, self._is_current, self.ptr = graphs, False, ADDRESS

    def __enter__(self) -> None:
        self._is_current = True

    def __exit__(self, *exc: object) -> None:
        self._is_current = False

    def begin_capture(self) -> None:
        assert self._is_current
        self._graphs.begin()

    def end_capture(self) -> "Graph":
        assert self._is_current
        return self._graphs.end()


class Graph:
    def __init__(self, graphs: Graphs, work: list[Callable[[], None]]) -> None:
        self._graphs, self._work = graphs, work

    def launch(self) -> None:
        self._graphs.replays.append(len(self._work))
        for each in self._work:
            each()
