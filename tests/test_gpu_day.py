"""What a GPU day does without a GPU: rehearsed on the CPU, with a clock that is set, and workers that break down."""

import json
import multiprocessing
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import gpu_check, gpu_day
from benchmarks.bars import Row
from benchmarks.contest import Contest
from benchmarks.exactness import TOLERANCES
from benchmarks.gpu_check import Checked, check_device
from benchmarks.gpu_report import Report
from benchmarks.gpu_rounds import fitting, measure
from benchmarks.gpu_rows import LARGE, ON_CPU, SMALL, WIDE, Task, tasks
from benchmarks.gpu_tests import GpuTests, Outcome
from benchmarks.job import Job, _add_auto, exact_on
from benchmarks.schedule import LONGEST, PREPARATION, RESERVE, Schedule
from benchmarks.standings import Result
from benchmarks.worker import GivenUpError
from gpunn import backends
from gpunn.backends import cuda

from .strict_cupy import StrictCupy

TASK = Task(Row(SMALL, 32, bar=8), at_most=5e-3)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def result(name: str, seconds: float, *, is_peer: bool = False, problem: str | None = None) -> Result:
    return Result(name, None, is_peer, first=seconds, seconds=[seconds] * 3, problem=problem)


def contest(**seconds: float) -> Contest:
    peers = ("torch", "torch_graphs", "jax")
    return Contest([result(name.replace("_", "."), time, is_peer=name in peers) for name, time in seconds.items()])


class PretendWorker:
    """Answers with what it is given for a task, in turn; each answer takes as long as the clock is told."""

    def __init__(self, clock: Clock, takes: float, *answers: Contest | GivenUpError) -> None:
        self.clock, self.takes, self.answers = clock, takes, list(answers)
        self.jobs: list[Job] = []
        self.stopped: list[int] = []
        """After how many jobs it was stopped."""

    def ask(self, job: Job, seconds: float) -> Contest:
        self.jobs.append(job)
        self.clock.now += self.takes
        answer = self.answers.pop(0) if self.answers else contest(torch=0.08, epoch=0.004, auto=0.004)
        if isinstance(answer, GivenUpError):
            raise answer
        return answer

    def stop(self) -> None:
        self.stopped.append(len(self.jobs))


def run(
    chosen: list[Task], worker: PretendWorker, minutes: float = 9, path: Path | None = None
) -> tuple[Report, list[str]]:
    report, said = Report("cuda:0", path), list[str]()
    schedule = Schedule(minutes * 60, 7, worker.clock)
    measure(chosen, worker, schedule, report, images=None, rounds=7, echo=said.append)
    return report, said


# The rows


def test_the_targets_come_first_and_online_learning_last() -> None:
    found = tasks(with_targets=True)
    assert [task.row.network for task in found[:2]] == [SMALL, LARGE]
    assert [task.row.batch_size for task in found[-2:]] == [1, 1]
    assert len(set(found)) == len(found)
    assert {task.row.batch_size for task in found if task.row.network == LARGE} == {32, 128, 1024, 8192, 60000}
    aimed_at = [task for task in found if task.row.network == LARGE and task.row.batch_size >= 1024]
    assert [task.row.bar for task in aimed_at if task.precision == "float32"] == [1, 1, 1]
    assert [task.row.bar for task in aimed_at if task.precision != "float32"] == [None, None]
    assert all(task.row.bar is None and task.at_most is None for task in tasks(with_targets=False))


def test_batches_are_no_larger_than_the_images_there_are() -> None:
    cut = fitting(tasks(with_targets=False), 512)
    assert max(task.row.batch_size for task in cut) == 512
    assert len(set(cut)) == len(cut)


def test_only_a_large_network_is_compared_with_float64_on_the_gpu() -> None:
    assert [exact_on(network, "cuda:0") for network in (SMALL, WIDE, LARGE)] == ["cpu", "cpu", "cuda:0"]


# The time


def test_what_does_not_fit_into_the_time_is_listed_and_shorter_rows_go_on() -> None:
    clock = Clock()
    report, _ = run([TASK, Task(Row(WIDE, 32)), Task(Row(SMALL, 128))], PretendWorker(clock, 10.0), minutes=35 / 60)
    held = [(row["network"], row["batch_size"]) for row in report.document["rows"]]
    assert held == [(SMALL, 32), (SMALL, 128)]
    ((reason, rows),) = [item for item in report.not_done.items() if item[0].startswith("no time")]
    assert rows == [f"{WIDE}, batch size 32, float32"]
    assert reason == f"no time: needs about {PREPARATION + 3 + 12:.0f} s of 22 s"


def test_a_contestant_that_would_take_too_long_is_left_out_by_what_it_took_before() -> None:
    schedule = Schedule(540, 7, Clock())
    schedule.note(TASK, contest(plain=0.7, jax=0.05), 20.0)
    online = Task(Row(SMALL, 1))
    assert schedule.too_slow(online, ["plain", "jax", "torch"]) == {"plain": "would take about 22 s an epoch"}
    assert 32 * 0.7 > LONGEST > 32 * 0.05
    assert schedule.too_slow(Task(Row(SMALL, 1024)), ["plain"]) == {}
    assert schedule.too_slow(Task(Row(WIDE, 1)), ["plain"]) == {}


def test_time_runs_out_a_little_before_the_end() -> None:
    clock = Clock()
    schedule = Schedule(60, 7, clock)
    assert schedule.left() == 60 - RESERVE
    clock.now += 70
    assert schedule.left() == 0


# What breaks down


def test_a_contestant_that_is_given_up_is_left_out_of_its_network_only() -> None:
    worker = PretendWorker(Clock(), 5.0, GivenUpError("epoch", "did not train within 30 s", "Traceback"))
    report, said = run([TASK, Task(Row(SMALL, 128)), Task(Row(WIDE, 32))], worker)
    assert [dict(job.left_out) for job in worker.jobs] == [
        {},
        {"epoch": "did not train within 30 s"},
        {"epoch": "did not train within 30 s"},
        {},
    ]
    assert report.failures == [f"{TASK}: epoch, did not train within 30 s"]
    assert list(report.document["tracebacks"].values()) == ["Traceback"]
    assert len(report.document["rows"]) == 3
    assert "did not train" in said[0]


def test_a_row_that_nobody_in_particular_has_spoilt_is_not_tried_again() -> None:
    worker = PretendWorker(Clock(), 5.0, GivenUpError(None, "the time was up"), GivenUpError("float64", "failed"))
    report, _ = run([TASK, Task(Row(WIDE, 32))], worker)
    assert report.not_done["the time was up"] == [str(TASK)]
    assert report.failures == [f"{WIDE}, batch size 32, float32: float64, failed"]
    assert "rows" not in report.document


# What is told


def test_targets_are_judged_by_the_ratio_and_by_the_time() -> None:
    good, slow = contest(torch=0.08, auto=0.004, epoch=0.004), contest(torch=0.03, auto=0.006, epoch=0.006)
    report = Report("cuda:0", None)
    report.add_row(TASK, good, 1.0)
    assert report.missed == []
    report.add_row(TASK, slow, 1.0)
    assert report.missed == [
        f"{TASK}: 5.00 times the best peer's speed, at least 8",
        f"{TASK}: 6.00 ms an epoch, at most 5",
    ]
    report.add_row(TASK, Contest(), 1.0)
    assert report.missed[2:] == [
        f"{TASK}: no times the best peer's speed, at least 8",
        f"{TASK}: no ms an epoch, at most 5",
    ]
    assert report.targets[0] == f"{TASK}: 20.00 times the best peer's speed, at least 8: ok"


def test_a_wrong_network_fails_and_is_told_once() -> None:
    wrong = Contest(
        [result("torch", 0.1, is_peer=True), *(result(name, 0.1, problem="off") for name in ("epoch", "auto"))]
    )
    report = Report("cuda:0", None)
    assert "FAILED" in report.add_row(TASK, wrong, 1.0)
    assert report.failures == [f"{TASK}: epoch, off"]
    assert "FAILED:\n" + report.failures[0] in report.summary()


def test_the_file_is_written_again_after_every_row(tmp_path: Path) -> None:
    path = tmp_path / "day.json"
    seen: list[int] = []

    class Looking(PretendWorker):
        def ask(self, job: Job, seconds: float) -> Contest:
            seen.append(len(json.loads(path.read_text())["rows"]) if path.exists() else 0)
            return super().ask(job, seconds)

    run([TASK, Task(Row(WIDE, 32)), Task(Row(SMALL, 128))], Looking(Clock(), 5.0), path=path)
    assert seen == [0, 1, 2]
    document = json.loads(path.read_text())
    assert document["rows"][0]["contestants"][0]["name"] == "torch"
    assert document["targets"][0].endswith("ok")


def test_a_disk_that_is_full_in_the_end_fails_once_and_stops_nothing(tmp_path: Path) -> None:
    report, _ = run([TASK, Task(Row(WIDE, 32))], PretendWorker(Clock(), 5.0), path=tmp_path / "gone" / "day.json")
    assert len(report.lines) == 2
    (failure,) = report.failures
    assert failure.startswith("cannot write")


def test_what_is_infinitely_wrong_can_be_written(tmp_path: Path) -> None:
    report = Report("cuda:0", tmp_path / "day.json")
    report.add_row(TASK, Contest(deviations={"epoch": float("inf"), "torch": 1e-6}), 1.0)
    (row,) = json.loads((tmp_path / "day.json").read_text(), parse_constant=pytest.fail)["rows"]
    assert row["deviations"] == {"epoch": None, "torch": 1e-6}


def test_auto_has_the_results_of_the_engine_it_stands_for() -> None:
    held = contest(torch=0.1, plain=0.3, fused=0.2, epoch=0.1)
    _add_auto(held, TASK, "cpu")
    assert held.auto == "epoch"
    assert [each.median for each in held.results if each.name == "auto"] == [0.1]
    held = Contest(absent={"epoch": "refused"})
    _add_auto(held, TASK, "cpu")
    assert held.absent["auto"] == "stands for epoch, which is absent: refused"


# The command


def test_a_rehearsal_on_the_cpu_goes_through_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One peer that needs no library, and the one that can't compute here.
    rows = [Task(Row(SMALL, batch_size), peers=("numpy", "torch.graphs")) for batch_size in (32, 60000)]
    monkeypatch.setattr(gpu_day, "tasks", lambda **_kwargs: rows)
    path = tmp_path / "day.json"
    options = ["--device", "cpu", "--images", "300", "--rounds", "2", "--json", str(path)]
    outcome = CliRunner().invoke(gpu_day.main, options, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    document = json.loads(path.read_text())
    assert document["finished"]
    assert document["failures"] == []
    assert document["machine"]["numpy"] == np.__version__
    assert [row["batch_size"] for row in document["rows"]] == [32, 300]
    engines = {each["name"] for each in document["rows"][0]["contestants"] if not each["is_peer"]}
    assert engines == {"auto", "plain", "fused", "epoch", ON_CPU}
    assert document["rows"][0]["auto"] == "epoch"
    assert max(document["rows"][0]["deviations"].values()) <= TOLERANCES["float32"]
    assert "torch.graphs: computes on cuda, and the device is cpu" in document["not done"]
    assert "GPU tests: the device is the CPU" in document["not done"]
    assert document["compiled"].startswith("kernels compiled ahead: ")
    assert [row["networks"] for row in document["many"]] == [1, 3]
    assert "3 networks, 1 epochs each" in outcome.output
    assert outcome.output.count("784-16-10           32") == 2


class PretendDay:
    """A GPU day on a machine with a GPU: what each process of its own would answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
        self.said: list[tuple[str, tuple[Any, ...]]] = []
        described = {"name": "Stand-in", "compute capability": "9.0"}
        checked = Checked("cuda:1", described, {"copy": 3000.0}, {}, found.get("shared_memory", 232448))

        def note(name: str, answer: Any) -> Any:
            def answer_to(*arguments: Any) -> Any:
                self.said.append((name, arguments[2:]))
                return answer

            return answer_to

        monkeypatch.setattr(gpu_day, "_check", lambda device, seconds: checked)
        compiled = Outcome(found.get("compiled", 0), tail=deque(["117 of 118 compiled in 9 s, 1 failed"]))
        monkeypatch.setattr(gpu_day, "compile_ahead", note("compile", compiled))
        tested = GpuTests(found.get("counts", {"passed": 3}), found.get("failed", []), 0, timed_out=False, tail=[])
        monkeypatch.setattr(gpu_day, "run_gpu_tests", note("test", tested))
        monkeypatch.setattr(gpu_day, "run_many", note("many", found.get("many", Outcome())))
        monkeypatch.setattr(gpu_day, "Worker", lambda *_: PretendWorker(Clock(), 0.0))
        monkeypatch.setattr(gpu_day, "tasks", lambda **_kwargs: [TASK])
        # Whoever imports CuPy here means to open a context.
        monkeypatch.setitem(sys.modules, "cupy", None)
        cuda._import_cupy.cache_clear()
        cuda._tried.cache_clear()


def test_kernels_are_compiled_for_the_gpu_before_tests_and_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    day, path = PretendDay(monkeypatch), tmp_path / "day.json"
    opened: list[str] = []
    monkeypatch.setattr(backends, "_cuda", opened.append)
    outcome = CliRunner().invoke(gpu_day.main, ["--device", "cuda:1", "--json", str(path)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert [name for name, _ in day.said] == ["compile", "test", "many"]
    assert day.said[0][1] == ("--capability", "9.0", "--shared", "232448")
    assert day.said[2][1][:2] == ("--device", "cuda:1")
    document = json.loads(path.read_text())
    assert document["device"] == "cuda:1"
    assert document["compiled"] == "kernels compiled ahead: 117 of 118 compiled in 9 s, 1 failed, exit code 0"
    assert document["tests"]["counts"] == {"passed": 3}
    assert len(document["rows"]) == 1
    # In EXCLUSIVE_PROCESS mode, a context of this process would keep all others from theirs.
    assert opened == []


def test_what_failed_is_named_and_what_was_not_compiled_is_not_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    PretendDay(monkeypatch, compiled=1, counts={"failed": 1}, failed=["tests/gpu/test_a.py::test_b"])
    path = tmp_path / "day.json"
    outcome = CliRunner().invoke(gpu_day.main, ["--json", str(path)], catch_exceptions=False)
    assert outcome.exit_code == 1
    document = json.loads(path.read_text())
    assert document["failures"] == ["GPU tests: 1 failed, exit code 0; tests/gpu/test_a.py::test_b"]
    assert list(document["not done"]) == ["kernels compiled ahead: 117 of 118 compiled in 9 s, 1 failed, exit code 1"]
    day = PretendDay(monkeypatch, shared_memory="ModuleNotFoundError: No module named 'numba_cuda'")
    outcome = CliRunner().invoke(gpu_day.main, [], catch_exceptions=False)
    assert [name for name, _ in day.said] == ["test", "many"]
    assert "kernels compiled ahead: ModuleNotFoundError: No module named 'numba_cuda'" in outcome.output


@pytest.mark.parametrize(
    ("outcome", "failures", "not_done"),
    [
        (Outcome(1, tail=deque(["132 networks: jax.vmap, network 0: found the loss 2"])), ["many networks: exit "], []),
        (Outcome(130, timed_out=True), [], ["many networks: the larger rows, as the time was up"]),
    ],
    ids=["wrong", "late"],
)
def test_many_networks_that_are_wrong_are_failures_and_late_ones_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: Outcome, failures: list[str], not_done: list[str]
) -> None:
    PretendDay(monkeypatch, many=outcome)
    path = tmp_path / "day.json"
    code = CliRunner().invoke(gpu_day.main, ["--json", str(path)], catch_exceptions=False).exit_code
    assert code == len(failures)
    document = json.loads(path.read_text())
    assert [failure[:20] for failure in document["failures"]] == [failure[:20] for failure in failures]
    assert [what for what in document["not done"] if what.startswith("many")] == not_done


def test_the_device_is_checked_in_a_process_of_its_own_which_ends() -> None:
    before = multiprocessing.active_children()
    checked = gpu_day._check("cpu", 60)
    assert (checked.device, checked.missing) == ("cpu", {})
    assert all(value > 0 for value in checked.ceilings.values())
    assert set(multiprocessing.active_children()) <= set(before)


def test_a_process_that_keeps_much_memory_is_replaced() -> None:
    kept = contest(torch=0.08, auto=0.004)
    kept.keeps_memory = True
    worker = PretendWorker(Clock(), 1.0, kept, contest(torch=0.08, auto=0.004))
    run([TASK, Task(Row(WIDE, 32))], worker)
    assert worker.stopped == [1]


@pytest.mark.parametrize(("assert_speed", "missed", "failures", "code"), [
    (False, ["slow"], [], 0),
    (True, ["slow"], [], 1),
    (True, [], [], 0),
    (False, [], ["wrong"], 1),
])  # fmt: skip
def test_failures_count_always_and_targets_where_they_are_asserted(
    assert_speed: bool, missed: list[str], failures: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(_device: str, report: Report, *_args: Any) -> None:
        report.missed += missed
        report.failures += failures

    PretendDay(monkeypatch)
    monkeypatch.setattr(gpu_day, "_measure", pretend)
    options = ["--assert-speed"] if assert_speed else []
    assert CliRunner().invoke(gpu_day.main, options).exit_code == code


def test_without_a_gpu_it_ends_with_one_line(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(None)
    reason = check_device("cuda", lambda _name, _act: None)
    assert isinstance(reason, str)
    assert reason.startswith("CuPy is not installed")
    # No GPU is visible, wherever this runs.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    outcome = CliRunner().invoke(gpu_day.main, [])
    assert outcome.exit_code == 2
    (line,) = outcome.output.strip().splitlines()
    assert line.startswith("Error: ")
    assert line.endswith("; use device cpu or auto")


def test_a_gpu_is_described_with_what_its_kernels_are_compiled_for(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(StrictCupy())
    monkeypatch.setattr(gpu_check, "measure_ceilings", lambda _backend: ({}, {}))
    checked = check_device("cuda", lambda _name, _act: None)
    assert isinstance(checked, Checked)
    assert checked.described["compute capability"] == "9.0"
    assert "driver, GPU" in checked.described


def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "day.json"
    outcome = CliRunner().invoke(gpu_day.main, ["--device", "cpu", "--json", str(path)])
    assert outcome.exit_code == 2
    (line,) = outcome.output.strip().splitlines()
    assert line == f"Error: cannot write {path}: there is no folder {path.parent}; choose another place"


def test_the_command_starts_from_a_bare_checkout() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--device", "gpu"]
    root = Path(gpu_day.__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: device must be auto, cpu, cuda or cuda:N, got 'gpu'\n"
