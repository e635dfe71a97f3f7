"""Measured performance in the documents, from a committed result: in short in the README, all of it in docs/.

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
from gpunn.plots import pages
from gpunn.plots.pages import Picture
from gpunn.report import findings, pictures
from gpunn.report.findings import Place
from gpunn.report.reading import read_run
from gpunn.report.results import Entrant, Task
from gpunn.report.sections import tasks_by_group
from gpunn.report.wording import group_title, speed_in_words, time_in_words

ROOT = Path(__file__).parent.parent
README, PAGE = ROOT / "README.md", ROOT / "docs" / "performance.md"

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
    """Rewrite the performance in README.md and docs/ from the file RESULT, which is to be committed with them."""
    try:
        name = result.resolve().relative_to(ROOT).as_posix()
    except ValueError as error:
        raise click.UsageError(f"{result} isn't in {ROOT}: expected a result that can be committed") from error
    try:
        texts = [(path, rewritten(path, path.read_text("utf-8"), name)) for path in (README, PAGE)]
        write_whole(result.with_suffix(".svg"), picture_of(result).wide)
        for path, text in texts:
            write_whole(path, text.encode())
    except GpunnError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"README.md, docs/{PAGE.name} and {Path(name).with_suffix('.svg')}")


def rewritten(path: Path, text: str, name: str) -> str:
    """Return the `text` of README or PAGE, `path`, with the part that follows from the result called `name`.

    A result's name is its path in the repository.
    """
    before, _, rest = text.partition(BEGIN.partition("{}")[0])
    _, end, after = rest.partition(END)
    if not end:
        raise click.UsageError(f"{path.name} has no lines {BEGIN.format('...')} and {END}")
    made = summary(name) if path == README else section(name)
    return f"{before}{BEGIN.format(name)}\n{made}\n{END}{after}"


def summary(name: str) -> str:
    """Return what the README says of the result called `name`: gpunn beside the best other library."""
    lines: list[str] = []
    for place in _places(name):
        for group, tasks in tasks_by_group([place]).items():
            title = f"{group_title(group)} on {place.machine.describe(place.device)}"
            lines += [f"{title}, images a second in an epoch:", "", *_markdown(_beside_best(place, tasks)), ""]
    for goal, medians in _medians(_places(name)).items():
        peer = min(medians.keys() - {"gpunn"}, key=medians.__getitem__, default=None)
        if "gpunn" in medians and peer is not None:
            ours, theirs = time_in_words(medians["gpunn"]), time_in_words(medians[peer])
            lines.append(f"- {goal} of the test images: **{ours}**; the fastest other, {peer}: {theirs}")
    return "\n".join(lines).rstrip()


def _beside_best(place: Place, tasks: Sequence[Task]) -> Iterator[Cells]:
    """Yield the batch sizes, and for each of them gpunn's speed, that of the fastest peer, and how they compare."""
    rows = {(row.task, row.entrant): row for row in findings.right(place)}
    ours, ratios = findings.best(findings.right(place, peers=False)), findings.speed_ups(place)
    tasks = [task for task in tasks if task in ratios]
    fastest = [ratios[task][1] for task in tasks]
    speeds = [speed_in_words(rows[pair].speed) for pair in zip(tasks, fastest, strict=True)]
    yield ["batch size", *(f"{task.batch_size:,}" for task in tasks)]
    yield ["gpunn", *(f"**{speed_in_words(ours[task].speed)}**" for task in tasks)]
    yield ["fastest other", *(f"{speed} {peer.name}" for speed, peer in zip(speeds, fastest, strict=True))]
    yield ["gpunn / other", *(f"{ratios[task][0]:#.3g}" for task in tasks)]


def section(name: str) -> str:
    """Return all that PAGE says of the result called `name`."""
    run = read_run(ROOT / name)
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
    lines += [f"![Images a second over the batch size, for gpunn and other libraries](../{picture.as_posix()})", ""]
    races = list(_races(_places(name)))
    if len(races) > 1:
        lines += ["**From a fresh network to an accuracy** on the test images, each in its best setting", ""]
        lines += [*_markdown(races), ""]
    return "\n".join(lines).rstrip()


def _places(name: str) -> list[Place]:
    return findings.places(findings.machines([read_run(ROOT / name)]))


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
    found = _medians(places)
    present = {name for medians in found.values() for name in medians}
    names = ["gpunn", *(name for name in PEERS if name in present)]
    yield ["", *names]
    for goal, medians in found.items():
        ours, *theirs = [time_in_words(medians[name]) if name in medians else "-" for name in names]
        yield [goal, f"**{ours}**", *theirs]


def _medians(places: Sequence[Place]) -> dict[str, dict[str, float]]:
    """Return the seconds that gpunn's best engine and each peer take, for each accuracy and device, in words."""
    found: dict[str, dict[str, float]] = {}
    for place in places:
        where = "" if place.device == "cpu" else f" on {place.device}"
        for race in place.machine.races:
            if race.entrant.device != place.device:
                continue
            medians = found.setdefault(f"{race.network} to {race.goal:.0%}{where}", {})
            if race.times is not None:
                name = race.entrant.name if race.entrant.is_peer else "gpunn"
                medians[name] = min(race.times.median, medians.get(name, float("inf")))
    return found


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
    return pages.picture("throughput", "", "", draw)


def committed_result(text: str) -> str:
    """Return the name of the result that the performance in README or PAGE was made from."""
    found = re.search(BEGIN.format("(.+?)"), text)
    if found is None:
        raise ValueError("found no performance, expected lines that begin and end it")
    return found[1]


if __name__ == "__main__":
    main()
