"""What the root `conftest.py` adds to pytest for `--benchmark`: parameters, progress, the file, tables and the page."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from benchmarks.harness import HARNESS, Harness
from benchmarks.options import N_IMAGES
from benchmarks.schema import Contestant
from benchmarks.timing.estimators import CASES, SOLVERS
from benchmarks.workloads.published import PUBLISHED
from benchmarks.workloads.unfused import FUSIONS
from gpunn.errors import GpunnError
from gpunn.printing import printable

HIDDEN = (16, 128)
"""Widths of the estimators' networks."""


@pytest.fixture(scope="session")
def harness(request: pytest.FixtureRequest) -> Harness:
    """Return what the run shares."""
    return request.config.stash[HARNESS]


@pytest.fixture(autouse=True)
def _saved(harness: Harness, request: pytest.FixtureRequest) -> Iterator[None]:
    """Give the GPUs' memory back after each test, and write what was found: it outlasts whatever ends the run.

    Without time left, the test is skipped.
    """
    if harness.budget.left() <= 0:
        harness.skip(f"{request.node.name}: no time left")
    yield
    harness.give_memory_back()
    harness.save()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the tests of all rows, contestants, kernels and devices."""
    harness, names = metafunc.config.stash[HARNESS], metafunc.fixturenames
    if "work" in names:
        visits = [(work, visit) for visit in range(harness.visits) for work in harness.works]
        ids = [f"{work.name}-visit-{visit + 1}" for work, visit in visits]
        metafunc.parametrize(("work", "visit"), visits, ids=ids)
    if "goal" in names:
        metafunc.parametrize("goal", harness.goals(), ids=str)
    if "contestant" in names:
        who = harness.contestants(auto=True) if "goal" in names or harness.options.images == N_IMAGES else []
        metafunc.parametrize("contestant", who, ids=_id)
    if "kernel" in names:
        cases = [(kernel, shape) for kernel, (_, shapes) in FUSIONS.items() for shape in shapes]
        metafunc.parametrize(("kernel", "shape"), cases, ids=[f"{name}-{m}x{n}" for name, (m, n) in cases])
    lists: dict[str, Sequence[Any]] = {"device": harness.names, "paper": PUBLISHED, "case": CASES}
    for name, values in (lists | {"hidden": HIDDEN, "solver": list(SOLVERS)}).items():
        if name in names:
            metafunc.parametrize(name, values, ids=[getattr(value, "name", None) or str(value) for value in values])


def _id(contestant: Contestant) -> str:
    return f"{contestant.device}-{contestant.name}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spread the rounds of rows over the run: their first visits come first, their last ones at the end."""
    last = config.stash[HARNESS].visits - 1

    def part(item: pytest.Item) -> int:
        visit = getattr(item, "callspec", None) and item.callspec.params.get("visit")  # type: ignore[attr-defined]
        return 1 if visit is None else 2 if last and visit == last else 0

    items.sort(key=part)
    config.pluginmanager.register(Progress(config, len(items)))
    for item in items:
        # What other libraries warn of is shown; of gpunn's own code it is an error, as in the tests.
        if config.stash[HARNESS].options.peers:
            item.add_marker(pytest.mark.filterwarnings("default"))


class Progress:
    """Tells which test runs and how long the rest will take: a live line on a terminal, plain lines elsewhere."""

    def __init__(self, config: pytest.Config, total: int) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._total, self._done, self._started = total, 0, time.monotonic()
        self._line = ""
        assert self._reporter is not None
        self._reporter.showfspath = False
        self._live = self._reporter.isatty
        config.stash[HARNESS].tell = self.tell

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say what runs."""
        name = nodeid.partition("::")[2].removeprefix("test_")
        self._line = f"{self._done + 1} of {self._total}{self._left()}: {name}"
        if self._live:
            self.tell("")
        else:
            self._reporter.ensure_newline()
            self._reporter.line(self._line)

    def _left(self) -> str:
        if not self._done:
            return ""
        seconds = (time.monotonic() - self._started) / self._done * (self._total - self._done)
        return f", about {seconds / 60:.0f} minutes left" if seconds >= 90 else f", about {seconds:.0f} s left"

    def tell(self, what: str) -> None:
        """Add to the live line what is done now."""
        if self._live:
            width = self._reporter.screen_width - 1
            self._reporter.rewrite(f"{self._line}  {what}"[:width], erase=True)

    def pytest_runtest_logfinish(self) -> None:
        """Count the test."""
        self._done += 1
        if self._live:
            self._reporter.rewrite("", erase=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """Print no letters; what fails is told when it occurs."""
        if report.failed:
            said = report.longreprtext.strip().splitlines() or [report.when]
            self._reporter.ensure_newline()
            self._reporter.line(f"    FAILED: {said[-1]}"[:1000], red=True)
        return (report.outcome, "", report.outcome.upper()) if report.when == "call" or report.skipped else None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write what was found, also after Ctrl-C."""
    harness = session.config.stash[HARNESS]
    if exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        harness.finished = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        harness.save()
    except GpunnError as error:
        harness.found["failures"].append(str(error))
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if harness.options.assert_speed and harness.missed():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables, write the page beside the file, and say where both are."""
    from rich.console import Console

    from benchmarks.report.page import write_page
    from benchmarks.report.tables import for_terminal

    harness, say = terminalreporter.config.stash[HARNESS], terminalreporter.line
    run = harness.run()
    timed = run.rows, run.starts, run.races, run.kernels
    if not any((*timed, run.published, run.estimator_times, run.estimator_accuracies)):
        return
    terminalreporter.section("benchmarks")
    terminal: Any = terminalreporter._tw
    console = Console(file=terminal._file, width=max(100, terminal.fullwidth), no_color=not terminal.hasmarkup)
    for part in for_terminal(run):
        console.print(part)
    if harness.options.assert_speed:
        for line in harness.missed():
            say(line)
    try:
        page = write_page([harness.path], harness.path.with_suffix(".html"))
    except GpunnError as error:
        say(str(error))
    else:
        say(f"all numbers: {printable(harness.path)}")
        say(f"the page: {printable(page)}")
