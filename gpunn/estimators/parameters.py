"""Parameters of the estimators: scikit-learn's, and those that gpunn adds."""

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions

from gpunn.errors import ConfigurationError
from gpunn.schedules import Schedule

OWN = ("elu", "leaky_relu")
"""Activation functions that scikit-learn lacks."""

FUNCTIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"} | {
    name: name for name in OWN
}
"""gpunn's names of the estimators' activation functions."""

WISHES: dict[str, Any] = {"dropout": 0.0, "schedule": None, "scoring": None, "callbacks": None, "n_networks": 1}
"""Parameters that gpunn adds and scikit-learn's own training has nothing like, with their defaults."""

EXTRA: dict[str, Any] = {"device": "auto", "engine": "auto", **WISHES}
"""Parameters that gpunn adds, with their defaults."""

CONSTRAINTS: dict[str, Any] = {
    "activation": [StrOptions(set(FUNCTIONS))],
    "device": [str],
    "engine": [StrOptions({"auto", "plain", "fused", "epoch"})],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "schedule": [str, Schedule, None],
    "scoring": [str, callable, None],
    "callbacks": [list, tuple, callable, None],
    "n_networks": [Interval(Integral, 1, None, closed="left")],
}
"""scikit-learn's constraints on them, and on what has more values here."""


def init_of(theirs: type[Any], extra: Mapping[str, Any]) -> Callable[..., None]:
    """Return an `__init__` with the parameters of `theirs`, whatever its version has, and `extra`, with defaults.

    scikit-learn reads the names of parameters from its signature.
    """
    constructor: Any = theirs.__init__
    base = inspect.signature(constructor)
    own = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=extra[name]) for name in extra]
    joined = base.replace(parameters=[*base.parameters.values(), *own])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it will be a method
        given = joined.bind(self, *args, **kwargs).arguments
        for name, default in extra.items():
            setattr(self, name, given.pop(name, default))
        given.pop("self")
        constructor(self, **given)

    __init__.__signature__ = joined  # type: ignore[attr-defined]
    return __init__


def check_theirs(estimator: Any, why: str, *, validated: bool) -> None:
    """Raise `ConfigurationError` for wishes that scikit-learn's own training, chosen by `why`, doesn't fulfil.

    `validated` says whether there are examples to validate with.
    """
    wishes = [f"activation={estimator.activation!r}"] * (estimator.activation in OWN)
    wishes += [f"{name}={getattr(estimator, name)!r}" for name in WISHES if getattr(estimator, name) != WISHES[name]]
    wishes += ["X_val"] * validated
    if wishes:
        raise ConfigurationError(f"found {' and '.join(wishes)} with {why}, which scikit-learn trains: leave one out")
