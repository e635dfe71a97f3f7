"""Engines that the benchmarks must not be fooled by; `pytest -p tests.fake_engines` adds them to gpunn's."""

import threading
import time
from typing import Any

import pytest
from numpy.typing import NDArray

from gpunn import Backend
from gpunn.engines import ENGINES
from gpunn.engines.base import Engine, Examples, Parameters, Recipe
from gpunn.engines.plain import PlainEngine
from gpunn.optimizers import OptimizerState


class Fake(Engine):
    """Does what `plain` does, on a device that is never waited for but by reading from it."""

    own_threads = False
    seconds_too_late = 0.0

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        self._plain = PlainEngine(backend, start, examples, recipe)
        self._device: threading.Thread | None = None

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        return None

    def run_epoch(self, order: NDArray[Any], rates: NDArray[Any] | None = None) -> float:
        loss = self._plain.run_epoch(order, rates)
        self._device = threading.Thread(target=time.sleep, args=(self.seconds_too_late,))
        self._device.start()
        return loss

    def parameters(self) -> Parameters:
        if self._device is not None:
            self._device.join()
        return self._plain.parameters()

    def memory(self) -> OptimizerState:
        return self._plain.memory()


class Late(Fake):
    name = "late"
    seconds_too_late = 0.05


class Lazy(Fake):
    name = "lazy"

    def run_epoch(self, order: NDArray[Any], rates: NDArray[Any] | None = None) -> float:
        return super().run_epoch(order[: len(order) * 9 // 10])


class Broken(Fake):
    name = "broken"

    def run_epoch(self, order: NDArray[Any], rates: NDArray[Any] | None = None) -> float:
        raise RuntimeError("a wire is loose")


class Picky(Fake):
    name = "picky"

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        return "it doesn't like Mondays"


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    ENGINES.update({engine.name: engine for engine in (Late, Lazy, Broken, Picky)})
