"""Row after row of a GPU day, as long as there is time, whatever breaks down on the way."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from benchmarks.bars import Row
from benchmarks.contest import Contest
from benchmarks.gpu_report import Report
from benchmarks.gpu_rows import Task
from benchmarks.job import Job
from benchmarks.schedule import ROUNDS_AT_MOST, Schedule
from benchmarks.worker import GivenUpError


class Asked(Protocol):
    """What is needed of a `Worker`."""

    def ask(self, job: Job, seconds: float) -> Contest: ...

    def stop(self) -> None: ...


def fitting(tasks: Sequence[Task], images: int | None) -> list[Task]:
    """Return `tasks` with batches of at most `images`, each once."""
    if images is None:
        return list(tasks)
    cut = [replace(task, row=Row(task.row.network, min(task.row.batch_size, images))) for task in tasks]
    return list(dict.fromkeys(cut))


def measure(
    tasks: Sequence[Task],
    worker: Asked,
    schedule: Schedule,
    report: Report,
    *,
    images: int | None,
    rounds: int,
    echo: Callable[[str], None],
) -> None:
    """Hold the contests of `tasks` that fit into the time, on the device of `report`.

    A contestant that is given up is left out of the other rows of its network, and the row begins again without it.
    """
    broken: dict[tuple[str, str], str] = {}
    for task in tasks:
        while True:
            contestants = [*task.engines, *task.peers]
            given_up = {name: reason for (network, name), reason in broken.items() if network == task.row.network}
            left_out = task.left_out | schedule.too_slow(task, contestants) | given_up
            names = [name for name in contestants if name not in left_out]
            needed, left = schedule.needed(task, names), schedule.left()
            if needed > left:
                report.leave_out(f"no time: needs about {needed:.0f} s of {left:.0f} s", task)
                break
            job = Job(task, report.device, images, rounds, min(ROUNDS_AT_MOST, left), left_out)
            started = time.perf_counter()
            try:
                contest = worker.ask(job, left)
            except GivenUpError as fault:
                echo(f"    {task}: {fault.name or 'nobody'}: {fault.reason}")
                if fault.name in names:
                    broken[task.row.network, fault.name] = fault.reason
                    report.fail(f"{task}: {fault.name}, {fault.reason}", fault.trace)
                    continue
                if fault.name is not None:
                    report.fail(f"{task}: {fault.name}, {fault.reason}", fault.trace)
                report.leave_out(fault.reason, task)
                break
            if contest.keeps_memory:
                worker.stop()
            took = time.perf_counter() - started
            schedule.note(task, contest, took)
            echo(report.add_row(task, contest, took))
            for result in contest.results:
                if result.problem is not None:
                    echo(f"    {result.name}: {result.problem}")
            break
