"""The command line as processes of the tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from gpunn.cli.signals import SIGNALS

STARTED: list["subprocess.Popen[str]"] = []

OF_TERMINALS = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def _heed_signals() -> None:
    """Handle signals that this process may ignore, as in the background of a shell or under nohup."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    """Start the command line; options in capitals are environment variables."""
    command = [sys.executable, "-m", "gpunn", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name not in OF_TERMINALS}
    environment |= {"PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "xterm"}
    for name in [name for name in options if name.isupper()]:
        environment[name] = options.pop(name)
    process = subprocess.Popen(command, text=True, env=environment, preexec_fn=_heed_signals, **options)  # noqa: PLW1509
    STARTED.append(process)
    return process


def end_all() -> None:
    """End all processes that are still running."""
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def read_up_to(beginning: str, stream: IO[str] | None) -> None:
    """Read lines until one starts with `beginning`."""
    assert stream is not None
    for line in stream:
        if line.startswith(beginning):
            return
