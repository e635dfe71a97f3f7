"""`gpunn report` reads what `pytest --benchmark` wrote, says what follows from it, and draws it."""

import base64
import copy
import json
import os
import re
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gpunn.cli import main
from gpunn.errors import GpunnError, ResultsFileError
from gpunn.report import findings
from gpunn.report.findings import changes, crossing, machines, overtakings, places, speed_ups
from gpunn.report.reading import read_run
from gpunn.report.results import Task
from gpunn.report.sections import _where_faster
from gpunn.report.wording import number_in_words, time_in_words

Document = dict[str, Any]


def times(median: float, spread: float = 0.02) -> dict[str, Any]:
    return {"quartiles": [median * (1 - spread), median, median * (1 + spread)], "spread": 2 * spread, "wide": False}


def epoch(name: str, batch_size: int, seconds: float, *, device: str = "cpu", is_peer: bool = False) -> Document:
    about = {"what": "epoch", "network": "784-16-10", "batch_size": batch_size, "dense": False, "problem": None}
    return {**about, "device": device, "name": name, "is_peer": is_peer, **times(seconds)}


def kernel(name: str, device: str = "cpu") -> Document:
    about = {"what": "kernel", "device": device, "name": name, "shape": [32, 16], "bytes": 4096, "problem": None}
    return {**about, "fused": times(2e-6), "unfused": times(5e-6), "copy": times(1e-6)}


def race(name: str, seconds: float, *, is_peer: bool = False) -> Document:
    about = {"what": "time to accuracy", "network": "784-16-10", "goal": 0.94, "device": "cpu", "problem": None}
    settings = {"batch_size": 32, "learning_rate": 2.0, "epochs": [4, 5, 5], "accuracies": [0.95, 0.94, 0.94]}
    return {**about, "name": name, "is_peer": is_peer, **settings, **times(seconds)}


def document(*rows: Document, name: str = "Laptop(R) Processor", started: str = "2026-01-01 10:00:00") -> Document:
    return {
        "gpunn benchmarks": 1,
        "started": started,
        "finished": started,
        "revision": "abc1234",
        "machine": {"name": name, "cores": "2", "numpy": "2.4.0"},
        "devices": {"cpu": {"name": name}},
        "options": {"images": 60000},
        "rows": list(rows),
        "skipped": [{"device": "cuda", "reason": "CuPy is not installed"}],
    }


LAPTOP = document(
    epoch("epoch", 1, 0.02),
    epoch("epoch", 32, 0.01),
    epoch("plain", 32, 0.2),
    epoch("jax", 32, 0.1, is_peer=True),
    epoch("numpy", 32, 0.12, is_peer=True),
    epoch("epoch", 1024, 0.01),
    {"what": "preparation", "device": "cpu", "name": "epoch", **times(0.1)},
    {"what": "ceiling", "device": "cpu", "copied_bytes_per_second": 1e10, "multiplied_operations_per_second": 1e12},
    kernel("descend"),
    race("auto", 0.06),
    race("jax", 0.9, is_peer=True),
)

WORKSTATION = document(
    epoch("epoch", 1, 0.02),
    epoch("epoch", 32, 0.01),
    epoch("epoch", 1024, 0.01),
    epoch("fused", 1, 2.0, device="cuda:0"),
    epoch("fused", 32, 0.008, device="cuda:0"),
    epoch("fused", 1024, 0.001, device="cuda:0"),
    kernel("descend", "cuda:0"),
    name="Workstation",
) | {"devices": {"cpu": {"name": "Workstation"}, "cuda:0": {"name": "NVIDIA <b>Imaginary</b> $x_1$"}}}


def write(folder: Path, **documents: Document) -> list[Path]:
    paths = []
    for name, content in documents.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(content))
    return paths


class Page(HTMLParser):
    """What a page says and shows; everything that is opened is closed again."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "source"}:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "srcset", "href"}:
                self.addresses.append(value or "")
        if tag == "img":
            self.images.append(dict(attrs)["alt"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def draws() -> None:
    pytest.importorskip("matplotlib", reason='needs Matplotlib: pip install "gpunn[report]"')
    pytest.importorskip("jinja2", reason='needs Jinja: pip install "gpunn[report]"')


def report(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main(["report", *map(str, arguments)])
    return int(done.value.code or 0)


def page_of(folder: Path, *arguments: object) -> Page:
    assert report(*arguments, "-o", folder / "page.html") == 0
    return Page((folder / "page.html").read_text())


def heard(page: Page, text: str) -> bool:
    return any(text in said for said in page.texts)


@pytest.mark.usefixtures("draws")
def test_a_page_of_one_machine_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = page_of(tmp_path, *write(tmp_path, laptop=LAPTOP))
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}: 5 pictures\n"
    assert heard(page, "On cpu: Laptop Processor, 2 cores, gpunn trains 784-16-10 at up to 6.00M images a second")
    assert heard(page, "10 times as fast as the best of its peers")
    assert heard(page, "784-16-10 to 94%: gpunn auto in 60 ms; the best peer, jax in 900 ms.")
    assert heard(page, "cuda: CuPy is not installed")
    assert not heard(page, "Where the GPU overtakes the CPU")
    assert len(page.images) == 5
    assert "descend 32x16: 50%" in page.images[-1]
    # In one piece: nothing is fetched from anywhere.
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    for address in page.addresses:
        svg = ET.fromstring(base64.b64decode(address.partition(",")[2]))
        assert svg.tag.endswith("svg")


@pytest.mark.usefixtures("draws")
def test_a_page_of_two_machines_shows_where_the_gpu_overtakes(tmp_path: Path) -> None:
    page = page_of(tmp_path, *write(tmp_path, laptop=LAPTOP, workstation=WORKSTATION))
    gpu = "cuda:0: NVIDIA <b>Imaginary</b> $x_1$"
    assert heard(page, f"784-16-10: {gpu} is faster than cpu: Laptop Processor, 2 cores from batch size 32 on.")
    assert heard(page, f"784-16-10: {gpu} is faster than cpu: Workstation, 2 cores from batch size 32 on.")
    assert len([text for text in page.texts if text.startswith("784-16-10, images a second on ")]) == 3


@pytest.mark.usefixtures("draws")
def test_two_runs_of_a_machine_show_what_changed(tmp_path: Path) -> None:
    later = copy.deepcopy(LAPTOP) | {"started": "2026-02-01 10:00:00", "revision": "def5678"}
    for row in later["rows"]:
        if row["what"] == "epoch" and row["name"] == "epoch":
            row.update(times(row["quartiles"][1] / 2))
    page = page_of(tmp_path, *write(tmp_path, new=later, old=LAPTOP))
    assert heard(page, "From 2026-01-01 10:00:00 to 2026-02-01 10:00:00")
    assert heard(page, "of 9 rows that both runs have, 6 agree within the quartiles of their rounds and 6 within 10 %")
    assert heard(page, "gpunn trains 784-16-10 at up to 12.0M images a second")


@pytest.mark.usefixtures("draws")
def test_rows_that_failed_or_were_skipped_are_listed_and_not_drawn(tmp_path: Path) -> None:
    broken = epoch("torch", 32, 0.1, is_peer=True) | {"problem": "wrong: found the loss 2, expected 1"}
    lost = race("torch", 1.0, is_peer=True) | {"problem": "RuntimeError: a wire is loose"}
    for name in ("epochs", "quartiles", "batch_size"):
        del lost[name]
    failed = kernel("hidden_delta") | {"problem": "wrong: all of it"}
    page = page_of(tmp_path, *write(tmp_path, laptop=document(*LAPTOP["rows"], broken, lost, failed)))
    for text in ("found the loss 2, expected 1", "a wire is loose", "wrong: all of it"):
        assert heard(page, text)
    assert "failed" in page.texts
    assert not any("torch" in says or "hidden_delta" in says for says in page.images)


@pytest.mark.usefixtures("draws")
def test_a_page_of_a_run_without_rows_says_so_by_having_none(tmp_path: Path) -> None:
    assert page_of(tmp_path, *write(tmp_path, empty=document())).images == []


@pytest.mark.usefixtures("draws")
def test_pictures_are_put_into_a_folder_of_their_own(tmp_path: Path) -> None:
    page_of(tmp_path, *write(tmp_path, laptop=LAPTOP), "--pictures", tmp_path / "pictures")
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"throughput-784-16-10.svg", "speed-up.svg", "time-to-accuracy-1.svg", "epochs.svg", "kernels.svg"}
    first = (tmp_path / "pictures" / "kernels.svg").read_bytes()
    page_of(tmp_path, tmp_path / "laptop.json", "--pictures", tmp_path / "pictures")
    assert (tmp_path / "pictures" / "kernels.svg").read_bytes() == first


def without(name: str, **others: Any) -> Document:
    return {key: value for key, value in (LAPTOP | others).items() if key != name}


def with_row(**others: Any) -> Document:
    return document(epoch("epoch", 1, 0.02) | others)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON (Expecting value"),
        ("[" * 100_000, "is no JSON"),
        ("\udcff", "is no JSON"),
        ("[1, 2]", "it is another kind of JSON"),
        ('{"machine_info": {}, "benchmarks": []}', "it is another kind of JSON"),
        (json.dumps(LAPTOP | {"gpunn benchmarks": 2}), "its layout is version 2, and this gpunn reads 1"),
        (json.dumps(without("rows")), "rows should be a list, it is missing"),
        (json.dumps(without("machine", machine=3)), "machine should be an object, it is missing"),
        (json.dumps(LAPTOP | {"rows": [3]}), "rows[0] should be an object"),
        (json.dumps(with_row(network="784")), "rows[0].network should be layer sizes such as 784-16-10, found '784'"),
        (
            json.dumps(with_row(batch_size=True)),
            "rows[0].batch_size should be a whole number from 1 to 1e+18, found True",
        ),
        (json.dumps(with_row(quartiles=[3, 2, 1])), "rows[0].quartiles should be three rising numbers above 0, found"),
        (
            json.dumps(with_row(quartiles=[1, 2, float("nan")])),
            "rows[0].quartiles[2] should be a number from 0 to 1e+18",
        ),
        (json.dumps(with_row(batch_size=10**400)), "rows[0].batch_size should be a whole number from 1 to 1e+18"),
        (
            json.dumps(document(race("auto", 1.0) | {"epochs": []})),
            "rows[0].epochs should be 1 to 10000 numbers",
        ),
        (json.dumps(with_row(device="../cpu")), "rows[0].device should be cpu or cuda:N, found '../cpu'"),
        (json.dumps(LAPTOP | {"revision": "\ud800"}), "revision should be text, found"),
        (json.dumps(LAPTOP | {"machine": {"name": "\0"}}), "machine.name should be text, found"),
        (json.dumps(with_row(network=f"784-{'9' * 5000}")), "rows[0].network should be layer sizes"),
        (json.dumps(LAPTOP | {"machine": {"\ud800": "x"}}), r"the name '\ud800' in machine. should be text"),
        (
            json.dumps(LAPTOP | {"devices": {"\x1b[2J": {"name": "x"}}}),
            r"the name '\x1b[2J' in devices. should be text",
        ),
        (
            json.dumps(LAPTOP | {"devices": {"cpu": {"\ud800": "x"}}}),
            r"the name '\ud800' in devices.cpu. should be text",
        ),
        (json.dumps(LAPTOP | {"skipped": [{"device": "\ud800", "reason": "x"}]}), "skipped[0].device should be text"),
        (json.dumps(LAPTOP | {"skipped": [{"name": [], "reason": "x"}]}), "skipped[0].name should be text"),
        (
            json.dumps(LAPTOP | {"skipped": [{"batch_size": "\x1b", "reason": "x"}]}),
            "skipped[0].batch_size should be a",
        ),
        (json.dumps(LAPTOP | {"gpunn benchmarks": "\ud800"}), "its layout is version"),
        ('{"\x1b": \x1b}', "is no JSON (Invalid control character"),
        ("[" + "{}," * 150_000, "is too large, or has too many rows"),
        (" " * (5 << 20), "is too large, or has too many rows"),
        (json.dumps(with_row(quartiles=[1.0] * 20_000)), "rows[0].quartiles should be 0 to 10000 numbers"),
        (
            json.dumps(LAPTOP | {"options": {"images": 0}}),
            "options.images should be a whole number from 1 to 1e+18, found 0",
        ),
    ],
)
def test_what_is_no_result_gets_one_line_and_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert report(path, "-o", tmp_path / "page.html") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert line.isprintable()
    assert line.endswith("expected a file that pytest --benchmark wrote") or "expected what pytest" in line
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


@pytest.mark.usefixtures("draws")
def test_a_file_whose_name_is_no_text_gets_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "\udcff\x1b.json"
    path.write_text(json.dumps(LAPTOP))
    assert report(path, "-o", tmp_path / "\udcff.html") == 0
    assert r"\udcff\x1b.json: 2026-01-01" in (tmp_path / "\udcff.html").read_text("utf-8")
    assert capsys.readouterr().out.strip().isprintable()


def test_a_file_of_millions_of_rows_is_refused_before_they_are_parsed(tmp_path: Path) -> None:
    for n in (3_000_000, 300_000):
        (tmp_path / "rows.json").write_text(json.dumps(LAPTOP)[:-1] + ', "rows": [' + "{}," * n)
        tracemalloc.start()
        with pytest.raises(ResultsFileError, match="is too large, or has too many rows"):
            read_run(tmp_path / "rows.json")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * 3 * n


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ResultsFileError, match="it is a pipe, not a file"):
        read_run(tmp_path / "pipe")


def test_a_missing_file_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsFileError, match=re.escape("cannot read nowhere.json: No such file or directory")):
        read_run("nowhere.json")


def test_missing_libraries_are_named_with_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    assert report(*write(tmp_path, laptop=LAPTOP), "-o", tmp_path / "page.html") == 2
    assert "pip install 'gpunn[report]'" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_machines_are_told_apart_by_processor_and_gpus(tmp_path: Path) -> None:
    other = copy.deepcopy(WORKSTATION)
    other["devices"]["cuda:0"]["name"] = "another GPU"
    cpu_only = document(epoch("epoch", 32, 0.01), name="Workstation", started="2026-03-01 10:00:00")
    runs = [read_run(path) for path in write(tmp_path, a=WORKSTATION, b=other, c=LAPTOP, d=cpu_only)]
    found = machines(runs)
    assert [[run.path.name for run in machine.runs] for machine in found] == [
        ["a.json", "d.json"],
        ["b.json"],
        ["c.json"],
    ]
    assert [str(place) for place in places(found)][:2] == [
        "cpu: Workstation, 2 cores",
        "cuda:0: NVIDIA <b>Imaginary</b> $x_1$",
    ]


def test_the_best_peer_and_the_crossing_are_found(tmp_path: Path) -> None:
    found = machines(read_run(path) for path in write(tmp_path, laptop=LAPTOP, workstation=WORKSTATION))
    laptop, cpu, gpu = places(found)
    task = Task("784-16-10", 32, dense=False, images=60000)
    ((found_task, (ratio, peer)),) = speed_ups(laptop).items()
    assert (found_task, peer.name) == (task, "jax")
    assert ratio == pytest.approx(10)
    ratios = overtakings(gpu, cpu)
    assert {task.batch_size: round(ratio, 3) for task, ratio in ratios.items()} == {1: 0.01, 32: 1.25, 1024: 10}
    assert crossing(ratios) == 32
    assert crossing({task: 0.5}) is None
    assert findings.best([]) == {}


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ({1: 0.1, 32: 2.0, 1024: 3.0}, "from batch size 32 on"),
        ({1: 0.1, 1024: 3.0, 60000: 0.9}, "at batch size 1,024 alone"),
        ({1: 0.1, 32: 0.9}, "at no batch size that was timed"),
    ],
)
def test_where_the_gpu_is_faster_is_said_right(ratios: dict[int, float], words: str) -> None:
    tasks = {Task("784-16-10", size, dense=False, images=60000): ratio for size, ratio in ratios.items()}
    assert _where_faster(tasks) == words


def test_one_round_is_no_change(tmp_path: Path) -> None:
    runs = [document(epoch("numpy", 1, seconds) | times(seconds, spread=0)) for seconds in (1.0, 1.01)]
    old, new = (read_run(path) for path in write(tmp_path, old=runs[0], new=runs[1]))
    assert changes(old, new)[0].verdict == "one round"


def test_ratios_to_peers_are_those_of_one_run(tmp_path: Path) -> None:
    later = document(epoch("epoch", 32, 0.005), started="2026-03-01 10:00:00")
    (machine,) = machines(read_run(path) for path in write(tmp_path, laptop=LAPTOP, later=later))
    (place,) = places([machine])
    assert findings.best(findings.right(place, peers=False))[Task("784-16-10", 32, False, 60000)].speed == 60000 / 0.005
    assert [ratio for ratio, _ in speed_ups(place).values()] == pytest.approx([10])


def test_operations_count_forward_backward_and_the_update() -> None:
    # Products of the batch with W1 and W2, of the deltas with W2, and of both layers' gradients: 5 of 2 n m each.
    assert Task("4-3-2", 1, dense=False, images=10).operations == 2 * (4 * 3 + 3 * 2) + 2 * 3 * 2 + 2 * (4 * 3 + 3 * 2)


@pytest.mark.parametrize(("factor", "verdict"), [(1.03, "agree"), (1.2, "slower"), (0.8, "faster")])
def test_a_change_within_the_quartiles_is_none(tmp_path: Path, factor: float, verdict: str) -> None:
    later = document(epoch("epoch", 1, 0.02 * factor))
    old, new = (read_run(path) for path in write(tmp_path, old=document(epoch("epoch", 1, 0.02)), new=later))
    (change,) = changes(old, new)
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(1 / factor)
    assert change.low < change.ratio < change.high


@pytest.mark.parametrize(
    ("number", "text"), [(0.5, "0.5"), (20, "20"), (999.9, "1k"), (10_000, "10k"), (2.5e6, "2.5M"), (3e9, "3G")]
)
def test_round_numbers_are_short(number: float, text: str) -> None:
    assert number_in_words(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.0621, "62.1 ms"), (0.9999, "1 s"), (17, "17 s"), (1234.5, "1,234 s")])
def test_times_have_their_unit(seconds: float, text: str) -> None:
    assert time_in_words(seconds) == text


def test_errors_of_results_are_gpunns() -> None:
    assert issubclass(ResultsFileError, GpunnError)
