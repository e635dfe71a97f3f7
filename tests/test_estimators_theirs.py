"""scikit-learn's own tests of its multi-layer perceptrons, with the estimators in place of its own."""

import functools
import importlib.util
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from sklearn import neural_network

from gpunn import MLPClassifier, MLPRegressor
from gpunn.engines.threads import blas_threads

# Of SciPy, about what scikit-learn before 1.8 hands to it.
pytestmark = pytest.mark.filterwarnings("ignore:scipy.optimize. The `disp` and `iprint` options:DeprecationWarning")

ENGINES = ["plain", "epoch", "fused"] if os.environ.get("GPUNN_EVERY_ENGINE") == "1" else ["auto"]
"""All need a minute, most of it to compile kernels: CI runs them, on the newest scikit-learn.

What differs between its versions is in the estimators, whatever trains.
"""

OF_FLOAT64 = {
    "test_partial_fit_regression": "compares numbers of two fits to 1e-7, float32's rounding",
    "test_mlp_param_dtypes[MLPClassifier-float64]": "expects parameters in float64",
    "test_mlp_param_dtypes[MLPRegressor-float64]": "expects parameters in float64",
}
"""scikit-learn's tests of float64, which `epoch` and `fused` don't compute in, and why they fail there."""


def their_tests() -> ModuleType:
    """Return scikit-learn's module of tests, imported anew with the estimators under its names."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural_network, "MLPClassifier", MLPClassifier)
        patch.setattr(neural_network, "MLPRegressor", MLPRegressor)
        spec.loader.exec_module(module)
    return module


THEIRS = {name: test for name, test in vars(their_tests()).items() if name.startswith("test_")}
globals().update(THEIRS)


@pytest.fixture
def global_random_seed() -> int:
    return 42


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the engine the default of both estimators."""
    name = request.node.name.replace(f"{request.param}-", "").replace(f"[{request.param}]", "")
    if request.param in ("epoch", "fused") and name in OF_FLOAT64:
        request.applymarker(pytest.mark.xfail(reason=OF_FLOAT64[name], strict=True))
    for kind in (MLPClassifier, MLPRegressor):

        def __init__(self: Any, *args: Any, init: Any = kind.__init__, **kwargs: Any) -> None:  # noqa: N807
            init(self, *args, **{"engine": request.param, "device": "cpu"} | kwargs)

        monkeypatch.setattr(kind, "__init__", functools.wraps(kind.__init__)(__init__))
    with blas_threads(1):  # networks are small, and other tests run beside these
        yield


def test_they_are_scikit_learns_tests_of_the_estimators() -> None:
    assert len(THEIRS) > 35
    assert {test.__globals__["MLPClassifier"] for test in THEIRS.values()} == {MLPClassifier}
    assert isinstance(MLPClassifier(), neural_network.MLPClassifier)
    assert isinstance(MLPRegressor(), neural_network.MLPRegressor)
