"""Fast training of multi-layer perceptrons on MNIST, on CPUs and CUDA GPUs."""

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

# In a checkout the kernels are a sibling folder; an installation puts them inside the package.
_checkout = _Path(__file__).resolve().parent.parent
if not (_checkout / "gpunn" / "kernels" / "__init__.py").exists() and (_checkout / "kernels" / "__init__.py").exists():
    __path__.append(str(_checkout))

from gpunn.averaging import Averaging
from gpunn.backends import Backend, DeviceStatus, devices, get_backend
from gpunn.checkpoints import Checkpoint
from gpunn.datasets import Dataset, Split, load_mnist
from gpunn.distortion import Distortion
from gpunn.early_stopping import EarlyStopping
from gpunn.ensemble import Ensemble, load
from gpunn.errors import (
    ClusterError,
    ConfigurationError,
    DataError,
    DeviceError,
    DivergenceError,
    GpunnError,
    ModelFileError,
    OutOfMemoryError,
    OutputError,
)
from gpunn.evaluation import Evaluation, evaluate
from gpunn.history import Epoch, History
from gpunn.many import train_many
from gpunn.network import MLP
from gpunn.optimizers import SGD, Adam
from gpunn.training import train
from gpunn.version import __version__

if _TYPE_CHECKING:
    from gpunn.estimators import MLPClassifier as MLPClassifier
    from gpunn.estimators import MLPRegressor as MLPRegressor
    from gpunn.pictures import read_digit as read_digit

# Imported on first use: slow to import, and scikit-learn (hence the estimators are not in __all__) may be missing.
_LAZY = {"MLPClassifier": "estimators", "MLPRegressor": "estimators", "read_digit": "pictures"}


def __getattr__(name: str) -> object:
    """Import a lazy attribute; raises `ImportError` if scikit-learn is needed and missing or too old."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    from importlib.util import find_spec

    # Getting every listed name must not fail when an extra is missing.
    return sorted(
        [*__all__, *(name for name, module in _LAZY.items() if module == "estimators" and find_spec("sklearn"))]
    )


__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "Averaging",
    "Backend",
    "Checkpoint",
    "ClusterError",
    "ConfigurationError",
    "DataError",
    "Dataset",
    "DeviceError",
    "DeviceStatus",
    "Distortion",
    "DivergenceError",
    "EarlyStopping",
    "Ensemble",
    "Epoch",
    "Evaluation",
    "GpunnError",
    "History",
    "ModelFileError",
    "OutOfMemoryError",
    "OutputError",
    "Split",
    "__version__",
    "devices",
    "evaluate",
    "get_backend",
    "load",
    "load_mnist",
    "read_digit",
    "train",
    "train_many",
]
