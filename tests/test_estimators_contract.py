"""What the estimators take of scikit-learn's private methods: versions that differ are refused; and older pickles."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from sklearn import neural_network

from gpunn import MLPClassifier, MLPRegressor
from gpunn.estimators import contract, parameters
from gpunn.estimators.labels import Labels


def test_the_contract_names_what_is_called_and_replaced() -> None:
    theirs = (neural_network.MLPClassifier, neural_network.MLPRegressor)
    assert contract.misfit(*theirs) is None
    for kind in (MLPClassifier, MLPRegressor):
        replaced = {name for each in kind.__mro__ if each.__module__.startswith("gpunn.") for name in vars(each)}
        private = {name for name in replaced if name.startswith("_") and not name.startswith("__")}
        assert private & set(dir(theirs[0])) <= {*contract.METHODS, "_parameter_constraints", "_abc_impl"}

    class Renamed(neural_network.MLPClassifier):  # type: ignore[misc]
        def _predict(self, X: Any) -> Any: ...

    assert contract.misfit(Renamed) == "Renamed._predict takes (X), expected (X, check_input)"

    class Lacking(neural_network.MLPClassifier):  # type: ignore[misc]
        _score: Any = None

    assert contract.misfit(Lacking) == "Lacking._score isn't there"


def test_a_version_that_does_not_fit_is_refused_by_name_in_one_line() -> None:
    code = """
import sklearn
from sklearn import neural_network
del neural_network.MLPRegressor.__mro__[2]._fit_stochastic
sklearn.__version__ = "9.9"
import gpunn
try:
    gpunn.MLPRegressor
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout == (
        "gpunn.MLPClassifier and gpunn.MLPRegressor need scikit-learn 1.7 or newer, of a version that they fit; 9.9 "
        "does not (MLPClassifier._fit_stochastic isn't there): install another one, or a newer gpunn\n"
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pickles_of_the_classes_of_before_are_loaded() -> None:
    X = np.random.default_rng(0).random((60, 5))
    for kind, y in ((MLPClassifier, X.argmax(axis=1)), (MLPRegressor, X[:, 0])):
        model: Any = kind(hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(X, y)
        state = model.__getstate__()
        for name in ("_optimizer", "_best_coefs", "_best_intercepts", "_random_state", "validation_loss_curve_"):
            del state[name]
        state = {name: state[name] for name in state.keys() - {*parameters.WISHES, "class_weight"}}
        state |= {"_without_improvement": state.pop("_no_improvement_count"), "_memory": (None, 0.001), "_rate": 0.001}
        if kind is MLPClassifier:
            del state["loss"]
            state["_labels"] = Labels()
            state["_labels"]._binarizer = state.pop("_label_binarizer")
        old: Any = kind.__new__(kind)
        old.__setstate__(state)
        np.testing.assert_array_equal(old.predict(X), model.predict(X))
        assert old.get_params() == model.get_params()
        assert old.partial_fit(X, y).n_iter_ == 1
        assert len(old.set_params(warm_start=True).fit(X, y).loss_curve_) == 7
