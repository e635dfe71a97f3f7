"""The table at the end of `pytest --benchmark`: images a second, batch sizes down, engines and peers across."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.harness import WIDE, Harness
from benchmarks.report.wording import speed_in_words
from benchmarks.timing import LEAST
from benchmarks.verdicts import ratio_to_best_peer

Record = dict[str, Any]
Column = tuple[str, str, bool]
"""A device, a name, and whether it is a peer's."""


class Cell(NamedTuple):
    """A column's text in one line, and whether it is the fastest of the line."""

    text: str
    best: bool = False


def tables(harness: Harness) -> Iterator[tuple[str, list[list[Cell]]]]:
    """Yield a title and the lines of cells for each network that was timed."""
    epochs = [record for record in harness.records if record["what"] == "epoch"]
    columns = list(dict.fromkeys((record["device"], record["name"], record["is_peer"]) for record in epochs))
    columns.sort(key=lambda column: column[2])
    with_peers = list(dict.fromkeys(device for device, _, is_peer in columns if is_peer))
    for network in dict.fromkeys(record["network"] for record in epochs):
        lines = [_header(columns, 0), _header(columns, 1)]
        lines[0] += [Cell(f"{device:>14}") for device in with_peers]
        lines[1] += [Cell("  to best peer") for _ in with_peers]
        mine = [record for record in epochs if record["network"] == network]
        for batch_size in dict.fromkeys(record["batch_size"] for record in mine):
            row = [record for record in mine if record["batch_size"] == batch_size]
            lines.append(_line(batch_size, row, columns, with_peers))
        kind = ", images without a zero pixel" if harness.choices.dense else ""
        yield f"{network}, images a second, epochs of {harness.choices.images:,}{kind}", lines


def notes(harness: Harness) -> list[str]:
    """Return what there is to say below the tables: marks, preparations, transfers."""
    found = [
        f"~ quartiles more than {WIDE:.0%} of the median apart, or fewer than {LEAST} rounds",
        "- not timed, for the reasons given below",
    ]
    if any(record["is_peer"] for record in harness.records if record["what"] == "epoch"):
        found.append("to best peer: the speed of gpunn's best engine, divided by that of the best peer there")
    preparations: dict[str, list[float]] = {}
    for record in harness.records:
        if record["what"] == "preparation":
            preparations.setdefault(f"{record['device']} {record['name']}", []).append(record["quartiles"][1] * 1e3)
    ranges = (f"{name} {_range(medians)}" for name, medians in preparations.items())
    if preparations:
        found.append(f"prepared before the epochs, in ms: {', '.join(ranges)}")
    found += (
        f"images to {record['device']}: {record['quartiles'][1] * 1e3:.1f} ms"
        for record in harness.records
        if record["what"] == "transfer"
    )
    return found


def _header(columns: list[Column], part: int) -> list[Cell]:
    first = f"{'' if part == 0 else 'batch':>6}"
    return [Cell(first), *(Cell(f"{column[part]!s:>{_width(column)}}") for column in columns)]


def _line(batch_size: int, row: list[Record], columns: list[Column], with_peers: list[str]) -> list[Cell]:
    by_column = {(record["device"], record["name"], record["is_peer"]): record for record in row}
    right = [record for record in row if record["problem"] is None]
    best = max(right, key=lambda record: float(record["images_per_second"]), default=None)
    cells = [Cell(f"{batch_size:>6}")]
    for column in columns:
        record = by_column.get(column)
        cells.append(Cell(f"{_speed(record):>{_width(column)}}", record is not None and record is best))
    for device in with_peers:
        ratio = ratio_to_best_peer([record for record in right if record["device"] == device])
        cells.append(Cell(f"{'-' if ratio is None else f'{ratio:.2f}':>14}"))
    return cells


def _speed(record: Record | None) -> str:
    if record is None:
        return "-"
    if record["problem"] is not None:
        return "FAILED"
    return ("~" if record["wide"] else "") + speed_in_words(record["images_per_second"])


def _width(column: Column) -> int:
    return max(7, len(column[0]), len(column[1])) + 2


def _range(medians: list[float]) -> str:
    low, high = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in (min(medians), max(medians)))
    return low if low == high else f"{low} to {high}"
