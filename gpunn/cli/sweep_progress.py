"""Progress display of `gpunn sweep`: on a terminal a live table of the best networks, otherwise few lines."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from rich.live import Live
from rich.text import Text

from gpunn.cli.screen import OnScreen, Screen
from gpunn.sweep import Run, Sweep, ranked
from gpunn.sweep.tables import TITLES, score, spelled, table, varying

SHOWN = 10
"""Number of networks in the table."""

LINES = 10
"""About how many lines tell of the progress where there is no terminal."""


class SweepProgress(OnScreen):
    """Shows the best networks so far, their number, and the time left, while entered; `runs` are finished already."""

    def __init__(self, sweep: Sweep, runs: Sequence[Run], *, err: bool) -> None:
        self._names = varying(sweep.configurations)
        self._total, self._epochs = len(sweep.configurations), sweep.shared.epochs
        # An epoch's work is about proportional to the network's parameters.
        self._work = {number: sweep.shared.n_parameters(each) for number, each in enumerate(sweep.configurations, 1)}
        self._best = ranked(runs)[:SHOWN]
        self._finished = len(runs)
        self._left = self._epochs * (sum(self._work.values()) - sum(self._work[run.number] for run in runs))
        self._done = 0
        self._seen: Counter[int] = Counter()
        self._begun = time.monotonic()
        super().__init__(Screen(err=err, names=("gpunn.kernels", "gpunn.sweep")))
        self._screen.below = Live(get_renderable=self._table, console=self._screen.console, transient=True)

    def show(self, line: str) -> None:
        """Show a line."""
        self._screen.show(line)

    def on_epoch(self, number: int) -> None:
        """Count an epoch of a network."""
        self._seen[number] += 1
        self._advance(self._work[number])

    def on_run(self, run: Run) -> None:
        """Count a network that has ended, and show it if it is among the best."""
        self._advance(self._work[run.number] * (self._epochs - self._seen.pop(run.number, 0)))
        self._finished += 1
        self._best = ranked([*self._best, run])[:SHOWN]
        tenth = self._finished * LINES // self._total > (self._finished - 1) * LINES // self._total
        if tenth and not self._screen.is_live:
            self.show(f"{self._status()}  best: {self._told(self._best[0])}")

    def _advance(self, work: int) -> None:
        self._done += work
        self._left -= work

    def _table(self) -> Text:
        lines = ["", *(table(self._best, self._names) if self._best else []), self._status()]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def _status(self) -> str:
        count = f"{self._finished:{len(str(self._total))}}/{self._total} networks"
        if not self._done:
            return count
        left = (time.monotonic() - self._begun) * self._left / self._done
        return f"{count}  {timedelta(seconds=round(left))} left"

    def _told(self, run: Run) -> str:
        if run.failure is not None:
            return "none so far"
        settings = ", ".join(f"{TITLES[name]} {spelled(name, run.configuration)}" for name in self._names)
        return f"{score(run)} held out" + (f" ({settings})" if settings else "")
