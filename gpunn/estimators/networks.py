"""Several networks in one estimator: they differ in their seeds, and the mean of their outputs is predicted."""

import copy
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from gpunn.errors import ConfigurationError

OF_ONE = (
    *("loss_curve_", "validation_scores_", "validation_loss_curve_", "best_loss_", "best_validation_score_"),
    *("_best_coefs", "_best_intercepts", "_no_improvement_count", "_optimizer"),
)
"""Attributes that an estimator with several networks lacks."""


def draw_networks(estimator: Any, *layers: Any) -> None:
    """Make `estimators_`, untrained with these layers, each with a seed that the estimator's `random_state` draws."""
    for name in (*OF_ONE, "estimators_"):
        vars(estimator).pop(name, None)
    networks = [copy.copy(estimator) for _ in range(estimator.n_networks)]
    estimator.estimators_ = networks
    seeds = estimator._random_state.randint(np.iinfo(np.int32).max, size=len(networks))
    for network, seed in zip(networks, seeds.tolist(), strict=True):
        network.random_state = seed
    _set_parameters(estimator)
    for network in networks:
        vars(network).pop("_given", None)
        network._initialize(*layers)
    for name in ("t_", "n_outputs_", "n_layers_", "out_activation_"):
        setattr(estimator, name, getattr(networks[0], name))
    estimator.coefs_, estimator.intercepts_ = [], []


def resume_networks(estimator: Any) -> None:
    """Replace the estimator's networks, if it has several, by copies that go on, with its parameters of now.

    Raises `ConfigurationError` if `n_networks` is another number.
    """
    found = len(vars(estimator).get("estimators_", [estimator]))
    if found != estimator.n_networks:
        raise ConfigurationError(
            f"found {found} trained and n_networks={estimator.n_networks}, expected the same to resume training: set "
            "warm_start=False, and call fit"
        )
    if found > 1:
        estimator.estimators_ = copy.deepcopy(estimator.estimators_)
        _set_parameters(estimator)


def _set_parameters(estimator: Any) -> None:
    """Give the networks the estimator's parameters, but for the seeds; it calls callbacks, and the first one prints."""
    common = estimator.get_params(deep=False) | {"n_networks": 1, "callbacks": None}
    for number, network in enumerate(estimator.estimators_):
        network.set_params(
            **common | {"random_state": network.random_state, "verbose": not number and estimator.verbose}
        )
        network._random_state = check_random_state(network.random_state)


def summarise(estimator: Any) -> None:
    """Set the attributes of a fit from those of its networks."""
    # Ctrl-C may have come before others were begun.
    estimator.estimators_ = networks = [each for each in estimator.estimators_ if each.t_]
    estimator.n_iter_, estimator.t_ = (max(getattr(each, name) for each in networks) for name in ("n_iter_", "t_"))
    estimator.loss_ = np.float64(np.mean([each.loss_ for each in networks]))
    estimator.device_, estimator.engine_ = networks[0].device_, networks[0].engine_
