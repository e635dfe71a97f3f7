"""What the speed table says follows from the times that were measured."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import speed
from benchmarks.bars import BARS, Row, chosen_rows
from benchmarks.standings import Result, best_of, standing, survivors, verdict


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
        (["--network", "784"], "expected sizes such as 784-16-10"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: list[str], message: str) -> None:
    outcome = CliRunner().invoke(speed.main, options)
    assert outcome.exit_code == 2
    assert message in outcome.output
