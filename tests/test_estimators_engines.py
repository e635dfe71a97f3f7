"""The estimators with compiled engines, which compute in float32: they follow `plain`, and so scikit-learn, closely."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from gpunn import MLPClassifier, MLPRegressor

from .conftest import random_split

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SPLIT = random_split(210, 12, 3)
LABELS = SPLIT.labels
X = SPLIT.images / 255
TARGETS: dict[str, NDArray[Any]] = {
    "classes": LABELS,
    "two classes": LABELS == 0,
    "labels": (X[:, [1, 2]] > 0).astype(int),  # in Fortran's order
    "numbers": X[:, [0, 5, 7]] @ np.array([[1.0, 2.0], [-1.0, 0.0], [0.5, 1.0]]),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.05},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1, "power_t": 0.2},
    "adam": {"learning_rate_init": 0.005, "early_stopping": True},
}
CASES = [
    ("epoch", "classes", "sgd"),
    ("epoch", "numbers", "invscaling"),
    ("epoch", "labels", "adam"),
    ("fused", "two classes", "sgd"),
    ("fused", "labels", "invscaling"),
    ("fused", "numbers", "adam"),
]


def fitted(target: str, setting: str, inputs: NDArray[Any], **choice: Any) -> Any:
    kind: Any = MLPRegressor if target == "numbers" else MLPClassifier
    common: dict[str, Any] = {"hidden_layer_sizes": (6,), "activation": "tanh", "alpha": 1e-3, "batch_size": 21}
    common |= {"max_iter": 4, "random_state": 0, "device": "cpu"}
    return kind(**common, **SETTINGS[setting], **choice).fit(inputs, TARGETS[target])


@pytest.mark.parametrize(("engine", "target", "setting"), CASES)
@pytest.mark.parametrize("grey", [True, False], ids=["grey", "floats"])
def test_compiled_engines_follow_scikit_learns_steps(engine: str, target: str, setting: str, *, grey: bool) -> None:
    inputs = (X if grey else X - 0.3).astype(np.float32)
    found, expected = (fitted(target, setting, inputs, engine=choice) for choice in (engine, "plain"))
    assert (found.engine_, found.coefs_[0].dtype) == (engine, np.float32)
    # What penalties were on the way through an epoch is estimated from its ends.
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, atol=3e-5)
    # Early stopping, of "adam", leaves a last batch that is smaller, whose penalty differs.
    atol = 3e-5 if setting == "adam" else 1e-5
    for ours, theirs in zip(
        [*found.coefs_, *found.intercepts_], [*expected.coefs_, *expected.intercepts_], strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=atol)
    if setting != "adam":
        for model in (found, expected):
            model.partial_fit(inputs, TARGETS[target])
        np.testing.assert_allclose(found.loss_, expected.loss_, atol=3e-5)


def test_engines_can_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunn.engines.speed.QUICK", 0)
    models = [fitted("classes", "invscaling", X.astype(np.float32), engine="plain") for _ in range(2)]
    for engine in ("epoch", "fused", "plain", "auto"):
        models[1].set_params(engine=engine)
        for model in models:
            model.partial_fit(X, LABELS)
    assert models[1].engine_ == "epoch"
    np.testing.assert_allclose(models[1].loss_curve_, models[0].loss_curve_, atol=3e-5)


def test_weights_of_examples_make_auto_choose_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunn.engines.speed.QUICK", 0)
    for weights, engine in ((np.full(210, 2.0), "epoch"), (X[:, 0] + 0.1, "plain")):
        model = MLPClassifier((6,), max_iter=2, device="cpu").fit(X, LABELS, sample_weight=weights)
        assert model.engine_ == engine
