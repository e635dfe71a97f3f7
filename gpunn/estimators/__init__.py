"""scikit-learn's own `MLPClassifier` and `MLPRegressor`, trained by gpunn's engines; needs the extra `sklearn`."""

from gpunn.estimators.contract import LOWEST, misfit

_NEEDED = f"gpunn.MLPClassifier and gpunn.MLPRegressor need scikit-learn {LOWEST} or newer"

try:
    import sklearn
    from sklearn import neural_network as _theirs
except ModuleNotFoundError as error:
    raise ImportError(f'{_NEEDED}, which is not installed: pip install "gpunn[sklearn]"') from error

if _why := misfit(_theirs.MLPClassifier, _theirs.MLPRegressor):
    raise ImportError(
        f"{_NEEDED}, of a version that they fit; {sklearn.__version__} does not ({_why}): install another one, "
        "or a newer gpunn"
    )

from gpunn.estimators.classifier import MLPClassifier  # noqa: E402 - that fits only now
from gpunn.estimators.regressor import MLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor"]
