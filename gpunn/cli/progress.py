"""Progress display of `gpunn train`: one line an epoch, and on a terminal a progress bar below."""

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from gpunn.cli.screen import OnScreen, Screen
from gpunn.history import Epoch, counted

BAR_WIDTH = 40
"""Width of the progress bar, in columns."""


class TrainingProgress(OnScreen):
    """Shows finished epochs and gpunn's log messages while entered, see `Screen`."""

    def __init__(self, epochs: int, *, err: bool, quiet: bool = False) -> None:
        self._epochs = epochs
        super().__init__(Screen(err=err, quiet=quiet))
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            TimeRemainingColumn(compact=True),
            console=self._screen.console,
            transient=True,
        )
        self._screen.below = self._bar
        self._task = self._bar.add_task(counted(1, epochs), total=epochs)

    def show_epoch(self, epoch: Epoch) -> None:
        """Show a finished epoch and advance the bar."""
        self._screen.show(epoch.line(self._epochs))
        if self._screen.is_live and self.failure is None:
            following = counted(min(epoch.number + 1, self._epochs), self._epochs)
            self._bar.update(self._task, completed=epoch.number, description=following)
