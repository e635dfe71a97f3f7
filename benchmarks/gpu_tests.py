"""The GPU tests, the compilation of their kernels, and many networks at once, in processes that can be stopped."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    *(sys.executable, "-m", "pytest", "tests/gpu", "-v", "--tb=short", "--no-summary"),
    *("-p", "benchmarks.failures_at_once", "-p", "no:cacheprovider"),
)
COMPILATION = (sys.executable, "-m", "tests.gpu.compile_ahead")
MANY = (sys.executable, "-m", "benchmarks.many")
TAIL = 200
"""Lines of output that are kept."""
GRACE = 10.0
"""Seconds that a command has for its summary, once its time is up."""

OF_TEST = re.compile(r"(\S+::.*) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
NAMES = {"ERROR": "errors", "XFAIL": "xfailed", "XPASS": "xpassed"}


@dataclass
class Outcome:
    """How a command ended, and what it said last."""

    exit_code: int = 0
    timed_out: bool = False
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))

    @property
    def ended(self) -> str:
        """In words."""
        return "stopped as the time was up" if self.timed_out else f"exit code {self.exit_code}"


@dataclass(frozen=True)
class GpuTests:
    """Number of tests by what became of them ("passed", "failed", ...), names of those that failed, the last lines."""

    counts: Mapping[str, int]
    failed: Sequence[str]
    exit_code: int
    timed_out: bool
    tail: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether all tests ran and none failed."""
        return self.exit_code == 0 and not self.timed_out and self.counts.get("passed", 0) > 0

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items()) or "none ran"
        return f"GPU tests: {counts}, {Outcome(self.exit_code, self.timed_out).ended}"


def run_gpu_tests(seconds: float, echo: Callable[[str], None], command: Sequence[str] = TESTS) -> GpuTests:
    """Run `command`, pytest with -v, for at most `seconds`; pass on what it says, except of tests that passed."""
    counts: Counter[str] = Counter()
    failed: list[str] = []
    outcome = Outcome()
    for line in lines_of(command, seconds, outcome, {"GPUNN_REQUIRE_GPU": "1"}):
        found = OF_TEST.match(line)
        if found is not None:
            name, what = found.groups()
            counts[NAMES.get(what, what.lower())] += 1
            if what in {"FAILED", "ERROR"}:
                failed.append(name)
        if line and (found is None or found[2] != "PASSED"):
            echo(line)
    return GpuTests(dict(counts), failed, outcome.exit_code, outcome.timed_out, list(outcome.tail))


def compile_ahead(seconds: float, echo: Callable[[str], None], *options: str) -> Outcome:
    """Run `tests.gpu.compile_ahead` with `options`, for at most `seconds`."""
    outcome = Outcome()
    for line in lines_of((*COMPILATION, *options), seconds, outcome, {}):
        echo(line)
    return outcome


def run_many(seconds: float, echo: Callable[[str], None], *options: str) -> Outcome:
    """Run `benchmarks.many` with `options`, for at most `seconds`."""
    outcome = Outcome()
    for line in lines_of((*MANY, *options), seconds, outcome, {}):
        echo(line)
    return outcome


def lines_of(command: Sequence[str], seconds: float, outcome: Outcome, environment: Mapping[str, str]) -> Iterator[str]:
    """Run `command` and yield its output line by line; fill in the `outcome`.

    After `seconds` it is interrupted as by Ctrl-C, and `GRACE` later killed with all processes that it has started.
    """
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        with _limited(process, seconds, outcome):
            for line in process.stdout:
                outcome.tail.append(line.rstrip())
                yield line.rstrip()
            outcome.exit_code = process.wait()


@contextmanager
def _limited(process: "subprocess.Popen[str]", seconds: float, outcome: Outcome) -> Iterator[None]:
    """Stop `process` after `seconds`, or at once where the block fails or is left early."""

    def kill_group() -> None:
        # With whatever it has started, which would keep the pipe open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def interrupt() -> None:
        if process.poll() is None:
            outcome.timed_out = True
            process.send_signal(signal.SIGINT)

    timers = [threading.Timer(seconds, interrupt), threading.Timer(seconds + GRACE, kill_group)]
    for timer in timers:
        timer.start()
    try:
        yield
    except BaseException:
        kill_group()
        raise
    finally:
        for timer in timers:
            timer.cancel()
