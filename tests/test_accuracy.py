"""`python -m benchmarks.accuracy` trains what was published, and says where it falls short."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import accuracy
from benchmarks.accuracy import error_of, main
from benchmarks.published import PUBLISHED
from gpunn import MLP, Dataset, Split
from gpunn.losses import LOSSES

from .conftest import random_split


def test_every_published_network_can_be_made_and_has_its_source() -> None:
    for row in PUBLISHED:
        if not row.on_gpu:
            net = MLP(row.sizes, **row.network)
            assert row.recipe.get("loss", "squared_error") in LOSSES
            assert net.sizes[-1] == 10
        assert 0 < row.error < 5
        assert "20" in row.source or "19" in row.source
    assert len(PUBLISHED) == 9


def test_an_error_is_that_of_the_last_epoch_or_of_the_best() -> None:
    assert error_of([0.9, 0.97, 0.96], at_best=True) == pytest.approx(3)
    assert error_of([0.9, 0.97, 0.96], at_best=False) == pytest.approx(4)


@pytest.fixture
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 20, "learning_rate": 0.5}
    first = replace(PUBLISHED[0], sizes=(12, 3), error=100, recipe=recipe, images=150)
    rows = (first, replace(first, sizes=(12, 4, 3), error=0.1), replace(first, sizes=(12, 5, 3), on_gpu=True))
    monkeypatch.setattr(accuracy, "PUBLISHED", rows)
    test: Split = random_split(60, 12, 3, seed=1)
    monkeypatch.setattr(accuracy, "load_mnist", lambda: Dataset(random_split(200, 12, 3), test))


@pytest.mark.usefixtures("small_rows")
def test_a_row_above_what_was_published_is_named_and_fails(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--seeds", "2", "--device", "cpu", "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 1
    assert "12-4-3: found " in done.output
    assert "on the mean of 2 seeds, expected 0.1 %" in done.output
    assert "12-3: found" not in done.output
    assert "for a GPU" in done.output
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["network"] for row in rows] == ["12-3", "12-4-3"]
    assert all(len(row["errors"]) == 2 for row in rows)
    assert rows[0]["errors"][0] != rows[0]["errors"][1]


@pytest.mark.usefixtures("small_rows")
def test_networks_are_chosen_by_name() -> None:
    done = CliRunner().invoke(main, ["--only", "12-3", "--seeds", "1", "--device", "cpu"])
    assert done.exit_code == 0
    assert "12-4-3" not in done.output
    done = CliRunner().invoke(main, ["--only", "784-1-10"])
    assert done.exit_code == 2
    assert "found the network '784-1-10', expected some of 12-3, 12-4-3, 12-5-3" in done.output
