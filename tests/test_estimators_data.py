"""Data of estimators: grey levels, sparse matrices, data frames, any numbers, labels of any kind."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from scipy import sparse
from sklearn.preprocessing import MinMaxScaler

from gpunn import DataError, MLPClassifier, MLPRegressor
from gpunn.equations import scale
from gpunn.estimators import inputs
from gpunn.estimators.inputs import engine_inputs, grey_levels

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (90, 17), dtype=np.uint8) * (RNG.random((90, 17)) < 0.3).astype(np.uint8)
LABELS = RNG.integers(0, 3, 90)
FORMATS = [
    sparse.csr_matrix,
    sparse.csc_matrix,
    sparse.coo_matrix,
    sparse.csr_array,
    sparse.csc_array,
    sparse.coo_array,
]


def dense_inputs(X: Any, dtype: Any, *, grey: bool) -> Any:
    return engine_inputs(X, dtype, grey=grey, stays_sparse=False)


def fitted(X: Any, y: Any = LABELS, **settings: Any) -> MLPClassifier:
    common: dict[str, Any] = {"max_iter": 3, "random_state": 0, "device": "cpu", "engine": "plain"}
    model: MLPClassifier = MLPClassifier((6,), **common | settings).fit(X, y)
    return model


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_grey_levels_are_found_and_stand_for_the_same_numbers(dtype: type[Any]) -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for X in (every.astype(dtype) / 255, every.astype(dtype) * dtype(1 / 255)):
        found = grey_levels(X)
        if found is None:  # by multiplication, some numbers are their neighbours
            assert not np.array_equal(scale(every, np.float32), X.astype(np.float32))
        else:
            np.testing.assert_array_equal(found, every)
            np.testing.assert_array_equal(scale(found, np.float32), X.astype(np.float32))
    assert grey_levels(every.astype(dtype) / 255) is not None


@pytest.mark.parametrize("value", [0.5, -1 / 255, 256 / 255, 1.0039, 1e-9, -0.4 / 255, 1e30, 255.0])
def test_one_other_value_makes_inputs_floats(value: float) -> None:
    X = (GREY / 255).astype(np.float32)
    X[77, 13] = value
    assert grey_levels(X) is None
    found = dense_inputs(X, np.float32, grey=True)
    assert found is X
    assert dense_inputs(GREY.astype(np.float64), np.float32, grey=True).dtype == np.float32


def test_many_rows_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "CHUNK", 50)
    np.testing.assert_array_equal(grey_levels(GREY / 255), GREY)


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.__name__)
def test_sparse_inputs_are_the_dense_ones(kind: Any) -> None:
    dense = GREY / 255
    for grey in (True, False):
        found = dense_inputs(kind(dense), np.float32, grey=grey)
        np.testing.assert_array_equal(found, GREY if grey else dense.astype(np.float32))
    expected, found = fitted(dense), fitted(kind(dense))
    np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.predict_proba(kind(dense)), expected.predict_proba(dense), rtol=1e-12)
    stopped = fitted(kind(dense), early_stopping=True)
    assert stopped.validation_scores_ == fitted(dense, early_stopping=True).validation_scores_


def test_sparse_inputs_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "available_memory", lambda: 4 * GREY.size)
    X = sparse.csr_array(GREY / 7)
    with pytest.raises(DataError, match=r"found a sparse X of shape \(90, 17\), which takes .* on the device cpu"):
        dense_inputs(X, np.float64, grey=False)
    assert dense_inputs(sparse.csr_array(GREY / 255), np.float32, grey=True).dtype == np.uint8
    monkeypatch.setattr(inputs, "available_memory", lambda: None)
    assert dense_inputs(X, np.float64, grey=False).shape == X.shape


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "float32", "float64", "object"])
def test_inputs_of_any_dtype_are_numbers(dtype: str) -> None:
    X = np.asfortranarray(GREY % 2, dtype)
    expected = fitted(np.ascontiguousarray(X, np.float32 if dtype == "float32" else np.float64))
    found = fitted(X)
    assert found.coefs_[0].dtype == expected.coefs_[0].dtype
    np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0], rtol=1e-6, atol=1e-7)
    assert found.predict_proba(X).dtype == expected.coefs_[0].dtype


def test_data_frames_give_their_names(recwarn: pytest.WarningsRecorder) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas, whose data frames are fitted, is not installed")
    frame = pandas.DataFrame(GREY / 255, columns=[f"pixel {i}" for i in range(17)])
    model = fitted(frame, pandas.Series(LABELS).map({0: "zero", 1: "one", 2: "two"}))
    assert list(model.feature_names_in_) == list(frame.columns)
    assert set(model.predict(frame)) <= {"zero", "one", "two"}
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"pixel 0": "first"}))
    model = MLPClassifier((6,), max_iter=3, random_state=0, early_stopping=True).fit(frame, LABELS)
    assert not [each for each in recwarn if "feature names" in str(each.message)]


@pytest.mark.parametrize("labels", [["b", "a", "c"], [-1.0, 2.0, 7.0], [10**12, 5, 6], [True, False]])
def test_labels_of_any_kind_come_back(labels: list[Any]) -> None:
    y = np.array(labels)[LABELS % len(labels)]
    model = fitted(GREY / 255, y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    assert model.predict(GREY / 255).dtype == y.dtype
    assert model.predict_proba(GREY / 255).shape == (90, len(labels))


def test_more_classes_than_uint8_counts_are_learnt() -> None:
    y = np.arange(300)
    model = fitted(np.eye(300), y, max_iter=120, learning_rate_init=0.02, batch_size=30)
    assert model.n_outputs_ == 300
    assert model.score(np.eye(300), y) > 0.9


def test_several_labels_come_back_as_zeros_and_ones() -> None:
    y = (GREY[:, :2] > 0).astype(int)
    model = fitted(GREY / 255, y, max_iter=150, learning_rate_init=0.02)
    assert (model.predict(GREY / 255) == y).mean() > 0.9
    assert sparse.issparse(fitted(GREY / 255, sparse.csr_array(y)).predict(GREY / 255))


@pytest.mark.parametrize("scaler", [None, MinMaxScaler()])
def test_estimates_have_the_shape_of_the_targets(scaler: MinMaxScaler | None) -> None:
    X = GREY / 255 if scaler is None else scaler.fit_transform(GREY)
    for y in (X[:, 0], X[:, :3]):
        model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=2, random_state=0).fit(X, y)
        assert model.predict(X).shape == y.shape
        assert isinstance(model.loss_, float)


@pytest.mark.parametrize(("weights", "message"), [(-1.0, "got -1"), (0.0, "got 0 for every example")])
def test_weights_that_mean_nothing_are_refused(weights: float, message: str) -> None:
    found: NDArray[Any] = np.full(90, weights)
    message = f"sample_weight must be >= 0, and > 0 for at least one example, {message}"
    with pytest.raises(ValueError, match=message if weights else f"{message}|at least one non-zero"):
        MLPClassifier((6,)).fit(GREY, LABELS, sample_weight=found)
