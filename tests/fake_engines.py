"""Engines that cheat or fail, which benchmarks must detect; `pytest -p tests.fake_engines` adds them to gpunn's."""

import threading
import time
from typing import Any

from numpy.typing import NDArray

from gpunn import Backend
from gpunn.engines import ENGINES
from gpunn.engines.base import Engine, Examples, Parameters, Recipe
from gpunn.engines.plain import PlainEngine
from gpunn.optimizers import OptimizerState


class Fake(Engine):
    """Trains as `plain` does, on a pretended device that may still be busy after `run_epoch`; reading from it waits."""

    own_threads = False
    busy_seconds = 0.0
    """How long the device is still busy after `run_epoch` has returned."""

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        self._plain = PlainEngine(backend, start, examples, recipe)
        self._device: threading.Thread | None = None
        self.threads = self._plain.threads

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        return None

    def run_epoch(self, order: NDArray[Any], rates: NDArray[Any] | None = None) -> float:
        loss = self._plain.run_epoch(order, rates)
        self._device = threading.Thread(target=time.sleep, args=(self.busy_seconds,))
        self._device.start()
        return loss

    def prepare(self, inputs: Any) -> Any:
        return self._plain.prepare(inputs)

    def use(self, prepared: Any) -> None:
        self._plain.use(prepared)

    def parameters(self) -> Parameters:
        if self._device is not None:
            self._device.join()
        return self._plain.parameters()

    def memory(self) -> OptimizerState:
        return self._plain.memory()


class Late(Fake):
    """Returns before the device is done."""

    name = "late"
    busy_seconds = 0.05


class Lazy(Fake):
    """Leaves out a tenth of the examples."""

    name = "lazy"

    def run_epoch(self, order: NDArray[Any], rates: NDArray[Any] | None = None) -> float:
        return super().run_epoch(order[: len(order) * 9 // 10])


class Broken(Fake):
    """Fails in the first epoch."""

    name = "broken"

    def run_epoch(self, order: NDArray[Any], rates: NDArray[Any] | None = None) -> float:
        raise RuntimeError("it fails on purpose")


class Picky(Fake):
    """Supports nothing."""

    name = "picky"

    @classmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        return "it supports no network"


def pytest_addoption() -> None:  # before options are parsed, which may name them
    ENGINES.update({engine.name: engine for engine in (Late, Lazy, Broken, Picky)})
