"""The sections of the page: what is said, drawn and listed of each question."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks.report import charts, findings, tables
from benchmarks.report.charts import Dot, Line
from benchmarks.report.findings import Machine, Part, Place, label_of
from benchmarks.report.wording import (
    kind_of,
    listed,
    mark_in_words,
    name_of,
    range_in_words,
    some,
    speed_in_words,
    sureness,
    time_in_words,
    times_in_words,
)
from benchmarks.schema import Contestant, Race

MOST_CHANGES = 30
"""Rows of a chart of changes."""

LINES_SAY = "Both axes are logarithmic."

BEST_SAYS = "Squares: the peer that is the fastest most often; other libraries are grey."

HOLLOW_SAYS = "Hollow marks: rough times, ~ in the table."

TABLES_SAY = "Bold: the fastest of a row. \N{PLUS-MINUS SIGN}: the coefficient of variation of the rounds."

RATIOS_SAY = (
    "A dot is the median of the ratios of single rounds, in which both trained one right after the other; its whisker "
    "holds the true median with a confidence of 95 %, and can be shorter than the dot is wide."
)

TOLD_BY = "Hollow dots can't be told: their interval spans 1, or they have fewer than 6 undisturbed rounds."

BARS_SAY = (
    "A stroke is the bar that gpunn holds itself to: a filled dot meets it, a cross misses it, and of a hollow dot it "
    "can't be told, or not without more rounds."
)

RACES_SAY = (
    "A dot is the median of several seeds; its whisker reaches from the fastest seed to the slowest. Squares: the best "
    "peer. The axis is logarithmic."
)

ADVICE_SAYS = (
    f"The batch size is the smallest with {100 * tables.NEAR:.0f} % or more of the highest speed on the device: "
    "smaller batches learn more in an epoch. Bold: the fastest device."
)

STARTS_SAY = (
    "From the start of a fresh process to the end of its first epoch, imports included: cold with an empty kernel "
    "cache, as after an installation, warm with a full one. Steady is an epoch of those that follow."
)

PUBLISHED_SAY = "met: the mean of the seeds is at most what was published."

KERNELS_SAY = (
    "How many times as fast as unfused operations, with an interval of 95 %. A copy is one of as many bytes as a "
    "kernel reads and writes; it is faster where a cache holds them."
)

VERDICTS = {
    "agree": "agree within their intervals",
    "faster": "became faster",
    "slower": "became slower",
    "too few rounds to tell": "had too few rounds to tell",
}


@dataclass
class Section:
    """A heading, and what is below it: pairs of a kind that the template knows, and what it shows."""

    title: str
    blocks: list[tuple[str, Any]] = field(default_factory=list)

    def text(self, *sentences: str) -> None:
        """Add a paragraph, unless it is empty."""
        if any(sentences):
            self.blocks.append(("text", " ".join(filter(None, sentences))))

    def lines(self, title: str, lines: Sequence[Line]) -> None:
        """Add a chart of lines, with what explains it."""
        rough = any(is_rough for line in lines for _, _, is_rough in line.points)
        best = any(line.kind == "best" for line in lines)
        note = [LINES_SAY, *[BEST_SAYS] * best, *[HOLLOW_SAYS] * rough]
        self.blocks.append(("picture", (charts.lines_chart(title, lines), " ".join(note))))

    def dots(self, title: str, dots: Sequence[Dot], words: charts.Words, note: str, one: str = "") -> None:
        """Add a chart of dots, unless there are none, with what explains it."""
        if dots:
            self.blocks.append(("picture", (charts.dots_chart(title, dots, words, one), note)))

    def table(self, title: str, frame: Any, note: str = "", *, folded: bool = False) -> None:
        """Add a table, unless it is empty, with its note, and what its marks mean."""
        if len(frame):
            html = tables.html(frame)
            marks = [TABLES_SAY] * (tables.SPREAD in html and "best" in html)
            marks += [tables.ROUGH_SAYS] * (f">{tables.ROUGHLY}" in html)
            self.blocks.append(("table", (title, html, " ".join(filter(None, [note, *marks])), folded)))

    @property
    def anchor(self) -> str:
        """The name by which links find it."""
        return "-".join("".join(each if each.isalnum() else " " for each in self.title.lower()).split())


def summary(found: Sequence[Machine], parts: Sequence[Part]) -> Iterator[str]:
    """Yield the findings in words; the first one is what the page begins with."""
    for place in dict.fromkeys(part.place for part in parts):
        yield from _lead(place, [part for part in parts if part.place == place and part.task.networks == 1])
    yield findings.bars_in_words(parts)
    for machine in found:
        yield from _races_in_words(machine)
        for start, steady in findings.starts(machine, parts):
            if not start.contestant.is_peer and start.cold and start.warm and steady is not None:
                cold, warm = (time_in_words(median(each)) for each in (start.cold, start.warm))
                yield (
                    f"A fresh process has trained its first epoch of {name_of(start.task)} on "
                    f"{start.contestant.device} after {cold} with an empty kernel cache, and after {warm} with a full "
                    f"one; later epochs take {time_in_words(steady.seconds)}."
                )
    share = findings.disturbed_share(run for machine in found for run in machine.runs)
    if share:
        yield f"{100 * share:.1f} % of all rounds were disturbed by something else on the machine, and don't count."


def _lead(place: Place, here: Sequence[Part]) -> Iterator[str]:
    """Yield how gpunn compares with the best peers on a device, and its highest speed."""
    ratios = {name_of(part.task): part.comparison.ratio for part in here if part.comparison.ratio is not None}
    if ratios:
        medians = [ratio.median for ratio in ratios.values()]
        slower = [name for name, ratio in ratios.items() if not sureness(ratio) and ratio.median < 1]
        unsure = [name for name, ratio in ratios.items() if sureness(ratio)]
        doubt = f"In {some(len(unsure), 'row')} the rounds are too few, or both too close, to be sure."
        yield " ".join(
            [
                f"On {place}, gpunn trains {range_in_words(medians)} times as fast as the fastest other library "
                f"({times_in_words(median(medians))} in the median of {some(len(ratios), 'row')}).",
                *[f"It is slower with {listed(slower)}."] * bool(slower),
                *[doubt if len(unsure) < len(ratios) else "The rounds are too few, or both too close, to be sure."]
                * bool(unsure),
            ]
        )
    ours = [(part.speed(part.ours.seconds), part.task, part.ours) for part in here if part.ours is not None]
    if ours:
        speed, task, top = max(ours, key=lambda each: each[0])
        yield (
            f"The highest speed on {place} is {speed_in_words(speed)} images per second ({name_of(task)}, engine "
            f"{top.contestant.name}): an epoch in {time_in_words(top.seconds / task.epochs)}."
        )


def _races_in_words(machine: Machine) -> Iterator[str]:
    """Yield how soon gpunn and the best peer reach each goal, and where gpunn needs more epochs than it should."""
    goals: dict[str, dict[bool, Race]] = {}
    for race in findings.races(machine):
        goals.setdefault(findings.goal_of(race), {}).setdefault(race.contestant.is_peer, race)
        if race.worse and not race.contestant.is_peer:
            who, goal = _who(race.contestant), findings.goal_of(race)
            yield f"On {machine.name}, {who} takes more epochs to {goal} than float64 does."
    for goal, firsts in goals.items():
        said = [
            f"{label_of(race.contestant)} takes {time_in_words(findings.median_seconds(race))} (batch size "
            f"{race.task.batch_size:,}, learning rate {race.task.recipe.learning_rate:g})"
            for _, race in sorted(firsts.items())
        ]
        devices = {race.contestant.device for race in firsts.values()}
        yield f"From a fresh network, {goal} on {machine.name} ({listed(sorted(devices))}): {', '.join(said)}."


def _who(contestant: Contestant) -> str:
    return f"{label_of(contestant)} on {contestant.device}"


def sections(found: Sequence[Machine], parts: Sequence[Part], tries: Sequence[Part]) -> Iterator[Section]:
    """Yield all sections; some have nothing below them. `tries` are on fewer images than `parts`.

    The first one is the picture that shows the finding: that of the most batch sizes.
    """
    groups = list(findings.by_kind(part for part in parts if part.task.networks == 1).items())
    yield _speeds("Speed by batch size", groups[:1])
    yield _tables(
        "Which engine, device and batch size to take",
        found,
        ("{machine}", lambda it: tables.advice([part for part in parts if part.place.machine is it]), ADVICE_SAYS),
    )
    yield _speeds("Other networks, recipes and devices", groups[1:])
    yield _beside_peers(parts)
    yield _races(found)
    starts = "{machine}", lambda it: tables.starts(it, parts), STARTS_SAY
    yield _tables("The first epoch: cold, warm and steady", found, starts)
    yield _speeds("Many networks at once", findings.by_kind(it for it in parts if it.task.networks > 1).items())
    yield _tables(
        "In place of scikit-learn",
        found,
        ("An epoch of fit, with equal settings, on {machine}", tables.estimator_times, ""),
        ("What both learn: accuracy on unseen images", tables.estimator_accuracies, ""),
    )
    yield _tables("Beside published test errors", found, ("{machine}", tables.published, PUBLISHED_SAY))
    kernels = "Times and bytes per second on {machine}", tables.kernels, KERNELS_SAY
    yield _tables("Fused kernels", found, kernels, folded=True)
    yield _changes(found)
    yield _speeds("Tries on fewer images, which don't compare with full runs", findings.by_kind(tries).items())
    yield _aside(found)


def _speeds(title: str, groups: Any) -> Section:
    """Return a chart of each group, if it has several batch sizes, and its table."""
    section = Section(title)
    for (place, kind), parts in groups:
        several = len(parts) > 1
        about = f"{kind} on {place}"
        if several:
            section.lines(about, lines_of(parts))
        recipe = f"Images per second, with {parts[0].task.recipe.label}."
        section.table("The same as a table" if several else about, tables.speeds(parts), recipe, folded=several)
    return section


def lines_of(parts: Sequence[Part]) -> list[Line]:
    """Return the lines of a group: gpunn's, the strong one being that which it is compared by, and the peers'."""
    points: dict[tuple[bool, str], list[tuple[int, float, bool]]] = {}
    for part in parts:
        for each in part.timed:
            points.setdefault((each.contestant.is_peer, each.label), []).append(part.point(each))
    ours = [part.point(part.ours) for part in parts if part.ours is not None]
    best = findings.best_of(parts)
    lines = [Line("gpunn", ours, "ours")] if ours else []
    for (is_peer, label), mine in sorted(points.items(), key=lambda item: item[0]):
        if is_peer or mine != ours:
            lines.append(Line(label, mine, "other" if not is_peer else "best" if label == best else "peer"))
    return lines


def _tables(
    title: str, found: Sequence[Machine], *about: tuple[str, Callable[[Machine], Any], str], folded: bool = False
) -> Section:
    """Return tables of each machine; `about` has their titles, what makes them, and their notes."""
    section = Section(title)
    for machine in found:
        for heading, make, note in about:
            section.table(heading.format(machine=machine.name), make(machine), note, folded=folded)
    return section


def _beside_peers(parts: Sequence[Part]) -> Section:
    section = Section("Beside the fastest other library")
    for place in dict.fromkeys(part.place for part in parts):
        dots = [dot for part in parts if part.place == place for dot in _ratio_dot(part)]
        bars = [BARS_SAY] * any(dot.bar is not None for dot in dots)
        title = f"How many times as fast as the best peer, by batch size, on {place}"
        note = "" if section.blocks else " ".join([RATIOS_SAY, *bars, TOLD_BY])
        section.dots(title, dots, mark_in_words, note, one="as fast")
    return section


def _ratio_dot(part: Part) -> Iterator[Dot]:
    """Yield a row's dot, where it has a ratio."""
    ratio, targets = part.comparison.ratio, part.comparison.targets
    if ratio is None:
        return
    verdicts = [target.verdict for target in targets]
    doubt = sureness(ratio)
    missed = "missed" in verdicts
    said = tables.verdicts(part.comparison) or [doubt or part.comparison.best_peer or ""]
    yield Dot(
        group=kind_of(part.task),
        label=f"{part.task.batch_size:,}",
        x=ratio.median,
        low=ratio.low,
        high=ratio.high,
        text=", ".join(filter(None, [times_in_words(ratio.median), *said])),
        colour=charts.BAD if missed else charts.GPUNN,
        marker="X" if missed else "o",
        hollow=not missed and ("undecided" in verdicts or bool(doubt)),
        bar=next((target.bar for target in targets if target.kind == "times the best peer"), None),
    )


def _races(found: Sequence[Machine]) -> Section:
    section = Section("Time to accuracy")
    for machine in found:
        races = findings.races(machine)
        peers = {findings.goal_of(race): race for race in reversed(races) if race.contestant.is_peer}
        dots = [_race_dot(race, leads=peers.get(findings.goal_of(race)) is race) for race in races]
        if dots and not section.blocks:
            section.text(
                "From a fresh network until so many of the test images are right, each engine and library in the "
                "setting that is the fastest for it. The time is that of the epochs alone."
            )
        section.dots(machine.name, dots, time_in_words, RACES_SAY)
        section.table("Seeds, epochs and settings", tables.races(machine), folded=True)
    return section


def _race_dot(race: Race, *, leads: bool) -> Dot:
    is_peer, seconds = race.contestant.is_peer, [run.seconds for run in race.runs]
    return Dot(
        group=findings.goal_of(race),
        label=_who(race.contestant),
        x=median(seconds),
        low=min(seconds),
        high=max(seconds),
        text=f"{time_in_words(median(seconds))}, {some(int(median(run.epochs for run in race.runs)), 'epoch')}",
        colour=charts.BEST if leads else charts.PEER if is_peer else charts.GPUNN,
        marker="s" if leads else "D" if is_peer else "o",
    )


def _changes(found: Sequence[Machine]) -> Section:
    """Return how the two newest runs of each machine differ."""
    section = Section("What changed between runs")
    note = "Whiskers: what the intervals of both runs allow. Crosses: slower. Hollow: both agree, or it can't be told."
    for machine in found:
        for old, new in list(pairwise(machine.runs))[-1:]:
            changes = sorted(findings.changes(old, new), key=lambda it: min(it.ratio, 1 / it.ratio))
            counts = {words: sum(it.verdict == verdict for it in changes) for verdict, words in VERDICTS.items()}
            said = listed([f"{count} {words}" for words, count in counts.items() if count])
            section.text(
                f"{machine.name}, from {old.started} (gpunn {old.revision}) to {new.started} (gpunn {new.revision}): "
                f"{some(len(changes), 'time')} in both runs{': ' * bool(said)}{said}."
            )
            dots = [
                Dot(it.kind, it.label, it.ratio, it.low, it.high, times_in_words(it.ratio),
                    colour=charts.PEER if it.is_peer else charts.BAD if it.verdict == "slower" else charts.GPUNN,
                    marker="X" if it.verdict == "slower" else "o", hollow=it.verdict not in {"faster", "slower"})
                for it in sorted(changes[:MOST_CHANGES], key=lambda it: it.kind)
            ]  # fmt: skip
            most = f": the {MOST_CHANGES} that changed most" * (len(changes) > MOST_CHANGES)
            section.dots(f"New speed over old speed{most}", dots, mark_in_words, note, one="as fast")
    return section


def _aside(found: Sequence[Machine]) -> Section:
    section = Section("What failed, and what wasn't timed")
    failed, gone = tables.troubles(run for machine in found for run in machine.runs)
    section.table("Failed: no time of these counts", failed)
    section.table("Not timed", gone, folded=True)
    return section
