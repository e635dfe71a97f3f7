"""The benchmark of many networks: who is compared, checked, left out, and what is written."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from benchmarks import many
from benchmarks.peers.base import Place
from benchmarks.peers.many import ManyPeer
from gpunn import Split
from gpunn.engines import ENGINES, Examples, Parameters, Recipe

from .recipes import CPU


class Honest(ManyPeer):
    name = "honest"

    def __init__(
        self, starts: Sequence[Parameters], split: Split, recipe: Recipe, rates: NDArray[np.float32], place: Place
    ) -> None:
        assert place.device == "cpu"
        examples = Examples(split.images, split.labels)
        self.engines = [
            ENGINES["plain"](CPU, start, examples, Recipe(recipe.batch_size, float(rate)))
            for start, rate in zip(starts, rates, strict=True)
        ]

    def run_epoch(self, orders: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.array([engine.run_epoch(order) for engine, order in zip(self.engines, orders, strict=True)])

    def parameters(self, number: int) -> Parameters:
        return self.engines[number].parameters()


class Lazy(Honest):
    """Leaves the last network out."""

    def run_epoch(self, orders: NDArray[np.int64]) -> NDArray[np.float32]:
        done = [engine.run_epoch(order) for engine, order in zip(self.engines[:-1], orders, strict=False)]
        return np.array([*done, self.engines[-1].run_epoch(orders[-1][:200])])


class Liar(Honest):
    """Trains well and reports another loss."""

    def run_epoch(self, orders: NDArray[np.int64]) -> NDArray[np.float32]:
        return super().run_epoch(orders) * np.float32(1.01)


PEERS = {"honest": Honest, "lazy": Lazy, "liar": Liar}


@pytest.fixture(autouse=True)
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def load(name: str) -> Any:
        if name == "absent":
            raise ImportError("no such library")
        return PEERS[name]

    monkeypatch.setattr(many, "MANY_PEERS", {name: ("", "", f"pip install {name}") for name in (*PEERS, "absent")})
    monkeypatch.setattr(many, "load_many_peer", load)
    monkeypatch.setattr(many, "SETTLE", 0.0)
    logger = logging.getLogger("gpunn.training")
    level = logger.level
    yield
    logger.setLevel(level)


def run(*options: str) -> Result:
    return CliRunner().invoke(many.main, ["--images", "300", "--rounds", "2", *options])


def test_every_contestant_has_a_line_a_row(tmp_path: Path) -> None:
    found = run("--networks", "3,1", "--epochs", "2", "--peers", "honest,absent", "--json", str(tmp_path / "many.json"))
    assert found.exit_code == 0, found.output
    lines = [line.split() for line in found.output.splitlines()[2:]]
    names = ["train_many", "train", "honest", "absent"]
    assert [line[0] for line in lines] == ["1", *names, "3", *names]
    assert "not installed: pip install absent (no such library)" in found.output
    written = json.loads((tmp_path / "many.json").read_text())
    assert [(row["networks"], row["epochs"]) for row in written["rows"]] == [(1, 2), (3, 2)]
    for row in written["rows"]:
        counts = {name: len(each["seconds"]) for name, each in row["contestants"].items()}
        assert counts == {"train_many": 2, "train in turn": 2, "honest": 2, "absent": 0}


@pytest.mark.parametrize(
    ("name", "message"),
    [("lazy", r"3 networks: lazy, network 2: found "), ("liar", r"3 networks: liar, network 0: found the loss ")],
)
def test_wrong_networks_fail(name: str, message: str) -> None:
    found = run("--networks", "3", "--peers", name)
    assert found.exit_code == 1
    assert message in found.output


def test_whoever_takes_too_long_is_left_out_of_larger_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "LONG", 0.0)
    found = run("--networks", "1,2", "--peers", "honest")
    assert found.exit_code == 0
    assert "s a round, by its first epoch" in found.output
    assert "s a round, by a smaller row" in found.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--networks", "0"], "found '0', expected whole numbers"),
        (["--networks", "a"], "found 'a', expected whole numbers"),
        (["--peers", "theano"], "found the peer 'theano', expected honest, lazy, liar, absent or none"),
        (["--device", "cuda:7", "--peers", "none"], "use device cpu or auto"),
        (["--sizes", "784-x", "--peers", "none"], "found the sizes '784-x'"),
    ],
)
def test_wrong_options_are_refused(options: list[str], message: str) -> None:
    found = run(*options)
    assert found.exit_code == 2
    assert message in found.output
