"""Measured performance in the documents, from a committed result: in short in the README, all of it in docs/.

python -m benchmarks.report.readme benchmarks/results/NAME.json
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.report import charts, findings, sections, tables
from benchmarks.report.findings import Machine, Part, Place
from benchmarks.report.wording import speed_in_words, time_in_words, times_in_words
from benchmarks.schema import read
from gpunn.errors import DataError, GpunnError
from gpunn.files import write_whole
from gpunn.plots.pages import Picture
from gpunn.printing import one_line

ROOT = Path(__file__).parent.parent.parent
README, PAGE = ROOT / "README.md", ROOT / "docs" / "performance.md"

BEGIN, END = "<!-- performance: made by benchmarks/report/readme.py from {} -->", "<!-- end of performance -->"


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
def main(result: Path) -> None:
    """Rewrite the performance in README.md and docs/ from the file RESULT, which is to be committed with them."""
    try:
        if not result.resolve().is_relative_to(ROOT):
            raise DataError(f"{result} isn't in {ROOT}: expected a result that can be committed")
        name = result.resolve().relative_to(ROOT).as_posix()
        texts = [(path, rewritten(path, path.read_text("utf-8"), name)) for path in (README, PAGE)]
        write_whole(result.with_suffix(".svg"), picture_of(result).wide)
        for path, text in texts:
            write_whole(path, text.encode())
    except GpunnError as error:
        click.echo(f"benchmarks.report.readme: {one_line(str(error))}", err=True)
        sys.exit(2)
    click.echo(f"README.md, docs/{PAGE.name} and {Path(name).with_suffix('.svg')}")


def rewritten(path: Path, text: str, name: str) -> str:
    """Return the `text` of README or PAGE, `path`, with the part that follows from the result called `name`.

    A result's name is its path in the repository. Raises `DataError` for a text without that part.
    """
    before, _, rest = text.partition(BEGIN.partition("{}")[0])
    _, end, after = rest.partition(END)
    if not end:
        raise DataError(f"{path.name} has no lines {BEGIN.format('...')} and {END}")
    made = summary(name) if path == README else section(name)
    return f"{before}{BEGIN.format(name)}\n{made}\n{END}{after}"


def summary(name: str) -> str:
    """Return what the README says of the result called `name`: gpunn beside the best other library."""
    machine, groups = _groups(ROOT / name)
    lines: list[str] = []
    for (place, kind), parts in groups.items():
        lines += [f"{kind} on {place}, images per second in an epoch:", "", *_beside_best(parts), ""]
    goals: dict[str, dict[bool, str]] = {}
    for race in findings.races(machine):
        took = time_in_words(findings.median_seconds(race))
        words = f"the fastest other, {race.contestant.name}: {took}" if race.contestant.is_peer else f"**{took}**"
        goals.setdefault(findings.goal_of(race), {}).setdefault(race.contestant.is_peer, words)
    lines += [f"- {goal}: {'; '.join(words for _, words in sorted(took.items()))}" for goal, took in goals.items()]
    return "\n".join(lines).rstrip()


def _beside_best(parts: Sequence[Part]) -> list[str]:
    """Return a table, the batch sizes across: gpunn's speed, that of the best peer, and how they compare."""
    columns = [
        (
            f"{part.task.batch_size:,}",
            f"{tables.BEST}{speed_in_words(part.speed(part.ours.seconds))}",
            f"{speed_in_words(part.speed(part.best_peer.seconds))} {part.best_peer.label}",
            times_in_words(part.best_peer.seconds / part.ours.seconds),
        )
        for part in parts
        if part.ours is not None and part.best_peer is not None
    ]
    header, *rows = zip(("batch size", "gpunn", "fastest other", "times as fast"), *columns, strict=True)
    return tables.markdown(tables.table(", ".join(header), rows))


def section(name: str) -> str:
    """Return all that PAGE says of the result called `name`."""
    machine, groups = _groups(ROOT / name)
    (run,) = machine.runs
    versions = ", ".join(f"{name} {version}" for name, version in run.machine.versions.items() if version != "none")
    lines = [f"Measured on {machine.name} ({run.started.partition(' ')[0]}, {versions}).", tables.ROUGH_SAYS, ""]
    for (place, kind), parts in groups.items():
        lines += [f"**{kind} on {place.device}**, images per second in an epoch", ""]
        lines += [*tables.markdown(tables.speeds(parts, variation=False)), ""]
    lines += [
        f"![Images per second over the batch size, for gpunn and others](../{Path(name).with_suffix('.svg')})",
        "",
    ]
    races = tables.races(machine)
    if len(races):
        lines += ["**From a fresh network to an accuracy**, each in its best setting", "", *tables.markdown(races), ""]
    return "\n".join(lines).rstrip()


def picture_of(result: Path) -> Picture:
    """Return the picture of the speeds that the page about a result begins with; raises `DataError` without one."""
    _, groups = _groups(result)
    for (place, kind), parts in groups.items():
        if len(parts) > 1:
            return charts.lines_chart(f"{kind} on {place}", sections.lines_of(parts))
    raise DataError(f"{result} has no rows of several batch sizes, expected some to draw")


def _groups(result: Path) -> tuple[Machine, dict[tuple[Place, str], list[Part]]]:
    (machine,) = findings.machines([read(result)])
    parts = [part for part in findings.parts_of([machine]) if part.task.full]
    return machine, findings.by_kind(parts)


def committed_result(text: str) -> str:
    """Return the name of the result that the performance in README or PAGE was made from."""
    found = re.search(BEGIN.format("(.+?)"), text)
    if found is None:
        raise ValueError("found no performance, expected lines that begin and end it")
    return found[1]


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.report.readme")
