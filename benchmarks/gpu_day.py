"""Everything that a machine with a GPU is wanted for, in one command: checks, GPU tests, measurements.

    python -m benchmarks.gpu_day [--device cuda] [--json PATH] [--minutes 9] [--rounds 7] [--assert-speed]

It needs a checkout and nothing else of gpunn installed. It goes by the clock: kernels are compiled on all cores before
the tests, the most important rows come first, and what doesn't fit into the time is listed as not done. The JSON file
is written again after every step, so that what was found by then outlasts whatever ends the command.

Checks, tests and measurements each have a process of their own, one after another, and this one has no context on the
GPU: one in EXCLUSIVE_PROCESS mode takes no second one.

Exit code 1: a test failed, a network was wrong, an engine broke down (or, with --assert-speed, a target was missed);
2: it couldn't start. Without a GPU, `--device cpu --images 512` goes through all of it on the CPU, as a rehearsal.
"""

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.gpu_check import Checked, check_device
from benchmarks.gpu_report import LEGEND, Report
from benchmarks.gpu_rounds import fitting, measure
from benchmarks.gpu_rows import tasks
from benchmarks.gpu_tests import compile_ahead, run_gpu_tests, run_many
from benchmarks.job import do_job, patience_for
from benchmarks.machine import GPU_LIBRARIES, describe_machine
from benchmarks.schedule import Schedule
from benchmarks.worker import GivenUpError, Worker
from gpunn.errors import GpunnError
from gpunn.files import check_writable

SHARE_OF_COMPILATION, SHARE_OF_TESTS, SHARE_OF_MANY = 0.2, 0.4, 0.15
"""The parts of the time that compilation, tests, and rows of many networks may take."""

REHEARSED = 2
"""Kernels that are compiled in a rehearsal, for the GPU that is the default of `tests.gpu.compile_ahead`."""


class CannotStart(click.ClickException):
    """One line on why nothing was done."""

    exit_code = 2


@click.command()
@click.option("--device", default="cuda", show_default=True, metavar="DEVICE", help="cuda, cuda:N or cpu.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all that is found there.")
@click.option("--minutes", default=9.0, show_default=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=1), help="At most, for each row.")
@click.option("--images", type=click.IntRange(min=1, max=60000), help="Train on the first ones only, without targets.")
@click.option("--tests/--no-tests", default=True, show_default=True, help="Run tests/gpu.")
@click.option("--assert-speed", is_flag=True, help="Exit with 1 where a target was missed.")
def main(  # noqa: PLR0917 - one argument an option, passed by name
    device: str,
    json_path: Path | None,
    minutes: float,
    rounds: int,
    images: int | None,
    tests: bool,
    assert_speed: bool,
) -> None:
    """Check, test and measure gpunn on a GPU, within MINUTES."""
    schedule = Schedule(minutes * 60, rounds)
    try:
        if json_path is not None:
            check_writable(json_path)
    except GpunnError as error:
        raise CannotStart(str(error)) from error
    checked = _check(device, schedule.left())
    report = Report(checked.device, json_path)
    _tell(checked, report)
    if tests:
        _compile(checked, report, min(minutes * 60 * SHARE_OF_COMPILATION, schedule.left()))
        _test(checked, report, min(minutes * 60 * SHARE_OF_TESTS, schedule.left()))
    else:
        report.leave_out("GPU tests: --no-tests")
    _measure_many(checked.device, report, min(minutes * 60 * SHARE_OF_MANY, schedule.left()), images)
    _measure(checked.device, report, schedule, rounds, images)
    report.write(finished=True)
    click.echo("\n" + report.summary())
    if report.failures or (assert_speed and report.missed):
        raise click.exceptions.Exit(1)


def _check(device: str, seconds: float) -> Checked:
    """Return what the device is and can do."""
    worker = Worker(check_device)
    try:
        checked = worker.ask(device, seconds)
    except GivenUpError as fault:
        raise CannotStart(f"{device} can't be used: {fault.reason}") from fault
    finally:
        worker.stop()
    if isinstance(checked, str):
        raise CannotStart(checked)
    return checked


def _tell(checked: Checked, report: Report) -> None:
    """Say what the machine is and can do."""
    machine, started = describe_machine(GPU_LIBRARIES), time.strftime("%Y-%m-%d %H:%M:%S")
    for part in (machine, checked.described):
        click.echo("; ".join(f"{key} {value}" for key, value in part.items()))
    report.write(machine=machine, device=checked.device, described=dict(checked.described), started=started)
    for name, value in checked.ceilings.items():
        click.echo(f"ceiling of {checked.device}: {value:,.0f} {name}")
    for name, reason in checked.missing.items():
        report.leave_out(f"ceiling, {name}: {reason}")
    report.write(ceilings=dict(checked.ceilings))


def _compile(checked: Checked, report: Report, seconds: float) -> None:
    """Compile kernels on all cores, for at most `seconds`: tests and rows will find them in the cache."""
    if isinstance(checked.shared_memory, str) and checked.device != "cpu":
        report.leave_out(f"kernels compiled ahead: {checked.shared_memory}")
        return
    if checked.device == "cpu":
        options = ["--first", str(REHEARSED)]
    else:
        capability, shared = checked.described["compute capability"], checked.shared_memory
        options = ["--capability", capability, "--shared", str(shared)]
    outcome = compile_ahead(seconds, click.echo, *options)
    what = f"kernels compiled ahead: {outcome.tail[-1] if outcome.tail else 'none'}, {outcome.ended}"
    if outcome.exit_code or outcome.timed_out:  # the tests show what can't be compiled
        report.leave_out(what)
    report.write(compiled=what)


def _test(checked: Checked, report: Report, seconds: float) -> None:
    """Run the GPU tests for at most `seconds`."""
    if checked.device == "cpu":
        report.leave_out("GPU tests: the device is the CPU")
        return
    tested = run_gpu_tests(seconds, click.echo)
    click.echo(str(tested))
    if not tested.passed:
        report.failures.append("; ".join((str(tested), *tested.failed)))
    report.write(tests=asdict(tested))


def _measure_many(device: str, report: Report, seconds: float, images: int | None) -> None:
    """Train many networks at once, for at most `seconds`, beside other libraries; in a rehearsal few and alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.json"
        options = ["--device", device, "--json", str(path)]
        if images is not None:
            options += ["--images", str(images), "--networks", "1,3", "--peers", "none", "--rounds", "1"]
        outcome = run_many(seconds, click.echo, *options)
        found = json.loads(path.read_text())["rows"] if path.exists() else []
    report.write(many=found)
    if outcome.timed_out:
        report.leave_out("many networks: the larger rows, as the time was up")
    elif outcome.exit_code:
        report.fail(f"many networks: {outcome.ended}: {outcome.tail[-1] if outcome.tail else 'nothing was said'}")


def _measure(device: str, report: Report, schedule: Schedule, rounds: int, images: int | None) -> None:
    """Hold the contests that fit into the time."""
    click.echo("\n" + LEGEND)
    click.echo("float64 is computed by plain on the CPU; for 784-2048-2048-10, where that takes minutes, on the device")
    click.echo(report.table.header())
    rows = fitting(tasks(with_targets=device != "cpu" and images is None), images)
    worker = Worker(do_job, patience_for)
    try:
        measure(rows, worker, schedule, report, images=images, rounds=rounds, echo=click.echo)
    finally:
        worker.stop()
    click.echo(f"{schedule.left():.0f} s were left")


if __name__ == "__main__":
    main()
