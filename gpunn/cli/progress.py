"""What `gpunn train` shows while it runs: a live bar on a terminal, a line an epoch elsewhere."""

import logging
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gpunn.history import Epoch


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """Return what there is to say of a finished epoch, in one line."""
    accuracy = f"   test accuracy {epoch.test.accuracy:7.2%}" if epoch.test is not None else ""
    width = len(str(epochs))
    return (
        f"epoch {epoch.number:{width}}/{epochs}   loss {epoch.loss:.5f}{accuracy}"
        f"   {epoch.images_per_second:11,.0f} images/s"
    )


class TrainingProgress(logging.Handler):
    """Shows finished epochs, and gpunn's log messages, on `console` for as long as it is entered.

    On a terminal the bar vanishes at the end, so that what follows it, a summary or an error, stands alone.
    """

    def __init__(self, console: Console, epochs: int) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(f"epoch 1/{epochs}", total=epochs)

    def __enter__(self) -> Self:
        logger = logging.getLogger("gpunn")
        logger.addHandler(self)
        self._level = logger.level
        logger.setLevel(logging.INFO)
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()
        logger = logging.getLogger("gpunn")
        logger.removeHandler(self)
        logger.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log message; above the bar, where there is one."""
        self._say(record.getMessage())

    def show_epoch(self, epoch: Epoch) -> None:
        """Show that `epoch` is finished."""
        line = epoch_line(epoch, self._epochs)
        if self._console.is_terminal:
            self._bar.update(self._task, advance=1, description=line)
        else:
            self._say(line)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
