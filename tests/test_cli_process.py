"""The command line as a process: signals, terminals, pipes and full disks."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from gpunn import MLP

OF_TERMINALS = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    """Start the command line; options in capitals are environment variables."""
    command = [sys.executable, "-m", "gpunn", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name not in OF_TERMINALS}
    environment |= {"PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "xterm"}
    for name in [name for name in options if name.isupper()]:
        environment[name] = options.pop(name)
    return subprocess.Popen(command, text=True, env=environment, **options)


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_keeps_the_network_of_the_last_finished_epoch(tmp_path: Path, as_json: bool) -> None:
    recipe = ["train", "--device", "cpu", "--hidden", 4]
    flags = ["--json"] if as_json else []
    process = start(
        *recipe,
        "--epochs",
        1000,
        "--output",
        "net",
        *flags,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    progress = process.stderr if as_json else process.stdout
    assert progress is not None
    for line in progress:
        if line.startswith("epoch    2"):
            break
    # Impatient users press it more than once; what is to be saved is saved all the same.
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    if as_json:
        document = json.loads(out)
        assert document["interrupted"] is True
        count = len(document["epochs"])
    else:
        assert err == ""
        found = re.search(
            r"interrupted: 784-4-10 on cpu, engine epoch: (\d+) epochs .* written to net$", out, re.MULTILINE
        )
        assert found
        count = int(found[1])

    assert start(*recipe, "--epochs", count, "--output", "same", cwd=tmp_path, stdout=subprocess.DEVNULL).wait() == 0
    assert (tmp_path / "net").read_bytes() == (tmp_path / "same").read_bytes()


def test_ctrl_c_before_the_first_epoch_leaves_an_older_model_alone(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(b"precious")
    process = start(
        "train", "--device", "cpu", "--batch-size", 1, "--hidden", "800", "--output", "net",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("training"):
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "gpunn: interrupted before the first epoch was finished: net is not written\n"
    assert (tmp_path / "net").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def on_terminal(folder: Path, *arguments: object, **environment: str) -> str:
    """Return what a terminal of 80 columns is sent by the command line."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = start(*arguments, cwd=folder, stdout=theirs, stderr=theirs, stdin=theirs, **environment)
    os.close(theirs)
    seen = io.BytesIO()
    try:
        while chunk := os.read(ours, 4096):
            seen.write(chunk)
    except OSError:  # how a pseudo-terminal says that nobody writes to it any more
        pass
    os.close(ours)
    assert process.wait() == 0
    return seen.getvalue().decode()


def test_a_terminal_sees_a_live_bar_with_all_figures_and_then_the_summary(tmp_path: Path) -> None:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_terminal(tmp_path, "train", "--device", "cpu", "--epochs", 10))
    figures = r"epoch +\d+/10 loss 0\.\d{4} test \d\d\.\d\d% +[\d,]+ images/s "
    assert re.search(figures + r"[━╸╺]{12} \d\d:\d\d", text)
    assert "784-16-10 on cpu, engine epoch: 10 epochs" in text.splitlines()[-1]


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"FORCE_COLOR": ""}, {"TTY_INTERACTIVE": "0"}], ids=str)
def test_a_terminal_that_gets_no_bar_gets_lines(tmp_path: Path, environment: dict[str, str]) -> None:
    text = on_terminal(tmp_path, "train", "--device", "cpu", "--epochs", 2, **environment)
    assert "epoch 2/2   loss 0." in text
    assert "\x1b" not in text


def test_a_pipe_gets_lines_whatever_the_environment_asks_of_terminals(tmp_path: Path) -> None:
    process = start(
        "train", "--device", "cpu", "--epochs", 1, cwd=tmp_path, stdout=subprocess.PIPE, FORCE_COLOR="1"
    )  # fmt: skip
    out, _ = process.communicate(timeout=60)
    assert "epoch 1/1   loss" in out
    assert "\x1b" not in out


def test_a_reader_that_goes_away_ends_the_training_and_loses_nothing(tmp_path: Path) -> None:
    process = start(
        "train", "--device", "cpu", "--epochs", 1000, "--output", "net",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()
    assert MLP.load(tmp_path / "net").sizes == (784, 16, 10)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the disk without space")
@pytest.mark.parametrize("command", ["train", "devices", "--help"])
def test_an_output_that_cannot_be_written_gets_one_line(tmp_path: Path, command: str) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "gpunn: cannot write the output: No space left on device\n"


def test_a_closed_output_is_no_reason_not_to_train(tmp_path: Path) -> None:
    command = '"$0" -m gpunn train --device cpu --epochs 1 --output net >&-'
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert MLP.load(tmp_path / "net").sizes == (784, 16, 10)


def test_file_names_in_any_encoding_can_be_shown(tmp_path: Path) -> None:
    name = os.fsdecode(b"n\xe4t")
    process = start(
        "train", "--device", "cpu", "--epochs", 1, "--output", name,
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, PYTHONIOENCODING="utf-8:strict",
    )  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "written to n\\udce4t" in out
    assert MLP.load(tmp_path / name).sizes == (784, 16, 10)
