"""Drop-in replacements for scikit-learn's `MLPClassifier` and `MLPRegressor`; needs the extra `sklearn`."""

try:
    import sklearn
    from sklearn.utils.validation import validate_data as _of_1_6  # noqa: F401
except ImportError as error:
    found = "is not installed" if isinstance(error, ModuleNotFoundError) else f"{sklearn.__version__} is too old"
    raise ImportError(
        f"gpunn.MLPClassifier and gpunn.MLPRegressor need scikit-learn 1.6 or newer, which {found}: "
        'pip install "gpunn[sklearn]"'
    ) from error

from gpunn.estimators.classifier import MLPClassifier
from gpunn.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
