"""`benchmarks/test_published.py` trains what was published, and says where it falls short."""

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("pebble", reason='needs pebble: pip install -e ".[bench]"')

from benchmarks.test_published import error_of, measured
from benchmarks.workloads.published import PUBLISHED
from gpunn import MLP, Dataset
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


def test_a_mean_above_what_was_published_is_missed() -> None:
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 20, "learning_rate": 0.5}
    paper = replace(PUBLISHED[0], sizes=(12, 3), error=100, recipe=recipe, images=150)
    data = Dataset(random_split(200, 12, 3), random_split(60, 12, 3, seed=1))
    found = measured(paper, data, 2, "cpu")
    assert (found.network, found.verdict, found.device) == ("12-3", "met", "cpu")
    assert len(found.errors) == len(found.seconds) == 2
    assert found.errors[0] != found.errors[1]
    assert "epochs 2, batch_size 20" in found.recipe
    assert measured(replace(paper, error=0.1), data, 1, "cpu").verdict == "missed"
