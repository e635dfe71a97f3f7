"""What the speed table says follows from the times that were measured."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import speed
from benchmarks.bars import BARS, Row, chosen_rows
from benchmarks.exactness import TOLERANCES, deviation_of
from benchmarks.peers import Place
from benchmarks.standings import Result, best_of, standing, survivors, verdict
from gpunn import MLP, Dataset
from gpunn.engines import Parameters, Recipe


def peer(name: str, first: float, *seconds: float, threads: int | None = 1, problem: str | None = None) -> Result:
    return Result(name, threads, is_peer=True, first=first, seconds=list(seconds), problem=problem)


def engine(name: str, *seconds: float, problem: str | None = None) -> Result:
    return Result(name, None, is_peer=False, first=1.0, seconds=list(seconds), problem=problem)


def test_slow_peers_run_one_round_and_wrong_ones_none() -> None:
    fast, slow, slowest = peer("fast", 2.0), peer("slow", 5.9), peer("slowest", 6.1)
    wrong = peer("wrong", 0.1, problem="found the loss 1, expected 2")
    ours = engine("epoch")
    assert survivors([fast, slow, slowest, wrong, ours]) == [fast, slow, ours]


def test_a_peer_that_takes_less_than_a_second_is_not_sent_away() -> None:
    assert len(survivors([peer("fast", 0.01), peer("slow", 0.9)])) == 2


def test_a_name_stands_for_its_best_number_of_threads() -> None:
    one, two = peer("numpy", 1.0, 1.0, 1.1, 0.9), peer("numpy", 1.0, 0.5, 0.6, 0.4, threads=2)
    assert best_of([one, two]) is two
    assert best_of([]) is None


def test_the_ratio_is_that_of_the_medians_with_the_quartiles_of_each_round() -> None:
    best = peer("jax", 1.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    found = standing([best, peer("numpy", 9.0), engine("epoch", 0.5, 0.5, 0.5, 0.5, 1.0)], "epoch")
    assert found is not None
    assert found.best_peer is best
    assert found.ratio == pytest.approx(6.0)
    assert (found.low, found.high) == pytest.approx((4.0, 6.0))


def test_nobody_wins_with_a_wrong_answer() -> None:
    right, wrong = peer("right", 1.0, 1.0), peer("wrong", 0.1, 0.1, problem="wrong")
    found = standing([right, wrong, engine("epoch", 0.5)], "epoch")
    assert found is not None
    assert found.best_peer is right
    assert standing([right, engine("epoch", 0.5, problem="wrong")], "epoch") is None
    assert standing([wrong, engine("epoch", 0.5)], "epoch") is None


@pytest.mark.parametrize(
    ("seconds", "bar", "expected"), [(0.5, 2.0, "ok"), (0.5, 2.1, "BELOW"), (0.5, None, ""), (None, 2.0, "NO RESULT")]
)
def test_a_bar_is_met_or_it_is_not(seconds: float | None, bar: float | None, expected: str) -> None:
    found = None if seconds is None else standing([peer("jax", 1.0, 1.0), engine("epoch", seconds)], "epoch")
    assert verdict(found, bar) == expected


def test_rows_keep_their_bars_where_fewer_or_others_are_chosen() -> None:
    assert chosen_rows() == BARS
    assert chosen_rows(["784-16-10"], [1, 5]) == [Row("784-16-10", 1, bar=15), Row("784-16-10", 5)]
    assert chosen_rows(dense=True) == [row for row in BARS if row.dense]
    assert [row.bar for row in chosen_rows(["784-99-10"])] == [None, None, None]


def test_the_table_is_printed_and_its_numbers_written(tmp_path: Path) -> None:
    options = "--network 784-16-10 --batch-sizes 32 --images 300 --peers numpy --engines epoch,fused,plain --rounds 2"
    outcome = CliRunner().invoke(speed.main, [*options.split(), "--json", str(tmp_path / "result.json")])
    assert outcome.exit_code == 0, outcome.output
    assert "FAILED" not in outcome.output.splitlines()[-1]
    document = json.loads((tmp_path / "result.json").read_text())
    (row,) = document["rows"]
    assert {contestant["name"] for contestant in row["contestants"]} == {"numpy", "epoch", "fused", "plain"}
    assert all(len(contestant["seconds"]) == 2 for contestant in row["contestants"])
    assert document["machine"]["numpy"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engines", "warp"], "found the engine 'warp', expected auto, plain, fused or epoch"),
        (["--peers", "tensorflow"], "found the peer 'tensorflow', expected numpy"),
        (["--peers", "torch.graphs"], "found the peer 'torch.graphs', expected numpy"),
        (["--network", "784"], "expected sizes such as 784-16-10"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: list[str], message: str) -> None:
    outcome = CliRunner().invoke(speed.main, options)
    assert outcome.exit_code == 2
    assert message in outcome.output


def test_a_wrong_gradient_is_seen_even_where_it_hardly_moves_the_weights() -> None:
    start = Parameters([np.full((3, 2), 0.5, np.float32)], [np.zeros(3, np.float32)])
    exact = Parameters([np.full((3, 2), 0.5 + 1e-4)], [np.full(3, 1e-2)])
    right = Parameters([exact.weights[0].astype(np.float32)], [exact.biases[0].astype(np.float32)])
    still = Parameters(start.weights, right.biases)
    nan = Parameters([np.full((3, 2), np.nan, np.float32)], right.biases)
    assert deviation_of(100, 0.9, right, start, 0.9, exact)[0] <= TOLERANCES["float32"]
    assert deviation_of(100, 0.9, still, start, 0.9, exact)[0] > 0.9
    assert deviation_of(100, 0.9, nan, start, 0.9, exact)[0] == np.inf
    assert deviation_of(100, float("nan"), right, start, 0.9, exact)[0] == np.inf


def test_graphs_replay_every_batch_of_an_epoch(mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import torch

    from benchmarks.peers import torch_graphs
    from benchmarks.peers.numpy_by_hand import NumpyByHand

    # What is recorded on a GPU is called here.
    monkeypatch.setattr(torch_graphs, "record", lambda work: work)
    monkeypatch.setattr(torch_graphs, "rehearse", lambda work: [work() for _ in range(3)])
    monkeypatch.setattr(torch.cuda, "device", lambda _device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    split, net = mnist.train[:197], MLP((784, 16, 10))
    start = Parameters(net.weights, net.biases)
    for batch_size in (1, 5, 10, 64, 197, 1000):
        recipe = Recipe(batch_size, 0.1)
        graphs = torch_graphs.TorchGraphs(start, split, recipe, Place())
        by_hand = NumpyByHand(start, split, recipe, Place())
        for seed in range(2):
            order = np.random.default_rng(seed).permutation(len(split))
            assert graphs.run_epoch(order) == pytest.approx(by_hand.run_epoch(order), rel=1e-5)
        found, expected = graphs.parameters(), by_hand.parameters()
        for mine, theirs in zip((*found.weights, *found.biases), (*expected.weights, *expected.biases), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
