"""Progress display of `gpunn train`: one line an epoch, and on a terminal a progress bar below."""

import logging
import sys
import threading
from types import TracebackType
from typing import ClassVar, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from gpunn.history import Epoch, counted

BAR_WIDTH = 40
"""Width of the progress bar, in columns."""


class TrainingProgress(logging.Handler):
    """Shows finished epochs and gpunn's log messages while entered.

    Output goes to stdout, or to stderr with `err`. On a terminal the bar appears with the first message and vanishes at
    the end. Write errors (closed pipe, full disk) don't stop training: the first one is kept in `failure`.
    """

    _guard: ClassVar = threading.Lock()
    _entered: ClassVar[int] = 0
    _level_before: ClassVar[int] = logging.NOTSET
    """Level of gpunn's logger before the first instance was entered."""

    def __init__(self, epochs: int, *, err: bool) -> None:
        super().__init__(logging.INFO)
        self.failure: OSError | None = None
        self._epochs = epochs
        self._err = err
        stream = sys.stderr if err else sys.stdout
        console = Console(file=stream)
        # rich alone takes a pipe for a terminal if the environment forces colours; a closed stream is None.
        self._live = stream is not None and stream.isatty() and console.is_interactive
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(counted(1, epochs), total=epochs)

    def __enter__(self) -> Self:
        logger = logging.getLogger("gpunn")
        with TrainingProgress._guard:
            if not TrainingProgress._entered:
                TrainingProgress._level_before = logger.level
                logger.setLevel(logging.INFO)
            TrainingProgress._entered += 1
        logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logger = logging.getLogger("gpunn")
        logger.removeHandler(self)
        with TrainingProgress._guard:
            TrainingProgress._entered -= 1
            if not TrainingProgress._entered:
                logger.setLevel(TrainingProgress._level_before)
        try:
            if self._bar.live.is_started:
                self._bar.stop()
        except OSError as failure:
            self.failure = self.failure or failure

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log message, above the bar if there is one."""
        self._show(record.getMessage())

    def show_epoch(self, epoch: Epoch) -> None:
        """Show a finished epoch and advance the bar."""
        self._show(epoch.line(self._epochs))
        if self._live and self.failure is None:
            self._bar.update(
                self._task, advance=1, description=counted(min(epoch.number + 1, self._epochs), self._epochs)
            )

    def _show(self, line: str) -> None:
        if self.failure is not None:
            return
        try:
            if self._live:
                self._bar.start()
                self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                click.echo(line, err=self._err)
        except OSError as failure:
            self.failure = failure
