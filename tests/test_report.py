"""The report of benchmarks says what follows from results, and draws it so that everybody can read it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.estimates import estimate
from benchmarks.report import findings
from benchmarks.report.charts import spread
from benchmarks.report.findings import by_kind, changes, full_or_all, machines, parts_of
from benchmarks.report.wording import kind_of, mark_in_words, speed_in_words, sureness, time_in_words, times_in_words
from benchmarks.schema import Recipe, Result, ResultsFileError, Run, Task, write
from gpunn.errors import ConfigurationError, OutputError

from .benchmark_runs import ADAM, result, row, sample_run
from .chromium import Chromium, chromium

STRANGE = '<b>GPU</b> $x_1$ & "co" </title><script>alert(1)</script>'

TEXTS = """[...document.querySelectorAll('svg')].filter((svg) => svg.getBoundingClientRect().width).map((svg) => {
  const boxes = [svg, ...svg.querySelectorAll('text')].map((each) => [each.textContent, each.getBoundingClientRect()]);
  return boxes.map(([text, box]) => [text, box.left, box.top, box.right, box.bottom]); })"""
"""Of each chart that is shown its own box, and those of its texts."""


class Page(HTMLParser):
    """What a page says and shows; everything that is opened is closed again."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def says(self, text: str) -> bool:
        return text in " ".join(self.texts)


@pytest.fixture(autouse=True, scope="module")
def _draws() -> None:
    for name in ("matplotlib", "jinja2", "pandas"):
        pytest.importorskip(name, reason=f'needs {name}: pip install "gpunn[bench]"')


def page_of(*runs: Run) -> Page:
    from benchmarks.report.page import page

    return Page(page([("", run) for run in runs]))


def lean(run: Run, rows: slice = slice(0, 1)) -> Run:
    """Return a run with few rows, which is drawn sooner."""
    return replace(run, rows=run.rows[rows], starts=[], kernels=[], races=run.races[:1])


@pytest.fixture(scope="module")
def gpu_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two machines, the one of them with a GPU of a strange name and two runs, and of a try."""
    from benchmarks.report.page import write_page

    folder = tmp_path_factory.mktemp("page")
    gpu = sample_run(gpu=True)
    devices = gpu.machine.devices | {"cuda:0": {"name": STRANGE}}
    gpu = replace(gpu, machine=replace(gpu.machine, devices=devices))
    later = replace(lean(gpu, slice(0, 3)), started="2026-11-26 10:00:00")
    other = replace(sample_run(), machine=replace(sample_run().machine, name="Another processor(R)"))
    for name, run in (("a", gpu), ("b", later), ("c", other), ("d", lean(sample_run(images=2000)))):
        write(folder / f"{name}.json", run)
    return write_page([folder / f"{name}.json" for name in "abcd"], folder / "page.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if chromium() is None:
        pytest.skip("needs Chromium, to open pages in: apt-get install chromium")
    started = Chromium(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.mark.xdist_group("chromium")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
def test_in_a_browser_nothing_overlaps_nor_overflows_nor_fails(
    gpu_page: Path, browser: Chromium, width: int, dark: bool
) -> None:
    browser.open(gpu_page, width=width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    browser.settle()
    assert browser.problems == []
    assert browser.requests == [gpu_page.as_uri()]
    assert browser.run("document.documentElement.scrollWidth") <= width
    charts = browser.run(TEXTS)
    assert len(charts) > 10
    for (_, *outside), *texts in charts:
        assert texts
        for number, (text, left, top, right, bottom) in enumerate(texts):
            assert outside[0] - 1 <= left <= right <= outside[2] + 1, text
            assert outside[1] - 1 <= top <= bottom <= outside[3] + 1, text
            for other, *box in texts[:number]:
                across, down = min(right, box[2]) - max(left, box[0]), min(bottom, box[3]) - max(top, box[1])
                assert across <= 1 or down <= 2, f"{text} is on {other}"
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    ink = browser.run("getComputedStyle(document.querySelector('svg text')).fill")
    assert (sum(map(int, re.findall(r"\d+", background))) < sum(map(int, re.findall(r"\d+", ink)))) == dark


def test_the_page_is_in_one_piece_and_names_are_escaped(gpu_page: Path) -> None:
    html = gpu_page.read_text("utf-8")
    page = Page(html)
    assert not {"script", "img", "link", "b"} & set(page.tags)
    assert STRANGE in page.texts
    names = [name for name, _ in page.attributes]
    assert "style" not in names
    assert not any(name.startswith("on") for name in names)
    addresses = [value for name, value in page.attributes if name in {"href", "src", "xlink:href"}]
    assert {address for address in addresses if address[0] != "#"} == {"a.json", "b.json", "c.json", "d.json"}
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in addresses if address[0] == "#"} <= set(ids)
    assert all(found in ids for found in re.findall(r"url\(#([^)]+)\)", html))
    (policy,) = (value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_a_page_begins_with_machine_date_versions_and_the_finding(gpu_page: Path) -> None:
    html = gpu_page.read_text("utf-8")
    head, _, rest = html.partition("<svg")
    assert rest
    for text in ("A processor made up for tests, 2 cores", "2026-11-25 14:03", "numpy 2.4.6", "gpunn 1a2b3c4"):
        assert text in head
    assert "gpunn trains 2.3 to 16 times as fast as the fastest other library" in head
    assert "sklearn none" not in html


def test_tries_on_fewer_images_are_never_mixed_with_full_runs() -> None:
    quick, whole = lean(sample_run(images=2000, started="2026-12-01 10:00:00")), lean(sample_run())
    quick = replace(quick, races=[replace(race, runs=[replace(race.runs[0], seconds=1e-3)]) for race in quick.races])
    both = parts_of(machines([whole, quick]))
    full = full_or_all(both)
    assert {part.task.images for part in full} == {60_000}
    assert {part.task.images for part in both} == {2000, 60_000}
    (machine,) = machines([whole, quick])
    assert {race.task.images for race in findings.races(machine)} == {60_000}
    page, alone = page_of(whole, quick), page_of(whole)
    for text in ("The highest speed", "Of 1 bar"):
        (mine,), (its,) = ([said for said in each.texts if said.startswith(text)] for each in (page, alone))
        assert mine == its
    assert page.says("Tries on fewer images, which don't compare with full runs")
    assert not page.says("A try on fewer images than")


def test_a_page_of_a_try_alone_says_so_first() -> None:
    page = page_of(lean(sample_run(images=2000)))
    assert page.says("A try on fewer images than the 60,000 of MNIST")
    assert page.says("2,000 images on A processor")
    assert not page.says("Tries on fewer images, which")


def with_rounds(seconds: Sequence[float], peer: Sequence[float]) -> Run:
    """Return a run of one row, with a bar of twice the peer's speed, whose rounds took so long."""
    from benchmarks import estimates
    from benchmarks.schema import Round

    def timed(name: str, took: Sequence[float], is_peer: bool) -> Result:
        rounds = [Round(number=number, seconds=each) for number, each in enumerate(took)]
        return replace(result(name, 1, peer=is_peer, auto=not is_peer), rounds=rounds, steady=estimates.steady(rounds))

    found = row(Task(network="784-16-10", batch_size=32), [timed("epoch", seconds, False), timed("jax", peer, True)], 2)
    return replace(sample_run(), rows=[found], starts=[], races=[])


@pytest.mark.parametrize(
    ("seconds", "peer", "expected"),
    [
        ([1.0] * 7, [3.0] * 7, ["Of 1 bar: 1 met.", "gpunn trains 3.0 times as fast", "3.0, bar 2.0 met"]),
        ([1.0] * 7, [1.5] * 7, ["Of 1 bar: 1 missed (784-16-10, batch size 32 on cpu).", "1.50, bar 2.0 missed"]),
        ([1.0] * 3, [3.0] * 3, ["Of 1 bar: 1 undecided", "bar 2.0 undecided", "3 rounds: too few to tell"]),
        ([1.0] * 7, [0.8, 0.8, 0.8, 1.3, 1.3, 1.3, 1.3], ["too close to tell", "or both too close, to be sure"]),
        ([1.0] * 7, [0.5] * 7, ["It is slower with 784-16-10, batch size 32."]),
    ],
)
def test_what_can_not_be_told_is_said(seconds: list[float], peer: list[float], expected: list[str]) -> None:
    page = page_of(with_rounds(seconds, peer))
    for text in expected:
        assert page.says(text), text


def test_of_a_task_in_several_runs_the_newest_counts() -> None:
    old, new = with_rounds([1.0] * 7, [3.0] * 7), with_rounds([0.5] * 7, [3.0] * 7)
    new = replace(new, started="2026-12-01 10:00:00", revision="def5678")
    (part,) = parts_of(machines([new, old]))
    assert part.ours is not None
    assert part.speed(part.ours.seconds) == 120_000
    assert part.run is new
    page = page_of(new, old)
    assert page.says("from 2026-11-25 14:03:00 (gpunn 1a2b3c4) to 2026-12-01 10:00:00 (gpunn def5678)")
    # Both contestants and a kernel.
    assert page.says("3 times in both runs: 2 agree within their intervals and 1 became faster.")


def test_machines_are_told_apart_by_processor_cores_and_gpus() -> None:
    here, other = sample_run(gpu=True), sample_run()
    fewer = replace(other, machine=replace(other.machine, cores=1))
    gpu = replace(here, machine=replace(here.machine, devices={"cuda:0": {"name": "Another GPU"}}))
    assert [len(found.runs) for found in machines([here, other, fewer, gpu])] == [2, 1, 1]
    assert machines([fewer])[0].name == "A processor made up for tests, 1 core"
    gpus = [part.place for part in parts_of(machines([here])) if part.place.device == "cuda:0"]
    assert {str(place) for place in gpus} == {"A GPU made up for tests"}


@pytest.mark.parametrize(("factor", "verdict"), [(1.03, "agree"), (1.2, "slower"), (0.8, "faster")])
def test_a_change_within_the_intervals_is_none(factor: float, verdict: str) -> None:
    took = [0.98, 0.99, 1.0, 1.0, 1.0, 1.01, 1.02]
    old, new = with_rounds(took, took), with_rounds([each * factor for each in took], took)
    change, same, _ = changes(old, new)
    assert (change.verdict, same.verdict) == (verdict, "agree")
    assert change.ratio == pytest.approx(1 / factor)
    assert change.low < change.ratio < change.high


def test_a_change_from_few_rounds_is_not_told() -> None:
    change, *_ = changes(with_rounds([1.0] * 3, [1.0] * 3), with_rounds([2.0] * 7, [1.0] * 7))
    assert change.verdict == "too few rounds to tell"


def test_who_failed_or_was_absent_is_listed_and_not_drawn() -> None:
    page = page_of(lean(sample_run(), slice(-2, None)))
    assert page.says("wrong: found the loss 2, expected 0.4")
    assert page.says("no CUDA driver found")
    assert page.says("784-2048-2048-10, batch size 1: no time")
    (dense,) = [part for part in parts_of(machines([sample_run()])) if part.task.dense]
    assert [each.label for each in dense.timed] == ["gpunn epoch", "jax"]


def test_the_advice_is_the_smallest_batch_that_is_about_the_fastest() -> None:
    from benchmarks.report.tables import advice

    frame = advice(parts_of(machines([sample_run(gpu=True)])))
    assert list(frame.columns) == ["device", "engine", "batch size", "images per second", "one epoch"]
    assert list(frame.loc["784-16-10"]) == ["*cuda:0", "*epoch", "*1", "*15.0M", "*3.99 ms"]
    assert list(frame.iloc[1])[:3] == ["cpu", "epoch", "32"]


def test_a_run_without_rows_has_a_page() -> None:
    empty = replace(sample_run(), rows=[], races=[], starts=[], kernels=[])
    empty = replace(empty, published=[], estimator_times=[], estimator_accuracies=[])
    assert "svg" not in page_of(empty).tags


def test_the_terminal_shows_every_table_and_what_its_marks_mean() -> None:
    from io import StringIO

    from rich.console import Console

    from benchmarks.report.tables import for_terminal

    console = Console(file=StringIO(), width=160)
    for shown in for_terminal(sample_run()):
        console.print(shown)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    for expected in (
        "784-16-10 on cpu, images per second",
        "~17.4k",
        "13 (12 to 13); bar 4.4 met",
        "784-128-10 with ReLU, softmax, cross-entropy and Adam on cpu",
        "784-16-10 to 94 % of the test images",
        "bias_activate 1024x128 on cpu",
        "Nielsen, 2015",
        "wrong: differs",
        "no CUDA driver found",
        "~ marks a rough time",
        "Of 10 bars: 5 met and 5 missed.",
    ):
        assert expected in text, expected


def command(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    line = [sys.executable, "-m", "benchmarks.report", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_the_command_joins_files(tmp_path: Path) -> None:
    write(tmp_path / "a.json", with_rounds([1.0] * 7, [3.0] * 7))
    write(tmp_path / "b.json", with_rounds([1.0] * 7, [3.0] * 7))
    done = command("a.json", "b.json", "-o", "page.html", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "page.html\n", "")
    assert Page((tmp_path / "page.html").read_text("utf-8")).says("What changed between runs")


def test_a_broken_file_gets_one_line_and_no_page(tmp_path: Path) -> None:
    write(tmp_path / "good.json", sample_run())
    broken = json.loads((tmp_path / "good.json").read_text())
    broken["rows"][2]["task"]["batch_size"] = "x"
    (tmp_path / "broken\x1b.json").write_text(json.dumps(broken))
    done = command("good.json", "broken\x1b.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.isprintable()
    assert r"broken\x1b.json" in line
    assert "$.rows[2].task.batch_size" in line
    assert not (tmp_path / "page.html").exists()


def test_what_can_not_be_read_or_written_is_an_error_of_gpunns(tmp_path: Path) -> None:
    from benchmarks.report.page import write_page

    with pytest.raises(ResultsFileError, match=r"cannot read .*nowhere\.json"):
        write_page([tmp_path / "nowhere.json"], tmp_path / "page.html")
    with pytest.raises(OutputError, match="choose another place"):
        write_page([with_rounds([1.0], [1.0])], tmp_path / "absent" / "page.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["matplotlib", "pandas"])
def test_missing_libraries_are_named_with_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from benchmarks.report.page import write_page

    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match="pip install"):
        write_page([sample_run()], tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wanted", [[], [50], [50, 51, 52], [0, 0, 0], [99, 99.5, 100], [1, 2, 3, 60, 61, 99, 99]])
def test_labels_are_spread_within_their_room(wanted: list[float]) -> None:
    places = spread(wanted, 12, 4, 96)
    assert all(later - earlier >= 12 - 1e-9 for earlier, later in pairwise(places))
    assert all(4 <= place <= 96 for place in places)


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([10, 30, 31, 70], 12, 0, 100) == [10, 24.5, 36.5, 70]


def test_kinds_are_named_by_what_differs() -> None:
    task = Task(network="784-16-10", batch_size=32)
    assert kind_of(task) == kind_of(replace(task, batch_size=1, recipe=Recipe(learning_rate=0.02))) == "784-16-10"
    assert kind_of(replace(task, recipe=ADAM)) == "784-16-10 with ReLU, softmax, cross-entropy and Adam"
    assert kind_of(replace(task, dense=True, images=2000)) == "784-16-10, dense images, 2,000 images"
    assert kind_of(replace(task, networks=16, epochs=5)) == "784-16-10, 16 networks, 5 epochs"


def test_the_longest_kind_comes_first() -> None:
    found: list[Any] = list(by_kind(parts_of(machines([sample_run()]))))
    assert [kind for _, kind in found][:2] == ["784-16-10", "784-128-10"]


def test_a_ratio_is_sure_or_says_why_not() -> None:
    assert sureness(estimate([2.0] * 7)) == ""
    assert sureness(estimate([2.0])) == "1 round: too few to tell"
    assert sureness(estimate([0.9, 0.9, 0.9, 1.0, 1.1, 1.1, 1.1])) == "too close to tell"


@pytest.mark.parametrize(
    ("number", "text"), [(0.5, "0.5"), (20, "20"), (999.9, "1k"), (10_000, "10k"), (2.5e6, "2.5M"), (3e9, "3G")]
)
def test_numbers_at_ticks_are_short(number: float, text: str) -> None:
    assert mark_in_words(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5e-6, "5 \N{MICRO SIGN}s"), (0.0621, "62.1 ms"), (0.9999, "1 s"), (1234.5, "1,234 s")]
)
def test_times_have_their_unit(seconds: float, text: str) -> None:
    assert time_in_words(seconds) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.976, "0.98"), (1.996, "2.0"), (4.61, "4.6"), (9.96, "10")])
def test_ratios_are_as_short_as_they_may_be(ratio: float, text: str) -> None:
    assert times_in_words(ratio) == text


@pytest.mark.parametrize(("speed", "text"), [(950, "950"), (24_130, "24.1k"), (999_600, "1.00M"), (3.75e6, "3.75M")])
def test_speeds_have_three_digits(speed: float, text: str) -> None:
    assert speed_in_words(speed) == text
