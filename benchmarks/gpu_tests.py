"""The tests that need a GPU, run by pytest in a process of its own, which can't harm the measurements."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "pytest", "tests/gpu", "-q", "--durations=5", "-p", "no:cacheprovider")
TAIL = 200
"""Lines of output that are kept."""


@dataclass(frozen=True)
class Outcome:
    """How the tests ended: pytest's counts by name ("passed", "failed", ...), its exit code and its last lines."""

    counts: Mapping[str, int]
    exit_code: int
    timed_out: bool
    tail: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether all tests ran and none failed."""
        return self.exit_code == 0 and not self.timed_out and self.counts.get("passed", 0) > 0

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items()) or "no counts"
        ended = "stopped as they took too long" if self.timed_out else f"exit code {self.exit_code}"
        return f"GPU tests: {counts}, {ended}"


def run_gpu_tests(seconds: float, echo: Callable[[str], None], command: Sequence[str] = COMMAND) -> Outcome:
    """Run `command` for at most `seconds`, passing its output on line by line."""
    environment = os.environ | {"GPUNN_REQUIRE_GPU": "1", "PYTHONUNBUFFERED": "1"}
    tail: deque[str] = deque(maxlen=TAIL)
    timed_out = threading.Event()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:

        def kill_group() -> None:
            # With whatever the tests started, which would keep the pipe open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        def stop() -> None:
            if process.poll() is None:
                timed_out.set()
                kill_group()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                tail.append(line.rstrip())
                echo(line.rstrip())
            exit_code = process.wait()
        except BaseException:
            kill_group()
            raise
        finally:
            timer.cancel()
    return Outcome(_counts(tail), exit_code, timed_out.is_set(), list(tail))


def _counts(lines: Sequence[str]) -> dict[str, int]:
    """Return the counts of pytest's last line, such as "1 failed, 12 passed in 3.4s"."""
    for line in reversed(lines):
        found = re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|warnings?|deselected)\b", line)
        if found and re.search(r"\bin [\d.:]+ ?s", line):
            return {name: int(count) for count, name in found}
    return {}
