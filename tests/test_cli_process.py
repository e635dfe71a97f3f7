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

import pytest

from gpunn import MLP

from .processes import read_up_to, start

pytestmark = pytest.mark.usefixtures("nothing_left_running")


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
    read_up_to("epoch    2", progress)
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
            r"interrupted: 784-4-10 on cpu, engine epoch: (\d+) epochs .*\nwritten to net$", out, re.MULTILINE
        )
        assert found
        count = int(found[1])

    assert start(*recipe, "--epochs", count, "--output", "same", cwd=tmp_path, stdout=subprocess.DEVNULL).wait() == 0
    assert (tmp_path / "net").read_bytes() == (tmp_path / "same").read_bytes()


def test_ctrl_c_before_the_first_epoch_leaves_an_older_model_alone(tmp_path: Path) -> None:
    MLP([784, 800, 10], seed=7).save(tmp_path / "net")
    precious = (tmp_path / "net").read_bytes()
    process = start(
        "train", "--device", "cpu", "--batch-size", 1, "--hidden", "800", "--output", "net",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    read_up_to("training", process.stdout)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "gpunn: interrupted before the first epoch was finished: net was not written\n"
    assert (tmp_path / "net").read_bytes() == precious
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def on_terminal(folder: Path, *arguments: object, **environment: str) -> str:
    """Return what the command line sends to a terminal of 80 columns."""
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
    assert re.search(r"epoch +\d+/10 [━╸╺]{40} \d\d:\d\d", text)
    figures = r"epoch +\d+/10  loss 0\.\d{4}  test loss 0\.\d{4}  test accuracy \d\d\.\d\d%  [\d.]+[kM] images/s"
    assert len(re.findall(figures, text)) == 10
    *_, summary, written = text.splitlines()
    assert "784-16-10 on cpu, engine epoch: 10 epochs" in summary
    assert written == "written to 784-16-10-seed0.safetensors"


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"FORCE_COLOR": ""}, {"TTY_INTERACTIVE": "0"}], ids=str)
def test_a_terminal_that_gets_no_bar_gets_lines(tmp_path: Path, environment: dict[str, str]) -> None:
    text = on_terminal(tmp_path, "train", "--device", "cpu", "--epochs", 2, **environment)
    assert "epoch 2/2  loss 0." in text
    assert "\x1b" not in text


def test_a_pipe_gets_lines_whatever_the_environment_asks_of_terminals(tmp_path: Path) -> None:
    process = start(
        "train", "--device", "cpu", "--epochs", 1, cwd=tmp_path, stdout=subprocess.PIPE, FORCE_COLOR="1"
    )  # fmt: skip
    out, _ = process.communicate(timeout=60)
    assert "epoch 1/1  loss" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("lines", [1, 3])
def test_a_reader_that_goes_away_loses_nothing(tmp_path: Path, lines: int) -> None:
    process = start(
        "train", "--device", "cpu", "--hidden", 4, "--epochs", 5, "--output", "net",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()
    found, expected = MLP.load(tmp_path / "net"), tmp_path / "whole"
    recipe = ["train", "--device", "cpu", "--hidden", 4, "--epochs", 5]
    assert start(*recipe, "--output", "whole", cwd=tmp_path, stdout=subprocess.DEVNULL).wait() == 0
    assert (tmp_path / "net").read_bytes() == expected.read_bytes()
    assert found.sizes == (784, 4, 10)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_that_asks_to_end_keeps_the_network_of_the_last_finished_epoch(
    tmp_path: Path, name: str, code: int
) -> None:
    process = start(
        "train", "--device", "cpu", "--hidden", 4, "--epochs", 4000, "--output", "net",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    read_up_to("epoch    2", process.stdout)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert out.splitlines()[-1] == "written to net"
    assert MLP.load(tmp_path / "net").sizes == (784, 4, 10)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the disk without space")
@pytest.mark.parametrize("command", ["train", "devices", "--help"])
def test_an_output_that_cannot_be_written_gets_one_line(tmp_path: Path, command: str) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    saved = "; the network after epoch 15 is in 784-16-10-seed0.safetensors" if command == "train" else ""
    assert err == f"gpunn: cannot write the output: No space left on device{saved}\n"


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
    assert "written to n\\udce4t\n" in out
    assert MLP.load(tmp_path / name).sizes == (784, 16, 10)


def wait_for_lines(path: Path, count: int) -> None:
    """Wait until the file has so many whole lines."""
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("name", "as_json"), [("SIGINT", False), ("SIGTERM", True), ("SIGKILL", False)])
def test_a_sweep_that_is_stopped_goes_on_and_ends_with_the_same_network(
    tmp_path: Path, data_dir: Path, name: str, as_json: bool
) -> None:
    number = getattr(signal, name)
    options = ["--data-dir", data_dir, "--device", "cpu", "--epochs", 40, "--batch-size", 10, "--hidden", 5, "6,4"]
    sweep = ["sweep", *options, "--learning-rate", 0.1, 1, "--seed", "0..14", *(["--json"] if as_json else [])]
    process = start(*sweep, "--output", "net", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    record = tmp_path / "net.sweep.jsonl"
    wait_for_lines(record, 6)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    finished = record.read_bytes().count(b"\n") - 1
    assert 5 <= finished < 60
    assert not (tmp_path / "net").exists()
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        record.write_bytes(record.read_bytes() + b'{"number": 5')
    else:
        assert process.returncode == 128 + number
        if as_json:
            document = json.loads(out)
            assert document["interrupted"] is True
            assert len(document["networks"]) == finished
        else:
            assert err == ""
            where = f"{finished} of 60 networks are in net.sweep.jsonl"
            assert out.splitlines()[-1] == f"interrupted: {where}; the same command with --resume goes on"

    process = start(*sweep, "--output", "net", "--resume", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert f"net.sweep.jsonl has {finished} of them already" in (err if as_json else out)
    _, *lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert sorted(line["number"] for line in lines) == list(range(1, 61))
    best = min(lines, key=lambda line: (-line["held_out_accuracy"], line["held_out_loss"], line["number"]))
    only = ["--learning-rate", best["learning_rate"], "--seed", best["seed"], "--epochs", 40, "--batch-size", 10]
    only += ["--hidden", ",".join(map(str, best["hidden"])), "--data-dir", data_dir, "--device", "cpu"]
    assert start("sweep", *only, "--output", "same", cwd=tmp_path, stdout=subprocess.DEVNULL).wait() == 0
    assert (tmp_path / "net").read_bytes() == (tmp_path / "same").read_bytes()


def test_a_terminal_sees_a_live_table_of_the_best_networks(tmp_path: Path, data_dir: Path) -> None:
    options = ["--data-dir", data_dir, "--device", "cpu", "--epochs", 50, "--batch-size", 10, "--seed", "0..39"]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_terminal(tmp_path, "sweep", *options, "--learning-rate", 0.1, 1))
    assert re.search(r"rank  held out  rate  seed\s+1 +\d+\.\d\d%  +\S+ +\d+\s", text)
    assert re.search(r" \d+/80 networks  0:\d\d:\d\d left", text)
    assert "best: " not in text.partition("left")[0]  # there are no lines in place of the table
    *_, figures, written = text.splitlines()
    assert re.fullmatch(r"best: 16-16-10, held out .*%; test accuracy .*%, measured for it alone", figures)
    assert written.startswith("written to 16-16-10-seed")
