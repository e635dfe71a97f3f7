"""Training of estimators: device and engine, settings, convergence, and the network kept."""

import logging
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from sklearn import neural_network as theirs

from gpunn import Backend, ConfigurationError, DivergenceError, MLPClassifier, MLPRegressor, OutOfMemoryError
from gpunn.engines import Examples, Parameters, Recipe
from gpunn.engines.plain import PlainEngine
from gpunn.estimators import epochs
from gpunn.optimizers import SGD, Adam

from .fake_engines import Fake
from .strict_cupy import StrictCupy

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (90, 17), dtype=np.uint8)
X = GREY / 255
LABELS = RNG.integers(0, 3, 90)

BOTH: tuple[Any, Any] = (theirs.MLPClassifier, MLPClassifier)


class Recorder(Fake):
    """Works like `plain`, but as another engine of float32, and records its arguments."""

    name = "recorder"
    asked: ClassVar[list[tuple[Parameters, Examples, Recipe]]] = []
    rates: ClassVar[list[NDArray[Any]]] = []

    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        super().__init__(backend, start, examples, recipe)
        self.asked.append((start, examples, recipe))

    def run_epoch(self, order: NDArray[Any], rates: NDArray[Any] | None = None) -> float:
        assert rates is not None
        self.rates.append(rates)
        return super().run_epoch(order, rates)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(epochs, "choose_engine", lambda *_: Recorder)
    monkeypatch.setattr("gpunn.engines.speed.QUICK", 0)
    monkeypatch.setattr(Recorder, "asked", [])
    monkeypatch.setattr(Recorder, "rates", [])
    return Recorder


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("regression", [False, True])
def test_other_engines_come_close_to_scikit_learns_steps(
    recorder: type[Recorder], solver: str, *, regression: bool
) -> None:
    kind: Any = MLPRegressor if regression else MLPClassifier
    settings: dict[str, Any] = {"hidden_layer_sizes": (6,), "activation": "tanh", "solver": solver}
    settings |= {
        "alpha": 0.1,
        "batch_size": 30,
        "random_state": 0,
        "learning_rate_init": 0.01,
        "max_iter": 10,
        "device": "cpu",
    }
    y = X[:, :2] if regression else LABELS
    found, exact = kind(**settings).fit(X, y), kind(**settings, engine="plain").fit(X, y)
    # The second one is of the recorder too, but for float64: the test is of what both were asked for.
    (start, examples, recipe), (double, _, _) = recorder.asked
    assert start.weights[0].dtype == np.float32
    assert double.weights[0].dtype == np.float64
    assert examples.inputs.dtype == np.uint8
    np.testing.assert_array_equal(examples.inputs, GREY)
    assert examples.targets.dtype == (np.float32 if regression else np.uint8)
    factor = 2 if regression else 1
    assert recipe.l2 == pytest.approx(factor * 0.1 / 30)
    assert recipe.optimizer == (
        SGD(0.9, nesterov=True) if solver == "sgd" else Adam(epsilon=1e-8 * factor, epsilon_hat=True)
    )
    rate = 0.01 / factor if solver == "sgd" else 0.01
    assert all(rates.tolist() == [rate] * 3 for rates in recorder.rates)
    np.testing.assert_allclose(found.loss_curve_, exact.loss_curve_, rtol=1e-4)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epochs, "choose_engine", lambda *_: PlainEngine)
        theirs = kind(**settings, engine="plain").fit(X, y)
    np.testing.assert_allclose(found.loss_curve_, theirs.loss_curve_, rtol=2e-3)
    for coef, expected in zip(found.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(coef, expected, atol=2e-4)


def test_little_work_is_done_by_plain_on_the_cpu_in_the_precision_of_the_data(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    for dtype in (np.float32, np.float64):
        model = MLPClassifier((6,), max_iter=1).fit(X.astype(dtype), LABELS)
        assert model.coefs_[0].dtype == dtype
        assert (model.device_, model.engine_) == ("cpu", "plain")
        assert caplog.messages[-1] == f"fitting on cpu, engine plain, {np.dtype(dtype)}"
    rows = np.tile(X, (200, 1))
    model = MLPClassifier((60,), max_iter=1, device="cpu").fit(rows, np.tile(LABELS, 200))
    assert model.coefs_[0].dtype == np.float32
    assert model.predict_proba(X).dtype == np.float64


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_gpu_gets_the_same_as_the_cpu(install: Any, *, early_stopping: bool) -> None:
    install(StrictCupy())
    settings: dict[str, Any] = {"max_iter": 3, "random_state": 0, "early_stopping": early_stopping, "engine": "plain"}
    for kind, y in ((MLPClassifier, LABELS), (MLPRegressor, X[:, 0])):
        expected, found = (
            kind(hidden_layer_sizes=(6,), device=device, **settings).fit(X, y, sample_weight=X[:, 1])
            for device in ("cpu", "cuda")
        )
        for model in () if early_stopping else (found, expected):
            model.partial_fit(X, y)
        np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])
        assert found.loss_curve_ == expected.loss_curve_
        assert found.validation_scores_ == expected.validation_scores_
        assert type(found.coefs_[0]) is np.ndarray


def test_auto_goes_on_on_the_cpu_where_the_gpu_is_too_small(
    install: Any, swift_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(StrictCupy())
    devices = []

    class Full(PlainEngine):  # type: ignore[misc] # final for users
        def __init__(self, backend: Backend, *others: Any) -> None:
            devices.append(backend.name)
            if backend.name != "cpu":
                raise OutOfMemoryError("it is full")
            super().__init__(backend, *others)

    monkeypatch.setattr(epochs, "choose_engine", lambda *_: Full)
    monkeypatch.setattr("gpunn.engines.speed.QUICK", 0)
    MLPClassifier((6,), max_iter=1).fit(X, LABELS)
    assert devices == ["cuda:0", "cpu"]
    with pytest.raises(OutOfMemoryError, match="it is full"):
        MLPClassifier((6,), max_iter=1, device="cuda").fit(X, LABELS)


def test_ctrl_c_keeps_the_network_of_the_last_finished_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = MLPClassifier((6,), max_iter=2, random_state=0).fit(X, LABELS)
    run_epoch, calls = PlainEngine.run_epoch, []

    def interrupted(engine: PlainEngine, *arguments: Any) -> float:
        calls.append(1)
        loss = run_epoch(engine, *arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(PlainEngine, "run_epoch", interrupted)
    model = MLPClassifier((6,), random_state=0)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model.fit(X, LABELS)
    assert (model.n_iter_, model.loss_curve_) == (2, expected.loss_curve_)
    np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])
    model.partial_fit(X, LABELS)


def test_divergence_is_reported_in_one_line() -> None:
    model = MLPRegressor(hidden_layer_sizes=(6,), activation="identity", solver="sgd", learning_rate_init=100.0)
    with pytest.raises(DivergenceError, match=r"training diverged in epoch \d+ .* or lower learning_rate_init=100$"):
        model.fit(1e3 * X, X[:, 0])
    with pytest.raises(ValueError, match="diverged"):
        MLPRegressor(hidden_layer_sizes=(6,), activation="identity", solver="sgd", learning_rate_init=100.0).fit(
            1e3 * X, X[:, 0]
        )


def test_verbose_prints_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    model = MLPClassifier((6,), verbose=True, early_stopping=True, n_iter_no_change=1, tol=1.0).fit(X, LABELS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
    assert lines[1] == f"Validation score: {model.validation_scores_[0]:f}"
    assert lines[-1].startswith("Validation score did not improve more than tol=1.000000 for 1 consecutive epochs.")
    assert len(lines) == 2 * model.n_iter_ + 1
    MLPClassifier((6,), solver="sgd", learning_rate="adaptive", verbose=1, tol=10.0, max_iter=13).fit(X, LABELS)
    assert "Setting learning rate to 0.000200" in capsys.readouterr().out


def test_early_stopping_keeps_the_best_network() -> None:
    model = MLPClassifier((16,), early_stopping=True, random_state=1, learning_rate_init=0.05).fit(X, LABELS)
    scores = model.validation_scores_
    assert scores is not None
    assert model.best_validation_score_ == max(scores)
    until_best = MLPClassifier((16,), early_stopping=True, random_state=1, learning_rate_init=0.05)
    until_best.set_params(max_iter=int(np.argmax(scores)) + 1).fit(X, LABELS)
    np.testing.assert_array_equal(model.coefs_[0], until_best.coefs_[0])
    with pytest.raises(ValueError, match=r"found 1 of 10 examples held out, .* raise validation_fraction=0\.05"):
        MLPClassifier(early_stopping=True, validation_fraction=0.05).fit(X[:10], LABELS[:10])
    with pytest.raises(ConfigurationError, match="partial_fit does not support early_stopping=True"):
        MLPClassifier(early_stopping=True).partial_fit(X, LABELS, classes=range(3))


def test_changes_that_prevent_resuming_are_refused() -> None:
    model = MLPClassifier((6,), max_iter=2, warm_start=True).fit(X, LABELS)
    with pytest.raises(ValueError, match="same classes as in the previous call to fit"):
        model.fit(X, LABELS % 2)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        model.set_params(warm_start=False).partial_fit(X, LABELS + 2)
    with pytest.raises(ValueError, match=r"found layers of 17-7-3 and a network of 17-6-3, .* warm_start=False"):
        model.set_params(hidden_layer_sizes=7).partial_fit(X, LABELS)
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, 1:])


def test_parts_go_on_with_the_optimiser_of_the_first_one_as_in_scikit_learn() -> None:
    models = [kind((6,), random_state=0).partial_fit(X, LABELS, classes=range(3)) for kind in BOTH]
    for model in models:
        model.set_params(solver="sgd", learning_rate_init=0.1).partial_fit(X, LABELS)
    expected, found = models
    np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0], rtol=1e-9)


def test_an_engine_without_sample_weights_leaves_them_to_plain(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    model = MLPClassifier((6,), max_iter=2, engine="epoch", device="cpu").fit(X, LABELS, sample_weight=X[:, 0])
    assert model.engine_ == "plain"
    assert "engine plain: epoch doesn't support sample weights" in caplog.messages


def test_batches_larger_than_the_data_are_clipped_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"Got `batch_size`=500, larger than the 90 training examples\."):
        MLPClassifier((6,), batch_size=500, max_iter=2).fit(X, LABELS)
