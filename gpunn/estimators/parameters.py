"""Parameters of the estimators: scikit-learn's, and those that gpunn adds."""

import inspect
from collections.abc import Callable
from typing import Any

from sklearn.utils._param_validation import StrOptions

FUNCTIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
"""gpunn's names of scikit-learn's activation functions."""

EXTRA: dict[str, Any] = {"device": "auto", "engine": "auto"}
"""Parameters that gpunn adds, with their defaults."""

CONSTRAINTS: dict[str, Any] = {"device": [str], "engine": [StrOptions({"auto", "plain", "fused", "epoch"})]}
"""scikit-learn's constraints on them."""


def init_of(theirs: type[Any]) -> Callable[..., None]:
    """Return an `__init__` with the parameters of `theirs`, whatever its version has, and `EXTRA`.

    scikit-learn reads the names of parameters from its signature.
    """
    constructor: Any = theirs.__init__
    base = inspect.signature(constructor)
    own = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=EXTRA[name]) for name in EXTRA]
    joined = base.replace(parameters=[*base.parameters.values(), *own])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it will be a method
        given = joined.bind(self, *args, **kwargs).arguments
        for name, default in EXTRA.items():
            setattr(self, name, given.pop(name, default))
        given.pop("self")
        constructor(self, **given)

    __init__.__signature__ = joined  # type: ignore[attr-defined]
    return __init__
