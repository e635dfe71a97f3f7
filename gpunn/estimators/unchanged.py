"""Estimators that a failed call leaves as they were."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

CURVES = ("loss_curve_", "validation_scores_", "validation_loss_curve_")
"""Lists that a fit extends in place."""


class InterruptedEarlyError(Exception):
    """Ctrl-C before the first epoch finished."""


@contextmanager
def unchanged_by_errors(estimator: Any) -> Iterator[None]:
    """Restore the estimator, and its `random_state`, if the block raises anything but `ConvergenceWarning`.

    `InterruptedEarlyError` ends the block with a warning.
    """
    before = dict(vars(estimator))
    lists = {name: list(value) for name, value in before.items() if isinstance(value, list) and name not in CURVES}
    lengths = {name: len(before[name]) for name in CURVES if before.get(name) is not None}
    draws = estimator.random_state if isinstance(estimator.random_state, np.random.RandomState) else None
    state: Any = None if draws is None else draws.get_state(legacy=False)
    try:
        yield
    except ConvergenceWarning:  # made an error by a filter, and issued after training
        raise
    except BaseException as error:
        vars(estimator).clear()
        vars(estimator).update(before)
        for name, items in lists.items():
            before[name][:] = items
        for name, length in lengths.items():
            del before[name][length:]
        if draws is not None:
            draws.set_state(state)
        if not isinstance(error, InterruptedEarlyError):
            raise
        message = "Training interrupted by user before the first epoch finished: the estimator is unchanged."
        warnings.warn(message, stacklevel=5)
