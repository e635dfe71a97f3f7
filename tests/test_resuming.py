"""`gpunn train --checkpoint`, `--resume` and `--from`: in this process, and as processes that are killed."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Ensemble
from gpunn.checkpoint_file import is_checkpoint

from .conftest import Run, parameters
from .processes import read_up_to, start
from .test_checkpoints import epochs_in

RECIPE = ["--device", "cpu", "--hidden", "6", "--optimizer", "momentum", "--learning-rate", 0.05, "--batch-size", 10]


pytestmark = pytest.mark.usefixtures("nothing_left_running")


def assert_same_network(ours: str, theirs: str) -> None:
    """Compare parameters; the warning that a network only guesses says after which epoch."""
    for one, other in zip(parameters(MLP.load(ours)), parameters(MLP.load(theirs)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_command_with_resume_ends_with_the_same_network(run: Run, data_dir: Path) -> None:
    recipe = ["train", "--data-dir", data_dir, *RECIPE]
    assert run(*recipe, "--epochs", 6, "--output", "whole").code == 0
    assert run(*recipe, "--epochs", 2, "--output", "part", "--checkpoint", "run.ckpt").code == 0
    outcome = run(*recipe, "--epochs", 6, "--output", "net", "--resume", "run.ckpt")
    assert (outcome.code, outcome.err) == (0, "")
    assert "run.ckpt: going on after epoch 2\n" in outcome.out
    assert [line[:9] for line in outcome.out.splitlines() if line.startswith("epoch ")] == [
        f"epoch {epoch}/6" for epoch in (3, 4, 5, 6)
    ]
    assert "6 epochs in" in outcome.out
    assert_same_network("net", "whole")
    assert epochs_in(Path("run.ckpt")) == 6
    over = run(*recipe, "--epochs", 6, "--output", "again", "--resume", "run.ckpt")
    assert over.code == 0
    assert "epoch 6/6" not in over.out
    assert Path("again").read_bytes() == Path("net").read_bytes()


def test_resume_begins_where_there_is_nothing_yet(run: Run, data_dir: Path) -> None:
    recipe = ["train", "--data-dir", data_dir, *RECIPE, "--epochs", 3]
    outcome = run(*recipe, "--resume", "run.ckpt", "--every", 2)
    assert outcome.code == 0
    assert "there is no checkpoint run.ckpt yet: beginning\n" in outcome.out
    assert epochs_in(Path("run.ckpt")) == 3
    assert json.loads(run(*recipe, "--resume", "run.ckpt", "--json").out)["checkpoint"] == "run.ckpt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", 5], "run.ckpt was begun with batch_size 10, not 5: give what it was begun with"),
        (["--hidden", "7"], "run.ckpt was begun with layers [16, 6, 10], not [16, 7, 10]"),
        (["--page", "page.html"], "--page shows a training from its beginning"),
    ],
)
def test_other_options_are_refused_in_one_line(run: Run, data_dir: Path, options: list[Any], message: str) -> None:
    recipe = ["train", "--data-dir", data_dir, *RECIPE]
    assert run(*recipe, "--epochs", 2, "--checkpoint", "run.ckpt").code == 0
    before = Path("run.ckpt").read_bytes()
    outcome = run(*recipe, *options, "--epochs", 4, "--resume", "run.ckpt")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"gpunn: {message}")
    assert outcome.err.count("\n") == 1
    assert Path("run.ckpt").read_bytes() == before


def test_a_checkpoint_of_another_training_is_replaced_only_by_force(run: Run, data_dir: Path) -> None:
    recipe = ["train", "--data-dir", data_dir, *RECIPE, "--epochs", 2]
    assert run(*recipe, "--checkpoint", "run.ckpt").code == 0
    outcome = run(*recipe, "--checkpoint", "run.ckpt")
    assert outcome.code == 2
    assert outcome.err.startswith("gpunn: run.ckpt is a checkpoint: go on from it by --resume, ")
    assert run(*recipe, "--checkpoint", "run.ckpt", "--force").code == 0
    assert run(*recipe, "--every", 3).err == "gpunn: --every needs --checkpoint\n"


def test_from_begins_with_a_trained_network_and_its_data(run: Run, data_dir: Path) -> None:
    assert run("train", "--data-dir", data_dir, *RECIPE, "--epochs", 9, "--output", "first").code == 0
    first = json.loads(run("info", "first", "--json").out)
    outcome = run("train", "--from", "first", "--epochs", 1, "--seed", 5, "--device", "cpu", "--json")
    assert outcome.code == 0
    document = json.loads(outcome.out)
    assert document["sizes"] == [16, 6, 10]
    assert (document["seed"], document["init"]) == (5, None)
    assert MLP.load(document["model"]).kind == MLP.load("first").kind
    # One epoch of gradient descent with a tiny rate leaves the loss where the other training has left it.
    tiny = ["--learning-rate", 1e-9, "--epochs", 1, "--device", "cpu", "--json"]
    again = json.loads(run("train", "--from", "first", *tiny).out)
    assert again["epochs"][0]["test_loss"] == pytest.approx(first["training"]["epochs"]["test_loss"][-1], rel=1e-5)


def test_from_takes_its_layers_from_the_model(run: Run, data_dir: Path) -> None:
    net = MLP([16, 10])
    net.save("net")
    Ensemble([net]).save("both")
    outcome = run("train", "--data-dir", data_dir, "--from", "net", "--hidden", "4")
    assert outcome.err == "gpunn: --from begins with the layers of its network: leave out --hidden\n"
    assert "holds an ensemble" in run("train", "--data-dir", data_dir, "--from", "both").err
    assert "there is no model file absent" in run("train", "--from", "absent").err


def endless(data_dir: Path, folder: Path, *options: object) -> "subprocess.Popen[str]":
    """Start a training of more epochs than any test waits for."""
    return start(
        "train", "--data-dir", data_dir, *RECIPE, "--epochs", 100_000, "--output", "net", *options,
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def assert_ends_as_if_never_interrupted(run: Run, data_dir: Path, *, more: int = 3) -> None:
    """Resume from run.ckpt for `more` epochs, and compare with a training of as many in one go."""
    epochs = epochs_in(Path("run.ckpt")) + more
    recipe = ["train", "--data-dir", data_dir, *RECIPE, "--epochs", epochs]
    assert run(*recipe, "--output", "resumed", "--resume", "run.ckpt", "--force").code == 0
    assert run(*recipe, "--output", "whole", "--force").code == 0
    assert Path("resumed").read_bytes() == Path("whole").read_bytes()
    assert not [path.name for path in Path().iterdir() if path.name.endswith(".part")]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_that_ends_the_training_keeps_the_last_finished_epoch(
    run: Run, data_dir: Path, tmp_path: Path, name: str, code: int
) -> None:
    process = endless(data_dir, tmp_path, "--checkpoint", "run.ckpt", "--every", 50_000)
    read_up_to("epoch     20", process.stdout)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert out.splitlines()[-1] == "the same command with --resume run.ckpt goes on"
    # The model and the checkpoint are of the same epoch.
    (network,) = [json.loads(run("info", "net", "--json").out)]
    assert network["training"]["epochs"]["epoch"][-1] == epochs_in(tmp_path / "run.ckpt") >= 20
    assert_ends_as_if_never_interrupted(run, data_dir)


def test_a_reader_that_goes_away_ends_no_training_and_costs_no_checkpoint(
    run: Run, data_dir: Path, tmp_path: Path
) -> None:
    process = start(
        "train", "--data-dir", data_dir, *RECIPE, "--epochs", 200, "--output", "net", "--checkpoint", "run.ckpt",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()
    assert epochs_in(tmp_path / "run.ckpt") == 200
    assert_ends_as_if_never_interrupted(run, data_dir)


def test_a_training_killed_at_random_moments_always_goes_on(run: Run, data_dir: Path, tmp_path: Path) -> None:
    """Each kill loses at most the interval it is in; what follows continues from the same file."""
    rng, path, before = random.Random(1), tmp_path / "run.ckpt", 0
    for _ in range(4):
        process = endless(data_dir, tmp_path, "--resume", "run.ckpt", "--every", 3)
        read_up_to("epoch ", process.stdout)
        time.sleep(rng.random() / 5)
        process.kill()
        out = process.communicate(timeout=60)[0]
        assert process.returncode == -signal.SIGKILL
        seen = [int(line.split()[1].partition("/")[0]) for line in out.splitlines() if line.startswith("epoch ")]
        assert is_checkpoint(path) or not before
        if path.exists():
            # An epoch is shown just before its checkpoint is written.
            assert epochs_in(path) >= max(before, (max(seen, default=1) - 1) // 3 * 3)
            assert epochs_in(path) % 3 == 0
            before = epochs_in(path)
    assert before
    assert_ends_as_if_never_interrupted(run, data_dir)


def test_a_full_disk_is_told_once_and_costs_no_more_than_checkpoints(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = run("train", "--data-dir", data_dir, *RECIPE, "--epochs", 4, "--checkpoint", "run.ckpt")
    assert outcome.code == 2
    assert outcome.out.count("no checkpoint after epoch 1: cannot write run.ckpt: No space left on device") == 1
    assert "epoch 4/4" in outcome.out
    assert outcome.err.startswith("gpunn: cannot write 16-6-10-seed0.safetensors: No space left on device")
    assert sorted(path.name for path in Path().iterdir()) == ["data"]
