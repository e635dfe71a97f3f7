"""gpunn trains multi-layer perceptrons on the full MNIST as fast as the machine allows."""

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

# A bare checkout keeps the kernels in a folder beside this one; an installation puts them inside it.
_checkout = _Path(__file__).resolve().parent.parent
if not (_checkout / "gpunn" / "kernels" / "__init__.py").exists() and (_checkout / "kernels" / "__init__.py").exists():
    __path__.append(str(_checkout))

from gpunn.backends import Backend, DeviceStatus, devices, get_backend
from gpunn.datasets import Dataset, Split, load_mnist
from gpunn.early_stopping import EarlyStopping
from gpunn.errors import (
    ConfigurationError,
    DataError,
    DeviceError,
    DivergenceError,
    GpunnError,
    ModelFileError,
    OutOfMemoryError,
    OutputError,
    ResultsFileError,
)
from gpunn.evaluation import Evaluation, evaluate
from gpunn.history import Epoch, History
from gpunn.network import MLP
from gpunn.optimizers import SGD, Adam
from gpunn.training import train

if _TYPE_CHECKING:
    from gpunn.estimators import MLPClassifier as MLPClassifier
    from gpunn.estimators import MLPRegressor as MLPRegressor

__version__ = "0.1.0"

# Not in __all__, as scikit-learn may be missing, and takes long to import.
_ESTIMATORS = ("MLPClassifier", "MLPRegressor")


def __getattr__(name: str) -> type:
    """Import the estimators when they are asked for; raises `ImportError` where scikit-learn is missing or too old."""
    if name not in _ESTIMATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gpunn import estimators

    found: type = getattr(estimators, name)
    return found


def __dir__() -> list[str]:
    from importlib.util import find_spec

    # What looks at every name listed isn't to fail where an extra is missing.
    return sorted([*globals(), *(_ESTIMATORS if find_spec("sklearn") else ())])


__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "Backend",
    "ConfigurationError",
    "DataError",
    "Dataset",
    "DeviceError",
    "DeviceStatus",
    "DivergenceError",
    "EarlyStopping",
    "Epoch",
    "Evaluation",
    "GpunnError",
    "History",
    "ModelFileError",
    "OutOfMemoryError",
    "OutputError",
    "ResultsFileError",
    "Split",
    "__version__",
    "devices",
    "evaluate",
    "get_backend",
    "load_mnist",
    "train",
]
