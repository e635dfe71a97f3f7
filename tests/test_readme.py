"""The README says what a committed result says."""

import re
from pathlib import Path

import click
import pytest

from benchmarks.readme import README, committed_result, picture_of, rewritten, section
from gpunn.report.reading import read_run

TEXT = README.read_text("utf-8")


def test_the_section_on_performance_is_that_of_its_result() -> None:
    assert rewritten(TEXT, committed_result(TEXT)) == TEXT


def test_its_picture_and_its_result_are_there() -> None:
    result = README.parent / committed_result(TEXT)
    picture = result.with_suffix(".svg")
    assert f"]({picture.relative_to(README.parent).as_posix()})" in TEXT
    assert picture.read_bytes().startswith(b"<?xml")
    # Versions of Matplotlib draw a little differently, but the same labels.
    pytest.importorskip("matplotlib", reason='needs Matplotlib: pip install "gpunn[report]"')
    drawn, there = picture_of(result).wide.decode(), picture.read_text("utf-8")
    texts = [re.findall(r"<text[^>]*>([^<]*)</text>", svg) for svg in (drawn, there)]
    assert texts[0] == texts[1] != []
    run = read_run(result)
    assert run.machine["name"]
    problems = [row.problem for row in run.epochs] + [race.problem for race in run.races]
    problems += [kernel.problem for kernel in run.kernels]
    assert problems
    assert set(problems) == {None}


def test_the_section_names_the_machine_and_every_batch_size() -> None:
    found = section(committed_result(TEXT))
    run = read_run(README.parent / committed_result(TEXT))
    assert run.machine["numpy"] in found
    for row in run.epochs:
        assert f"| {row.task.batch_size:,} |" in found


def test_a_readme_without_the_section_is_refused() -> None:
    with pytest.raises(click.UsageError, match="has no lines"):
        rewritten("# gpunn", committed_result(TEXT))


def test_the_result_is_in_the_repository() -> None:
    assert Path(committed_result(TEXT)).parts[:2] == ("benchmarks", "results")
