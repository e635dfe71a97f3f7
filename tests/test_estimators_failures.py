"""Estimators with degenerate data, and after a failed fit."""

import contextlib
import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from scipy import sparse
from sklearn.utils.validation import check_is_fitted

import gpunn
from gpunn import ConfigurationError, DataError, DivergenceError, MLPClassifier, MLPRegressor
from gpunn.estimators import epochs
from gpunn.estimators.inputs import engine_inputs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.random((60, 7))
Y = RNG.integers(0, 3, 60)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_batches_that_weigh_nothing_have_no_penalty(solver: str, batch_size: int) -> None:
    weights = (np.arange(60) < 20).astype(float)
    model = MLPClassifier((5,), solver=solver, batch_size=batch_size, alpha=0.1, max_iter=3, random_state=0)
    model.fit(X, Y, sample_weight=weights)
    assert np.isfinite(model.loss_curve_).all()
    assert max(model.loss_curve_) < 10
    assert max(np.abs(coef).max() for coef in model.coefs_) < 10


def test_duplicate_entries_of_a_sparse_matrix_are_added() -> None:
    values, columns, rows = np.array([1.0, 1.0, 0.2]), np.array([1, 1, 0]), np.array([0, 3])
    twice = sparse.csr_array((values, columns, rows), shape=(1, 3))
    for grey in (False, True):
        found = engine_inputs(twice, np.float32, grey=grey, stays_sparse=False)
        np.testing.assert_array_equal(found, np.array([[0.2, 2, 0]], np.float32))
    assert twice.nnz == 3


def test_a_fit_that_fails_leaves_the_estimator_as_it_was() -> None:
    model = MLPClassifier((5,), max_iter=2, random_state=0)
    reason = "device must be auto, cpu, cuda or cuda:N, got 'tpu'"
    with pytest.raises(ConfigurationError, match=reason):
        model.set_params(device="tpu").fit(X, Y)
    assert not any(name.endswith("_") and not name.startswith("_") for name in vars(model))
    model.set_params(device="auto").fit(X, Y)
    before, answers = vars(model).copy(), model.predict(X)
    with pytest.raises(ConfigurationError, match=reason):
        model.set_params(device="tpu").fit(X[:, :4], np.array(list("xyz"))[Y])
    model.set_params(device="auto")
    assert vars(model) == before
    check_is_fitted(model)
    np.testing.assert_array_equal(model.predict(X), answers)


def test_held_out_examples_that_all_weigh_nothing_are_refused() -> None:
    weights = np.zeros(60)
    weights[0] = 1
    model = MLPClassifier((5,), early_stopping=True, random_state=0)
    with pytest.raises(DataError, match=r"found weights of 0 for all examples .* expected some above 0"):
        model.fit(X, Y, sample_weight=weights)


def test_losses_that_are_not_finite_are_divergence() -> None:
    with pytest.raises(DivergenceError, match="scale X, and numeric y, to mean 0"):
        MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, engine="epoch", random_state=0).fit(X, X[:, 0] * 1e20)


@pytest.mark.parametrize("engine", ["plain", "epoch", "fused"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    ("solver", "rates"), [("sgd", [1e3, 1e10, 3.5e38, 1e300]), ("adam", [1e300])], ids=["sgd", "adam"]
)
def test_rates_that_explode_are_divergence_and_nothing_else(
    engine: str, dtype: Any, solver: str, rates: list[float], *, early_stopping: bool
) -> None:
    y = (X @ np.arange(7)).astype(dtype)
    for rate in rates:
        model = MLPRegressor(hidden_layer_sizes=(6, 6), activation="identity", solver=solver, max_iter=50)
        model.set_params(
            learning_rate_init=rate,
            early_stopping=early_stopping,
            random_state=0,
            engine=engine,
            device="cpu",
            momentum=0.0,
        )
        inputs = (X - 0.5).astype(dtype)
        if not early_stopping:
            with pytest.raises(DivergenceError, match="training diverged in epoch"):
                model.fit(inputs, y)
            assert not hasattr(model, "coefs_")
            continue
        # As in scikit-learn, the best network is kept, if there is one.
        with contextlib.suppress(DivergenceError):
            model.fit(inputs, y)
        assert all(np.isfinite(coef).all() for coef in getattr(model, "coefs_", []))
        assert np.isfinite(getattr(model, "best_validation_score_", 0.0))


@pytest.mark.parametrize("engine", ["plain", "epoch", "fused"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("size", [1e30, 1e39, 1e300])
def test_numbers_beyond_float32_are_trained_on_or_are_divergence(
    kind: Any, size: float, engine: str, *, early_stopping: bool
) -> None:
    model = kind(hidden_layer_sizes=(5,), max_iter=5, engine=engine, device="cpu", random_state=0)
    model.set_params(early_stopping=early_stopping)
    calls: list[dict[str, Any]] = [{"X": size * X, "y": Y, "sample_weight": None}]
    if engine == "plain":
        calls.append({"X": X, "y": Y, "sample_weight": np.where(Y, size, 1.0)})
    if kind is MLPRegressor:
        calls.append({"X": X, "y": size * X[:, 0], "sample_weight": None})
    for arguments in calls:
        try:
            model.fit(**arguments)
        except DivergenceError:
            continue
        assert all(np.isfinite(coef).all() for coef in model.coefs_)
        assert early_stopping or np.isfinite(model.loss_curve_).all()


@pytest.mark.parametrize("engine", ["plain", "epoch", "fused"])
def test_penalties_beyond_float32_are_divergence(engine: str) -> None:
    for solver in ("sgd", "adam"):
        model = MLPClassifier((5,), alpha=1e300, solver=solver, engine=engine, device="cpu")
        with pytest.raises(DivergenceError, match="training diverged in epoch"):
            model.fit(X.astype(np.float32), Y)


def test_parts_of_few_batches_are_trained_by_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunn.engines.speed.QUICK", 0)
    model: Any = MLPClassifier((5,), batch_size=10, random_state=0)
    assert model.partial_fit(X[:40], Y[:40], classes=[0, 1, 2]).engine_ == "plain"
    monkeypatch.setattr(epochs, "FEW", 4)
    assert model.partial_fit(X[:40], Y[:40]).engine_ == "epoch"


def test_everything_listed_can_be_looked_at_without_scikit_learn() -> None:
    assert "MLPClassifier" in dict(inspect.getmembers(gpunn))
    code = (
        "import importlib.util, inspect, sys; sys.modules['sklearn'] = None; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda name, *rest: None if name == 'sklearn' else find(name, *rest); "
        "import gpunn; print('MLPClassifier' in dict(inspect.getmembers(gpunn)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
