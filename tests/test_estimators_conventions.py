"""The estimators with scikit-learn's tools: its own checks, pipelines, searches, pickles, processes."""

import pickle
import re
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

import joblib
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from gpunn import MLPClassifier, MLPRegressor, estimators

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NOT_THEIRS: dict[str, Any] = {"device": "auto", "engine": "auto", "dropout": 0.0, "n_networks": 1}
NOT_THEIRS |= dict.fromkeys(["schedule", "scoring", "callbacks"])

INAPPLICABLE = {
    "check_array_api_input": "SCIPY_ARRAY_API is not set",
    "check_classifiers_multilabel_output_format_decision_function": "does not have a decision_function",
}
"""Checks that scikit-learn skips for its own MLPClassifier too."""


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    images, labels = load_digits(return_X_y=True)
    return images[:400], labels[:400]


def missing_package(check: Mapping[str, Any]) -> str | None:
    """Return the missing package because of which scikit-learn skipped a check, or None."""
    found = re.match(r"(\w+) is not installed", str(check["exception"])) if check["status"] == "skipped" else None
    return None if found is None or find_spec(found[1]) is not None else found[1]


@pytest.fixture(scope="module", params=[MLPClassifier, MLPRegressor], ids=lambda each: each.__name__)
def checked(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Results of scikit-learn's checks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each check catches those that it provokes, but for a few
        found: list[dict[str, Any]] = check_estimator(request.param(), on_fail=None, on_skip=None)
    return found


def test_all_of_scikit_learns_checks_pass(checked: list[dict[str, Any]]) -> None:
    assert len(checked) > 50
    for check in checked:
        if missing_package(check) is not None:
            continue  # the next test says so
        why = INAPPLICABLE.get(check["check_name"])
        if why is not None and check["status"] == "skipped":
            assert why in str(check["exception"])
        else:
            assert check["status"] == "passed", (check["check_name"], check["exception"])


def test_no_check_is_skipped_for_a_missing_package(checked: list[dict[str, Any]]) -> None:
    left_out = {check["check_name"]: missing_package(check) for check in checked if missing_package(check) is not None}
    if left_out:
        names, packages = ", ".join(left_out), " and ".join(sorted({str(package) for package in left_out.values()}))
        pytest.skip(f"{packages}, which scikit-learn's {names} needs, is not installed")
    assert all(check["status"] == "passed" for check in checked if check["check_name"] not in INAPPLICABLE)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_are_those_of_scikit_learn(name: str) -> None:
    ours = signature({"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}[name]).parameters
    expected: Mapping[str, Any] = signature(getattr(theirs, name)).parameters
    not_theirs = NOT_THEIRS | ({"class_weight": None} if name == "MLPClassifier" else {})
    found = [ours[parameter] for parameter in ours if parameter not in not_theirs]
    assert [(each.name, each.default, each.kind) for each in found] == [
        (each.name, each.default, each.kind) for each in expected.values()
    ]
    assert {name: ours[name].default for name in not_theirs} == not_theirs


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": -1}, "The 'alpha' parameter of MLPClassifier must be a float"),
        ({"activation": "softplus"}, "The 'activation' parameter of MLPClassifier must be a str among"),
        ({"engine": "steam"}, "The 'engine' parameter of MLPClassifier must be a str among"),
        ({"device": 1}, "The 'device' parameter of MLPClassifier must be an instance of 'str'"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be a float in the range"),
        ({"n_networks": 0}, "The 'n_networks' parameter of MLPClassifier must be an int in the range"),
        ({"class_weight": "even"}, "The 'class_weight' parameter of MLPClassifier must be a str among"),
        ({"schedule": "linear"}, "schedule must be one of constant, step, exponential, cosine, one-cycle, or"),
        ({"callbacks": [print, 3]}, r"callbacks must be functions of \(estimator, history\), got 3"),
        ({"callbacks": 3}, "The 'callbacks' parameter of MLPClassifier must be an instance of 'list'"),
        (
            {"dropout": 0.5, "solver": "lbfgs"},
            "found dropout=0.5 with solver='lbfgs', which scikit-learn trains: leave",
        ),
        ({"activation": "elu", "solver": "lbfgs"}, "found activation='elu' with solver='lbfgs'"),
        ({"n_networks": 2, "solver": "sgd", "momentum": 1}, "found n_networks=2 with momentum=1"),
    ],
)
def test_parameters_out_of_range_are_refused_in_one_line(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        MLPClassifier(**parameters).fit(np.eye(4), [0, 1, 0, 1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_constraints_are_those_of_parameters(kind: Any) -> None:
    assert kind._parameter_constraints.keys() == signature(kind).parameters.keys()


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("MLPRegressor", {"loss": "poisson", "early_stopping": True}),
        ("MLPRegressor", {"solver": "lbfgs"}),
        ("MLPClassifier", {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4}),
    ],
    ids=["poisson", "lbfgs", "momentum of 1"],
)
def test_what_engines_lack_is_trained_by_scikit_learn(digits: tuple[Any, Any], kind: str, parameters: Any) -> None:
    models = [
        getattr(library, kind)(max_iter=3, random_state=0, **parameters).fit(*digits)
        for library in (theirs, estimators)
    ]
    expected, found = models
    assert (found.device_, found.engine_) == ("cpu", "scikit-learn")
    assert found.loss_ == expected.loss_
    np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])
    np.testing.assert_array_equal(found.predict(digits[0]), expected.predict(digits[0]))


def test_a_search_over_a_pipeline_finds_the_better_rate(digits: tuple[Any, Any]) -> None:
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=15, random_state=0))
    rates = [1e-5, 1e-2]
    search = GridSearchCV(pipeline, {"mlpclassifier__learning_rate_init": rates}, cv=2).fit(*digits)
    assert search.best_params_ == {"mlpclassifier__learning_rate_init": 1e-2}
    assert search.score(*digits) > 0.95


def test_processes_get_what_this_one_gets(digits: tuple[Any, Any]) -> None:
    model = MLPClassifier((8,), max_iter=3, random_state=0, engine="plain")
    alone, apart = (cross_val_score(model, *digits, cv=2, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_array_equal(apart, alone)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_pickles_and_clones_go_on_where_the_model_would(digits: tuple[Any, Any], solver: str, tmp_path: Path) -> None:
    model = MLPClassifier((8,), solver=solver, max_iter=3, random_state=0).fit(*digits)
    joblib.dump(model, tmp_path / "model.joblib")
    copies = [pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")]
    for copy in copies:
        np.testing.assert_array_equal(copy.predict_proba(digits[0]), model.predict_proba(digits[0]))
    for each in (model, *copies):
        each.partial_fit(*digits)
    for copy in copies:
        np.testing.assert_array_equal(copy.coefs_[0], model.coefs_[0])
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not hasattr(fresh, "coefs_")


def test_other_estimators_build_on_these(digits: tuple[Any, Any]) -> None:
    model = MLPClassifier((16,), max_iter=20, learning_rate_init=0.01, random_state=0)
    calibrated = CalibratedClassifierCV(model, cv=2).fit(*digits)
    np.testing.assert_allclose(calibrated.predict_proba(digits[0]).sum(axis=1), 1)
    assert OneVsRestClassifier(model).fit(*digits).score(*digits) > 0.95


def test_regressors_fit_a_linear_function() -> None:
    X, y = make_regression(200, 5, random_state=0)
    model = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(20,), learning_rate_init=0.05, random_state=0)
    )
    assert model.fit(X, y / y.std()).score(X, y / y.std()) > 0.98
