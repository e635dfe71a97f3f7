"""Sweeps on a Dask cluster: real schedulers and workers in processes of their own, and stand-ins for what is rare."""

import json
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ClusterError, Split, load
from gpunn.backends.limits import usable_cores
from gpunn.engines.cpu.sharing import sharing
from gpunn.sweep import Cluster, Range, Run, Space, Sweep, cluster, ranked, worker
from gpunn.sweep.runs import Numbered
from gpunn.sweep.worker import Bar, Common, Results, train_on_worker

from .conftest import ROOT, outer_environment, parameters, random_split
from .conftest import Run as CommandLine
from .test_cli import assert_one_line
from .test_sweep import learnable, run_of

distributed = pytest.importorskip("distributed", reason='needs distributed: pip install "gpunn[dask]"')

SPACE = Space(hidden=((4,), (5, 3)), learning_rate=(0.05, 0.5), seed=(Range(0, 9),))


def sweep_of(space: Space = SPACE, n: int = 300, epochs: int = 2) -> Sweep:
    return Sweep(space, learnable(n), epochs=epochs)


def common_of(sweep: Sweep) -> Common:
    return Common(sweep.shared, sweep.train, sweep.held_out, "cpu")


def figures(runs: list[Run]) -> list[dict[str, Any]]:
    """Return all that doesn't depend on the clock, the best run first."""
    return [{name: value for name, value in run.to_dict().items() if name != "seconds"} for run in ranked(runs)]


def assert_same(ours: list[MLP], theirs: list[MLP]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for mine, yours in zip(parameters(one), parameters(other), strict=True):
            np.testing.assert_array_equal(mine, yours)


# A cluster of processes


class Machines:
    """A scheduler, and workers that nobody starts again, each a process with one thread."""

    def __init__(self, folder: Path) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        while not file.exists() or not file.read_text().endswith("}"):
            assert self._processes[0].poll() is None
            time.sleep(0.05)
        self.address: str = json.loads(file.read_text())["address"]
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> None:
        self.workers.append(self._start("dask_worker", self.address, "--nthreads", "1", "--no-nanny"))

    def kill_worker(self) -> None:
        self.workers.pop(0).send_signal(signal.SIGKILL)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:], "--no-dashboard"],
            cwd=ROOT,
            env=outer_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    started = Machines(tmp_path_factory.mktemp("cluster"))
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def two_workers(machines: Machines) -> Machines:
    while len(machines.workers) < 2:
        machines.start_worker()
    with Cluster(machines.address) as found:
        while len(found.workers()) < 2:
            assert all(process.poll() is None for process in machines.workers)
            time.sleep(0.05)
    return machines


def test_killed_workers_cost_nothing_but_time(
    two_workers: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []
    put_back = cluster._Handout._put_back

    def noted(handout: cluster._Handout, task: cluster._Task, losses: int) -> None:
        lost.extend(number for number, _ in task.group)
        put_back(handout, task, losses)

    monkeypatch.setattr(cluster._Handout, "_put_back", noted)
    here, there = sweep_of(n=1000, epochs=5), sweep_of(n=1000, epochs=5)
    best = here.run(keep=3, device="cpu")
    seen: list[int] = []

    def on_run(run: Run) -> None:
        seen.append(run.number)
        if len(seen) == 5:
            two_workers.kill_worker()
        if len(seen) == 15:
            # The last one, and with it the examples.
            two_workers.kill_worker()
            two_workers.start_worker()

    with Cluster(two_workers.address) as found, there.record(tmp_path / "record") as record:
        assert len(found.workers()) == 2
        sent_back = there.run(record, keep=3, device="cpu", cluster=found, on_run=on_run)
        assert len(found.workers()) == 1
    assert lost
    assert sorted(seen) == list(range(1, 41))
    assert figures(there.runs) == figures(here.runs) == figures(record.runs)
    assert_same(sent_back, best)


def test_an_interrupted_sweep_goes_on_with_and_without_the_cluster(two_workers: Machines, tmp_path: Path) -> None:
    here = sweep_of()
    best = here.run(keep=2, device="cpu")
    places: list[str | None] = [two_workers.address, None, two_workers.address]
    for address in places:
        seen = 0

        def stop(_: Run) -> None:
            nonlocal seen
            seen += 1
            if seen == 11:
                raise KeyboardInterrupt

        sweep = sweep_of()
        found = None if address is None else Cluster(address)
        with sweep.record(tmp_path / "record", resume=True) as record, pytest.raises(KeyboardInterrupt):
            sweep.run(record, device="cpu", cluster=found, on_run=stop)
        if found is not None:
            found.close()
    sweep = sweep_of()
    with sweep.record(tmp_path / "record", resume=True) as record, Cluster(two_workers.address) as found:
        assert len(record.runs) == 33
        again = sweep.run(record, keep=2, device="cpu", cluster=found)
    assert figures(sweep.runs) == figures(here.runs)
    assert_same(again, best)


def test_the_command_line_hands_out_networks(run: CommandLine, data_dir: Path, two_workers: Machines) -> None:
    options = ["sweep", "--data-dir", data_dir, "--epochs", 1, "--seed", "0..6", "--device", "cpu", "--ensemble", 2]
    here = json.loads(run(*options, "--json", "--output", "here").out)
    outcome = run(*options, "--json", "--output", "there", "--scheduler", two_workers.address)
    there = json.loads(outcome.out)
    assert f"trained by 2 workers with 2 threads at {two_workers.address}" in outcome.err
    assert (there["test_accuracy"], there["members"]) == (here["test_accuracy"], here["members"])
    for one, other in zip(load("here").nets, load("there").nets, strict=True):
        assert_same([one], [other])


def test_an_error_of_a_worker_ends_the_sweep_with_its_line(
    run: CommandLine, data_dir: Path, two_workers: Machines
) -> None:
    options = ["--seed", "0..9", "--device", "cuda:99", "--scheduler", two_workers.address]
    outcome = run("sweep", "--data-dir", data_dir, *options)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "use device cpu or auto; on the worker at tcp://" in outcome.err


def test_what_is_no_scheduler_gets_one_line(
    run: CommandLine, data_dir: Path, two_workers: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECTING", 0.5)
    with Cluster(two_workers.address) as found:
        address = next(iter(found.workers()))
    for given, reason in (
        ("127.0.0.1:1", ""),
        ("nowhere", "missing port number"),
        ("post://x:1", "unknown address scheme"),
        ("", "missing port number"),
        (address, "this is the address of a Worker"),
    ):
        outcome = run("sweep", "--data-dir", data_dir, "--scheduler", given)
        assert_one_line(outcome, f"no Dask scheduler can be reached at {given!r} (", reason, "dask scheduler prints")
    assert [path.name for path in Path().iterdir()] == ["data"]


def test_without_distributed_there_is_one_line(
    run: CommandLine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    outcome = run("sweep", "--data-dir", data_dir, "--scheduler", "127.0.0.1:1")
    assert_one_line(outcome, "a Dask cluster needs the package distributed", "pip install 'gpunn[dask]'")


def test_a_lost_scheduler_ends_the_sweep_with_one_line(
    run: CommandLine, data_dir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECTING", 1.0)
    lost = Machines(tmp_path_factory.mktemp("lost"))
    # Without workers, it waits until then.
    timer = threading.Timer(0.5, lost.stop)
    timer.start()
    outcome = run("sweep", "--data-dir", data_dir, "--scheduler", lost.address)
    timer.join()
    assert outcome.code == 2
    assert "the Dask cluster has no workers: waiting for some" in outcome.out
    assert f"gpunn: lost the Dask scheduler at {lost.address} (" in outcome.err


# What is handed out


class Promise:
    """A stand-in for a future of a task, whose end the test decides."""

    def __init__(self, worker: str, arguments: tuple[Any, ...]) -> None:
        self.worker, (self.group, self.common, self.bar) = worker, arguments
        self.released = False

    def add_done_callback(self, callback: Callable[["Promise"], None]) -> None:
        self._callback = callback

    def result(self) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def release(self) -> None:
        self.released = True

    def end(self, outcome: Any) -> None:
        self.outcome = outcome
        self._callback(self)

    def succeed(self, at_once: int) -> None:
        self.end(Results([(run_of(number, 0.5), None) for number, _ in self.group], self.worker, at_once))


class Scripted:
    """A stand-in for a cluster, on which `act` ends promises each time that workers are asked for."""

    def __init__(self, workers: dict[str, int], act: Callable[["Scripted"], None]) -> None:
        self._workers, self._act = workers, act
        self.promises: list[Promise] = []
        self.given: list[Promise] = []

    def workers(self) -> dict[str, int]:
        if self.promises:
            self._act(self)
        return self._workers

    def scatter(self, value: Any) -> Any:
        return SimpleNamespace(status="finished", value=value)

    def submit(self, worker: str, function: Any, *arguments: Any) -> Promise:
        assert function is train_on_worker
        self.promises.append(Promise(worker, arguments))
        self.given.append(self.promises[-1])
        return self.promises[-1]


def handed_out(scripted: Any, numbered: list[Numbered], sweep: Sweep) -> list[int]:
    """Hand out networks by a scripted cluster, and return the numbers of those that ended."""
    ended: list[int] = []
    cluster._Handout(
        scripted, numbered, common_of(sweep), lambda: Bar(1), lambda run, _: ended.append(run.number)
    ).run()
    return ended


def test_groups_suit_their_workers_and_become_small_at_the_end() -> None:
    sweep = sweep_of(Space(hidden=((3,), (50,)), seed=(Range(0, 199),)))

    def act(scripted: Scripted) -> None:
        waiting = [sum(promise.worker == name for promise in scripted.promises) for name in ("small", "large")]
        assert max(waiting) <= cluster.AHEAD
        promise = scripted.promises.pop(0)
        promise.succeed(2 if promise.worker == "small" else 16)

    scripted = Scripted({"small": 2, "large": 1}, act)  # a GPU's worker has one thread
    ended = handed_out(scripted, list(enumerate(sweep.configurations, 1)), sweep)
    assert sorted(ended) == list(range(1, 401))
    assert [len(promise.group) for promise in scripted.given[:2]] == [8, 4]
    sizes = {name: [len(p.group) for p in scripted.given if p.worker == name] for name in ("small", "large")}
    assert max(sizes["small"]) == 8
    assert max(sizes["large"]) == 64
    assert sizes["large"][-1] <= 16
    # The large networks come first.
    widths = [configuration.hidden for promise in scripted.given for _, configuration in promise.group]
    assert widths == sorted(widths, reverse=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for new workers all the time."""
    monkeypatch.setattr(cluster, "WATCHING", 0.001)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("loss", [CancelledError(), distributed.KilledWorker("key", SimpleNamespace(), 0)])
def test_a_network_that_is_lost_again_and_again_ends_the_sweep(loss: Exception) -> None:
    sweep = sweep_of()
    left = list(enumerate(sweep.configurations[:3], 1))

    def act(scripted: Scripted) -> None:
        promise = scripted.promises.pop(0)
        if any(number == 2 for number, _ in promise.group):
            promise.end(loss)
        else:
            promise.succeed(1)

    scripted = Scripted({"one": 1, "other": 1}, act)
    with pytest.raises(ClusterError, match=r"network 2 was lost 5 times .* \(layers 12-4-3\): see what these workers"):
        handed_out(scripted, left, sweep)
    assert len(scripted.given) == 7
    assert all(promise.released for promise in scripted.promises)


@pytest.mark.usefixtures("impatient")
def test_workers_with_another_gpunn_are_named() -> None:
    def act(scripted: Scripted) -> None:
        scripted.promises.pop(0).end(ModuleNotFoundError("No module named 'gpunn'"))

    with pytest.raises(ClusterError, match=r"a worker has no gpunn, or another .*No module named 'gpunn'\): install"):
        handed_out(Scripted({"one": 1}, act), list(enumerate(sweep_of().configurations, 1)), sweep_of())


# What a worker does


@pytest.fixture
def as_worker(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let this process be a worker with two threads, whose task is `task`."""
    task = SimpleNamespace(state="executing")
    state = SimpleNamespace(nthreads=2, tasks={"key": task})
    found = SimpleNamespace(state=state, address="here", get_current_task=lambda: "key")
    monkeypatch.setattr(distributed, "get_worker", lambda: found)
    return SimpleNamespace(state=state, task=task)


@pytest.mark.usefixtures("as_worker")
def test_only_networks_that_reach_the_bar_are_sent_back() -> None:
    sweep = sweep_of()
    group = list(enumerate(sweep.configurations, 1))
    found = train_on_worker(group, common_of(sweep), Bar(3))
    order = ranked([run for run, _ in found.trained])
    assert len(order) == 40
    assert (found.worker, found.at_once) == ("here", min(2, usable_cores()))
    for bar, expected in ((Bar(3), order[:3]), (Bar(3, order[2].order), order[:2]), (Bar(1, order[0].order), [])):
        trained = train_on_worker(group, common_of(sweep), bar).trained
        assert [run.number for run in ranked([run for run, net in trained if net is not None])] == [
            run.number for run in expected
        ]


@pytest.mark.usefixtures("as_worker")
def test_networks_that_diverged_are_not_sent_back() -> None:
    sweep = Sweep(Space(activation=("identity",), learning_rate=(1e30,)), learnable(), epochs=2, output="identity")
    ((run, net),) = train_on_worker([(1, sweep.configurations[0])], common_of(sweep), Bar(3)).trained
    assert run.failure is not None
    assert net is None


def test_a_task_that_is_called_off_ends_after_the_epoch(as_worker: SimpleNamespace) -> None:
    sweep = Sweep(Space(), learnable(), epochs=10**6)
    timer = threading.Timer(0.2, setattr, (as_worker.task, "state", "cancelled"))
    timer.start()
    with pytest.raises(worker._CalledOff):
        train_on_worker([(1, sweep.configurations[0])], common_of(sweep), Bar(1))
    timer.join()
    as_worker.state.tasks.clear()
    with pytest.raises(worker._CalledOff):
        train_on_worker([(1, sweep.configurations[0])], common_of(sweep), Bar(1))


def test_a_worker_trains_one_group_at_a_time_with_its_own_cores(
    as_worker: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_worker.state.nthreads = 1
    inside, most, cores = 0, 0, set()

    def train_group(*_: Any, **__: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        cores.add(usable_cores())
        time.sleep(0.02)
        inside -= 1

    monkeypatch.setattr(worker, "train_group", train_group)
    sweep = sweep_of()
    common = common_of(sweep)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: train_on_worker([(1, sweep.configurations[0])], common, Bar(1)), range(4)))
    assert (most, cores) == (1, {1})


def test_what_groups_have_in_common_is_sent_without_sparse_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunn.engines.speed.QUICK", 0)
    dense = random_split(200, 40, 3)
    sweep = Sweep(Space(), Split(dense.images * (dense.images > 200), dense.labels), epochs=1)
    common = common_of(sweep)
    with sharing(common.shelf):
        sweep.run(device="cpu")
    arrived = pickle.loads(pickle.dumps(common))
    assert common.shelf._made
    assert not arrived.shelf._made
    assert (arrived.shared, arrived.device) == (common.shared, "cpu")
    for ours, theirs in ((arrived.train, common.train), (arrived.held_out, common.held_out)):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
