"""What the estimators have and scikit-learn's lack, compared with scikit-learn's functions, and with single epochs."""

import io
import pickle
import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

import joblib
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    make_scorer,
    mean_absolute_error,
    mean_squared_error,
    zero_one_loss,
)
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_sample_weight

from gpunn import ConfigurationError, DataError, DivergenceError, MLPClassifier, MLPRegressor
from gpunn.engines.plain import PlainEngine
from gpunn.estimators import epochs
from gpunn.schedules import Cosine, OneCycle

from .strict_cupy import StrictCupy
from .test_estimators_training import Recorder
from .test_estimators_training import recorder as recorder  # noqa: PLC0414 - a fixture
from .test_estimators_unchanged import state

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:scipy.optimize. The `disp` and `iprint` options:DeprecationWarning",  # of scikit-learn before 1.8
)

RNG = np.random.default_rng(7)
X = RNG.standard_normal((150, 6))
X_VAL = RNG.standard_normal((50, 6))


def classes(inputs: NDArray[Any]) -> NDArray[Any]:
    labels: NDArray[Any] = np.array(["a", "b", "c"])[np.argmax(inputs[:, :3], axis=1)]
    return labels


TARGETS: dict[str, Any] = {
    "classes": classes,
    "two classes": lambda inputs: inputs[:, 0] > 0.4,
    "labels": lambda inputs: (inputs[:, :3] > 0).astype(int),
    "numbers": lambda inputs: inputs[:, 0] - inputs[:, 1],
    "rows of numbers": lambda inputs: inputs[:, :2] ** 2,
}
Y, Y_VAL = classes(X), classes(X_VAL)


def model_of(y: NDArray[Any], **settings: Any) -> Any:
    common: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 6, "learning_rate_init": 0.02, "device": "cpu"}
    common |= {"random_state": np.random.RandomState(2), "batch_size": 40}
    kind: Any = MLPRegressor if y.dtype.kind == "f" else MLPClassifier
    return kind(**common | settings)


def classifier(**settings: Any) -> Any:
    return model_of(Y, **settings)


def loss_of(model: Any, y: NDArray[Any]) -> float:
    """Return the loss on `X_VAL` by scikit-learn's metrics."""
    if y.dtype.kind == "f":
        return float(mean_squared_error(y, model.predict(X_VAL)) / 2)
    found = model.predict_proba(X_VAL)
    if y.ndim == 2:
        return float(sum(log_loss(y[:, k], found[:, k]) for k in range(y.shape[1])))
    return float(log_loss(y, found, labels=model.classes_))


@pytest.mark.parametrize("engine", ["plain", "epoch"])
@pytest.mark.parametrize("target", TARGETS)
def test_validation_losses_are_those_of_parts_and_metrics(target: str, engine: str) -> None:
    y, y_val = TARGETS[target](X), TARGETS[target](X_VAL)
    model, by_parts, alone = (model_of(y, engine=engine, shuffle=False) for _ in range(3))
    model.fit(X, y, X_val=X_VAL, y_val=y_val)
    expected = []
    more = {} if y.dtype.kind == "f" else {"classes": np.arange(3) if y.ndim == 2 else np.unique(y)}
    for _ in range(6):
        by_parts.partial_fit(X, y, **more)
        expected.append(loss_of(by_parts, y_val))
    np.testing.assert_allclose(model.validation_loss_curve_, expected, rtol=1e-9 if engine == "plain" else 1e-5)
    assert model.validation_scores_ is None
    alone.fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], alone.coefs_[0])  # they are watched only
    assert alone.validation_loss_curve_ is None


def mean_margin(estimator: Any, inputs: NDArray[Any], truth: NDArray[Any]) -> float:
    places = np.searchsorted(estimator.classes_, truth)
    return float(estimator.predict_proba(inputs)[np.arange(len(truth)), places].mean())


def f1_macro(estimator: Any) -> float:
    return float(f1_score(Y_VAL, estimator.predict(X_VAL), average="macro"))


SCORES: dict[str, tuple[Any, Any]] = {
    "accuracy": (None, lambda model: accuracy_score(Y_VAL, model.predict(X_VAL))),
    "loss": ("loss", lambda model: -log_loss(Y_VAL, model.predict_proba(X_VAL))),
    "name": ("f1_macro", f1_macro),
    "scorer": (
        make_scorer(zero_one_loss, greater_is_better=False),
        lambda model: -np.mean(model.predict(X_VAL) != Y_VAL),
    ),
    "function": (mean_margin, lambda model: mean_margin(model, X_VAL, Y_VAL)),
}


@pytest.mark.parametrize("name", SCORES)
def test_early_stopping_keeps_the_network_with_the_best_score_on_given_examples(name: str) -> None:
    scoring, oracle = SCORES[name]
    settings: dict[str, Any] = {"scoring": scoring, "learning_rate_init": 0.3, "max_iter": 30, "n_iter_no_change": 3}
    settings |= {"shuffle": False}
    model = classifier(early_stopping=True, **settings).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    by_parts, networks, expected = classifier(**settings), [], []
    for _ in range(model.n_iter_):
        by_parts.partial_fit(X, Y, classes=["a", "b", "c"])
        networks.append(by_parts.coefs_[0])
        expected.append(oracle(by_parts))
    np.testing.assert_allclose(model.validation_scores_, expected)
    best = int(np.argmax(expected))
    np.testing.assert_allclose(model.coefs_[0], networks[best])
    assert model.n_iter_ < 30
    assert best < model.n_iter_ - 1
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert len(model.validation_loss_curve_) == model.n_iter_


def test_held_out_examples_are_scored_by_scoring_too() -> None:
    y = TARGETS["numbers"](X)
    found = [
        model_of(y, early_stopping=True, scoring=scoring, random_state=0).fit(X, y)
        for scoring in (None, "r2", "neg_mean_squared_error", "loss")
    ]
    plain, r2, squares, losses = (model.validation_scores_ for model in found)
    np.testing.assert_allclose(r2, plain)
    np.testing.assert_allclose(squares, 2 * np.array(losses))
    assert found[3].validation_loss_curve_ == [-loss for loss in losses]
    weighted = model_of(y, early_stopping=True, scoring="r2", random_state=0).fit(X, y, sample_weight=X[:, 0] ** 2)
    expected = model_of(y, early_stopping=True, random_state=0).fit(X, y, sample_weight=X[:, 0] ** 2)
    np.testing.assert_allclose(weighted.validation_scores_, expected.validation_scores_)
    absolute = model_of(
        y, early_stopping=True, scoring=lambda model, inputs, truth: -mean_absolute_error(truth, model.predict(inputs))
    )
    assert absolute.fit(X, y).best_validation_score_ < 0


def with_weights(estimator: Any, inputs: NDArray[Any], truth: NDArray[Any], sample_weight: Any = None) -> float:
    return float(estimator.score(inputs, truth, sample_weight=sample_weight))


def test_scorers_get_weights_only_if_they_take_them() -> None:
    y, weights = TARGETS["numbers"](X), X[:, 0] ** 2
    common: dict[str, Any] = {"early_stopping": True, "random_state": 0}
    plain, same = (model_of(y, scoring=scoring, **common).fit(X, y, weights) for scoring in (None, with_weights))
    np.testing.assert_allclose(same.validation_scores_, plain.validation_scores_)

    def worst(estimator: Any, inputs: NDArray[Any], truth: NDArray[Any]) -> float:
        return -float(np.abs(truth - estimator.predict(inputs)).max())

    named, own = (model_of(y, scoring=scoring, **common).fit(X, y, weights) for scoring in ("neg_max_error", worst))
    np.testing.assert_allclose(own.validation_scores_, named.validation_scores_)
    margin = classifier(scoring=mean_margin, class_weight="balanced", **common).fit(X, Y)
    assert 0 < margin.best_validation_score_ < 1


def test_validation_goes_on_with_a_warm_start_and_takes_sparse_matrices_and_data_frames() -> None:
    model = classifier(warm_start=True).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    first = list(model.validation_loss_curve_)
    model.fit(X, Y, X_val=sparse.csc_array(X_VAL), y_val=Y_VAL[:, None].ravel())
    assert (len(model.validation_loss_curve_), model.validation_loss_curve_[:6]) == (12, first)
    model.fit(X, Y, X_val=X_VAL[Y_VAL != "a"], y_val=Y_VAL[Y_VAL != "a"])  # not all labels
    assert len(model.validation_loss_curve_) == 18
    pandas = pytest.importorskip("pandas", reason="pandas, whose data frames are fitted, is not installed")
    frame, other = (pandas.DataFrame(inputs, columns=list("uvwxyz")) for inputs in (X, X_VAL))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = classifier(early_stopping=True, scoring="accuracy", tol=1e9, n_iter_no_change=1)
        model.fit(frame, Y, X_val=other, y_val=Y_VAL)
    assert model.feature_names_in_.tolist() == list("uvwxyz")


@pytest.mark.parametrize("settings", [{}, {"solver": "sgd", "momentum": 1.0}, {"solver": "lbfgs"}], ids=str)
def test_a_warm_start_without_validation_has_no_losses_of_one_before(settings: dict[str, Any]) -> None:
    model = classifier(warm_start=True).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert len(model.validation_loss_curve_) == 6
    assert model.set_params(**settings).fit(X, Y).validation_loss_curve_ is None


def test_callbacks_that_are_an_array_are_refused() -> None:
    for solver in ("adam", "lbfgs"):
        with pytest.raises(ValueError, match="The 'callbacks' parameter of MLPClassifier must be"):
            classifier(callbacks=np.array([print, print]), solver=solver).fit(X, Y)
    assert classifier(callbacks=(lambda *_: False,)).fit(X, Y).n_iter_ == 1


def fail(*_: Any) -> float:
    return 1 / 0


FAILS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "X_val alone": ({}, {"X_val": X_VAL}, "found one of X_val and y_val, expected both or neither"),
    "another label": (
        {},
        {"X_val": X_VAL, "y_val": np.full(50, "d")},
        "X_val and y_val must be like X and y: .*classes",
    ),
    "another width": ({}, {"X_val": X_VAL[:, 1:], "y_val": Y_VAL}, "X_val and y_val must be like X and y: X has 5"),
    "another length": (
        {},
        {"X_val": X_VAL[1:], "y_val": Y_VAL},
        "X_val and y_val must be like X and y: .*inconsistent",
    ),
    "lbfgs": ({"solver": "lbfgs"}, {"X_val": X_VAL, "y_val": Y_VAL}, "found X_val with solver='lbfgs'"),
    "no such score": ({"scoring": "beauty", "early_stopping": True}, {}, "'beauty' is not a valid scoring value"),
    "a score that fails": ({"scoring": fail, "early_stopping": True}, {}, "division by zero"),
    "a callback that fails": ({"callbacks": fail}, {}, "division by zero"),
    "another number of networks": ({"n_networks": 3}, {}, "found 1 trained and n_networks=3, expected the same"),
}


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("fault", FAILS)
def test_a_fit_that_fails_says_why_in_one_line_and_changes_nothing(fault: str, *, warm_start: bool) -> None:
    settings, data, message = FAILS[fault]
    model = classifier(max_iter=2, warm_start=warm_start).fit(X, Y, X_val=X_VAL, y_val=Y_VAL).set_params(**settings)
    if "n_networks" in settings and not warm_start:
        assert len(model.fit(X, Y).estimators_) == 3
        return
    before = state(model)
    with pytest.raises((ValueError, ZeroDivisionError), match=message) as caught:
        model.fit(X, Y, **data)
    assert "\n" not in str(caught.value)
    assert state(model) == before


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_weights_of_classes_are_weights_of_their_examples(solver: str) -> None:
    own = RNG.random(150)
    for class_weight in ("balanced", {"a": 3.0, "c": 0.5}):
        weights = compute_sample_weight(class_weight, Y)
        for given in (None, own):
            found = classifier(class_weight=class_weight, solver=solver).fit(X, Y, sample_weight=given)
            expected = classifier(solver=solver).fit(X, Y, sample_weight=weights if given is None else weights * given)
            np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])
    assert not np.array_equal(found.coefs_[0], classifier(solver=solver).fit(X, Y, sample_weight=own).coefs_[0])


def test_weights_of_classes_hold_for_parts_held_out_examples_and_labels() -> None:
    class_weight: Any = {"a": 3.0, "c": 0.5}
    found, expected = classifier(class_weight=class_weight), classifier()
    for own in (Y != "a", Y != "b"):
        found.partial_fit(X[own], Y[own], classes=["a", "b", "c"])
        weights = np.array([class_weight.get(label, 1.0) for label in Y[own]])
        expected.partial_fit(X[own], Y[own], sample_weight=weights, classes=["a", "b", "c"])
    np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])
    for class_weight in ("balanced", [{0: 1, 1: 3}] * 3):
        model, y = classifier(class_weight=class_weight), TARGETS["labels"](X)
        expected = classifier().fit(X, y, sample_weight=compute_sample_weight(class_weight, y))
        np.testing.assert_array_equal(model.fit(X, y).coefs_[0], expected.coefs_[0])
    for y in (Y, TARGETS["labels"](X)):
        found = classifier(class_weight="balanced", early_stopping=True).fit(X, y)
        expected = classifier(early_stopping=True).fit(X, y, sample_weight=compute_sample_weight("balanced", y))
        assert found.validation_scores_ == expected.validation_scores_
    with pytest.raises(ConfigurationError, match="partial_fit does not support class_weight='balanced': give a dict"):
        classifier(class_weight="balanced").partial_fit(X, Y, classes=["a", "b", "c"])


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["array", "sparse"])
def test_weights_by_column_hold_for_parts_without_a_label(form: Any) -> None:
    class_weight, y = [{0: 1.0, 1: 3.0}, {0: 0.5, 1: 2.0}, {1: 4.0}], TARGETS["labels"](X)
    found, expected = classifier(class_weight=class_weight), classifier()
    for own in (y[:, 1] == 0, y[:, 2] == 0, y[:, 0] == 1):
        weights = np.ones(own.sum())
        for column, each in zip(y[own].T, class_weight, strict=True):
            weights *= [each.get(label, 1.0) for label in column]
        found.partial_fit(X[own], form(y[own]), classes=np.arange(3))
        expected.partial_fit(X[own], y[own], sample_weight=weights, classes=np.arange(3))
    np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0])
    with pytest.raises(ValueError, match="number of elements in class_weight should match number of outputs"):
        classifier(class_weight=class_weight[:2]).partial_fit(X, form(y), classes=np.arange(3))


def test_dropout_is_for_training_alone_and_differs_from_part_to_part(recorder: type[Recorder]) -> None:
    model = classifier(dropout=0.4, hidden_layer_sizes=(9, 7), random_state=1)
    model.fit(X, Y)
    expected = theirs.MLPClassifier((9, 7))
    vars(expected).update({name: value for name, value in vars(model).items() if name.endswith("_")})
    expected._label_binarizer, expected._random_state = model._label_binarizer, None
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), rtol=1e-6)
    again = classifier(dropout=0.4, hidden_layer_sizes=(9, 7), random_state=1).fit(X, Y)
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])
    model.partial_fit(X, Y).partial_fit(X, Y)
    classifier(dropout=0.4, random_state=1, solver="sgd", learning_rate="invscaling").fit(X, Y)
    recipes = [recipe for _, _, recipe in recorder.asked]
    assert {recipe.dropout for recipe in recipes} == {0.4}
    assert recipes[0].seed == recipes[1].seed
    # Parts, and the engines that "invscaling" makes of each epoch, must not drop the same activations.
    for few in (recipes[1:4], recipes[4:]):
        assert len({recipe.seed for recipe in few}) == len(few)
    assert len(recipes) == 4 + 6


def test_dropout_of_compiled_engines_is_that_of_plain() -> None:
    plain, fused = (
        classifier(dropout=0.3, engine=engine, random_state=1).fit(X.astype(np.float32), Y)
        for engine in ("plain", "fused")
    )
    np.testing.assert_allclose(fused.coefs_[0], plain.coefs_[0], atol=2e-5)
    without = classifier(engine="plain", random_state=1).fit(X.astype(np.float32), Y)
    assert np.abs(plain.coefs_[0] - without.coefs_[0]).max() > 0.01


def test_schedules_change_the_rates_of_batches(recorder: type[Recorder]) -> None:
    done = np.arange(6 * 4) / (6 * 4)
    for schedule, factors in (
        ("cosine", (1 + np.cos(np.pi * done)) / 2),
        ("one_cycle", OneCycle().factor(done * 6, 6)),
        (Cosine(), (1 + np.cos(np.pi * done)) / 2),
    ):
        recorder.rates.clear()
        classifier(schedule=schedule, solver="sgd").fit(X, Y)
        np.testing.assert_allclose(np.concatenate(recorder.rates), 0.02 * factors)
    with pytest.raises(ConfigurationError, match="partial_fit does not support schedule='cosine', which is of all"):
        classifier(schedule="cosine").partial_fit(X, Y, classes=["a", "b", "c"])


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_schedules_are_steps_of_scikit_learn_at_these_rates(solver: str) -> None:
    settings: dict[str, Any] = {"solver": solver, "batch_size": 150, "learning_rate_init": 0.01}
    found = classifier(**settings, schedule="cosine", momentum=0.0).fit(X, Y)
    common = found.get_params() | {"random_state": np.random.RandomState(2)}
    expected = theirs.MLPClassifier(**{name: common[name] for name in theirs.MLPClassifier().get_params()})
    for epoch in range(6):
        rate = 0.01 * (1 + np.cos(np.pi * epoch / 6)) / 2
        if epoch:
            vars(expected._optimizer).update({"learning_rate_init": rate, "learning_rate": rate})
        expected.partial_fit(X, Y, classes=["a", "b", "c"])
    np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0], rtol=1e-9)


SLOPES: dict[str, Any] = {
    "elu": lambda z: np.where(z > 0, z, np.expm1(z)),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
}


@pytest.mark.parametrize("activation", SLOPES)
def test_more_activations_are_trained_alike_by_every_engine(activation: str) -> None:
    y = TARGETS["numbers"](X)
    found = [
        model_of(y, activation=activation, engine=engine, random_state=0).fit(X.astype(np.float32), y)
        for engine in ("plain", "epoch", "fused")
    ]
    W, b = found[0].coefs_, found[0].intercepts_
    expected = SLOPES[activation](X @ W[0] + b[0]) @ W[1] + b[1]
    np.testing.assert_allclose(found[0].predict(X), expected.ravel(), rtol=1e-5)
    for model in found[1:]:
        np.testing.assert_allclose(model.coefs_[0], W[0], atol=2e-5)
    relu = model_of(y, engine="plain", random_state=0).fit(X.astype(np.float32), y)
    assert np.abs(relu.coefs_[0] - W[0]).max() > 1e-3


def test_callbacks_are_called_each_epoch_and_may_end_training() -> None:
    calls: list[Any] = []

    def watch(estimator: Any, history: dict[str, list[float]]) -> bool:
        calls.append((estimator.n_iter_, history, estimator.score(X_VAL, Y_VAL)))
        return bool(estimator.n_iter_ < 3)

    seconds: list[int] = []
    model = classifier(callbacks=[watch, lambda estimator, _: seconds.append(estimator.n_iter_)], early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y)  # not converged, but ended on request
    assert [number for number, _, _ in calls] == seconds == [1, 2, 3]
    assert model.n_iter_ == 3
    for number, history, _ in calls:
        assert history == {
            "loss": model.loss_curve_[:number],
            "validation_loss": model.validation_loss_curve_[:number],
            "validation_score": model.validation_scores_[:number],
        }
    seconds.clear()
    model.set_params(callbacks=lambda estimator, _: seconds.append(estimator.n_iter_), max_iter=50, tol=10.0)
    assert seconds == list(range(1, 1 + model.fit(X, Y).n_iter_))  # the last one, which ends training, included
    assert len(seconds) < 50
    calls.clear()
    part = classifier(callbacks=watch).partial_fit(X, Y, classes=["a", "b", "c"])
    assert calls == [(1, {"loss": part.loss_curve_}, part.score(X_VAL, Y_VAL))]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_verbose_shows_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    model = classifier(verbose=True, early_stopping=True).fit(X, Y)
    shown = screen.getvalue()
    assert sys.stdout is screen
    assert "epoch 6/6  loss" in shown
    assert f"validation score {model.validation_scores_[-1]:.4f}" in shown
    assert "Iteration" not in shown
    assert "Validation score:" not in shown
    assert model.verbose is True


def test_verbose_shows_a_bar_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.ModuleType("IPython.display")

    def show(first: str, **_: Any) -> Any:
        shown.append(first)
        return handle

    vars(display).update(HTML=str, display=show)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    model = classifier(verbose=True).fit(X, Y)
    assert len(shown) == 7
    assert shown[-1] == f'<progress value="6" max="6"></progress> epoch 6/6 loss {model.loss_:.4f}'


@pytest.mark.parametrize("target", ["classes", "two classes", "labels", "rows of numbers"])
@pytest.mark.parametrize("engine", ["plain", "epoch"])
def test_several_networks_predict_the_mean_of_fits_by_their_seeds(target: str, engine: str) -> None:
    y, y_val = TARGETS[target](X), TARGETS[target](X_VAL)
    settings: dict[str, Any] = {"engine": engine, "early_stopping": True, "max_iter": 3}
    settings |= {"dropout": 0.3, "schedule": "one_cycle"} if engine == "plain" else {}
    model = model_of(y, n_networks=3, random_state=4, **settings).fit(X, y, X_val=X_VAL, y_val=y_val)
    seeds = [each.random_state for each in model.estimators_]
    assert seeds == np.random.RandomState(4).randint(np.iinfo(np.int32).max, size=3).tolist()
    alone = [model_of(y, random_state=seed, **settings).fit(X, y, X_val=X_VAL, y_val=y_val) for seed in seeds]
    method = "predict" if y.dtype.kind == "f" else "predict_proba"
    expected = np.mean([getattr(each, method)(X_VAL) for each in alone], axis=0)
    np.testing.assert_allclose(getattr(model, method)(X_VAL), expected, rtol=1e-6, atol=1e-7)
    for each, single in zip(model.estimators_, alone, strict=True):
        assert vars(each).keys() == vars(single).keys()
        assert (each.n_iter_, each.engine_, each.t_) == (single.n_iter_, single.engine_, single.t_)
        np.testing.assert_allclose(each.coefs_[0], single.coefs_[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(each.validation_loss_curve_, single.validation_loss_curve_, rtol=1e-5)
    assert (model.n_iter_, model.engine_, model.device_, model.coefs_) == (3, engine, "cpu", [])
    assert model.loss_ == pytest.approx(np.mean([each.loss_ for each in alone]))


def test_several_networks_go_on_where_single_ones_would() -> None:
    model = classifier(n_networks=2, random_state=0)
    for _ in range(2):
        model.partial_fit(X, Y, classes=["a", "b", "c"])
    seeds = [each.random_state for each in model.estimators_]
    alone = [classifier(random_state=seed) for seed in seeds]
    for each in alone:
        each.partial_fit(X, Y, classes=["a", "b", "c"]).partial_fit(X, Y)
    for models in ([model], alone):
        for each in models:
            each.set_params(warm_start=True, alpha=0.3).fit(X, Y)
    for each, single in zip(model.estimators_, alone, strict=True):
        np.testing.assert_allclose(each.coefs_[0], single.coefs_[0], rtol=1e-9)
        assert len(each.loss_curve_) == 8
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    assert clone(model).get_params() == model.get_params()
    single = model.set_params(n_networks=1, warm_start=False).fit(X, Y)
    assert not hasattr(single, "estimators_")
    assert len(single.loss_curve_) == 6
    assert not hasattr(single.set_params(n_networks=2).fit(X, Y), "loss_curve_")


def test_several_networks_are_searched_over_and_read_their_callbacks() -> None:
    calls: list[Any] = []
    model = classifier(n_networks=2, callbacks=lambda network, history: calls.append((network, history)), max_iter=2)
    search = GridSearchCV(model, {"n_networks": [1, 2]}, cv=2, error_score="raise").fit(X, Y)
    assert search.best_estimator_.score(X, Y) == search.score(X, Y)
    calls.clear()
    model.fit(X, Y)
    assert sorted(len(history["loss"]) for _, history in calls) == [1, 1, 2, 2]
    assert {network for network, _ in calls} == set(model.estimators_)
    model.set_params(callbacks=lambda network, _: network is not model.estimators_[0]).fit(X, Y)
    assert [each.n_iter_ for each in model.estimators_] == [1, 2]


def test_an_error_in_one_network_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier(n_networks=3, warm_start=True).fit(X, Y)
    before = state(model)
    with pytest.raises(DivergenceError, match="training diverged in epoch 1"):
        model.set_params(solver="sgd", learning_rate_init=1e300, activation="identity").fit(1e10 * X, Y)
    model.set_params(solver="adam", learning_rate_init=0.02, activation="relu")
    assert state(model) == before
    run_epoch, calls = PlainEngine.run_epoch, []

    def interrupted(engine: PlainEngine, *arguments: Any) -> float:
        calls.append(1)
        if len(calls) == most:
            raise KeyboardInterrupt
        return run_epoch(engine, *arguments)

    monkeypatch.setattr(PlainEngine, "run_epoch", interrupted)
    monkeypatch.setattr(epochs, "on_each_core", lambda train, fits, _: [train(fit) for fit in fits])
    most = 1
    with pytest.warns(UserWarning, match="interrupted by user before the first epoch finished"):
        model.fit(X, Y)
    assert state(model) == before
    for warm_start, expected in ((True, [6, 1, 0]), (False, [6, 1])):  # the third one isn't trained, or no further
        most = len(calls) + 8
        with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
            model.set_params(warm_start=warm_start).fit(X, Y)
        assert [each.n_iter_ for each in model.estimators_] == expected
        assert model.predict_proba(X).shape == (150, 3)


def test_a_gpu_trains_several_networks_as_the_cpu_does(install: Any) -> None:
    install(StrictCupy())
    settings: dict[str, Any] = {"n_networks": 2, "random_state": 0, "engine": "plain", "max_iter": 2}
    for more in ({}, {"early_stopping": True, "scoring": "loss"}, {"dropout": 0.2, "schedule": "cosine"}):
        expected, found = (
            classifier(**settings | more | {"device": device}).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
            for device in ("cpu", "cuda")
        )
        np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), rtol=1e-9)
        assert found.device_ == "cuda:0"
        assert joblib.hash(found.estimators_[0].coefs_) == joblib.hash(expected.estimators_[0].coefs_)


def test_mistakes_in_targets_to_validate_with_are_data_errors() -> None:
    with pytest.raises(DataError, match="y_val must have as many columns as y, 1, got 2"):
        model_of(X[:, 0]).fit(X, X[:, 0], X_val=X_VAL, y_val=X_VAL[:, :2])
    with pytest.raises(DataError, match="X_val and y_val must be like X and y"):
        classifier().fit(X, Y, X_val=X_VAL, y_val=TARGETS["labels"](X_VAL))
