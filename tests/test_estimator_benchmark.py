"""The benchmark of the estimators beside scikit-learn's."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")
pytest.importorskip("msgspec")

from benchmarks.timing import estimators
from benchmarks.timing.estimators import CASES, FEW, SOLVERS, Case, accuracies, chance, times


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = np.random.default_rng(0).random((600, 20), np.float32), np.arange(600) % 3
    monkeypatch.setattr(estimators, "_images", lambda: (X, y))
    monkeypatch.setattr(estimators, "IMAGES", 600)
    monkeypatch.setattr(estimators, "PROBE", 200)
    monkeypatch.setattr(estimators, "LONG", 0.02)


def test_both_learn_the_same_from_the_same_seeds() -> None:
    found = accuracies(Case("digits", 32, "adam", 3), 2, "cpu", "plain")
    assert found.ours == found.theirs
    assert (found.engine, found.problem, len(found.ours)) == ("plain", None, 2)
    assert {case.data for case in CASES} == {"digits", "MNIST"}


def test_what_differs_by_more_than_chance_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chance([90.5, 91.5, 92.5], [90.0, 91.0, 92.0]) > 1
    assert chance([89.0, 89.1, 89.2], [90.0, 90.1, 90.2]) == pytest.approx(0.29, abs=0.01)
    monkeypatch.setattr(estimators, "chance", lambda _mine, _its: -1.0)
    found = accuracies(Case("digits", 8, "adam", 1), 2, "cpu", "plain")
    assert "digits-8-adam: found a difference of +0.00 %, expected -1.00 at most" in (found.problem or "")


@pytest.mark.usefixtures("few_images")
@pytest.mark.parametrize("solver", SOLVERS)
def test_epochs_are_timed_in_turn(solver: str) -> None:
    found, rounds = times(4, 32, solver, device="cpu", engine="plain", seconds=10.0)
    assert (found.engine, found.images, found.their_images, found.problem) == ("plain", 600, 600, None)
    assert found.deviation < 1e-5
    assert found.ratio.rounds == found.ours.rounds == FEW == len(rounds["scikit-learn"])
    assert found.ratio.median > 0


@pytest.mark.usefixtures("few_images")
def test_long_epochs_are_timed_on_a_part_and_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "DEVIATION", -1.0)
    found, _ = times(4, 1, "sgd", device="cpu", engine="plain", seconds=1e-9)
    assert (found.images, found.their_images) == (600, 200)
    assert "hidden 4, batch size 1, sgd: found losses that differ by" in (found.problem or "")
