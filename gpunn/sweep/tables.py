"""A sweep's results as text: a table of the best networks, and a CSV of all."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from gpunn.sweep.runs import Run, ranked
from gpunn.sweep.space import DIGITS, Configuration

WIDTH = 80
"""Width of the table that settings of the usual length don't exceed, in columns."""

TITLES = {
    "hidden": "hidden",
    "activation": "activation",
    "optimizer": "optimizer",
    "learning_rate": "rate",
    "batch_size": "batch",
    "l2": "l2",
    "dropout": "dropout",
    "seed": "seed",
}
"""Each setting's title in the table."""

WORDS = {"hidden", "activation", "optimizer"}
"""Settings that are aligned to the left, as words are."""


def varying(configurations: Sequence[Configuration]) -> list[str]:
    """Return the names of the settings that aren't the same in all configurations."""
    return [name for name in TITLES if len({getattr(each, name) for each in configurations}) > 1]


def spelled(name: str, configuration: Configuration, digits: int = 6) -> str:
    """Return a configuration's setting in words, "none" for what it hasn't, and so many digits of other numbers."""
    value: Any = getattr(configuration, name)
    if name == "hidden":
        return ",".join(map(str, value)) or "none"
    return (
        (value or "none")
        if isinstance(value, str)
        else f"{value:.{digits}g}"
        if isinstance(value, float)
        else str(value)
    )


def fixed(configurations: Sequence[Configuration]) -> str:
    """Return in words what is the same in all configurations, other than what is off."""
    first, different = configurations[0], varying(configurations)
    told = [name for name in TITLES if name not in different and getattr(first, name) not in (0.0, "")]
    return ", ".join(f"{name.replace('_', ' ')} {spelled(name, first)}" for name in told if name != "seed")


def number_of(count: int, what: str) -> str:
    """Return a number with its noun, such as "1 network" or "1,000 networks"."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def table(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Return a table of `runs`, in this order, with the settings `names`; long lists of hidden layers are cut."""
    ranks = [str(rank) if run.failure is None else "-" for rank, run in enumerate(runs, 1)]
    columns = [["rank", *ranks], ["held out", *map(score, runs)]]
    columns += [[TITLES[name], *(spelled(name, run.configuration, DIGITS) for run in runs)] for name in names]
    left = [False, False, *(name in WORDS for name in names)]
    widths = [max(map(len, column)) for column in columns]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else " "
    if "hidden" in names:  # the only one that may be long
        place = 2 + list(names).index("hidden")
        excess = max(0, sum(widths) + len(gap) * (len(widths) - 1) - WIDTH)
        widths[place] = max(len("hidden"), widths[place] - excess)
        columns[place] = [_cut(text, widths[place]) for text in columns[place]]
    lines = []
    for row in zip(*columns, strict=True):
        cells = zip(row, left, widths, strict=True)
        lines.append(gap.join(text.ljust(n) if to_left else text.rjust(n) for text, to_left, n in cells).rstrip())
    return lines


def csv_of(runs: Sequence[Run]) -> bytes:
    """Return all runs as CSV, the best one first, failed ones last and without a rank.

    The columns are `rank`, `number`, those of `Configuration`, with `hidden` as on the command line, and those of
    `Run`. Numbers are complete; what is missing is empty.
    """
    file = io.StringIO(newline="")
    settings = [field.name for field in fields(Configuration)]
    results = [field.name for field in fields(Run) if field.name not in {"number", "configuration"}]
    writer = csv.writer(file)
    writer.writerow(["rank", "number", *settings, *results])
    writer.writerows(_rows(ranked(runs), settings, results))
    return file.getvalue().encode()


def _rows(runs: Sequence[Run], settings: Sequence[str], results: Sequence[str]) -> Iterator[list[object]]:
    for rank, run in enumerate(runs, 1):
        values = run.configuration.to_dict() | {"hidden": ",".join(map(str, run.configuration.hidden))}
        place = rank if run.failure is None else None
        yield [place, run.number, *(values[name] for name in settings), *(getattr(run, name) for name in results)]


def score(run: Run) -> str:
    """Return the held-out accuracy of a run in words, or the loss if there are no classes."""
    if run.held_out_loss is None:
        return "diverged"
    return f"{run.held_out_loss:.5f}" if run.held_out_accuracy is None else f"{run.held_out_accuracy:.2%}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
