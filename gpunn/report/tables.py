"""The tables of a report."""

from collections.abc import Sequence

from gpunn.report import findings
from gpunn.report.findings import Machine, Place
from gpunn.report.results import Task
from gpunn.report.wording import speed_in_words

Table = tuple[list[str], list[list[str]]]
"""The header, and rows of cells; a cell that begins with "*" is the best of its row."""


def speed_table(place: Place, tasks: Sequence[Task]) -> Table:
    """Return images a second: batch sizes down, engines and peers across."""
    rows = [row for row in place.machine.epochs if row.entrant.device == place.device and row.task in tasks]
    entrants = sorted({row.entrant for row in rows})
    by_place = {(row.task, row.entrant): row for row in rows}
    fastest, ratios = findings.best(rows), findings.speed_ups(place)
    found = []
    for task in tasks:
        cells = [f"{task.batch_size:,}"]
        for entrant in entrants:
            row = by_place.get((task, entrant))
            if row is None:
                cells.append("-")
            elif row.times is None:
                cells.append("failed")
            else:
                mark = "*" if fastest[task] is row else ""
                cells.append(f"{mark}{'~' if row.times.wide else ''}{speed_in_words(row.speed)}")
        if ratios:
            cells.append(f"{ratios[task][0]:.2f}" if task in ratios else "-")
        found.append(cells)
    header = ["batch size", *(entrant.name for entrant in entrants), *(["to best peer"] if ratios else [])]
    return header, found


def kernel_table(place: Place) -> Table:
    """Return the bytes a second of each kernel, of what it replaces, and of a copy."""
    rows = []
    for kernel in place.machine.kernels:
        if kernel.device == place.device and kernel.fused and kernel.unfused and kernel.copy:
            ways = (kernel.fused, kernel.unfused, kernel.copy)
            microseconds = f"{kernel.fused.median * 1e6:,.1f}"
            rates = [f"{kernel.n_bytes / times.median / 1e9:.1f}" for times in ways]
            rows.append([kernel.label, microseconds, *rates, f"{kernel.unfused.median / kernel.fused.median:.2f}"])
    return ["", "\u00b5s", "fused", "unfused", "copy", "fused / unfused"], rows


def failure_table(machines: Sequence[Machine]) -> Table:
    """Return whose result was wrong, or who broke down."""
    rows: list[list[str]] = []
    for machine in machines:
        for row in machine.epochs:
            what = f"{row.task.network}, batch size {row.task.batch_size:,}"
            rows += [[machine.name, str(row.entrant), what, row.problem]] if row.problem else []
        for race in machine.races:
            what = f"{race.network} to {race.goal:.0%}"
            rows += [[machine.name, str(race.entrant), what, race.problem]] if race.problem else []
        for kernel in machine.kernels:
            rows += [[machine.name, kernel.device, kernel.label, kernel.problem]] if kernel.problem else []
    return ["machine", "who", "what", "problem"], rows


def skipped_table(machines: Sequence[Machine]) -> Table:
    """Return what wasn't timed, and why, once each."""
    lines = [(machine.name, line) for machine in machines for run in machine.runs for line in run.skipped]
    return ["machine", "what, and why"], [list(line) for line in dict.fromkeys(lines)]
