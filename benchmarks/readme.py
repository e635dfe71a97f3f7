"""The README's section on performance, from a committed result: its tables, and a picture beside the result.

python -m benchmarks.readme benchmarks/results/NAME.json
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from benchmarks.peers import PEERS
from gpunn.errors import DataError, GpunnError
from gpunn.files import write_whole
from gpunn.report import findings, pictures
from gpunn.report.findings import Place
from gpunn.report.pictures import Picture
from gpunn.report.reading import read_run
from gpunn.report.results import Entrant, Task
from gpunn.report.sections import tasks_by_group
from gpunn.report.wording import group_title, speed_in_words, time_in_words

README = Path(__file__).parent.parent / "README.md"

BEGIN, END = "<!-- performance: made by benchmarks/readme.py from {} -->", "<!-- end of performance -->"

Cells = list[str]

LIBRARIES = {
    "NumPy": "numpy",
    "Numba": "numba",
    "CuPy": "cupy-cuda13x",
    "PyTorch": "torch",
    "JAX": "jax",
    "scikit-learn": "scikit-learn",
    "Thinc": "thinc",
}
"""Whose versions are named, and their distributions."""


@click.command()
@click.argument("result", type=click.Path(path_type=Path, exists=True))
def main(result: Path) -> None:
    """Rewrite the README's section on performance from the file RESULT, which is to be committed with it."""
    try:
        name = result.resolve().relative_to(README.parent).as_posix()
    except ValueError as error:
        raise click.UsageError(f"{result} isn't in {README.parent}: expected a result that can be committed") from error
    try:
        text, drawn = rewritten(README.read_text("utf-8"), name), picture_of(result)
        write_whole(result.with_suffix(".svg"), drawn.wide)
        write_whole(README, text.encode())
    except GpunnError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"README.md and {Path(name).with_suffix('.svg')}")


def rewritten(readme: str, name: str) -> str:
    """Return the text of the README with the section of the result called `name`, relative to the README."""
    before, _, rest = readme.partition(BEGIN.partition("{}")[0])
    _, end, after = rest.partition(END)
    if not end:
        raise click.UsageError(f"README.md has no lines {BEGIN.format('...')} and {END}")
    return f"{before}{BEGIN.format(name)}\n{section(name)}\n{END}{after}"


def section(name: str) -> str:
    """Return the section of the result called `name`."""
    run = read_run(README.parent / name)
    place, *_ = _places(name)
    versions = ", ".join(
        f"{label} {run.machine[package]}"
        for label, package in LIBRARIES.items()
        if run.machine.get(package, "none") != "none"
    )
    lines = [f"Measured on {place.machine.describe('cpu')} ({run.started.partition(' ')[0]}, {versions}):", ""]
    for place in _places(name):
        for group, tasks in tasks_by_group([place]).items():
            lines += [f"**{group_title(group)} on {place.device}**, images a second in an epoch", ""]
            lines += [*_markdown(_speeds(place, tasks)), ""]
    picture = Path(name).with_suffix(".svg")
    lines += [f"![Images a second over the batch size, for gpunn and other libraries]({picture.as_posix()})", ""]
    races = list(_races(_places(name)))
    if len(races) > 1:
        lines += ["**From a fresh network to an accuracy** on the test images, each in its best setting", ""]
        lines += [*_markdown(races), ""]
    return "\n".join(lines).rstrip()


def _places(name: str) -> list[Place]:
    return findings.places(findings.machines([read_run(README.parent / name)]))


def _speeds(place: Place, tasks: Sequence[Task]) -> Iterator[Cells]:
    """Yield a header and a line a batch size: gpunn's best engine, each peer, and gpunn beside the best of them."""
    rows = [row for row in findings.right(place) if row.task in tasks]
    present = {row.entrant.name for row in rows if row.entrant.is_peer}
    peers = [name for name in PEERS if name in present]
    ours, ratios = findings.best(findings.right(place, peers=False)), findings.speed_ups(place)
    speeds = {(row.task, row.entrant): row.speed for row in rows}
    yield ["batch size", "gpunn", *peers, "gpunn / best other"]
    for task in tasks:
        cells = [f"{task.batch_size:,}", f"**{speed_in_words(ours[task].speed)}**" if task in ours else "-"]
        for peer in peers:
            speed = speeds.get((task, Entrant(True, place.device, peer)))
            cells.append("-" if speed is None else speed_in_words(speed))
        yield [*cells, f"{ratios[task][0]:.2f}" if task in ratios else "-"]


def _races(places: Sequence[Place]) -> Iterator[Cells]:
    """Yield a header and a line for each accuracy and device."""
    races = [(place, race) for place in places for race in place.machine.races if race.entrant.device == place.device]
    present = {race.entrant.name for _, race in races if race.entrant.is_peer and race.times}
    peers = [name for name in PEERS if name in present]
    yield ["", "gpunn", *peers]
    for network, goal, device in dict.fromkeys((race.network, race.goal, place.device) for place, race in races):
        medians: dict[str, float] = {}
        for place, race in races:
            if (race.network, race.goal, place.device) == (network, goal, device) and race.times is not None:
                name = race.entrant.name if race.entrant.is_peer else "gpunn"
                medians[name] = min(race.times.median, medians.get(name, float("inf")))
        cells = [time_in_words(medians[name]) if name in medians else "-" for name in ("gpunn", *peers)]
        where = "" if device == "cpu" else f" on {device}"
        yield [f"{network} to {goal:.0%}{where}", f"**{cells[0]}**", *cells[1:]]


def _markdown(rows: Iterator[Cells] | Sequence[Cells]) -> Iterator[str]:
    header, *lines = rows
    yield f"| {' | '.join(header)} |"
    yield f"|{' ---: |' * len(header)}"
    for cells in lines:
        yield f"| {' | '.join(cells)} |"


def picture_of(result: Path) -> Picture:
    """Return the picture of the throughput of a result; raises `DataError` where that takes several."""
    places = findings.places(findings.machines([read_run(result)]))
    groups = tasks_by_group(places)
    if len(groups) != 1:
        raise DataError(f"{result} has rows of {len(groups)} kinds, expected one network with one kind of images")
    (tasks,) = groups.values()
    draw = partial(pictures.draw_throughput, places, tasks)
    return pictures.picture("throughput", "", "", draw)


def committed_result(readme: str) -> str:
    """Return the name of the result that the README's section was made from."""
    found = re.search(BEGIN.format("(.+?)"), readme)
    if found is None:
        raise ValueError("the README has no section on performance")
    return found[1]


if __name__ == "__main__":
    main()
