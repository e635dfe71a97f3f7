"""What `gpunn train` shows while it runs: a live bar on a terminal, a line an epoch elsewhere."""

import logging
import math
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from gpunn.history import Epoch

BAR_WIDTH = 12
"""Columns; with all figures beside it the bar fits a terminal of 80."""


class TrainingProgress(logging.Handler):
    """Shows finished epochs, and gpunn's log messages, on `console` for as long as it is entered.

    On a terminal the bar vanishes at the end, so that what follows it, a summary or an error, stands alone.
    """

    def __init__(self, console: Console, epochs: int) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._epochs = epochs
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._bar = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=BAR_WIDTH),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(f"epoch {1:{len(str(epochs))}}/{epochs}", total=epochs)

    def __enter__(self) -> Self:
        logger = logging.getLogger("gpunn")
        logger.addHandler(self)
        self._level = logger.level
        logger.setLevel(logging.INFO)
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()
        logger = logging.getLogger("gpunn")
        logger.removeHandler(self)
        logger.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log message; above the bar, where there is one."""
        self._say(record.getMessage())

    def show_epoch(self, epoch: Epoch) -> None:
        """Show that `epoch` is finished."""
        count = f"epoch {epoch.number:{len(str(self._epochs))}}/{self._epochs}"
        rate = f"{epoch.images_per_second:9,.0f} images/s"
        accuracy = epoch.test.accuracy if epoch.test is not None else math.nan
        if self._live:
            line = f"{count} loss {epoch.loss:.4f} test {accuracy:.2%} {rate}"
            self._bar.update(self._task, advance=1, description=line)
        else:
            self._say(f"{count}   loss {epoch.loss:.5f}   test accuracy {accuracy:7.2%}   {rate}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
