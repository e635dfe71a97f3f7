"""`pytest --benchmark` times what is there, says what it found, and isn't fooled."""

import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.bars import Row
from benchmarks.choices import Choices, choices_of
from benchmarks.entrants import AbsentError, Entrant
from benchmarks.harness import Harness, times
from benchmarks.report.wording import speed_in_words
from benchmarks.throughput import notes, tables
from benchmarks.timing import Timing
from benchmarks.verdicts import verdicts
from gpunn import MLP, get_backend
from gpunn.engines import Parameters, Recipe
from gpunn.errors import GpunnError

from .conftest import outer_environment

ROOT = Path(__file__).resolve().parent.parent


def run_pytest(*options: object) -> subprocess.CompletedProcess[str]:
    environment = outer_environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def measured(tmp_path: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The output and the file of a run with good engines, bad engines and a peer."""
    pytest.importorskip("pytest_benchmark", reason='needs pytest-benchmark: pip install -e ".[bench]"')
    results = tmp_path / "results.json"
    options = "--benchmark --images 300 --seconds 0 --batch-sizes 50 --devices cpu --peers numpy,torch.graphs"
    engines = "-p tests.fake_engines --engines plain,lazy,late,broken,picky"
    some = "epoch or transfer or ceilings or (descend and 16x784)"
    done = run_pytest(*options.split(), *engines.split(), "-k", some, "--results", results)
    return done, json.loads(results.read_text())


def test_a_run_ends_with_the_table_and_the_file_and_no_wrong_answer_passes(
    measured: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    done, found = measured
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 4 passed, 3 skipped" in done.stdout
    (line,) = [line.split() for line in done.stdout.splitlines() if line.startswith("    50 ")]
    assert line[2:5] == ["FAILED"] * 3
    assert "results.json" in done.stdout

    epochs = {row["name"]: row for row in found["rows"] if row["what"] == "epoch"}
    for name in ("plain", "numpy"):
        row = epochs[name]
        assert row["problem"] is None
        assert len(row["seconds"]) >= 3
        assert row["quartiles"] == pytest.approx(np.percentile(row["seconds"], [25, 50, 75]).tolist())
        assert row["deviation"] < 1e-3
        assert 0 < row["accuracy"] < 1
    assert epochs["numpy"]["threads"] >= 1
    assert epochs["lazy"]["problem"].startswith("wrong: ")
    assert epochs["late"]["problem"].startswith("the device was still computing when the time was taken")
    assert epochs["broken"]["problem"] == "RuntimeError: it fails on purpose"
    assert {row["name"] for row in found["rows"] if row["what"] == "preparation"} == {"plain", "numpy", "lazy", "late"}
    reasons = {skip["name"]: skip["reason"] for skip in found["skipped"]}
    assert "it supports no network" in reasons["picky"]
    assert "computes on cuda" in reasons["torch.graphs"]
    (kernel,) = [row for row in found["rows"] if row["what"] == "kernel"]
    assert kernel["name"] == "descend"
    assert len(kernel["fused"]["seconds"]) == len(kernel["unfused"]["seconds"]) == len(kernel["copy"]["seconds"]) >= 5
    (ceiling,) = [row for row in found["rows"] if row["what"] == "ceiling"]
    assert ceiling["copied_bytes_per_second"] > 1e8
    assert ceiling["multiplied_operations_per_second"] > 1e8
    assert found["options"]["images"] == 300
    assert found["machine"]["numpy"] == np.__version__
    assert found["revision"]
    assert found["threads"]["usable cores"] >= 1


def test_plain_pytest_knows_nothing_of_benchmarks_nor_of_pytest_benchmark() -> None:
    done = run_pytest("--collect-only", "-q", "-p", "no:benchmark", ".", "--ignore=tests")
    assert "benchmarks/" not in done.stdout
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", "no:benchmark"], "--benchmark needs pytest-benchmark: pip install -e '.[bench]'"),
        (["--engines", "warp"], "found the engine 'warp', expected some of all, auto, plain, fused, epoch"),
        (["--devices", "abacus"], "device must be auto, cpu, cuda or cuda:N, got 'abacus'"),
        (["--peers", "tensorflow"], "found the peer 'tensorflow', expected some of all, none, numpy"),
        (["tests/test_idx.py"], "--benchmark runs what is in benchmarks/ alone, found"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(options: list[str], message: str) -> None:
    if "no:benchmark" not in options:
        pytest.importorskip("pytest_benchmark", reason='needs pytest-benchmark: pip install -e ".[bench]"')
    done = run_pytest("--benchmark", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert message in line


def options(**others: Any) -> Namespace:
    defaults: dict[str, Any] = {
        "network": [],
        "batch_sizes": "1,32",
        "devices": "cpu",
        "engines": "all",
        "peers": None,
        "dense": False,
        "images": None,
        "seconds": "4",
        "assert_speed": False,
        "results": None,
    }
    return Namespace(**(defaults | others))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("network", ["784"], "found the network '784', expected layer sizes from 784 pixels to 10 digits"),
        ("batch_sizes", "1,x", "found 'x' for the batch size, expected a whole number"),
        ("seconds", "nan", "found 'nan' for the seconds of a row, expected a number from 0 to 3600"),
        ("results", "/nowhere/results.json", "cannot write /nowhere/results.json: there is no folder"),
    ],
)
def test_options_are_checked_before_anything_is_timed(name: str, value: Any, message: str) -> None:
    with pytest.raises(GpunnError, match=re.escape(message)):
        choices_of(options(**{name: value}))


def test_benchmarks_named_without_the_option_are_not_run() -> None:
    done = run_pytest("benchmarks/test_epochs.py")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "benchmarks are run by: pytest --benchmark" in done.stderr


def choices(**others: Any) -> Choices:
    options: dict[str, Any] = {
        "networks": ("784-16-10",),
        "named": False,
        "batch_sizes": (1, 32),
        "backends": (get_backend("cpu"),),
        "engines": ("plain", "epoch"),
        "peers": (),
        "dense": False,
        "images": 100,
        "seconds": 0.0,
        "results": None,
    }
    return Choices(**(options | others))


def test_every_row_has_every_engine_and_the_peers_that_compute_there() -> None:
    assert choices().rows() == [Row("784-16-10", 1, bar=15), Row("784-16-10", 32, bar=5)]
    assert choices().entrants() == [Entrant("plain", "cpu"), Entrant("epoch", "cpu")]
    assert [entrant.name for entrant in choices(engines=()).entrants()] == ["plain", "fused", "epoch"]
    names = [entrant.name for entrant in choices(peers=None).entrants()]
    assert names[:3] == ["plain", "epoch", "numpy"]
    assert "torch.graphs" not in names


def test_goals_are_reached_by_gpunn_as_it_comes_unless_engines_are_chosen() -> None:
    assert choices(engines=(), peers=("numpy",)).racers() == [
        Entrant("auto", "cpu"),
        Entrant("numpy", "cpu", is_peer=True),
    ]
    assert [entrant.name for entrant in choices().racers()] == ["plain", "epoch"]
    assert choices().goals() == []
    assert [goal.network for goal in choices(images=60000).goals()] == ["784-16-10", "784-256-10"]
    assert [goal.network for goal in choices(images=60000, named=True).goals()] == ["784-16-10"]
    assert choices(images=60000, dense=True).goals() == []


def test_speed_is_asserted_of_all_images_and_beside_all_peers() -> None:
    assert choices_of(options()).peers == ()
    assert choices_of(options(assert_speed=True)).peers is None
    assert choices_of(options(assert_speed=True, peers="numpy")).peers == ("numpy",)
    with pytest.raises(GpunnError, match="found --images with --assert-speed, expected all images"):
        choices_of(options(assert_speed=True, images="100"))


def test_a_row_below_its_bar_is_named() -> None:
    row: dict[str, Any] = {"network": "784-16-10", "dense": False}
    records = [
        record("plain", 1, 100.0, **row),
        record("epoch", 1, 2000.0, **row),
        record("numpy", 1, 125.0, **row | {"is_peer": True}),
        record("epoch", 32, 499.0, **row),
        record("jax", 32, 100.0, **row | {"is_peer": True}),
        record("epoch", 1024, 999.0, "wrong: a weight", **row),
        record("jax", 1024, 100.0, **row | {"is_peer": True}),
        record("epoch", 8192, 999.0, **row),
    ]
    found = list(verdicts(choices(batch_sizes=(1, 32, 1024, 8192)).rows(), records))
    assert list(map(str, found)) == [
        "ok: 784-16-10, batch size 1, sparse: 16.00 times the best peer's speed, expected 15",
        "BELOW: 784-16-10, batch size 32, sparse: 4.99 times the best peer's speed, expected 5",
        "BELOW: 784-16-10, batch size 1024, sparse: no result, expected 2",
    ]
    assert [verdict.passed for verdict in found] == [True, False, False]


def test_a_run_below_its_bars_fails(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason='needs pytest-benchmark: pip install -e ".[bench]"')
    options = "--benchmark --assert-speed --seconds 0 --batch-sizes 10 --devices cpu --engines plain --peers numpy"
    done = run_pytest(*options.split(), "-k", "epoch and not transfer", "--results", tmp_path / "results.json")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "BELOW: 784-16-10, batch size 10, sparse" in done.stdout


def test_a_spread_above_a_tenth_is_marked() -> None:
    assert not times([1.0, 1.04, 1.09])["wide"]
    assert times([1.0, 1.0, 1.1, 1.3, 1.3])["wide"]


def test_a_late_device_is_told_from_a_slow_read() -> None:
    assert Timing(None, [0.1] * 3, late=[0.0, 0.0, 0.5]).problem is None
    assert Timing(None, [0.1] * 3, late=[0.005] * 3).problem is None
    assert "still computing" in (Timing(None, [0.1] * 3, late=[0.007] * 3).problem or "")
    assert Timing(None, [0.1] * 3, late=[0.0] * 3, wrong="wrong: a weight").problem == "wrong: a weight"


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (7.4, "7"),
        (950, "950"),
        (999.7, "1.00k"),
        (24_130, "24.1k"),
        (241_300, "241k"),
        (3_754_000, "3.75M"),
        (1e9, "1.00G"),
    ],
)
def test_speeds_are_short(speed: float, text: str) -> None:
    assert speed_in_words(speed) == text


def record(name: str, batch_size: int, speed: float, problem: str | None = None, **others: Any) -> dict[str, Any]:
    about = {"what": "epoch", "network": "784-16-10", "batch_size": batch_size, "device": "cpu", "name": name}
    return {**about, "is_peer": False, "images_per_second": speed, "wide": False, "problem": problem, **others}


def test_the_table_has_the_best_and_the_ratio_to_the_best_peer() -> None:
    harness = Harness(choices(), ROOT)
    harness.records = [
        record("plain", 1, 100.0, wide=True),
        record("epoch", 1, 400.0),
        record("numpy", 1, 200.0, is_peer=True),
        record("plain", 32, 900.0),
        record("epoch", 32, 1e6, "wrong: a weight"),
        {"what": "transfer", "device": "cuda:0", "quartiles": [0.01, 0.02, 0.03]},
    ]
    ((title, lines),) = tables(harness)
    assert title == "784-16-10, images a second, epochs of 100"
    texts = ["".join(cell.text for cell in cells).split() for cells in lines]
    assert texts[1:] == [
        ["batch", "plain", "epoch", "numpy", "to", "best", "peer"],
        ["1", "~100", "400", "200", "2.00"],
        ["32", "900", "FAILED", "-", "-"],
    ]
    assert [[cell.text.strip() for cell in cells if cell.best] for cells in lines] == [[], [], ["400"], ["900"]]
    assert "images to cuda:0: 20.0 ms" in notes(harness)


def test_a_peer_that_is_not_installed_is_skipped_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "benchmarks.peers.sklearn_mlp", raising=False)
    harness, net = Harness(choices(), ROOT), MLP([784, 16, 10])
    start = Parameters(net.weights, net.biases)
    with pytest.raises(AbsentError, match="sklearn is not installed: pip install scikit-learn"):
        harness.ways(Entrant("sklearn", "cpu", is_peer=True), start, Recipe(32, 0.1))


@pytest.mark.parametrize(
    ("change", "processes"),
    [
        ({}, 2),
        ({"keyword": "sigmoid"}, None),
        ({"usepdb": True}, None),
        ({"collectonly": True}, None),
        ({"benchmark": True}, None),
        ({"numprocesses": 3}, 3),
        ({"numprocesses": 0}, 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["everything", "a worker", "a file"])
def test_all_tests_run_on_several_cores_and_parts_of_them_do_not(
    where: str, change: dict[str, Any], processes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import conftest

    monkeypatch.setattr("gpunn.backends.limits.usable_cores", lambda: 2)
    unset = dict.fromkeys(("keyword", "markexpr", "benchmark", "usepdb", "collectonly"))
    option = SimpleNamespace(**unset | {"numprocesses": None, "dist": "no"} | change)
    source = pytest.Config.ArgsSource.ARGS if where == "a file" else pytest.Config.ArgsSource.TESTPATHS
    config: Any = SimpleNamespace(option=option, args_source=source)
    if where == "a worker":
        config.workerinput = {}
    conftest.pytest_cmdline_main(config)
    assert option.numprocesses == (processes if where == "everything" else change.get("numprocesses"))
