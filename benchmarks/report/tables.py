"""Tables of results as data frames of text: the page, the terminal and the documents show the same ones.

A cell that begins with `BEST` is the best of its row.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from statistics import mean, median
from typing import Any

from benchmarks.report import findings
from benchmarks.report.findings import Machine, Part, label_of
from benchmarks.report.wording import (
    name_of,
    speed_in_words,
    sureness,
    time_in_words,
    times_in_words,
)
from benchmarks.schema import Comparison, Estimate, Run

BEST = "*"

NEAR = 0.9
"""Of the highest speed: a batch size with as much is taken instead of a larger one."""

LONG = 36
"""Characters from which on a cell may have several lines."""

ABSENT, ROUGHLY, SPREAD = "\N{EN DASH}", "~", "\N{PLUS-MINUS SIGN}"

ROUGH_SAYS = (
    f"{ROUGHLY} marks a rough time: its 95 % interval is wider than {100 * findings.ROUGH:.0f} % of the median, or "
    "there were fewer than 6 undisturbed rounds; of a contestant that was too slow for rounds, it is the first epoch."
)

RATIO = "times the best peer"

Frame = Any
"""A data frame of pandas', of text, whose index is its first column."""


def speeds(parts: Sequence[Part], *, variation: bool = True) -> Frame:
    """Return images per second of one kind on one device: batch sizes down, engines and peers across."""
    import pandas as pd

    cells: dict[tuple[str, str], str] = {}
    columns: dict[str, bool] = {}
    for part in parts:
        size = f"{part.task.batch_size:,}"
        for result in part.results:
            columns[label_of(result.contestant)] = result.contestant.is_peer
            cells[size, label_of(result.contestant)] = "failed" if result.problem is not None else ABSENT
        for each in part.timed:
            spread = f" {SPREAD}{each.variation:.0%}" if variation and each.variation is not None else ""
            mark = (BEST if each is part.timed[0] else "") + (ROUGHLY if each.rough else "")
            cells[size, each.label] = f"{mark}{speed_in_words(part.speed(each.seconds))}{spread}"
        if part.comparison.ratio is not None:
            ratio = times_in_words(part.comparison.ratio.median)
            cells[size, RATIO] = "; ".join([interval(part.comparison.ratio), *verdicts(part.comparison)] if variation
                                           else [ratio])  # fmt: skip
    found = pd.Series(cells).unstack(fill_value=ABSENT)
    order = [*sorted(columns, key=lambda label: columns[label]), *[RATIO] * (RATIO in found)]
    sizes = dict.fromkeys(size for size, _ in cells)
    return found.reindex(index=list(sizes), columns=order).rename_axis(index="batch size", columns=None)


def interval(ratio: Estimate) -> str:
    """Return a ratio with its interval, and why it can't be told, if so."""
    said = f"{times_in_words(ratio.median)} ({times_in_words(ratio.low)} to {times_in_words(ratio.high)})"
    return f"{said}; {sureness(ratio)}" if sureness(ratio) else said


def verdicts(comparison: Comparison) -> list[str]:
    """Return what became of each bar of a comparison."""
    bars = [
        times_in_words(target.bar) if target.kind != "seconds" else f"at most {time_in_words(target.bar)}"
        for target in comparison.targets
    ]
    return [f"bar {bar} {target.verdict}" for bar, target in zip(bars, comparison.targets, strict=True)]


def advice(parts: Sequence[Part]) -> Frame:
    """Return which engine and batch size to take on each device: the smallest that is about as fast as any."""
    groups = findings.by_kind(part for part in parts if part.ours)
    rows = []
    for kind in dict.fromkeys(kind for _, kind in groups):
        offers = []
        for mine in (mine for (_, other), mine in groups.items() if other == kind):
            fastest = [(part, next(each for each in part.timed if not each.contestant.is_peer)) for part in mine]
            top = max(part.speed(each.seconds) for part, each in fastest)
            offers.append((top, *next(way for way in fastest if way[0].speed(way[1].seconds) >= NEAR * top)))
        for number, (_, part, each) in enumerate(sorted(offers, key=lambda offer: -offer[0])):
            speed = f"{ROUGHLY if each.rough else ''}{speed_in_words(part.speed(each.seconds))}"
            epoch = time_in_words(each.seconds / part.task.networks / part.task.epochs)
            cells = (part.place.device, each.contestant.name, f"{part.task.batch_size:,}", speed, epoch)
            mark = "" if number else BEST
            rows.append(("" if number else kind, *(mark + cell for cell in cells)))
    return table("network, device, engine, batch size, images per second, one epoch", rows)


def races(machine: Machine) -> Frame:
    """Return the ways to an accuracy, the fastest of each goal first."""
    rows = []
    for race in findings.races(machine):
        reference = [run.reference_epochs for run in race.runs if run.reference_epochs is not None]
        more = "more, by more than chance" if race.worse else "not more than by chance"
        rows.append(
            (
                findings.goal_of(race),
                str(race.contestant),
                time_in_words(findings.median_seconds(race)),
                f"{len(race.runs)}",
                f"{median(run.epochs for run in race.runs):g}",
                f"{median(reference):g}" if reference else ABSENT,
                ABSENT if race.p_value is None else more,
                f"{race.task.batch_size:,}",
                f"{race.task.recipe.learning_rate:g}",
            )
        )
    return table("goal, who, median, seeds, epochs, float64's, beside float64, batch size, learning rate", rows)


def starts(machine: Machine, parts: Sequence[Part]) -> Frame:
    """Return the seconds to the first epoch's end in a fresh process, and those of a steady epoch."""
    rows = [
        (
            name_of(start.task),
            str(start.contestant),
            *(time_in_words(median(each)) if each else ABSENT for each in (start.cold, start.warm)),
            time_in_words(steady.seconds) if steady else ABSENT,
        )
        for start, steady in findings.starts(machine, parts)
    ]
    return table("what, who, cold (empty kernel cache), warm (full kernel cache), a steady epoch", rows)


def kernels(machine: Machine) -> Frame:
    """Return each kernel's time, its ratio to what it replaces, and its bytes per second beside a copy's."""
    rows = []
    for kernel in findings.newest(machine, "kernels"):
        if kernel.fused is not None and kernel.problem is None:
            times = [time_in_words(each.median) if each else ABSENT for each in (kernel.fused, kernel.unfused)]
            rates = [f"{kernel.n_bytes / it.median / 1e9:.1f}" if it else ABSENT for it in (kernel.fused, kernel.copy)]
            ratio = interval(kernel.ratio) if kernel.ratio else ABSENT
            rows.append((f"{kernel.label} on {kernel.device}", *times, ratio, *rates))
    return table("kernel, fused, unfused, times faster, GB/s, GB/s of a copy", rows)


def published(machine: Machine) -> Frame:
    """Return test errors that others published, and gpunn's."""
    rows = [
        (it.network, it.source, f"{it.published:g} %", f"{mean(it.errors):.2f} %",
         f"{min(it.errors):.2f} to {max(it.errors):.2f}", f"{len(it.errors)}",
         f"{mean(it.seconds):,.0f} s on {it.device}", it.verdict, it.recipe)
        for it in findings.newest(machine, "published")
        if it.errors
    ]  # fmt: skip
    return table("network, source, published, gpunn's mean, spread, seeds, a training, verdict, recipe", rows)


def estimator_times(machine: Machine) -> Frame:
    """Return an epoch of the estimators beside scikit-learn's."""
    rows = [
        (
            *(f"{it.hidden}", f"{it.batch_size:,}", it.solver, f"{it.engine} on {it.device}"),
            *(time_in_words(each.median) for each in (it.ours, it.theirs)),
            f"failed: {it.problem}" if it.problem else interval(it.ratio),
            *map(time_in_words, (it.our_first, it.their_first)),
        )
        for it in findings.newest(machine, "estimator_times")
    ]
    header = "hidden layer, batch size, solver, engine, gpunn's epoch, scikit-learn's, times faster"
    return table(f"{header}, gpunn's first fit, scikit-learn's first fit", rows)


def estimator_accuracies(machine: Machine) -> Frame:
    """Return what the estimators learn beside scikit-learn's."""
    rows = [
        (
            *(it.data, f"{it.hidden}", it.solver, f"{it.epochs}", f"{it.engine} on {it.device}"),
            *(f"{mean(each):.2f} %" if each else it.problem or ABSENT for each in (it.ours, it.theirs)),
            f"{SPREAD}{it.chance:.2f}",
        )
        for it in findings.newest(machine, "estimator_accuracies")
    ]
    names = "data, hidden layer, solver, epochs, gpunn's engine, gpunn's mean, scikit-learn's mean, chance allows"
    return table(names, rows)


def troubles(runs: Iterable[Run]) -> tuple[Frame, Frame]:
    """Return what failed, and what wasn't timed, and why, once each."""
    failed: list[tuple[object, str, str | None]] = []
    gone: list[tuple[object, str, str | None]] = []
    for run in runs:
        failed += [(it.contestant, name_of(row.task), it.problem) for row in run.rows for it in row.results]
        failed += [(race.contestant, findings.goal_of(race), race.problem) for race in run.races]
        failed += [(start.contestant, name_of(start.task), start.problem) for start in run.starts]
        failed += [(kernel.device, kernel.label, kernel.problem) for kernel in run.kernels]
        failed += [("gpunn", line, "") for line in run.failures]
        gone += [(it.contestant, it.reason, "") for row in run.rows for it in row.absent]
        gone += [(device, why, "") for device, why in run.machine.absent_devices.items()]
        gone += [(ABSENT, line, "") for line in run.left_out]
    lines = dict.fromkeys((str(who), what, why or ABSENT) for who, what, why in failed if why is not None)
    return table("who, what, why", lines), table("who, why", dict.fromkeys((str(who), what) for who, what, _ in gone))


def table(header: str, rows: Iterable[Sequence[str]]) -> Frame:
    """Return rows as a table; `header` has its columns' names, with commas between them."""
    import pandas as pd

    names = header.split(", ")
    return pd.DataFrame(list(rows), columns=names).set_index(names[0])


def html(frame: Frame) -> str:
    """Return a table as HTML, escaped, without styles of its own, which the page's policy forbids."""
    text: str = frame.reset_index().to_html(index=False, border=0)
    text = text.replace(' style="text-align: right;"', "").replace(' class="dataframe"', "")
    text = re.sub(f"<td>([^<]{{{LONG},}})</td>", r'<td class="words">\1</td>', text)
    return text.replace(f"<td>{BEST}", '<td class="best">')


def markdown(frame: Frame) -> list[str]:
    """Return the lines of a table in Markdown, the best of a row in bold."""
    frame = frame.reset_index()
    rows = [list(frame.columns), ["---:"] * len(frame.columns), *frame.itertuples(index=False)]
    return [f"| {' | '.join(f'**{cell[1:]}**' if cell[:1] == BEST else cell for cell in row)} |" for row in rows]


def for_terminal(run: Run) -> Iterator[Any]:
    """Yield what a terminal shows of a run, for Rich to print: tables, and lines of text."""
    from rich.table import Table
    from rich.text import Text

    (machine,) = findings.machines([run])
    parts = findings.parts_of([machine])
    named = [(f"{kind} on {place.device}, images per second", speeds(mine))
             for (place, kind), mine in findings.by_kind(parts).items()]  # fmt: skip
    named += [
        ("From a fresh network to an accuracy", races(machine)),
        ("First epoch of a fresh process", starts(machine, parts)),
        ("Fused kernels", kernels(machine)),
        ("Beside published test errors", published(machine)),
        ("An epoch of fit beside scikit-learn's", estimator_times(machine)),
        ("Accuracy beside scikit-learn's", estimator_accuracies(machine)),
        *zip(("Failed", "Not timed"), troubles([run]), strict=True),
    ]
    for title, frame in named:
        if len(frame):
            shown = Table(title=Text(f"\n{title}"), title_justify="left", title_style="bold", box=None, pad_edge=False)
            for number, name in enumerate([frame.index.name, *frame.columns]):
                shown.add_column(Text(name), justify="right" if number else "left")
            for row in frame.reset_index().itertuples(index=False):
                shown.add_row(*(Text(cell.removeprefix(BEST), "bold" if cell[:1] == BEST else "") for cell in row))
            yield shown
    yield Text(f"\n{ROUGH_SAYS}\n{SPREAD} is the coefficient of variation of the rounds.")
    yield Text(findings.bars_in_words(parts))
