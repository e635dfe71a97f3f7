"""The page, in one file that fetches nothing and runs no scripts: findings, pictures, tables."""

import base64
import hashlib
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from benchmarks.report import charts, findings, sections
from benchmarks.schema import Run, read
from gpunn.errors import ConfigurationError
from gpunn.files import write_whole
from gpunn.plots.pages import page_environment
from gpunn.printing import printable

ASIDE = {"none", ""}
"""Versions that aren't named."""


def write_page(paths_or_runs: Iterable[str | os.PathLike[str] | Run], output: str | os.PathLike[str]) -> Path:
    """Write the page about some runs, or their files, to `output`, whole or not at all; return its path.

    Raises `ResultsFileError` for a file that can't be read, `ConfigurationError` where a library is missing, and
    `OutputError` where the page can't be written.
    """
    target = Path(output)
    runs = [("", it) if isinstance(it, Run) else (_link(Path(it), target), read(it)) for it in paths_or_runs]
    write_whole(output, page(runs).encode())
    return target


def page(named: Iterable[tuple[str, Run]]) -> str:
    """Return the page about runs as HTML; each comes with the address of its file, or ""."""
    environment = page_environment("benchmarks.report")
    try:
        import pandas  # noqa: F401 - to be sure that it is there
    except ImportError as error:
        raise ConfigurationError(f"benchmarks.report needs pandas ({error}): pip install -e '.[bench]'") from error
    runs = list(named)
    machines = findings.machines(run for _, run in runs)
    every = findings.parts_of(machines)
    parts = findings.full_or_all(every)
    tries = [part for part in every if part not in parts]
    found = [section for section in sections.sections(machines, parts, tries) if section.blocks]
    environment.filters |= {"inlined": charts.inlined}
    style = resources.files(__package__).joinpath("page.css").read_text("utf-8")
    html: str = environment.from_string(resources.files(__package__).joinpath("page.html").read_text("utf-8")).render(
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        machines=[(machine, [(link, run) for link, run in runs if run in machine.runs]) for machine in machines],
        summary=list(filter(None, sections.summary(machines, parts))),
        partial=bool(parts) and not parts[0].task.full,
        sections=found,
        versions=_versions,
    )
    return html


def _versions(run: Run) -> str:
    """Return the versions of what was measured, in a line."""
    return ", ".join(f"{name} {version}" for name, version in run.machine.versions.items() if version not in ASIDE)


def _link(path: Path, output: Path) -> str:
    """Return the address of a file from the page: that of a neighbour, or none."""
    near = os.path.realpath(path.parent) == os.path.realpath(output.parent)
    return quote(path.name) if near and printable(path.name) == path.name else ""
