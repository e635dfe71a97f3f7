"""The sections of a report: what is said, drawn and listed of each question."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from gpunn.plots.pages import Picture, picture
from gpunn.report import findings, pictures
from gpunn.report.findings import Machine, Place
from gpunn.report.results import Race, Task
from gpunn.report.tables import Table, failure_table, kernel_table, skipped_table, speed_table
from gpunn.report.wording import (
    Group,
    group_file_name,
    group_of,
    group_title,
    place_file_name,
    placed,
    range_in_words,
    time_in_words,
)

MOST_CHANGES = 30
"""How many rows a picture of changes has."""


@dataclass
class Section:
    """A heading with what is said, drawn and listed below it."""

    title: str
    sentences: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[tuple[str, Table]] = field(default_factory=list)


def sections(machines: Sequence[Machine]) -> Iterator[Section]:
    """Yield all sections; some have nothing to show."""
    places = findings.places(machines)
    groups = tasks_by_group(places)
    yield _throughput(places, groups)
    yield _speed_ups(places, groups)
    yield _overtakings(places, groups)
    yield _time_to_accuracy(places)
    yield _limits(places, groups)
    for machine in machines:
        if len(machine.runs) > 1:
            yield _changes(machine)
    yield _aside(machines)


def tasks_by_group(places: Sequence[Place]) -> dict[Group, list[Task]]:
    """Return what was timed on `places`, the smallest batches first."""
    found: dict[Group, list[Task]] = {}
    for place in places:
        for row in findings.right(place):
            tasks = found.setdefault(group_of(row.task), [])
            if row.task not in tasks:
                tasks.append(row.task)
    return {group: sorted(tasks, key=lambda task: task.batch_size) for group, tasks in found.items()}


def _throughput(places: Sequence[Place], groups: dict[Group, list[Task]]) -> Section:
    section = Section("Throughput")
    for group, tasks in groups.items():
        here = [place for place in places if any(row.task in tasks for row in findings.right(place))]
        says = f"Images a second over the batch size, for each engine and peer on {', '.join(map(str, here))}"
        draw = partial(pictures.draw_throughput, here, tasks)
        section.pictures.append(picture(group_file_name("throughput", group), group_title(group), says, draw))
        section.tables += [
            (f"{group_title(group)}, images a second on {place}", speed_table(place, tasks)) for place in here
        ]
    if groups:
        section.sentences.append(
            "Images a second in an epoch. Strong lines are gpunn's engines, dashed ones are other libraries."
        )
    return section


def _speed_ups(places: Sequence[Place], groups: dict[Group, list[Task]]) -> Section:
    section = Section("Beside the best peer")
    lines = []
    for place in places:
        ratios = findings.speed_ups(place)
        for group, tasks in groups.items():
            mine = {task: ratios[task][0] for task in tasks if task in ratios}
            if mine:
                lines.append((placed(group_title(group), place, places), mine))
    if lines:
        section.sentences.append(
            "How many times the speed of the best peer gpunn's best engine has, on the same device."
        )
        says = "; ".join(f"{label}: {range_in_words(list(ratios.values()))} times" for label, ratios in lines)
        draw = partial(pictures.draw_ratios, lines, "times the best peer's speed")
        section.pictures.append(picture("speed-up", "", f"Speed-up over the batch size. {says}", draw))
    return section


def _overtakings(places: Sequence[Place], groups: dict[Group, list[Task]]) -> Section:
    section = Section("Where the GPU overtakes the CPU")
    lines = []
    for gpu in (place for place in places if place.device != "cpu"):
        for cpu in (place for place in places if place.device == "cpu"):
            ratios = findings.overtakings(gpu, cpu)
            for group, tasks in groups.items():
                mine = {task: ratios[task] for task in tasks if task in ratios}
                if not mine:
                    continue
                lines.append((f"{group_title(group)}: {gpu}, beside {cpu}", mine))
                since = _where_faster(mine)
                section.sentences.append(f"{group_title(group)}: {gpu} is faster than {cpu} {since}.")
    if lines:
        draw = partial(pictures.draw_ratios, lines, "GPU's speed / CPU's speed")
        says = f"The GPU's speed over the CPU's, over the batch size. {' '.join(section.sentences)}"
        section.pictures.append(picture("gpu-beside-cpu", "", says, draw))
    return section


def _where_faster(ratios: dict[Task, float]) -> str:
    first, sizes = findings.crossing(ratios), [f"{task.batch_size:,}" for task, ratio in ratios.items() if ratio > 1]
    if first is not None:
        return f"from batch size {first:,} on"
    return f"at batch size {', '.join(sizes)} alone" if sizes else "at no batch size that was timed"


def _time_to_accuracy(places: Sequence[Place]) -> Section:
    section = Section("Time to accuracy")
    for number, (goal, races) in enumerate(goals(places).items()):
        says = f"{goal}: " + "; ".join(f"{label} {time_in_words(median_seconds(race))}" for label, race in races)
        draw = partial(pictures.draw_races, races)
        section.pictures.append(picture(f"time-to-accuracy-{number + 1}", goal, says, draw))
        rows = [
            [
                label,
                time_in_words(median_seconds(race)),
                f"{statistics.median(race.epochs):g}",
                f"{race.batch_size}",
                f"{race.learning_rate:g}",
            ]
            for label, race in races
        ]
        header = ["", "median", "epochs", "batch size", "learning rate"]
        section.tables.append((goal, (header, rows)))
    if section.pictures:
        section.sentences.append(
            "From a fresh network until so many of the test images are right, the median of several seeds, each engine "
            "and library with the setting that is fastest for it. The time is that of the epochs alone."
        )
    return section


def _limits(places: Sequence[Place], groups: dict[Group, list[Task]]) -> Section:
    section = Section("How near the limit")
    for place in places:
        ceiling = next((ceiling for ceiling in place.machine.ceilings if ceiling.device == place.device), None)
        if ceiling is not None and ceiling.multiplied:
            bars = _epoch_shares(place, groups, ceiling.multiplied)
            section.sentences.append(
                f"{place} multiplies large float32 matrices at {ceiling.multiplied / 1e9:,.0f} billion operations a "
                "second; the bars count what an epoch would take if no pixel were dark, so that leaving dark pixels "
                "out can bring more than 100 %."
            )
            if bars:
                draw = partial(pictures.draw_shares, bars, "of the rate of large products")
                says = "; ".join(f"{label}: {share:.0%}" for label, share in bars)
                section.pictures.append(
                    picture(place_file_name("epochs", place, places), f"Epochs on {place}", says, draw)
                )
        if ceiling is not None and ceiling.copied:
            section.sentences.append(
                f"Large copies on {place} read and write {ceiling.copied / 1e9:,.1f} GB/s. A kernel's bar is beside a "
                "copy of as many bytes as it reads and writes, which is faster where a cache holds them. Where there "
                "are few of them, calling a kernel takes longer than its work."
            )
        kernels = [kernel for kernel in place.machine.kernels if kernel.device == place.device]
        timed = [
            (kernel.label, kernel.copy.median / kernel.fused.median)
            for kernel in kernels
            if kernel.copy and kernel.fused
        ]
        if timed:
            draw = partial(pictures.draw_shares, timed, "of the speed of a copy of as many bytes")
            says = "; ".join(f"{label}: {share:.0%}" for label, share in timed)
            section.pictures.append(
                picture(place_file_name("kernels", place, places), f"Fused kernels on {place}", says, draw)
            )
            section.tables.append((f"Fused kernels on {place}, GB/s read and written", kernel_table(place)))
    return section


def _epoch_shares(place: Place, groups: dict[Group, list[Task]], limit: float) -> list[tuple[str, float]]:
    fastest = findings.best(findings.right(place, peers=False))
    return [
        (f"{group_title(group)}, batch {task.batch_size:,}", fastest[task].speed * task.operations / limit)
        for group, tasks in groups.items()
        for task in tasks
        if task in fastest
    ]


def _changes(machine: Machine) -> Section:
    old, new = machine.runs[-2:]
    found = findings.changes(old, new)
    section = Section(f"From {old.started} to {new.started}")
    agree = sum(change.verdict == "agree" for change in found)
    section.sentences.append(
        f"{machine.name}: of {len(found)} rows that both runs have, {agree} agree within the quartiles of their rounds "
        f"and {sum(0.9 < change.ratio < 1.1 for change in found)} within 10 %. "
        f"The revisions are {old.revision} and {new.revision}."
    )
    if found:
        draw = partial(pictures.draw_changes, found[:MOST_CHANGES])
        says = "; ".join(f"{change.label}: {change.ratio:.3g}" for change in found[:MOST_CHANGES])
        title = "" if len(found) <= MOST_CHANGES else f"The {MOST_CHANGES} rows that changed most"
        section.pictures.append(picture("change", title, says, draw))
        rows = [[c.label, f"{c.ratio:.3f}", f"{c.low:.3f} to {c.high:.3f}", c.verdict] for c in found]
        section.tables.append(("All changes", (["", "new speed / old speed", "quartiles allow", ""], rows)))
    return section


def _aside(machines: Sequence[Machine]) -> Section:
    section = Section("What went wrong, and what wasn't timed")
    for title, table in (("Failed", failure_table(machines)), ("Not timed", skipped_table(machines))):
        if table[1]:
            section.tables.append((title, table))
    return section


def goals(places: Sequence[Place]) -> dict[str, list[tuple[str, Race]]]:
    """Return the races that came to their goal, the fastest first."""
    found: dict[str, list[tuple[str, Race]]] = {}
    for place in places:
        for race in place.machine.races:
            if race.entrant.device == place.device and race.times is not None:
                name = race.entrant.name if race.entrant.is_peer else f"gpunn {race.entrant.name}"
                label = placed(name, place, places)
                found.setdefault(f"{race.network} to {race.goal:.0%}", []).append((label, race))
    return {goal: sorted(races, key=_median) for goal, races in found.items()}


def _median(labelled: tuple[str, Race]) -> float:
    return median_seconds(labelled[1])


def median_seconds(race: Race) -> float:
    """Return the median of a race that came to its goal."""
    assert race.times is not None
    return race.times.median
