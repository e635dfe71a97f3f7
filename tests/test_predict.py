"""`gpunn predict`: an answer for every picture that can be read, and a line for every one that can't."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from rich.cells import cell_len

from gpunn import MLP, Ensemble
from gpunn.cli import characters
from gpunn.datasets.kind import ImageKind
from tests.conftest import Run


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """The working directory of `run`, with a network and six pictures."""
    MLP([784, 4, 10]).save("net")
    for number in range(6):
        page = Image.new("L", (60, 60), 255)
        ImageDraw.Draw(page).line((30, 8, 30, 50), fill=0, width=5)
        page.save(f"{number}.png")
    return tmp_path


NAMES = [f"{number}.png" for number in range(6)]


@pytest.mark.parametrize("what", ["text", "missing", "blank", "folder"])
def test_a_bad_picture_does_not_hide_the_other_answers(run: Run, folder: Path, what: str) -> None:
    bad = folder / "3.png"
    bad.unlink()
    if what == "text":
        bad.write_text("no picture")
    elif what == "blank":
        Image.new("L", (60, 60), 255).save(bad)
    elif what == "folder":
        bad.mkdir()
    outcome = run("predict", "net", *NAMES)
    assert outcome.code == 2
    assert [line.split(":")[0] for line in outcome.out.splitlines()] == [name for name in NAMES if name != "3.png"]
    assert re.fullmatch(r"gpunn: [^\n]*3\.png[^\n]*\n", outcome.err)

    outcome = run("predict", "net", *NAMES, "--json")
    assert outcome.code == 2
    rows = json.loads(outcome.out)
    assert [row["image"] for row in rows] == NAMES
    assert ["error" in row for row in rows] == [name == "3.png" for name in NAMES]
    assert "3.png" in rows[3]["error"]


def test_every_bad_picture_has_its_line(run: Run, folder: Path) -> None:
    outcome = run("predict", "net", folder / "a.png", "b.png")
    assert (outcome.code, outcome.out) == (2, "")
    assert [line.startswith("gpunn: cannot read") for line in outcome.err.splitlines()] == [True, True]


def test_a_minus_is_standard_input(folder: Path) -> None:
    content = (folder / "0.png").read_bytes()
    command = [sys.executable, "-m", "gpunn", "predict", "net", "-", "1.png"]
    done = subprocess.run(command, input=content, capture_output=True, cwd=folder, check=True)
    first, second = done.stdout.decode().splitlines()
    assert first.startswith("-: ")
    assert second == "1.png" + first[1:]


def test_show_draws_what_the_network_gets_and_lists_three_guesses(run: Run, folder: Path) -> None:
    first, *lines = run("predict", "net", "0.png", "--show").out.splitlines()
    assert len(lines) == 28 + 3
    assert {len(line) for line in lines[:28]} == {58}
    assert "█" in lines[13]
    assert lines[0].strip("|").strip() == ""
    (row,) = json.loads(run("predict", "net", "0.png", "--show", "--json").out)
    assert np.array(row["pixels"]).shape == (28, 28)
    assert np.array(row["pixels"]).max() == 255
    shares = np.array(row["probabilities"])
    guesses = [re.fullmatch(r"(\d) +(\d+\.\d)%( █+)?", line) for line in lines[28:]]
    assert [int(guess[1]) for guess in guesses if guess] == np.argsort(-shares)[:3].tolist()
    assert [float(guess[2]) for guess in guesses if guess] == [
        round(100 * share, 1) for share in np.sort(shares)[:-4:-1]
    ]
    assert first.startswith(f"0.png: {row['class']} ")


def test_show_is_ascii_where_the_encoding_lacks_block_characters(folder: Path) -> None:
    command = [sys.executable, "-m", "gpunn", "predict", "net", "0.png", "--show"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "FORCE_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, cwd=folder, check=True, env=environment)
    lines = done.stdout.decode("ascii").splitlines()
    assert {len(line) for line in lines[1:29]} == {58}
    assert "@@" in lines[14]
    assert re.fullmatch(r"\d +\d+\.\d% #+", lines[29])
    assert "\\" not in done.stdout.decode("ascii")


@pytest.mark.parametrize(("n_outputs", "guesses"), [(1, 2), (2, 2), (3, 3)])
def test_show_lists_as_many_guesses_as_there_are_classes(run: Run, folder: Path, n_outputs: int, guesses: int) -> None:
    MLP([784, n_outputs]).save("few")
    lines = run("predict", "few", "0.png", "1.png", "--show").out.splitlines()
    assert len(lines) == 2 * (1 + 28 + guesses)
    percentages = [float(line.split()[1].rstrip("%")) for line in lines[29 : 29 + guesses]]
    assert sum(percentages) == pytest.approx(100, abs=0.2)
    assert percentages == sorted(percentages, reverse=True)


def test_show_takes_ensembles(run: Run, folder: Path) -> None:
    Ensemble([MLP([784, 10], seed=seed) for seed in range(2)]).save("both")
    lines = run("predict", "both", "0.png", "--show").out.splitlines()
    assert len(lines) == 1 + 28 + 3


def test_show_fits_80_columns_whatever_the_shape_and_the_names(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = ImageKind("X", (100, 60), "whole", ("long " * 20, "\u3042" * 50, "c"))
    known(monkeypatch, kind, (6000, 3))
    _, *lines = run("predict", "net", "0.png", "--show").out.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert [len(line) for line in lines[:34]] == [2 + 2 * 20] * 34
    assert lines[34] == "(100 x 60 pixels, shown as means of 3 x 3)"
    assert lines[35].startswith("\u3042" * 10 + " ... ")


def test_doubts_stand_in_the_line_and_in_json(run: Run, folder: Path) -> None:
    page = Image.new("L", (300, 100), 255)
    for x in (50, 150, 250):
        ImageDraw.Draw(page).line((x, 10, x, 90), fill=0, width=8)
    page.save("three.png")
    assert "several" in run("predict", "net", "three.png").out
    (row,) = json.loads(run("predict", "net", "three.png", "--json").out)
    assert len(row["doubts"]) == 1
    assert run("predict", "net", "three.png").code == 0
    (row,) = json.loads(run("predict", "net", "0.png", "--json").out)
    assert row["doubts"] == []


def known(monkeypatch: pytest.MonkeyPatch, kind: ImageKind | None, sizes: tuple[int, ...] = (784, 10)) -> None:
    """Make `load` return a network of that `kind` whose largest output is the second."""
    net = MLP(sizes)
    net.weights[0][:] = 0
    net.biases[0][1] = 5
    net.kind = kind  # type: ignore[attr-defined,unused-ignore]
    monkeypatch.setattr("gpunn.cli.predict.load", lambda path: net)


def pixels(run: Run, *arguments: object) -> np.ndarray:
    (row,) = json.loads(run("predict", "net", "page.png", "--show", "--json", *arguments).out)
    return np.array(row["pixels"])


def test_the_networks_own_kind_decides_how_pictures_are_prepared(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = np.zeros((56, 56), np.uint8)
    page[4:8, 4:8] = 200
    Image.fromarray(page).save("page.png")
    known(monkeypatch, ImageKind("clothes", (28, 28), "whole"))
    whole = pixels(run)
    assert whole[2:4, 2:4].min() > 150
    assert whole[6:].max() == 0
    known(monkeypatch, ImageKind("", (4, 14), "whole"), (56, 10))
    assert pixels(run).shape == (4, 14)
    known(monkeypatch, None)
    np.testing.assert_array_equal(pixels(run, "--framing", "whole"), whole)
    digit = pixels(run)
    assert digit[10:18, 10:18].min() > 0
    known(monkeypatch, ImageKind("EMNIST", (28, 28), "emnist"))
    assert (pixels(run) > 0).sum() > (digit > 0).sum()
    np.testing.assert_array_equal(pixels(run, "--framing", "digit"), digit)


def test_classes_are_called_by_their_names(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, ImageKind("letters", (28, 28), "emnist", ("alpha", "beta", "gamma")))
    assert re.match(r"0\.png: beta \(\d+%; next alpha, ", run("predict", "net", "0.png").out)
    (row,) = json.loads(run("predict", "net", "0.png", "--json").out)
    assert (row["class"], row["name"]) == (1, "beta")


def test_networks_that_take_no_pictures_are_refused(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, sizes, arguments in (
        (None, (16, 10), []),
        (None, (16, 10), ["--framing", "whole"]),
        (ImageKind("", (4, 4), "whole"), (16, 10), ["--framing", "digit"]),
    ):
        known(monkeypatch, kind, sizes)
        outcome = run("predict", "net", "0.png", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("gpunn: net takes 16 pixels, but pictures are prepared as 28 x 28 = 784")
        assert outcome.err.count("\n") == 1


def test_help_speaks_of_emnist_and_upright_pictures(run: Run) -> None:
    words = run("predict", "--help").out
    for word in ("EMNIST", "transposed", "upright", "--framing", "Fashion-MNIST"):
        assert word in words


def test_names_are_printed_so_that_a_terminal_obeys_none(run: Run, folder: Path) -> None:
    (folder / "0.png").rename(folder / "\x1b[31mred.png")
    outcome = run("predict", "net", "\x1b[31mred.png", "\x1b[2Jgone.png")
    assert "\x1b" not in outcome.out + outcome.err
    assert r"\x1b[31mred.png: " in outcome.out


class Output(io.StringIO):
    """Standard output of this `encoding`, a terminal or not."""

    def __init__(self, encoding: str, *, is_terminal: bool) -> None:
        super().__init__()
        self._encoding, self._is_terminal = encoding, is_terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal


GRADIENT = np.array([[0, 255], [128, 0], [255, 0]], np.uint8)


def drawn(
    monkeypatch: pytest.MonkeyPatch,
    pixels: np.ndarray,
    *,
    encoding: str = "utf-8",
    is_terminal: bool = True,
    TERM: str = "xterm-256color",
    **environment: str,
) -> list[str]:
    """The lines of a picture on such an output."""
    with monkeypatch.context() as patch:
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
            patch.delenv(name, raising=False)
        for name, value in {"TERM": TERM, **environment}.items():
            patch.setenv(name, value)
        patch.setattr("sys.stdout", Output(encoding, is_terminal=is_terminal))
        return list(characters.picture(pixels))


def test_on_a_terminal_with_colours_two_rows_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = drawn(monkeypatch, GRADIENT)
    assert re.findall(r"38;5;(\d+)m\x1b\[48;5;(\d+)m▀\x1b\[0m", first) == [("234", "245"), ("255", "234")]
    assert re.findall(r"\x1b\[38;5;(\d+)m▀\x1b\[0m", second) == ["255", "234"]
    assert drawn(monkeypatch, GRADIENT, TERM="xterm", COLORTERM="truecolor") == [first, second]


def test_a_picture_wider_than_the_terminal_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(monkeypatch, np.zeros((30, 170), np.uint8))
    assert [line.count("▀") for line in lines[:-1]] == [57] * 5
    assert lines[-1] == "(30 x 170 pixels, shown as means of 3 x 3)"


@pytest.mark.parametrize(
    "output",
    [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": "xterm"}, {"is_terminal": False, "FORCE_COLOR": "1"}],
    ids=str,
)
def test_without_colours_a_picture_is_in_shades(monkeypatch: pytest.MonkeyPatch, output: dict[str, Any]) -> None:
    assert drawn(monkeypatch, GRADIENT, **output) == ["|  ██|", "|▒▒  |", "|██  |"]
    assert drawn(monkeypatch, GRADIENT, **output, encoding="latin-1") == ["|  @@|", "|++  |", "|@@  |"]


def test_a_terminal_without_half_blocks_gets_the_shades_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, GRADIENT, encoding="latin-1") == ["|  @@|", "|++  |", "|@@  |"]


def test_a_closed_output_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert next(characters.picture(GRADIENT)) == "|  @@|"
    assert characters.sparkline([1, 2], 10) == "_'"
