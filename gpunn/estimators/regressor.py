"""`MLPRegressor`: scikit-learn's, trained by gpunn's engines."""

from typing import Any, ClassVar, Self, final

from sklearn import neural_network as theirs
from sklearn.base import _fit_context
from sklearn.utils.metaestimators import available_if

from gpunn.estimators.base import Accelerated
from gpunn.estimators.parameters import CONSTRAINTS, EXTRA, init_of
from gpunn.estimators.unchanged import unchanged_by_errors


@final
class MLPRegressor(Accelerated, theirs.MLPRegressor):
    """scikit-learn's `MLPRegressor`, with fast training: it is a subclass, and has the same parameters and attributes.

    `y` (n,) or (n, n_L) are numbers, one or several per example. The parameters that are added, and what holds for
    them, are those of `gpunn.MLPClassifier` but for `class_weight`, with R^2 in place of the accuracy; the loss
    "poisson" is trained by scikit-learn too.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {**theirs.MLPRegressor._parameter_constraints, **CONSTRAINTS}

    __init__ = init_of(theirs.MLPRegressor, EXTRA)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one more epoch on these examples; return the estimator.

        `X`, `y`, `sample_weight` and errors are those of `fit`. As in scikit-learn, the optimiser's parameters are
        those of the first call.
        """
        with unchanged_by_errors(self):
            super().partial_fit(X, y, sample_weight)
        return self
