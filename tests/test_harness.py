"""`pytest --benchmark` times what is there, says what it found, and isn't fooled."""

import json
import os
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pytest_benchmark", reason='needs pytest-benchmark: pip install -e ".[bench]"')
pytest.importorskip("pebble", reason='needs pebble: pip install -e ".[bench]"')

from benchmarks import plugin
from benchmarks.harness import HARNESS, Harness
from benchmarks.options import add_options
from benchmarks.schema import Comparison, Contestant, Row, Target, read
from benchmarks.workloads.epochs import LARGE, ON_GPU, SMALL, WIDE, chosen, exact_device, unsuitable
from gpunn.errors import GpunnError

from .conftest import outer_environment

ROOT = Path(__file__).resolve().parent.parent


def run_pytest(*options: object) -> subprocess.CompletedProcess[str]:
    environment = outer_environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


Done = tuple[subprocess.CompletedProcess[str], Path]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The output and the folder of a run with good engines, bad engines and a peer."""
    folder = tmp_path_factory.mktemp("results")
    options = "--benchmark --images 300 --seconds 0 --network 784-16-10 --batch-sizes 50 --recipes sigmoid"
    who = "--devices cpu --peers numpy,torch.graphs -p tests.fake_engines --engines plain,lazy,late,broken,picky"
    some = "row or (descend and 16x784)"
    files = (f"--results={folder}/run.json", f"--benchmark-json={folder}/entries.json")
    return run_pytest(*options.split(), *who.split(), "-k", some, *files), folder


def test_a_run_ends_with_tables_and_files_and_no_wrong_answer_passes(measured: Done) -> None:
    done, folder = measured
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "2 failed, 1 passed" in done.stdout  # in both visits
    assert "FAILED: 784-16-10, batch size 50" in done.stdout
    assert "1 of 3: row[784-16-10-batch-50-sigmoid-visit-1]" in done.stdout
    assert "s left: " in done.stdout
    assert f"all numbers: {folder}/run.json" in done.stdout
    assert f"the page: {folder}/run.html" in done.stdout
    assert (folder / "run.html").read_text().startswith("<!doctype html>")


def test_the_file_says_what_was_found_of_whom(measured: Done) -> None:
    run = read(measured[1] / "run.json")
    (row,) = run.rows
    results = {result.contestant.name: result for result in row.results}
    for name in ("plain", "numpy"):
        found = results[name]
        assert found.problem is None
        assert len(found.rounds) >= 6
        assert found.steady is not None
        assert found.steady.low <= found.steady.median <= found.steady.high
        assert (found.deviation or 0) < 1e-3
        assert 0 < (found.accuracy or 0) < 1
    assert (results["numpy"].contestant.threads or 0) >= 1
    assert (results["lazy"].problem or "").startswith("wrong: ")
    assert (results["late"].problem or "").startswith("the device was still computing when the time was taken")
    assert results["broken"].problem == "failed: RuntimeError: it fails on purpose"
    reasons = {each.contestant.name: each.reason for each in row.absent}
    assert "it supports no network" in reasons["picky"]
    assert "computes on cuda" in reasons["torch.graphs"]
    assert {(each.number) for each in results["plain"].rounds} == {each.number for each in results["numpy"].rounds}
    (comparison,) = row.comparisons
    assert (comparison.ours, comparison.best_peer) == ("plain", "numpy")
    (kernel,) = run.kernels
    assert kernel.name == "descend"
    assert run.options["images"] == 300
    assert run.machine.versions["numpy"] == np.__version__
    assert run.finished
    assert run.revision


def test_pytest_benchmark_keeps_an_entry_of_each_contestant(measured: Done) -> None:
    entries = json.loads((measured[1] / "entries.json").read_text())["benchmarks"]
    (row,) = read(measured[1] / "run.json").rows
    plain = next(result for result in row.results if result.contestant.name == "plain")
    names = {entry["name"] for entry in entries}
    assert "784-16-10-batch-50-sigmoid-cpu-numpy" in names
    assert "descend-16x784-cpu-fused" in names
    assert not any("lazy" in name or "late" in name for name in names)
    (mine,) = [entry for entry in entries if entry["name"] == "784-16-10-batch-50-sigmoid-cpu-plain"]
    undisturbed = [each.seconds for each in plain.rounds if each.disturbed is None]
    assert mine["stats"]["data"] == undisturbed
    assert mine["extra_info"]["disturbed"] == len(plain.rounds) - len(undisturbed)
    assert mine["group"] == "784-16-10-batch-50-sigmoid"
    assert mine["fullname"] == "benchmarks/test_epochs.py::test_row[784-16-10-batch-50-sigmoid-cpu-plain]"


def test_plain_pytest_knows_nothing_of_benchmarks_nor_of_pytest_benchmark() -> None:
    done = run_pytest("--collect-only", "-q", "-p", "no:benchmark", ".", "--ignore=tests")
    assert "benchmarks/" not in done.stdout
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", "no:benchmark"], "--benchmark needs pytest-benchmark: pip install -e '.[bench]'"),
        (["-n", "2"], "--benchmark can't be combined with --benchmark-disable, --benchmark-skip or -n"),
        (["--devices", "abacus"], "device must be auto, cpu, cuda or cuda:N, got 'abacus'"),
        (["--engines", "warp"], "argument --engines: found the engine 'warp', expected some of plain, fused, epoch"),
        (["tests/test_idx.py"], "--benchmark runs what is in benchmarks/ alone, found"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(options: list[str], message: str) -> None:
    done = run_pytest("--benchmark", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    said = done.stdout + done.stderr
    assert any(message in line for line in said.splitlines())
    assert "Traceback" not in said


def test_benchmarks_named_without_the_option_are_not_run() -> None:
    done = run_pytest("benchmarks/test_epochs.py")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "benchmarks are run by: pytest --benchmark" in done.stderr


def spelled() -> tuple[dict[str, Callable[[str], Any]], dict[str, Any]]:
    """Return the types and the defaults of the options."""
    types: dict[str, Any] = {}
    defaults: dict[str, Any] = {}

    def add(name: str, **how: Any) -> None:
        types[name] = how.get("type")
        defaults[name[2:].replace("-", "_")] = how.get("default", False)

    add_options(add)
    return types, defaults


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("--network", "784-16-10", "784-16-10"),
        ("--network", "784", "found '784', expected sizes from 784 pixels to 10 digits"),
        ("--network", "784-0-10", "found '784-0-10', expected sizes"),
        ("--batch-sizes", "1,32,1", [1, 32]),
        ("--batch-sizes", "1,x", "found 'x', expected a whole number from 1"),
        ("--images", "60001", "found '60001', expected a whole number from 1 to 60000"),
        ("--seconds", "0.5", 0.5),
        ("--seconds", "nan", "found 'nan', expected a number from 0 to 3600"),
        ("--peers", "jax,all", ["jax", "all"]),
        ("--peers", "tensorflow", "found the peer 'tensorflow', expected some of all, none, numpy"),
        ("--recipes", "adam", ["adam"]),
    ],
)
def test_options_are_checked_by_their_types(name: str, text: str, expected: Any) -> None:
    types, _ = spelled()
    if isinstance(expected, str) and expected.startswith("found"):
        with pytest.raises(ArgumentTypeError, match=expected):
            types[name](text)
    else:
        assert types[name](text) == expected


def harness(tmp_path: Path, **others: Any) -> Harness:
    return Harness(Namespace(**spelled()[1] | {"devices": "cpu"} | others), tmp_path)


def test_every_row_has_every_engine_and_the_peers_that_train_it(tmp_path: Path) -> None:
    def names(found: list[Contestant]) -> list[str]:
        return [each.name for each in found]

    assert names(harness(tmp_path).contestants()) == ["plain", "fused", "epoch"]
    with_peers = harness(tmp_path, peers=["all"], engines=["epoch"])
    assert names(with_peers.contestants())[:3] == ["epoch", "numpy", "torch"]
    assert "torch.graphs" not in names(with_peers.contestants())
    assert names(with_peers.contestants(many=True)) == ["train_many", "train in turn", "jax.vmap", "torch.func"]
    assert names(harness(tmp_path, peers=["none"]).contestants(auto=True)) == ["auto"]
    assert names(harness(tmp_path, peers=["jax.vmap"]).contestants(auto=True)) == ["auto"]
    rows, beside = harness(tmp_path).works, harness(tmp_path, peers=["all"]).works
    assert [work.name for work in beside if work not in rows] == ["784-128-10-batch-1-sigmoid"]


def test_goals_are_for_all_images_as_they_are(tmp_path: Path) -> None:
    def networks(**others: Any) -> list[str]:
        return [goal.network for goal in harness(tmp_path, **others).goals()]

    assert networks() == ["784-16-10"]
    assert networks(peers=["all"]) == networks(network=["784-16-10", "784-256-10"]) == ["784-16-10", "784-256-10"]
    assert networks(network=[SMALL]) == [SMALL]
    assert networks(images=100) == networks(dense=True) == []


def test_rows_are_those_with_bars_unless_others_are_asked_for() -> None:
    usual = chosen(at_once=[16])
    assert {(work.task.network, work.task.batch_size): work.bar for work in usual}[WIDE, 1] == 9
    assert {work.task.recipe.optimizer for work in usual} == {"sgd", "nesterov", "adam"}
    assert [work.task.networks for work in usual if work.task.networks > 1] == [16]
    assert sum(work.task.dense for work in usual) == 2
    assert [(work.task.batch_size, work.bar) for work in chosen([SMALL], [1, 5])] == [
        (1, 12),
        (5, None),
        (1, None),
        (5, None),
    ]
    assert [work.bar for work in chosen(["784-99-10"])] == [None] * 3
    assert [work.name for work in chosen([WIDE], recipes=["adam"], dense=True)] == [
        f"784-128-10-batch-{m}-adam-dense" for m in (1, 32, 1024)
    ]
    assert len({work.name for work in usual}) == len(usual)
    assert {work.bar for work in chosen(images=500)} == {None}
    assert max(work.task.batch_size for work in chosen(images=500)) == 500


def test_a_gpu_has_rows_of_its_own_the_most_important_first() -> None:
    rows = chosen(gpu_only=True)
    assert len(rows) == len(ON_GPU)
    assert (rows[0].task.network, rows[0].task.batch_size, rows[0].gpu_bar, rows[0].gpu_seconds) == (SMALL, 32, 8, 5e-3)
    assert [work.task.precision for work in rows].count("tf32") == 2
    large = rows[1].task
    assert (exact_device(large, "cuda:0"), exact_device(rows[0].task, "cuda:0")) == ("cuda:0", "cpu")
    assert large.network == LARGE
    assert "on one multiprocessor" in (unsuitable(large, Contestant("epoch", "cuda:0")) or "")
    assert "takes minutes" in (unsuitable(large, Contestant("fused", "cpu")) or "")
    assert unsuitable(large, Contestant("fused", "cuda:0")) is None


def test_speed_is_asserted_beside_all_peers_and_of_rows_with_bars(tmp_path: Path) -> None:
    assert harness(tmp_path, assert_speed=True).options.peers == ["all"]
    assert harness(tmp_path, assert_speed=True, peers=["numpy"]).options.peers == ["numpy"]
    with pytest.raises(GpunnError, match="--assert-speed needs all images: the bars are for them"):
        harness(tmp_path, assert_speed=True, images=100)
    with pytest.raises(GpunnError, match=r"cannot write /nowhere/run\.json: there is no folder"):
        harness(tmp_path, results=Path("/nowhere/run.json"))
    with pytest.raises(GpunnError, match="--assert-speed needs peers"):
        harness(tmp_path, assert_speed=True, peers=["none"])
    assert harness(tmp_path, assert_speed=True).missed()[0] == (
        "784-16-10, batch size 1, sigmoid, squared error, sgd: not timed"
    )
    with pytest.raises(GpunnError, match="--assert-speed needs a row that has a bar"):
        harness(tmp_path, assert_speed=True, network=["784-99-10"])


@pytest.mark.parametrize(
    ("verdict", "status"), [("met", 0), ("undecided", 0), ("missed", 1), ("no result", 1)], ids=str
)
@pytest.mark.parametrize("asserted", [True, False])
def test_a_run_that_misses_a_bar_fails_if_that_was_asked_for(
    verdict: Any, status: int, asserted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = harness(tmp_path, assert_speed=asserted, network=[SMALL], batch_sizes=[1], recipes=["sigmoid"])
    row = Row(
        found.works[0].task, comparisons=[Comparison("cpu", targets=[Target("times the best peer", 12, verdict)])]
    )
    monkeypatch.setattr(found, "rows", lambda: [row])
    session: Any = SimpleNamespace(config=SimpleNamespace(stash={HARNESS: found}), exitstatus=0)
    plugin.pytest_sessionfinish(session, pytest.ExitCode.OK)
    assert session.exitstatus == (status if asserted else 0)
    assert read(found.path).rows == [row]


def test_what_no_time_is_left_for_is_told(tmp_path: Path) -> None:
    found = harness(tmp_path, minutes=0.1, engines=["plain"])
    with pytest.raises(pytest.skip.Exception, match=r"no time: needs about 1\d s of 3 s"):
        found.visit(found.works[0], 0)
    assert found.run().left_out[0].startswith("784-16-10, batch size 1, ")


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
    monkeypatch.setattr("os.environ", {})
    conftest.pytest_cmdline_main(config)
    assert option.numprocesses == (processes if where == "everything" else change.get("numprocesses"))
    shared = bool(option.numprocesses) and where != "a worker"
    assert os.environ.get("OMP_NUM_THREADS") == ("1" if shared else None)
