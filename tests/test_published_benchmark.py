"""`benchmarks/test_published.py` trains what was published, and says where it falls short."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("pebble", reason='needs pebble: pip install -e ".[bench]"')

from benchmarks.test_published import measured
from benchmarks.test_published import test_published as beside_published
from benchmarks.workloads.published import PUBLISHED
from benchmarks.workloads.published import Published as Paper
from gpunn import MLP, Dataset, Ensemble, Split, evaluate
from gpunn.losses import LOSSES

from .conftest import random_split


def test_every_published_network_can_be_made_and_has_its_source() -> None:
    for row in PUBLISHED:
        if not row.long:
            net = MLP(row.sizes, **row.network)
            assert row.recipe.get("loss", "squared_error") in LOSSES
            assert net.sizes[-1] == 10
        assert row.sizes[0] == row.shape[0] * row.shape[1]
        assert 0 < row.error < 5
        assert "20" in row.source or "19" in row.source
    assert len({row.name for row in PUBLISHED}) == len(PUBLISHED) == 19


@pytest.fixture
def paper() -> Paper:
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 20, "learning_rate": 0.5}
    return replace(PUBLISHED[0], sizes=(30, 3), error=100, recipe=recipe, shape=(5, 6))


@pytest.fixture
def data() -> Dataset:
    train, test = random_split(200, 12, 3), random_split(60, 12, 3, seed=1)
    return Dataset(*(Split(split.images.reshape(-1, 3, 4), split.labels) for split in (train, test)))


def test_a_mean_above_what_was_published_is_missed(paper: Paper, data: Dataset) -> None:
    found = measured(paper, data, 2, "cpu")
    assert (found.network, found.verdict, found.device) == ("30-3", "met", "cpu")
    assert len(found.errors) == len(found.seconds) == 2
    assert found.errors[0] != found.errors[1]
    assert "epochs 2, batch_size 20" in found.recipe
    assert measured(replace(paper, error=0.1), data, 1, "cpu").verdict == "missed"


def test_networks_meet_the_test_images_once_and_a_committee_meets_them_together(
    paper: Paper, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[Any] = []

    def once(net: Any, split: Split, device: str) -> Any:
        met.append((net, len(split)))
        return evaluate(net, split, device=device)

    monkeypatch.setattr("benchmarks.test_published.evaluate", once)
    found = measured(replace(paper, members=3), data, 2, "cpu")
    assert [len(net.nets) for net, _ in met] == [3, 3]
    assert all(isinstance(net, Ensemble) and n == len(data.test) for net, n in met)
    weights = {member.weights[0].tobytes() for net, _ in met for member in net.nets}
    assert len(weights) == 6
    assert len(found.errors) == 2


@pytest.mark.parametrize(
    ("keyword", "device", "runs"), [("", "cpu", False), ("simard", "cpu", True), ("", "cuda", True)]
)
def test_what_takes_a_cpu_long_is_trained_where_it_is_asked_for(
    paper: Paper, data: Dataset, keyword: str, device: str, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skip(why: str) -> None:
        pytest.skip(why)

    asked = SimpleNamespace(config=SimpleNamespace(option=SimpleNamespace(keyword=keyword)))
    harness = SimpleNamespace(skip=skip, options=SimpleNamespace(seeds=1), found={"published": []})
    found = measured(paper, data, 1, "cpu")
    monkeypatch.setattr("benchmarks.test_published.measured", lambda *_: found)
    monkeypatch.setattr("benchmarks.test_published.keep", lambda *_, **__: None)
    arguments: Any = harness, SimpleNamespace(), replace(paper, long=True), device, asked
    if runs:
        beside_published(*arguments)
        assert harness.found["published"] == [found]
        return
    with pytest.raises(pytest.skip.Exception, match="takes a CPU long: ask for it by -k nielsen-30"):
        beside_published(*arguments)
