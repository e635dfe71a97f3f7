"""What the root `conftest.py` adds to pytest for `--benchmark`: the tests' parameters, the tables and the file."""

from collections.abc import Iterator

import pytest

from benchmarks.fusions import FUSIONS
from benchmarks.harness import HARNESS, Harness
from benchmarks.memory import give_memory_back
from benchmarks.results import write_results
from benchmarks.summary import kernel_lines, race_lines
from benchmarks.throughput import notes, tables
from gpunn.errors import GpunnError

WRITTEN: pytest.StashKey[str] = pytest.StashKey()
"""Where the results are, or why they couldn't be written."""


@pytest.fixture(scope="session")
def harness(request: pytest.FixtureRequest) -> Harness:
    """Return what the run shares."""
    return request.config.stash[HARNESS]


@pytest.fixture(autouse=True)
def _memory(harness: Harness) -> Iterator[None]:
    """Give the GPUs' memory back after each test."""
    yield
    for backend in harness.choices.backends:
        give_memory_back(backend)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every row and entrant, and of every device."""
    choices = metafunc.config.stash[HARNESS].choices
    names = metafunc.fixturenames
    if "goal" in names:
        pairs = [
            pytest.param(goal, entrant, id=f"{goal.network}-{entrant}", marks=_marks(entrant.is_peer))
            for goal in choices.goals()
            for entrant in choices.racers()
        ]
        metafunc.parametrize(("goal", "entrant"), pairs)
    elif "entrant" in names:
        pairs = [
            pytest.param(
                row, entrant, id=f"{row.network}-batch-{row.batch_size}-{entrant}", marks=_marks(entrant.is_peer)
            )
            for row in choices.rows()
            for entrant in choices.entrants()
        ]
        metafunc.parametrize(("row", "entrant"), pairs)
    elif "device" in names:
        metafunc.parametrize("device", [backend.name for backend in choices.backends])
    if "kernel" in names:
        cases = [
            pytest.param(kernel, shape, id=f"{kernel}-{shape[0]}x{shape[1]}")
            for kernel, (_, shapes) in FUSIONS.items()
            for shape in shapes
        ]
        metafunc.parametrize(("kernel", "shape"), cases)


def _marks(is_peer: bool) -> list[pytest.MarkDecorator]:
    """Let what other libraries warn of be shown; of gpunn's own code it is an error, as in the tests."""
    return [pytest.mark.filterwarnings("default")] if is_peer else []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was found, also after Ctrl-C."""
    harness = session.config.stash[HARNESS]
    if not harness.records:
        return
    try:
        session.config.stash[WRITTEN] = f"all numbers: {write_results(harness)}"
    except GpunnError as error:
        session.config.stash[WRITTEN] = str(error)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if harness.choices.assert_speed and not all(verdict.passed for verdict in harness.verdicts()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables."""
    harness = terminalreporter.config.stash[HARNESS]
    if not harness.records:
        return
    write, end = terminalreporter.write, terminalreporter.line
    terminalreporter.section("benchmarks")
    for title, lines in tables(harness):
        end(title)
        for cells in lines:
            for cell in cells:
                write(cell.text, bold=cell.best)
            end("")
        end("")
    for line in (*race_lines(harness.records), *kernel_lines(harness.records)):
        end(line)
    if harness.choices.assert_speed:
        for verdict in harness.verdicts():
            end(str(verdict))
    for note in (*notes(harness), terminalreporter.config.stash[WRITTEN]):
        end(note)
