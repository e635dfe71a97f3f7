"""Parameters of the estimators: types, scikit-learn's constraints, and what gpunn doesn't support."""

from abc import ABC
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from gpunn.checks import check_whole
from gpunn.errors import ConfigurationError
from gpunn.optimizers import SGD, Adam

FUNCTIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
"""gpunn's names of scikit-learn's activation functions."""

_POSITIVE = [Interval(Real, 0, None, closed="neither")]
_NOT_NEGATIVE = [Interval(Real, 0, None, closed="left")]
_SHARE = [Interval(Real, 0, 1, closed="left")]
_COUNT = Interval(Integral, 1, None, closed="left")

CONSTRAINTS: dict[str, Any] = {
    "hidden_layer_sizes": ["array-like", _COUNT],
    "activation": [StrOptions(set(FUNCTIONS))],
    "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
    "alpha": _NOT_NEGATIVE,
    "batch_size": [StrOptions({"auto"}), _COUNT],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": _POSITIVE,
    "power_t": _NOT_NEGATIVE,
    "max_iter": [_COUNT],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": _NOT_NEGATIVE,
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": _SHARE,  # scikit-learn also accepts 1, with which velocities never decay
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": _SHARE,
    "beta_1": _SHARE,
    "beta_2": _SHARE,
    "epsilon": _POSITIVE,
    "n_iter_no_change": [_COUNT, Options(Real, {np.inf})],
    "max_fun": [_COUNT],
    "device": [str],
    "engine": [StrOptions({"auto", "plain", "fused", "epoch"})],
}


class Settings(ABC):
    """Parameters of both estimators: scikit-learn's, and gpunn's `device` and `engine`."""

    hidden_layer_sizes: int | Sequence[int]
    activation: str
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: int | np.random.RandomState | None
    tol: float
    verbose: bool | int
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    device: str
    engine: str


def hidden_sizes(settings: Settings) -> list[int]:
    """Return the sizes of the hidden layers; raises `ConfigurationError` for invalid ones."""
    found = settings.hidden_layer_sizes
    sizes = [found] if isinstance(found, int | np.integer) else list(found)
    for size in sizes:
        check_whole("each size in hidden_layer_sizes", size, 1)
    return [int(size) for size in sizes]


def trains_in_steps(settings: Settings) -> bool:
    """Return True if `partial_fit` is available; otherwise raises `AttributeError`, as in scikit-learn."""
    if settings.solver == "lbfgs":
        raise AttributeError(_of_lbfgs(settings))
    return True


def check_supported(settings: Settings, *, incremental: bool) -> None:
    """Raise `ConfigurationError` for parameters that scikit-learn supports and gpunn doesn't."""
    if settings.solver == "lbfgs":
        raise ConfigurationError(_of_lbfgs(settings))
    loss = getattr(settings, "loss", None)
    if loss == "poisson":
        raise ConfigurationError(f"loss must be 'squared_error', got 'poisson': for that use {_theirs(settings)}")
    if incremental and settings.early_stopping:
        raise ConfigurationError("partial_fit requires early_stopping=False, got True: use fit to stop early")


def _theirs(settings: Settings) -> str:
    return f"sklearn.neural_network.{type(settings).__name__}"


def _of_lbfgs(settings: Settings) -> str:
    return f"solver must be 'adam' or 'sgd', got 'lbfgs': for that use {_theirs(settings)}"


def optimizer_of(settings: Settings, scale: float) -> SGD | Adam:
    """Return the optimiser for `settings.solver`, with gradients `scale` times as large as scikit-learn's."""
    if settings.solver == "adam":
        averages = float(settings.beta_1), float(settings.beta_2)
        return Adam(*averages, float(settings.epsilon) * scale, epsilon_hat=True)
    momentum = float(settings.momentum)
    return SGD(momentum, nesterov=bool(settings.nesterovs_momentum and momentum))
