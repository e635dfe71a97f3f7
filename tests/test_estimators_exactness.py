"""The estimators compared with scikit-learn's, an exact oracle: `plain` equals them up to rounding in float64."""

from inspect import signature
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from sklearn import neural_network as theirs
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning

from gpunn import estimators as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*batch_size")

RNG = np.random.default_rng(3)
X = RNG.standard_normal((250, 12))
TARGETS: dict[str, NDArray[Any]] = {
    "classes": RNG.integers(0, 4, 250),
    "two classes": X[:, 0] + 0.3 * RNG.standard_normal(250) > 0,
    "labels": (X[:, :3] + 0.3 * RNG.standard_normal((250, 3)) > 0).astype(int),
    "numbers": 2 * X[:, 0] + 1,
    "rows of numbers": X[:, :2] @ RNG.standard_normal((2, 2)),
}
WEIGHTS = 3 * RNG.random(250) * (RNG.random(250) < 0.9)

THEY_WEIGH = "sample_weight" in signature(theirs.MLPClassifier.fit).parameters

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.02},
    "sgd without momentum": {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.0},
    "sgd with a large penalty": {
        "solver": "sgd",
        "nesterovs_momentum": False,
        "learning_rate_init": 0.01,
        "alpha": 0.5,
    },
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.2, "power_t": 0.3},
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "learning_rate_init": 0.04,
        "tol": 0.1,
        "n_iter_no_change": 1,
        "max_iter": 60,
    },
    "adam with a large penalty": {"alpha": 0.3},
    "adam in order": {"learning_rate_init": 0.005, "shuffle": False, "activation": "logistic", "epsilon": 1e-3},
    "adam, stopped early": {"early_stopping": True, "activation": "tanh", "n_iter_no_change": 2},
    "sgd, stopped early": {"solver": "sgd", "early_stopping": True, "activation": "identity", "batch_size": 225},
    "no hidden layer": {"hidden_layer_sizes": (), "random_state": np.random.RandomState(1)},
    "one at a time": {"batch_size": 1, "max_iter": 2},
}
COMMON: dict[str, Any] = {"hidden_layer_sizes": (9, 5), "max_iter": 20, "batch_size": 32, "random_state": 5}


def both(y: NDArray[Any], **settings: Any) -> list[Any]:
    name = "MLPRegressor" if y.dtype.kind == "f" else "MLPClassifier"
    settings = COMMON | settings
    seed = settings.pop("random_state")
    seeds = (
        [np.random.RandomState(1), np.random.RandomState(1)] if isinstance(seed, np.random.RandomState) else [seed] * 2
    )
    return [
        getattr(theirs, name)(**settings, random_state=seeds[0]),
        getattr(ours, name)(**settings, random_state=seeds[1], engine="plain", device="cpu"),
    ]


def assert_same(expected: Any, found: Any, *, atol: float = 1e-8) -> None:
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("loss_curve_", "validation_scores_", "loss_", "best_loss_", "best_validation_score_"):
        theirs, ours = getattr(expected, name), getattr(found, name)
        assert (ours is None) == (theirs is None), name
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=atol, err_msg=name)
    for theirs, ours in zip(
        [*expected.coefs_, *expected.intercepts_], [*found.coefs_, *found.intercepts_], strict=True
    ):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_fit_makes_the_network_of_scikit_learn(setting: str, target: str) -> None:
    y = TARGETS[target]
    expected, found = (model.fit(X, y) for model in both(y, **SETTINGS[setting]))
    assert_same(expected, found)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(expected, method):
            np.testing.assert_allclose(getattr(found, method)(X), getattr(expected, method)(X), rtol=1e-6, atol=1e-8)
    assert found.score(X, y) == pytest.approx(expected.score(X, y))


@pytest.mark.skipif(not THEY_WEIGH, reason="scikit-learn's estimators take weights of examples from 1.7 on")
@pytest.mark.parametrize("target", ["classes", "rows of numbers"])
@pytest.mark.parametrize("setting", ["sgd with a large penalty", "adam with a large penalty", "adam, stopped early"])
def test_weights_of_examples_count_as_in_scikit_learn(setting: str, target: str) -> None:
    y = TARGETS[target]
    for weights in (WEIGHTS, np.full(len(X), 2.5)):
        expected, found = (
            model.fit(X, y, sample_weight=weights) for model in both(y, **SETTINGS[setting], batch_size=45)
        )
        assert_same(expected, found)


@pytest.mark.parametrize("setting", ["sgd", "invscaling", "adam with a large penalty"])
def test_parts_and_warm_starts_go_on_as_in_scikit_learn(setting: str) -> None:
    y = TARGETS["classes"]
    models = both(y, **SETTINGS[setting])
    for model in models:
        for first in range(0, 250, 50):
            own = slice(first, first + 50)
            weights = {"sample_weight": WEIGHTS[own]} if THEY_WEIGH else {}
            model.partial_fit(X[own], y[own], **weights, classes=range(4))
        model.fit(X, y)
        model.partial_fit(X, y)
    assert_same(*models)
    models = both(y, **SETTINGS[setting], warm_start=True)
    for model in models:
        model.fit(X, y).fit(X, y)
    assert len(models[1].loss_curve_) == 40
    assert_same(*models)


def test_float32_starts_from_the_same_network_and_stays_close() -> None:
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    for solver in ("sgd", "adam"):
        models = both(labels, solver=solver, hidden_layer_sizes=(30,), max_iter=5)
        assert_same(*(model.fit(images, labels) for model in models), atol=1e-5)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_digits_are_learnt_as_well_as_by_scikit_learn(solver: str) -> None:
    images, labels = load_digits(return_X_y=True)
    images /= 16
    rate = {"sgd": 0.1, "adam": 0.003}[solver]
    shared: dict[str, Any] = {"solver": solver, "learning_rate_init": rate, "max_iter": 8, "hidden_layer_sizes": (32,)}
    found: dict[Any, list[float]] = {theirs: [], ours: []}
    for seed in range(10):
        for library, accuracies in found.items():
            extra = {"device": "cpu"} if library is ours else {}
            model = library.MLPClassifier(**shared, **extra, random_state=seed).fit(images[:1200], labels[:1200])
            accuracies.append(model.score(images[1200:], labels[1200:]))
    spread = np.std(found[theirs], ddof=1)
    assert abs(np.mean(found[ours]) - np.mean(found[theirs])) < 2 * spread / np.sqrt(10) + 0.002


@pytest.mark.parametrize("label", [0, 3, "a"])
def test_one_class_is_always_right_as_in_scikit_learn(label: Any) -> None:
    y = np.full(len(X), label)
    shared: dict[str, Any] = {"hidden_layer_sizes": (5,), "early_stopping": True, "max_iter": 30, "random_state": 0}
    expected, found = theirs.MLPClassifier(**shared).fit(X, y), ours.MLPClassifier(**shared, engine="plain").fit(X, y)
    assert set(found.validation_scores_) == {1.0}
    assert_same(expected, found)


def test_training_on_data_that_is_not_scaled_ends_where_it_does_in_scikit_learn() -> None:
    inputs, y = load_wine(return_X_y=True)
    expected, found = (library.MLPClassifier((30,), random_state=2, max_iter=60) for library in (theirs, ours))
    assert_same(expected.fit(inputs, y), found.set_params(device="cpu").fit(inputs, y))
    assert max(expected.loss_curve_) > 15  # of probabilities that are clipped


@pytest.mark.parametrize("labels", [["a", "b", "c", "d"], [7, -1, 3, 4], [False, True], [0, 1], [2.0, 0.0, 1.0, 3.0]])
def test_parts_with_labels_of_any_kind_are_learnt_as_by_scikit_learn(labels: list[Any]) -> None:
    y = np.array(labels)[TARGETS["classes"] % len(labels)]
    models = [library.MLPClassifier((9,), random_state=0) for library in (theirs, ours)]
    for model in models:
        for own in (slice(0, 90), slice(90, 92), slice(92, 250)):
            model.partial_fit(X[own], y[own], classes=np.unique(y))
    assert_same(*models)


def test_fit_warns_where_epochs_did_not_suffice() -> None:
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        ours.MLPClassifier((3,), max_iter=2).fit(X, TARGETS["classes"])
