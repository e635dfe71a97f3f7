"""What `gpunn train` shows while it runs: a live bar on a terminal, a line an epoch elsewhere."""

import logging
import math
import sys
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from gpunn.history import Epoch

BAR_WIDTH = 12
"""Columns; with all figures beside it the bar fits a terminal of 80."""


class TrainingProgress(logging.Handler):
    """Shows finished epochs, and gpunn's log messages, for as long as it is entered.

    All goes to the standard output, or to the standard error with `err`. On a terminal the bar appears with the first
    message, when the training is sure to start, and vanishes at the end, so that what follows it stands alone.
    """

    def __init__(self, epochs: int, *, err: bool) -> None:
        super().__init__(logging.INFO)
        self._epochs = epochs
        self._err = err
        stream = sys.stderr if err else sys.stdout
        console = Console(file=stream)
        # rich alone would take a pipe for a terminal where the environment asks for colours; a closed stream is None.
        self._live = stream is not None and stream.isatty() and console.is_interactive
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=BAR_WIDTH),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(self._count(1), total=epochs)

    def __enter__(self) -> Self:
        logger = logging.getLogger("gpunn")
        logger.addHandler(self)
        self._level = logger.level
        logger.setLevel(logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar.live.is_started:
            self._bar.stop()
        logger = logging.getLogger("gpunn")
        logger.removeHandler(self)
        logger.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log message; above the bar, where there is one."""
        if self._live:
            self._bar.start()
            self._bar.console.print(record.getMessage(), markup=False, highlight=False)
        else:
            click.echo(record.getMessage(), err=self._err)

    def show_epoch(self, epoch: Epoch) -> None:
        """Show that `epoch` is finished."""
        rate = f"{epoch.images_per_second:9,.0f} images/s"
        accuracy = epoch.test.accuracy if epoch.test is not None else math.nan
        if self._live:
            line = f"{self._count(epoch.number)} loss {epoch.loss:.4f} test {accuracy:.2%} {rate}"
            self._bar.update(self._task, advance=1, description=line)
        else:
            line = f"{self._count(epoch.number)}   loss {epoch.loss:.5f}   test accuracy {accuracy:7.2%}   {rate}"
            click.echo(line, err=self._err)

    def _count(self, number: int) -> str:
        return f"epoch {number:{len(str(self._epochs))}}/{self._epochs}"
