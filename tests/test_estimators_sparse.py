"""Sparse matrices in the estimators: engines on a CPU train them as they are, and make scikit-learn's network."""

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone

from gpunn import DataError, MLPClassifier, MLPRegressor
from gpunn.backends import get_backend
from gpunn.engines import CUDA_ENGINES, ENGINES, Examples, Parameters, Recipe
from gpunn.engines.base import examples_reason
from gpunn.engines.checks import own_examples
from gpunn.estimators import inputs
from gpunn.estimators.inputs import engine_inputs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*batch_size")

RNG = np.random.default_rng(4)
# Batches divide the examples, as engines take the penalty of a smaller last batch to be that of the others.
X = sparse.random(200, 300, 0.02, format="csr", random_state=5)
LABELS = RNG.integers(0, 4, 200)
TARGETS: dict[str, NDArray[Any]] = {
    "classes": LABELS,
    "labels": RNG.integers(0, 2, (200, 3)),
    "numbers": np.asarray(X.sum(axis=1)).ravel() + RNG.normal(size=200),
}
ENGINE_NAMES = list(ENGINES)
COMMON: dict[str, Any] = {"hidden_layer_sizes": (70, 20), "max_iter": 4, "batch_size": 50, "random_state": 0}
SGD = {"solver": "sgd", "learning_rate_init": 0.1}
SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adam, a large penalty": {"alpha": 0.3},
    "momentum": SGD | {"nesterovs_momentum": False},
    "nesterov, deferred": SGD | {"batch_size": 5},
    "descent": SGD | {"momentum": 0.0, "alpha": 0.01},
    "invscaling": SGD | {"learning_rate": "invscaling"},
    "in order": {"shuffle": False, "hidden_layer_sizes": (16,)},
    "stopped early": {"early_stopping": True, "n_iter_no_change": 2, "batch_size": 45},
    "no hidden layer": {"hidden_layer_sizes": ()},
}


def ours(y: NDArray[Any], engine: str, **settings: Any) -> Any:
    kind = MLPRegressor if y.dtype.kind == "f" else MLPClassifier
    return kind(**COMMON | settings, engine=engine, device="cpu")


def assert_close(found: Any, expected: Any, *, rtol: float = 1e-6) -> None:
    """Weights agree to the rounding errors of float64 (the engine plain) or float32."""
    atol = 1e-9 if found.coefs_[0].dtype == np.float64 else 2e-5
    for name in ("coefs_", "intercepts_"):
        for left, right in zip(getattr(found, name), getattr(expected, name), strict=True):
            np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_network_is_that_of_scikit_learn(setting: str, engine: str) -> None:
    expected = theirs.MLPClassifier(**COMMON | SETTINGS[setting]).fit(X, LABELS)
    found = ours(LABELS, engine, **SETTINGS[setting]).fit(X, LABELS)
    assert (found.engine_, found.device_) == (engine, "cpu")
    assert_close(found, expected)
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), rtol=1e-4, atol=2e-5)
    assert found.n_iter_ == expected.n_iter_


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("target", ["labels", "numbers"])
def test_several_labels_and_numbers_are_learnt(target: str, engine: str) -> None:
    y = TARGETS[target]
    name = "MLPRegressor" if target == "numbers" else "MLPClassifier"
    expected = getattr(theirs, name)(**COMMON).fit(X, y)
    found = ours(y, engine).fit(X, y)
    assert_close(found, expected)
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_the_network_is_that_of_the_dense_matrix(engine: str) -> None:
    expected = ours(LABELS, engine).fit(X.toarray(), LABELS)
    found = ours(LABELS, engine).fit(X, LABELS)
    assert_close(found, expected)
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X.toarray()), rtol=1e-4, atol=1e-6)


def shuffled(rows: Any) -> Any:
    """The same matrix with each row's entries in another order."""
    order = np.concatenate(
        [RNG.permutation(np.arange(*ends)) for ends in zip(rows.indptr, rows.indptr[1:], strict=False)]
    )
    return type(rows)((rows.data[order], rows.indices[order], rows.indptr), rows.shape)


def doubled(rows: Any) -> Any:
    """The same matrix with each entry in two halves."""
    return type(rows)((np.repeat(rows.data / 2, 2), np.repeat(rows.indices, 2), 2 * rows.indptr), rows.shape)


def with_zeros(rows: Any) -> Any:
    """The same matrix with zeros among its entries."""
    more = rows.copy()
    more[[0, 3, 3], [7, 8, 299]] = [1, 1, 1]
    more[[0, 3, 3], [7, 8, 299]] = [0, 0, 0]
    assert more.nnz > rows.nnz
    return more


def wide(rows: Any) -> Any:
    """The same matrix with indices of 64 bits."""
    found = type(rows)(rows)
    found.indices, found.indptr = found.indices.astype(np.int64), found.indptr.astype(np.int64)
    return found


FORMS: dict[str, Callable[[Any], Any]] = {
    "array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_array,
    "unsorted": shuffled,
    "duplicates": doubled,
    "zeros": with_zeros,
    "wide": wide,
    "float32": lambda rows: rows.astype(np.float32),
}


@pytest.fixture(scope="module")
def by_engine() -> dict[str, Any]:
    return {engine: ours(LABELS, engine).fit(X, LABELS) for engine in ENGINE_NAMES}


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_sparse_matrix_is_the_same(form: str, engine: str, by_engine: dict[str, Any]) -> None:
    given = FORMS[form](X)
    before = given.copy()
    found = ours(LABELS, engine).fit(given, LABELS)
    assert_close(found, by_engine[engine])
    np.testing.assert_allclose(found.predict_proba(given), found.predict_proba(X.toarray()), rtol=1e-4, atol=1e-6)
    for name in ("data", "indices", "indptr") if hasattr(given, "indptr") else ("data",):
        np.testing.assert_array_equal(getattr(given, name), getattr(before, name))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_rows_and_columns_without_entries_are_zeros(engine: str) -> None:
    empty = X.toarray()
    empty[[0, 5, 199]] = 0
    empty[:, [0, 100, 299]] = 0
    found = ours(LABELS, engine).fit(sparse.csr_array(empty), LABELS)
    assert_close(found, theirs.MLPClassifier(**COMMON).fit(empty, LABELS))
    nothing = ours(LABELS, engine).fit(sparse.csr_array((200, 300)), LABELS)
    assert_close(nothing, theirs.MLPClassifier(**COMMON).fit(np.zeros((200, 300)), LABELS))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_parts_of_a_sparse_matrix_are_trained_in_turn(engine: str) -> None:
    expected, found = theirs.MLPClassifier(**COMMON), ours(LABELS, engine)
    for part in (slice(0, 100), slice(100, 200), slice(0, 100)):
        for model in (expected, found):
            model.partial_fit(X[part], LABELS[part], classes=np.arange(4))
    assert_close(found, expected)


def test_sample_weights_are_those_of_the_dense_matrix() -> None:
    weights = RNG.random(200) + 0.1
    found = ours(LABELS, "auto").fit(X, LABELS, weights)
    assert found.engine_ == "plain"
    assert_close(found, ours(LABELS, "plain").fit(X.toarray(), LABELS, weights))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_memory_grows_by_the_non_zeros(engine: str, *, weighted: bool) -> None:
    columns = RNG.integers(0, 20_000, (2000, 20))
    wide = sparse.csr_array((np.ones(40_000), columns.ravel(), np.arange(0, 40_001, 20)), (2000, 20_000))
    y, weights = np.arange(2000) % 3, np.arange(1.0, 2001) if weighted else None
    model = MLPClassifier((4,), max_iter=1, random_state=0, engine=engine, device="cpu").fit(wide[:50], y[:50])
    tracemalloc.start()
    try:
        model.fit(wide, y, weights)
        model.predict_proba(wide)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    dense = wide.shape[0] * wide.shape[1] * 8
    assert most < dense / 10


def test_auto_takes_epoch_where_there_is_much_work_and_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for quick, engine in ((1.0, "plain"), (0.0, "epoch")):
        monkeypatch.setattr("gpunn.engines.speed.QUICK", quick)
        model = MLPClassifier((4,), max_iter=1, random_state=0).fit(X, LABELS)
        assert (model.engine_, model.device_) == (engine, "cpu")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_is_refused(value: float, engine: str) -> None:
    bad = X.copy()
    bad.data[7] = value
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        ours(LABELS, engine).fit(bad, LABELS)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_columns_that_are_not_there_are_refused_before_anything_reads_them(engine: str) -> None:
    bad = X.copy()
    bad.indices[-1] = 300
    model = ours(LABELS, engine)
    with pytest.raises(ValueError, match="ind"):  # in SciPy's words
        model.fit(bad, LABELS)
    assert not hasattr(model, "coefs_")


def spoilt(form: str, name: str, place: int, value: int) -> Any:
    """Return a matrix of 20 rows and 3 columns with one of its indices changed to one that isn't there."""
    found = sparse.csr_array(np.ones((20, 3)) * np.arange(1.0, 4)).asformat(form)
    getattr(found, name)[place] = value
    return found


SPOILT: dict[str, tuple[str, str, int, int]] = {
    "a column too many": ("csr", "indices", 5, 4),
    "a column below 0": ("csr", "indices", 5, -1),
    "rows that end before they begin": ("csr", "indptr", 5, 50),
    "rows that end before the first": ("csr", "indptr", -1, -1),
    "more than there is": ("csr", "indptr", -1, 10**6),
    "a row too many": ("csc", "indices", 5, 10**6),
    "a triple's row too many": ("coo", "row", 5, 10**6),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_indices_that_are_not_there_are_refused_everywhere(spoil: str) -> None:
    good, y = np.ones((20, 3)) * np.arange(1.0, 4), np.arange(20) % 2
    model = MLPClassifier((4,), max_iter=2, random_state=0, warm_start=True, device="cpu").fit(good, y)
    bad, message = spoilt(*SPOILT[spoil]), rf"found a sparse X that isn't a valid {SPOILT[spoil][0]} matrix: .*"
    calls: list[Callable[[], Any]] = [
        lambda: model.fit(bad, y),
        lambda: model.partial_fit(bad, y),
        lambda: model.fit(good, y, X_val=bad, y_val=y),
        lambda: model.predict(bad),
        lambda: model.predict_proba(bad),
        lambda: clone(model).set_params(solver="lbfgs").fit(bad, y),
    ]
    before = model.coefs_[0].copy()
    for call in calls:
        with pytest.raises(DataError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(model.coefs_[0], before)


def test_plain_has_its_own_copy_of_the_indices() -> None:
    rows = sparse.csr_array(X.astype(np.float32))
    examples = own_examples(np, Examples(rows, LABELS), 300, 4)
    for own, given in ((examples.inputs.indices, rows.indices), (examples.inputs.indptr, rows.indptr)):
        np.testing.assert_array_equal(own, given)
        assert not np.shares_memory(own, given)
    assert np.shares_memory(examples.inputs.data, rows.data)
    numbers = own_examples(np, Examples(rows, np.zeros((200, 4), np.float32)), 300, 4)
    assert not np.shares_memory(numbers.inputs.indices, rows.indices)


def test_a_matrix_becomes_dense_where_that_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(X: Any, dtype: Any = np.float32, **how: Any) -> Any:
        return engine_inputs(X, dtype, **{"grey": True, "stays_sparse": True} | how)

    found = kept(X)
    assert (found.format, found.dtype, found.shape) == ("csr", np.float32, X.shape)
    assert np.shares_memory(found.indices, X.indices)
    assert kept(X, np.float64).dtype == np.float64
    half = sparse.csr_array(RNG.random((9, 30)) * (np.arange(30) % 2))  # 8 bytes of 4 by 2
    assert kept(half[:, :29]).format == "csr"
    assert isinstance(kept(half), np.ndarray)
    with monkeypatch.context() as patch:
        patch.setattr(inputs, "available_memory", lambda: half.shape[0] * half.shape[1] * 4)
        assert kept(half).format == "csr"
    grey = sparse.csr_array(np.eye(7, dtype=np.uint8) / np.float32(255))
    assert kept(grey).dtype == np.uint8
    assert kept(grey, grey=False).format == "csr"
    assert isinstance(kept(X, stays_sparse=False), np.ndarray)


def test_engines_that_cannot_take_a_sparse_matrix_say_so() -> None:
    examples = Examples(sparse.csr_array(X.astype(np.float32)), LABELS.astype(np.uint8))
    assert (examples.n, examples.sparse, examples.grey) == (200, True, False)
    assert examples.on(get_backend("cpu")).inputs is examples.inputs
    reason = "its inputs must be an array, got a sparse matrix"
    assert examples_reason(examples, floats=True) == reason
    start = Parameters([np.zeros((4, 300), np.float32)], [np.zeros(4, np.float32)])
    elsewhere: Any = SimpleNamespace(name="cuda")
    for kind in (*CUDA_ENGINES.values(), ENGINES["plain"]):
        assert reason in str(kind.unsupported_reason(elsewhere, start, Recipe(8, 0.1), examples))
    for kind in ENGINES.values():
        assert kind.unsupported_reason(get_backend("cpu"), start, Recipe(8, 0.1), examples) is None
