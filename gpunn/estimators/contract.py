"""What of scikit-learn's `MLPClassifier` and `MLPRegressor` the estimators build on, and whether it is there."""

from inspect import signature
from typing import Any

LOWEST = "1.7"
"""Oldest version of scikit-learn that fits; pyproject.toml's extra `sklearn` and `.ci/run` have it too."""

METHODS: dict[str, tuple[str, ...]] = {
    "_fit": ("X", "y", "sample_weight", "incremental"),
    "_fit_stochastic": (
        *("X", "y", "sample_weight", "activations", "deltas", "coef_grads", "intercept_grads"),
        *("layer_units", "incremental"),
    ),
    "_forward_pass_fast": ("X", "check_input"),
    "_initialize": ("y", "layer_units", "dtype"),
    "_update_no_improvement_count": ("early_stopping", "X", "y", "sample_weight"),
    "_score": ("X", "y", "sample_weight"),
    "_predict": ("X", "check_input"),
    "_validate_input": ("X", "y", "incremental", "reset"),
    "_check_solver": (),
    "fit": ("X", "y", "sample_weight"),
}
"""Methods that are called or replaced, with their parameters."""


def misfit(*kinds: type[Any]) -> str | None:
    """Return in what `kinds`, scikit-learn's classes, differ from what is built on, or None if they don't."""
    for kind in kinds:
        for name, expected in METHODS.items():
            method = getattr(kind, name, None)
            if method is None:
                return f"{kind.__name__}.{name} isn't there"
            found = tuple(signature(method).parameters)[1:]
            if found != expected:
                return f"{kind.__name__}.{name} takes ({', '.join(found)}), expected ({', '.join(expected)})"
    return None
