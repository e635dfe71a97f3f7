"""The page, in one piece: a summary, the sections, and the machines."""

import statistics
from collections.abc import Iterator, Sequence
from importlib import resources

from gpunn.plots.pages import Picture, page_environment
from gpunn.report import findings
from gpunn.report.findings import Machine
from gpunn.report.results import Run
from gpunn.report.sections import goals, median_seconds, sections
from gpunn.report.wording import range_in_words, speed_in_words, time_in_words


def page(runs: Sequence[Run]) -> tuple[str, list[Picture]]:
    """Return the page about `runs` as HTML in one piece, and its pictures.

    Raises `ConfigurationError` where the libraries that draw are missing.
    """
    environment = page_environment("gpunn report")
    machines = findings.machines(runs)
    found = [section for section in sections(machines) if section.pictures or section.tables]
    template = environment.from_string(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    html = template.render(machines=machines, sections=found, summary=list(_summary(machines)), runs=runs)
    return html, [drawn for section in found for drawn in section.pictures]


def _summary(machines: Sequence[Machine]) -> Iterator[str]:
    """Yield the findings in a sentence each."""
    places = findings.places(machines)
    for place in places:
        ours = findings.best(findings.right(place, peers=False)).values()
        if ours:
            top = max(ours, key=lambda row: row.speed)
            sentence = (
                f"On {place}, gpunn trains {top.task.network} at up to {speed_in_words(top.speed)} images a second "
                f"(engine {top.entrant.name}, batch size {top.task.batch_size:,})"
            )
            ratios = [ratio for ratio, _ in findings.speed_ups(place).values()]
            if ratios:
                sentence += (
                    f", and is {range_in_words(ratios)} times as fast as the best of its peers, "
                    f"{statistics.median(ratios):.3g} times in the median of {len(ratios)} rows"
                )
            yield f"{sentence}."
    for goal, races in goals(places).items():
        firsts = [next((each for each in races if each[1].entrant.is_peer == peer), None) for peer in (False, True)]
        told = [f"{label} in {time_in_words(median_seconds(race))}" for label, race in filter(None, firsts)]
        yield f"{goal}: {'; the best peer, '.join(told)}."
