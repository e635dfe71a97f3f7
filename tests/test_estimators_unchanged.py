"""A call that fails, or is interrupted before its first epoch ends, leaves an estimator completely unchanged."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

import joblib
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from gpunn import DeviceError, DivergenceError, MLPClassifier, MLPRegressor, OutOfMemoryError
from gpunn.engines.plain import PlainEngine
from gpunn.estimators import epochs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.random((60, 7))
Y = RNG.integers(0, 3, 60)
NUMBERS = X[:, 0] - X[:, 1]


def with_one(values: NDArray[Any], other: float) -> NDArray[Any]:
    """Return a copy as floats with one value replaced."""
    found = values.astype(float)
    found.flat[11] = other
    return found


def state(model: Any) -> Any:
    """Return a value that changes with any attribute or its contents."""
    return sorted(vars(model)), joblib.hash(vars(model))


def classifier(**settings: Any) -> Any:
    common: dict[str, Any] = {"max_iter": 3, "random_state": np.random.RandomState(3)}
    return MLPClassifier((5,), **common | settings)


def regressor(**settings: Any) -> Any:
    common: dict[str, Any] = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": np.random.RandomState(3)}
    return MLPRegressor(**common | settings)


HISTORIES: dict[str, Callable[[], Any]] = {
    "never fitted": classifier,
    "fitted": lambda: classifier().fit(X, Y),
    "fitted by parts": lambda: classifier().partial_fit(X[:30], Y[:30], classes=[0, 1, 2]).partial_fit(X, Y),
    "stopped early": lambda: classifier(early_stopping=True).fit(X, Y),
    "warm": lambda: classifier(warm_start=True).fit(X, Y).fit(X, Y),
    "warm, stopped early": lambda: classifier(warm_start=True, early_stopping=True).fit(X, Y),
    "warm, with momentum": lambda: classifier(warm_start=True, solver="sgd", learning_rate="adaptive").fit(X, Y),
}

FAULTS: dict[str, dict[str, Any]] = {
    "NaN in X": {"X": with_one(X, np.nan)},
    "infinity in X": {"X": with_one(X, np.inf)},
    "text in X": {"X": X.astype(str).astype(object) + "a"},
    "one dimension in X": {"X": X[:, 0]},
    "no examples": {"X": X[:0], "y": Y[:0]},
    "no features": {"X": X[:, :0]},
    "NaN in y": {"y": with_one(Y, np.nan)},
    "no y": {"y": None},
    "y of continuous numbers": {"y": NUMBERS},
    "y of two columns of classes": {"y": np.column_stack([Y, Y])},
    "lengths that differ": {"X": X[:9]},
    "weights of another length": {"sample_weight": np.ones(9)},
    "weights below 0": {"sample_weight": np.full(60, -1.0)},
    "weights of NaN": {"sample_weight": np.full(60, np.nan)},
    "weights of text": {"sample_weight": ["much"] * 60},
    "an engine that isn't": {"engine": "steam"},
    "a parameter of the wrong type": {"alpha": "small"},
    "a parameter out of range": {"learning_rate_init": -1.0},
    "an activation that isn't": {"activation": "softplus"},
    "a layer without neurons": {"hidden_layer_sizes": (5, 0)},
    "a device that isn't": {"device": "tpu"},
    "a random state that isn't one": {"random_state": "luck"},
}
OF_FIT: dict[str, dict[str, Any]] = {
    "a solver that isn't": {"solver": "newton"},
    "too few to hold out": {"early_stopping": True, "validation_fraction": 0.01},
    "nothing left to train on": {"early_stopping": True, "validation_fraction": 0.999},
    "divergence": {"X": 1e30 * X, "solver": "sgd", "learning_rate_init": 1e300, "early_stopping": False},
}
OF_PARTS: dict[str, dict[str, Any]] = {
    "a class that isn't one of them": {"y": Y + 1},
    "labels of another type": {"y": np.array(list("abc"))[Y]},
    "early stopping": {"early_stopping": True},
}


def call(model: Any, method: str, fault: dict[str, Any]) -> Any:
    """Set the parameters in `fault`, and call the method with its data; return the state before the call."""
    data = {"X": X, "y": Y, "sample_weight": None} | {
        key: fault[key] for key in ("X", "y", "sample_weight") & fault.keys()
    }
    model.set_params(**{key: value for key, value in fault.items() if key not in data})
    before = state(model)
    more = {} if method == "fit" else {"classes": [0, 1, 2]}
    with pytest.raises((ValueError, TypeError, RuntimeWarning)):
        getattr(model, method)(**data, **more)
    return before


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("fault", [*FAULTS, *OF_FIT])
def test_a_fit_that_fails_changes_nothing(fault: str, history: str) -> None:
    model = HISTORIES[history]()
    assert call(model, "fit", FAULTS.get(fault) or OF_FIT[fault]) == state(model)


@pytest.mark.parametrize("history", ["never fitted", "fitted", "fitted by parts"])
@pytest.mark.parametrize("fault", [*FAULTS, *OF_PARTS])
def test_a_partial_fit_that_fails_changes_nothing_and_the_next_trains(fault: str, history: str) -> None:
    model = HISTORIES[history]()
    parameters = model.get_params()
    before = call(model, "partial_fit", FAULTS.get(fault) or OF_PARTS[fault])
    assert state(model) == before
    model.set_params(**parameters)
    if history == "never fitted":
        with pytest.raises(NotFittedError):
            check_is_fitted(model)
    model.partial_fit(X, Y, classes=[0, 1, 2])
    assert state(model) != before


@pytest.mark.parametrize("classes", [None, [0], [0, 1], ["u", "v", "w"], []])
def test_wrong_classes_leave_a_classifier_unfitted(classes: Any) -> None:
    model = classifier()
    before = state(model)
    with pytest.raises((ValueError, TypeError)):
        model.partial_fit(X, Y, classes=classes)
    assert state(model) == before
    expected = classifier().partial_fit(X, Y, classes=[0, 1, 2])
    np.testing.assert_array_equal(model.partial_fit(X, Y, classes=[0, 1, 2]).coefs_[0], expected.coefs_[0])


@pytest.mark.parametrize(
    "fault",
    [
        {"classes": [0, 1]},
        {"X": X[:, :4]},
        {"hidden_layer_sizes": (4,)},
        {"y": np.eye(3, dtype=int)[Y]},
        {"y": sparse.csr_array(np.eye(3, dtype=int)[Y])},
    ],
    ids=["classes", "features", "layers", "labels", "sparse labels"],
)
def test_a_later_part_that_does_not_go_on_changes_nothing(fault: dict[str, Any]) -> None:
    model = HISTORIES["fitted by parts"]()
    arguments = {"X": X, "y": Y} | {key: fault[key] for key in fault.keys() - {"hidden_layer_sizes"}}
    model.set_params(hidden_layer_sizes=fault.get("hidden_layer_sizes", (5,)))
    before = state(model)
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        model.partial_fit(**arguments)
    assert state(model) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"learning_rate_init": -1.0}, "learning_rate_init"), ({"activation": "softplus"}, "activation")],
    ids=str,
)
def test_parameters_set_between_parts_are_checked(wrong: dict[str, Any], message: str) -> None:
    model = HISTORIES["fitted by parts"]()
    with pytest.raises(ValueError, match=f"The '{message}' parameter of MLPClassifier must be"):
        model.set_params(**wrong).partial_fit(X, Y)


@pytest.mark.parametrize("fault", [{"y": Y % 2}, {"y": Y + 1}, {"X": X[:, :4]}, {"hidden_layer_sizes": 4}], ids=str)
def test_a_warm_start_that_does_not_go_on_changes_nothing(fault: dict[str, Any]) -> None:
    model = HISTORIES["warm"]()
    assert call(model, "fit", fault) == state(model)


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    "fault",
    [{"y": NUMBERS[:9]}, {"y": with_one(NUMBERS, np.inf)}, {"y": None}, {"y": Y.astype(str) + "a"}, {"X": X[:1]}],
)
def test_a_failed_call_leaves_a_regressor_unchanged(fault: dict[str, Any], *, warm_start: bool) -> None:
    for model in (regressor(), regressor(warm_start=warm_start).fit(X, NUMBERS)):
        for method in (model.fit, model.partial_fit):
            before = state(model)
            with pytest.raises((ValueError, TypeError)):
                method(**{"X": X, "y": NUMBERS} | fault)
            assert state(model) == before


def test_names_of_columns_stay_those_of_the_fit_before() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas, whose data frames are fitted, is not installed")
    frame = pandas.DataFrame(X, columns=[f"column {i}" for i in range(7)])
    model = classifier().fit(frame, Y)
    before = state(model)
    for other in (X[:, :3], frame.rename(columns={"column 0": "first"}), frame.iloc[:, :3]):
        with pytest.raises(ValueError, match="NaN"):
            model.fit(other, with_one(Y, np.nan))
        assert state(model) == before
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame.rename(columns={"column 0": "first"}), Y)
    assert state(model) == before


@pytest.fixture
def fails_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, BaseException], None]]:
    """Make an epoch, counted from 1, fail after parameters have been changed."""
    run_epoch = PlainEngine.run_epoch

    def prepare(number: int, error: BaseException) -> None:
        epochs = iter(range(1, 1000))

        def failing(engine: PlainEngine, *arguments: Any) -> float:
            loss = run_epoch(engine, *arguments)
            if next(epochs) == number:
                raise error
            return loss

        monkeypatch.setattr(PlainEngine, "run_epoch", failing)

    yield prepare
    monkeypatch.setattr(PlainEngine, "run_epoch", run_epoch)


Fails = Callable[[int, BaseException], None]


@pytest.mark.parametrize("history", HISTORIES)
def test_ctrl_c_before_the_end_of_the_first_epoch_changes_nothing(history: str, fails_in: Fails) -> None:
    model = HISTORIES[history]()
    before = state(model)
    fails_in(1, KeyboardInterrupt())
    with pytest.warns(UserWarning, match="interrupted by user before the first epoch finished") as said:
        assert model.fit(X, Y if model.warm_start else Y + 4) is model
    assert [each.filename for each in said] == [__file__]
    assert state(model) == before
    if not model.early_stopping:
        fails_in(1, KeyboardInterrupt())
        with pytest.warns(UserWarning, match="interrupted by user before the first epoch finished"):
            model.partial_fit(X, Y, classes=[0, 1, 2])
        assert state(model) == before
    if history == "never fitted":
        with pytest.raises(NotFittedError):
            model.predict(X)


@pytest.mark.parametrize("where", ["choose_engine", "engine_inputs", "on_device"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OutOfMemoryError, DeviceError])
def test_a_failure_before_training_changes_nothing(
    where: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    for history in ("never fitted", "fitted", "warm"):
        model = HISTORIES[history]()
        before = state(model)
        with monkeypatch.context() as patch:
            patch.setattr(epochs, where, failing)
            with pytest.raises(error):
                model.fit(X, Y)
        assert state(model) == before


@pytest.mark.parametrize("history", HISTORIES)
def test_an_error_in_a_later_epoch_changes_nothing(history: str, fails_in: Fails) -> None:
    model = HISTORIES[history]()
    before = state(model)
    fails_in(3, RuntimeError("a wire is loose"))
    with pytest.raises(RuntimeError, match="a wire is loose"):
        model.fit(X, Y)
    assert state(model) == before


def fail(*_: Any) -> None:
    raise RuntimeError("a wire is loose")


@pytest.mark.parametrize("rates", ["invscaling", "adaptive"])
def test_a_callback_that_fails_in_a_part_leaves_the_optimizer_unchanged(rates: str) -> None:
    model = classifier(solver="sgd", learning_rate=rates, n_iter_no_change=1, tol=10.0)
    for _ in range(4):
        model.partial_fit(X, Y, classes=[0, 1, 2])

    model.set_params(callbacks=fail)
    for _ in range(3):  # one of them lowers the adaptive rate
        before = state(model)
        with pytest.raises(RuntimeError, match="a wire is loose"):
            model.partial_fit(X, Y)
        assert state(model) == before
        model.set_params(callbacks=None).partial_fit(X, Y).set_params(callbacks=fail)


def test_divergence_in_a_later_epoch_changes_nothing() -> None:
    model = regressor(activation="identity").fit(X, NUMBERS)
    model.set_params(solver="sgd", learning_rate_init=100.0, max_iter=100, momentum=0.0)
    before = state(model)
    with pytest.raises(DivergenceError, match=r"diverged in epoch ([2-9]|\d\d)"):
        model.fit(X, NUMBERS)
    assert state(model) == before


def test_ctrl_c_in_a_later_epoch_keeps_the_best_network_with_early_stopping(fails_in: Fails) -> None:
    model = classifier(early_stopping=True, max_iter=20, random_state=1, learning_rate_init=0.05)
    fails_in(8, KeyboardInterrupt())
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model.fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_) == 7
    assert model.best_validation_score_ == max(model.validation_scores_ or [])


def test_a_warning_that_is_made_an_error_comes_after_training() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = classifier()
        with pytest.raises(ConvergenceWarning):
            model.fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_) == 3


@pytest.mark.parametrize("early_stopping", [False, True])
def test_curves_continue_with_a_warm_start(*, early_stopping: bool) -> None:
    model = classifier(warm_start=True, early_stopping=early_stopping).fit(X, Y)
    first, scores = list(model.loss_curve_), list(model.validation_scores_ or [])
    model.fit(X, Y)
    assert (len(model.loss_curve_), model.loss_curve_[:3]) == (6, first)
    if early_stopping:
        assert model.validation_scores_ is not None
        assert (len(model.validation_scores_), model.validation_scores_[:3]) == (6, scores)
    model.set_params(early_stopping=not early_stopping).fit(X, Y)
    assert len(model.loss_curve_) == 9
    assert (model.validation_scores_ is None) is early_stopping
    model.set_params(warm_start=False).fit(X, Y)
    assert len(model.loss_curve_) == 3
