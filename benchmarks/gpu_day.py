"""Everything that a machine with a GPU is wanted for, in one command: checks, GPU tests, measurements.

    python -m benchmarks.gpu_day [--device cuda] [--json PATH] [--minutes 9] [--rounds 7] [--assert-speed]

It needs a checkout and nothing else of gpunn installed. It goes by the clock: the most important rows come first, and
what doesn't fit into the time is listed as not done. The JSON file is written again after every step, so that what was
found by then outlasts whatever ends the command.

Exit code 1: a test failed, a network was wrong, an engine broke down (or, with --assert-speed, a target was missed);
2: it couldn't start. Without a GPU, `--device cpu --images 512` goes through all of it on the CPU, as a rehearsal.
"""

import time
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.ceilings import measure_ceilings
from benchmarks.gpu_report import LEGEND, Report
from benchmarks.gpu_rounds import fitting, measure
from benchmarks.gpu_rows import tasks
from benchmarks.gpu_tests import run_gpu_tests
from benchmarks.machine import GPU_LIBRARIES, describe_machine, driver_version
from benchmarks.peers import Place
from benchmarks.schedule import Schedule
from benchmarks.worker import Worker
from gpunn import Backend, get_backend
from gpunn.errors import GpunnError
from gpunn.files import check_writable

SHARE_OF_TESTS = 0.4
"""The part of the time that the tests may take."""


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
        backend = get_backend(device)
    except GpunnError as error:
        raise CannotStart(str(error)) from error
    report = Report(backend.name, json_path)
    _check(backend, report)
    _test(backend, report, minutes * 60 * SHARE_OF_TESTS if tests else None)
    _measure(backend, report, schedule, rounds, images)
    report.write(finished=True)
    click.echo("\n" + report.summary())
    if report.failures or (assert_speed and report.missed):
        raise click.exceptions.Exit(1)


def _check(backend: Backend, report: Report) -> None:
    """Say what the machine is and can do."""
    place = Place(backend.name)
    machine = describe_machine(GPU_LIBRARIES)
    described = {} if place.kind == "cpu" else backend.describe() | {"driver, GPU": driver_version(place.index)}
    for part in (machine, described):
        click.echo("; ".join(f"{key} {value}" for key, value in part.items()))
    report.write(machine=machine, device=backend.name, described=described, started=time.strftime("%Y-%m-%d %H:%M:%S"))
    ceilings, missing = measure_ceilings(backend)
    for name, value in ceilings.items():
        click.echo(f"ceiling of {backend.name}: {value:,.0f} {name}")
    for name, reason in missing.items():
        report.leave_out(f"ceiling, {name}: {reason}")
    report.write(ceilings=ceilings)


def _test(backend: Backend, report: Report, seconds: float | None) -> None:
    """Run the GPU tests for at most `seconds`."""
    if backend.name == "cpu" or seconds is None:
        report.leave_out(f"GPU tests: {'--no-tests' if seconds is None else 'the device is the CPU'}")
        return
    outcome = run_gpu_tests(seconds, click.echo)
    click.echo(str(outcome))
    if not outcome.passed:
        report.failures.append(str(outcome))
    report.write(tests=asdict(outcome))


def _measure(backend: Backend, report: Report, schedule: Schedule, rounds: int, images: int | None) -> None:
    """Hold the contests that fit into the time."""
    click.echo("\n" + LEGEND)
    click.echo("float64 is computed by plain on the CPU; for 784-2048-2048-10, where that takes minutes, on the device")
    click.echo(report.table.header())
    rows = fitting(tasks(with_targets=backend.name != "cpu" and images is None), images)
    worker = Worker()
    try:
        measure(rows, worker, schedule, report, images=images, rounds=rounds, echo=click.echo)
    finally:
        worker.stop()
    click.echo(f"{schedule.left():.0f} s were left")


if __name__ == "__main__":
    main()
