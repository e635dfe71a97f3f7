"""The benchmark of the estimators beside scikit-learn's."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")

from benchmarks import drop_in, drop_in_accuracies, drop_in_times
from benchmarks.drop_in_accuracies import CONTESTS, Comparison
from benchmarks.drop_in_times import Row, Side


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = np.random.default_rng(0).random((600, 20), np.float32), np.arange(600) % 3
    monkeypatch.setattr(drop_in_times, "images", lambda: (X, y))
    monkeypatch.setattr(drop_in_times, "IMAGES", 600)
    monkeypatch.setattr(drop_in_times, "PROBE", 200)
    monkeypatch.setattr(drop_in_times, "LONG", 0.02)
    short = drop_in_accuracies.Contest("digits", 3, CONTESTS[1].parameters)
    monkeypatch.setattr(drop_in, "CONTESTS", (short, *CONTESTS[2:]))


@pytest.mark.usefixtures("few_images")
def test_both_parts_print_both_sides_and_keep_all_numbers(tmp_path: Path) -> None:
    options = "--seeds 2 --data digits --hidden 4 --batch-sizes 32 --rounds 2 --device cpu --engine plain --json"
    done = CliRunner().invoke(drop_in.main, [*options.split(), str(tmp_path / "found.json")])
    assert done.exit_code == 0, done.output
    assert "digits, hidden 32, adam" in done.output
    found = json.loads((tmp_path / "found.json").read_text())
    (accuracies,) = found["accuracies"]
    assert accuracies["ours"] == accuracies["theirs"]
    assert [row["solver"] for row in found["times"]] == ["sgd", "nesterov", "adam"]
    for row in found["times"]:
        assert row["engine"] == "plain"
        assert row["deviation"] < 1e-5
        medians = [statistics.median(row[side]["epoch"]) for side in ("theirs", "ours")]
        assert row["ratio"] == pytest.approx(medians[0] / medians[1])


@pytest.mark.usefixtures("few_images")
def test_long_epochs_are_timed_on_a_part_and_scaled() -> None:
    row = drop_in_times.timed(4, 1, "sgd", rounds=1, seconds=1e-9, mine={"device": "cpu", "engine": "plain"})
    assert (row.theirs.images, row.ours.images) == (200, 200)
    assert row.line().count("*") == 2


def test_what_differs_by_more_than_chance_is_wrong() -> None:
    same = Comparison(CONTESTS[0], theirs=[90.0, 91.0, 92.0], ours=[90.5, 91.5, 92.5])
    assert same.wrong() == []
    worse = Comparison(CONTESTS[0], theirs=[90.0, 90.1, 90.2], ours=[89.0, 89.1, 89.2])
    assert worse.wrong() == [
        "digits, hidden 32, sgd: found a difference of -1.00 %, expected 0.29 at most",
    ]
    row = Row(4, 32, "sgd", Side([2.0], [1.0]), Side([1.0], [0.5]), "plain", 0.02)
    assert row.ratio == 2
    assert "found losses that differ by 2.0e-02, expected 1e-02 at most" in row.wrong()[0]


def test_options_that_mean_nothing_are_refused_in_one_line() -> None:
    for options, message in (
        ("--hidden big", "expected whole numbers such as"),
        ("--device tpu", "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
    ):
        done = CliRunner().invoke(drop_in.main, options.split())
        assert done.exit_code == 2
        assert message in done.output
