"""The command line: output, files and errors."""

import gzip
import json
import re
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

import gpunn
from gpunn import MLP, Dataset, equations, evaluate
from gpunn.cli import main
from gpunn.cli.characters import sparkline
from gpunn.cli.signals import SIGNALS

from .conftest import Outcome, Run, idx_bytes, write_data_set
from .strict_cupy import StrictCupy

CUT_SHORT = gzip.compress(idx_bytes(np.zeros(60, np.uint8)), mtime=0)[:-9]
"""Labels, gzipped and truncated; without the time, which would be a part of the tests' ids."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    MLP([784, 16, 10]).save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def assert_one_line(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("gpunn: ")
    assert outcome.err.count("\n") == 1
    for part in parts:
        assert part in outcome.err


@pytest.mark.parametrize(("seed", "least"), [(0, 0.94), (1, 0.935), (2, 0.935), (3, 0.935), (4, 0.935)])
def test_the_defaults_reach_their_accuracy(run: Run, mnist: Dataset, seed: int, least: float) -> None:
    outcome = run("train", "--device", "cpu", "--json", *(("--seed", seed) if seed else ()))
    assert outcome.code == 0
    assert json.loads(outcome.out)["test_accuracy"] >= least
    net = MLP.load(f"784-16-10-seed{seed}.safetensors")
    assert net.sizes == (784, 16, 10)
    assert evaluate(net, mnist.test, device="cpu").accuracy >= least


def test_train_prints_a_line_an_epoch_and_writes_the_model(run: Run, data_dir: Path) -> None:
    outcome = run(
        "train", "--data-dir", data_dir, "--epochs", 12, "--batch-size", 7, "--hidden", "5,4", "--device", "cpu"
    )
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    form = re.compile(r"epoch +\d+/12  loss \d\.\d{4}  test loss \d\.\d{4}  test accuracy \d+\.\d\d%  .* images/s")
    epochs = [line for line in lines if form.fullmatch(line)]
    assert len(epochs) == 12
    assert re.search(r"^16-5-4-10 on cpu, engine plain: 12 epochs in .*, test accuracy \d+\.\d\d%$", lines[-2])
    assert lines[-1] == "written to 16-5-4-10-seed0.safetensors"
    assert re.search(r"^loss           [▁▂▃▄▅▆▇█]{12}  \d\.\d{4} to \d\.\d{4}$", lines[-4])
    assert re.search(r"^test accuracy  [▁▂▃▄▅▆▇█]{12}  \d+\.\d\d% to \d+\.\d\d%$", lines[-3])
    assert "\x1b" not in outcome.out
    assert MLP.load("16-5-4-10-seed0.safetensors").sizes == (16, 5, 4, 10)
    assert sorted(path.name for path in Path().iterdir()) == ["16-5-4-10-seed0.safetensors", "data"]


def test_the_curves_of_many_epochs_fit_80_columns(run: Run, data_dir: Path) -> None:
    lines = run("train", "--data-dir", data_dir, "--epochs", 150, "--device", "cpu", "--hidden", "").out.splitlines()
    assert [line.partition("  ")[0] for line in lines[-4:-2]] == ["loss", "test accuracy"]
    assert [len(line) for line in lines[-4:-2]] == [80, 80]


def test_one_epoch_has_no_curve(run: Run, data_dir: Path) -> None:
    lines = run("train", "--data-dir", data_dir, "--epochs", 1, "--device", "cpu").out.splitlines()
    assert lines[-3].startswith("epoch 1/1")


def test_sparklines_go_from_the_lowest_to_the_highest_value() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 80) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5], 80) in {"▄▄", "▅▅"}
    assert sparkline([0, 0, 7, 7, 2, 4], 3) == "▁█▄"


def test_train_is_reproducible(run: Run, data_dir: Path) -> None:
    for name in ("a", "b"):
        assert run("train", "--data-dir", data_dir, "--batch-size", 10, "--epochs", 2, "--output", name).code == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_json_is_one_document_on_the_standard_output(run: Run, data_dir: Path) -> None:
    outcome = run("train", "--data-dir", data_dir, "--epochs", 2, "--json", "--output", "net")
    document = json.loads(outcome.out)
    assert document["model"] == "net"
    assert document["sizes"] == [16, 16, 10]
    assert document["interrupted"] is False
    assert [epoch["epoch"] for epoch in document["epochs"]] == [1, 2]
    assert document["test_accuracy"] == document["epochs"][1]["test_accuracy"]
    assert "epoch 2/2" in outcome.err
    assert "█" not in outcome.err

    result = json.loads(run("evaluate", "net", "--data-dir", data_dir, "--json").out)
    assert result["accuracy"] == document["test_accuracy"]
    assert np.array(result["confusion"]).sum() == 10


def test_evaluate_shows_loss_accuracy_and_confusion(run: Run, model: Path, mnist: Dataset) -> None:
    outcome = run("evaluate", model, "--device", "cpu")
    result = evaluate(MLP.load(model), mnist.test, device="cpu")
    assert outcome.code == 0
    assert "784-16-10 on 10,000 test images, device cpu\n" in outcome.out
    assert f"squared error {result.loss:.5f}   test accuracy {result.accuracy:.2%}\n" in outcome.out
    table = [re.findall(r"[\d.]+", line) for line in outcome.out.splitlines()[-10:]]
    np.testing.assert_array_equal([[int(count) for count in row[1:11]] for row in table], result.confusion)


def test_evaluate_leaves_a_wide_confusion_matrix_to_json(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    write_data_set(folder, n=300, n_classes=47)
    assert run("train", "--data-dir", folder, "--classes", 47, "--epochs", 1, "--output", "letters.st").code == 0
    assert (
        "(use --json for the confusion matrix of 47 classes)" in run("evaluate", "letters.st", "--data-dir", folder).out
    )


def test_predict_names_the_digit_of_each_picture(run: Run, model: Path, mnist: Dataset) -> None:
    Image.fromarray(255 - mnist.test.images[0].reshape(28, 28)).resize((140, 140)).save("big.png")
    np.save("small.npy", mnist.test.images[1].reshape(28, 28))
    outcome = run("predict", model, "big.png", "small.npy")
    assert outcome.code == 0
    assert re.fullmatch(r"big\.png: \d \(\d+%; next \d, \d+%\)\nsmall\.npy: \d \(\d+%; next \d, \d+%\)\n", outcome.out)
    rows = json.loads(run("predict", model, "big.png", "small.npy", "--json").out)
    assert [row["image"] for row in rows] == ["big.png", "small.npy"]
    for row in rows:
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert row["class"] == np.argmax(row["probabilities"])


def test_predict_works_with_a_single_class(run: Run) -> None:
    MLP([784, 1]).save("one")
    np.save("digit.npy", np.eye(28))
    # A single output says whether it is class 1.
    outcome = run("predict", "one", "digit.npy")
    assert re.fullmatch(r"digit\.npy: ([01]) \(\d+%; next [01], \d+%\).*\n", outcome.out)
    assert int(outcome.out.split()[1]) == MLP.load("one").predict(gpunn.read_digit("digit.npy"))


def test_devices_shows_what_decides_over_tf32(run: Run, install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(StrictCupy())
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert "NVIDIA_TF32_OVERRIDE" not in run("devices").out
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    (line,) = [line for line in run("devices").out.splitlines() if "NVIDIA_TF32_OVERRIDE" in line]
    assert line.startswith("cuda:0")
    assert line.endswith(", NVIDIA_TF32_OVERRIDE 0")


def test_devices_lists_the_cpu_and_says_what_auto_takes(run: Run) -> None:
    outcome = run("devices")
    assert outcome.code == 0
    assert re.search(r"^cpu     usable: .*cores \d+, numpy \d", outcome.out, re.MULTILINE)
    assert re.search(
        r"^auto    selects (cpu|cuda:0 where it is estimated to be faster, else cpu)$", outcome.out, re.MULTILINE
    )
    assert outcome.out.splitlines()[-1] == "speeds  built in; gpunn tune measures them here"
    document = json.loads(run("devices", "--json").out)
    assert document["tuned"] is False
    assert document["devices"][0]["device"] == "cpu"
    assert document["auto"] in {row["device"] for row in document["devices"] if row["usable"]}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--hidden 0", ["'--hidden': must be comma-separated integers >= 1, such as 16 or 100,50, got '0'"]),
        ("--hidden -3", ["must be comma-separated integers >= 1, such as 16 or 100,50, got '-3'"]),
        ("--hidden x", ["must be comma-separated integers >= 1, such as 16 or 100,50, got 'x'"]),
        ("--hidden 5,,4", ["must be comma-separated integers >= 1, such as 16 or 100,50, got '5,,4'"]),
        ("--hidden 999999999,999999999", ["GiB of memory"]),
        ("--learning-rate 0", ["learning_rate must be a finite number > 0, got 0.0"]),
        ("--learning-rate -1", ["learning_rate must be a finite number > 0, got -1.0"]),
        ("--learning-rate nan", ["learning_rate must be a finite number > 0, got nan"]),
        ("--learning-rate x", ["--learning-rate", "'x' is not a valid float"]),
        ("--batch-size 0", ["batch_size must be an integer >= 1, got 0"]),
        ("--batch-size 61", ["batch_size must be at most 60, the number of training examples, got 61"]),
        ("--epochs 0", ["epochs must be an integer >= 1, got 0"]),
        ("--epochs 1.5", ["--epochs", "'1.5' is not a valid integer"]),
        ("--seed -1", ["seed must be an integer >= 0, got -1"]),
        ("--device tpu", ["device must be auto, cpu, cuda or cuda:N, got 'tpu'"]),
        ("--engine warp", ["engine must be one of auto, plain, fused, epoch, got 'warp'"]),
        ("--classes 9", ["found the label 9, expected 0 to 8 for 9 classes"]),
        ("--data-dir absent", ["there is no folder absent"]),
        ("--output absent/net", ["cannot write absent/net: there is no folder", "choose another place"]),
        ("--output data", ["cannot write data: it is a folder"]),
        ("--output /proc/net", ["cannot write /proc/net"]),
        ("--output=", ["'--output': must be a path, got an empty string"]),
        ("--data-dir=", ["'--data-dir': must be a path, got an empty string"]),
        ("--no-such-option", ["No such option"]),
        ("surplus", ["unexpected extra argument"]),
    ],
)
def test_bad_options_get_one_line_and_write_nothing(
    run: Run, data_dir: Path, tmp_path: Path, options: str, parts: list[str]
) -> None:
    # What comes last counts: the options under test override these.
    outcome = run("train", "--data-dir", data_dir, "--batch-size", 10, "--device", "cpu", *options.split())
    assert_one_line(outcome, *parts)
    assert list(tmp_path.iterdir()) == [data_dir]


def test_training_that_diverges_gets_one_line(run: Run, data_dir: Path, tmp_path: Path) -> None:
    outcome = run("train", "--data-dir", data_dir, "--batch-size", 10, "--device", "cpu", "--learning-rate", "1e300")
    assert outcome.code == 2
    assert re.fullmatch(r"gpunn: training diverged in epoch 1 .* with learning rate 1e\+300: try 1\n", outcome.err)
    assert list(tmp_path.iterdir()) == [data_dir]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("t10k-labels-idx1-ubyte", None, ["there is no t10k-labels-idx1-ubyte in"]),
        ("train-images-idx3-ubyte", b"", ["is truncated: found 0 bytes"]),
        ("train-images-idx3-ubyte", b"\x89PNG\r\n", ["is not an IDX file: found the magic number 0x89504e47"]),
        ("train-labels-idx1-ubyte", idx_bytes(np.zeros(61, np.uint8)), ["found 61 labels for 60 images"]),
        ("train-labels-idx1-ubyte", idx_bytes(np.zeros((60, 2), np.uint8)), ["expected whole numbers (n,)"]),
        ("train-labels-idx1-ubyte", idx_bytes(np.zeros(60, np.uint8)) + b"x", ["has trailing bytes: found 69 bytes"]),
        (
            "train-labels-idx1-ubyte",
            CUT_SHORT,
            ["is truncated: its gzip"],
        ),
    ],
)
def test_bad_data_gets_one_line(run: Run, data_dir: Path, name: str, content: bytes | None, parts: list[str]) -> None:
    (data_dir / name).unlink()
    if content is not None:
        (data_dir / name).write_bytes(content)
    assert_one_line(run("train", "--data-dir", data_dir, "--batch-size", 10), *parts)


def test_a_file_named_gz_that_is_not_gzip_gets_one_line(run: Run, data_dir: Path) -> None:
    (data_dir / "train-images-idx3-ubyte").rename(data_dir / "train-images-idx3-ubyte.gz")
    assert_one_line(run("train", "--data-dir", data_dir), "is not gzip though it is named so")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"no model", "is not a whole safetensors file"),
        (save({"x": np.zeros(1)}), "but not a gpunn model: use one written by `gpunn train`"),
        (save({"x": np.zeros(1)}, {"gpunn": '{"version": 9}'}), "install a newer gpunn"),
        (None, "there is no model file bad"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_bad_model_files_get_one_line(run: Run, command: str, content: bytes | None, part: str) -> None:
    if content is not None:
        Path("bad").write_bytes(content)
    np.save("digit.npy", np.eye(28))
    assert_one_line(run(command, "bad", *(["digit.npy"] if command == "predict" else [])), part)


def test_networks_and_data_that_do_not_fit_get_one_line(run: Run, model: Path, data_dir: Path) -> None:
    outcome = run("evaluate", model, "--data-dir", data_dir)
    assert_one_line(outcome, "found images of 16 pixels, the network expects 784")
    MLP([16, 10]).save("tiny")
    np.save("digit.npy", np.eye(28))
    assert_one_line(
        run("predict", "tiny", "digit.npy"), "tiny takes 16 pixels, but pictures are prepared as 28 x 28 = 784"
    )


def test_pictures_that_cannot_be_read_get_one_line(run: Run, model: Path) -> None:
    Path("bad.png").write_text("not a picture")
    assert_one_line(run("predict", model, "bad.png"), "bad.png is not a readable picture")
    assert_one_line(run("predict", model, "absent.jpg"), "cannot read absent.jpg: No such file or directory")
    assert_one_line(run("predict", model), "Missing argument 'IMAGE...'")


def test_cuda_without_a_gpu_gets_one_line_with_the_cause(run: Run, data_dir: Path, install: Any) -> None:
    install(None)
    outcome = run("train", "--data-dir", data_dir, "--batch-size", 10, "--device", "cuda")
    assert_one_line(outcome, "CuPy is not installed", "use device cpu or auto")


def test_no_command_prints_the_help(run: Run) -> None:
    outcome = run()
    assert "Usage: gpunn" in outcome.out
    for command in ("train", "sweep", "evaluate", "predict", "devices", "tune"):
        assert command in outcome.out
        assert "Usage: gpunn " + command in run(command, "--help").out
    assert re.fullmatch(r"gpunn, version \d+\.\d+\.\d+\n", run("--version").out)


def test_a_device_that_fails_on_the_way_loses_nothing(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def backpropagate(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 * 6 + 3:
            raise MemoryError("unable to allocate")
        return equations.backpropagate(*arguments, **options)

    monkeypatch.setattr("gpunn.engines.plain.backpropagate", backpropagate)
    outcome = run("train", "--data-dir", data_dir, "--batch-size", 10, "--engine", "plain", "--output", "net")
    assert outcome.code == 2
    assert outcome.err == (
        "gpunn: the CPU is out of memory (unable to allocate): use a smaller batch or network; "
        "the network after epoch 2 is in net\n"
    )
    assert MLP.load("net").sizes == (16, 16, 10)


def test_a_network_of_other_neurons_is_trained_saved_and_evaluated(run: Run, data_dir: Path) -> None:
    network = ["--hidden", "8,6", "--activation", "relu", "--output-activation", "softmax", "--init", "he"]
    learning = ["--optimizer", "adam", "--l2", "0.001", "--schedule", "cosine"]
    more = ["--dropout", "0.1", "--early-stopping", "50", "--epochs", "3", "--batch-size", "10", "--json"]
    outcome = run("train", "--data-dir", data_dir, *network, *learning, *more, "--output", "net")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["functions"] == ["relu", "relu", "softmax"]
    assert document["engine"] == "plain"
    assert (document["loss_function"], document["init"], document["learning_rate"]) == ("cross_entropy", "he", 0.001)
    assert document["optimizer"] == {
        "name": "Adam",
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-08,
        "decoupled": False,
        "epsilon_hat": False,
    }
    assert (document["l2"], document["dropout"], document["schedule"]) == (0.001, 0.1, {"name": "Cosine"})
    assert document["early_stopping"] == {"patience": 50, "share": 0.1, "least": 0.0}
    best = min(document["epochs"], key=lambda epoch: float(epoch["held_out_loss"]))
    assert (document["kept_epoch"], document["test_accuracy"]) == (best["epoch"], best["test_accuracy"])
    evaluated = json.loads(run("evaluate", "net", "--data-dir", data_dir, "--json").out)
    assert evaluated["loss"] == pytest.approx(best["test_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--loss", "cross_entropy"], ["loss cross_entropy needs output activation softmax, got sigmoid"]),
        (
            ["--precision", "tf32", "--engine", "epoch"],
            ["the engine epoch can't train this network: TF32 needs the engine fused", "choose the precision float32"],
        ),
        (["--optimizer", "momentum", "--momentum", "1"], ["momentum must be a finite number >= 0 and < 1, got 1.0"]),
        (["--optimizer", "adam", "--momentum", "0.5"], ["--momentum needs --optimizer momentum or nesterov, got adam"]),
        (["--activation", "softmax"], ["'softmax' is not one of 'sigmoid', 'tanh', 'relu'"]),
        (["--dropout", "1"], ["dropout must be a finite number >= 0 and < 1, got 1.0"]),
        (["--early-stopping", "0"], ["early-stopping patience must be an integer >= 1, got 0"]),
    ],
)
def test_invalid_recipes_get_one_line(run: Run, data_dir: Path, options: list[str], parts: list[str]) -> None:
    assert_one_line(run("train", "--data-dir", data_dir, "--batch-size", "10", "--device", "cpu", *options), *parts)


def test_a_network_that_cannot_be_saved_where_asked_is_rescued(
    run: Run, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_writable(path: Path) -> None:
        """Find nothing wrong: the folder will vanish during the training."""

    monkeypatch.setattr("gpunn.cli.train.check_writable", check_writable)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outcome = run("train", "--data-dir", data_dir, "--batch-size", 10, "--epochs", 1, "--output", "vanished/net")
    assert outcome.code == 2
    found = re.search(r"^gpunn: cannot write vanished/net: .*; the network is in (.*\.safetensors)$", outcome.err)
    assert found
    assert MLP.load(found[1]).sizes == (16, 16, 10)


def test_the_network_of_the_best_epoch_is_told_from_the_last_one(run: Run, data_dir: Path) -> None:
    learning = [
        "--early-stopping",
        "2",
        "--epochs",
        "300",
        "--batch-size",
        "5",
        "--learning-rate",
        "3",
        "--device",
        "cpu",
    ]
    outcome = run("train", "--data-dir", data_dir, *learning, "--output", "net")
    assert outcome.code == 0, outcome.err
    assert "the best one\nwritten to net\n" in outcome.out
    evaluated = run("evaluate", "net", "--data-dir", data_dir, "--device", "cpu").out
    accuracy = re.search("test accuracy (.*%) after epoch", outcome.out)
    assert accuracy is not None
    assert f"test accuracy {accuracy[1]}" in evaluated


def test_a_loss_is_evaluated_by_name(run: Run, data_dir: Path) -> None:
    assert run("train", "--data-dir", data_dir, "--epochs", "1", "--batch-size", "10", "--output", "net").code == 0
    both = [
        run("evaluate", "net", "--data-dir", data_dir, *options).out
        for options in ([], ["--loss", "binary_cross_entropy"])
    ]
    assert "squared error 0." in both[0]
    assert "binary cross entropy " in both[1]


def test_the_class_is_that_of_the_largest_output_also_below_zero(run: Run, tmp_path: Path) -> None:
    net = MLP([784, 10], output="identity")
    net.weights[0][:] = 0
    net.biases[0][:] = -np.arange(10, 0, -1)
    net.save(tmp_path / "net")
    np.save(tmp_path / "digit.npy", np.tri(28, dtype=np.uint8) * 200)
    assert run("predict", tmp_path / "net", tmp_path / "digit.npy").out.startswith(f"{tmp_path / 'digit.npy'}: 9 ")
    (found,) = json.loads(run("predict", tmp_path / "net", tmp_path / "digit.npy", "--json").out)
    assert found["class"] == 9


def test_an_empty_list_of_hidden_layers_is_a_network_without_any(run: Run, data_dir: Path) -> None:
    assert run("train", "--data-dir", data_dir, "--hidden", "", "--epochs", 1, "--output", "net").code == 0
    assert MLP.load("net").sizes == (16, 10)


def test_a_default_name_is_never_that_of_an_existing_file(run: Run, data_dir: Path) -> None:
    for expected in ("16-16-10-seed0", "16-16-10-seed0-2", "16-16-10-seed0-3"):
        before = {path: path.read_bytes() for path in Path().glob("*.safetensors")}
        outcome = run("train", "--data-dir", data_dir, "--epochs", 1)
        assert outcome.out.splitlines()[-1] == f"written to {expected}.safetensors"
        assert all(path.read_bytes() == content for path, content in before.items())
    assert "16-16-10-seed5.safetensors" in run("train", "--data-dir", data_dir, "--epochs", 1, "--seed", 5).out


def test_a_network_of_many_layers_has_a_short_name(run: Run, data_dir: Path) -> None:
    assert run("train", "--data-dir", data_dir, "--epochs", 1, "--hidden", ",".join(["2"] * 150)).code == 0
    assert Path("16-150-layers-10-seed0.safetensors").exists()


def test_another_networks_file_is_replaced_only_by_force(run: Run, data_dir: Path) -> None:
    train = ("train", "--data-dir", data_dir, "--epochs", 1, "--output", "net")
    MLP([16, 5, 10]).save("net")
    before = Path("net").read_bytes()
    assert_one_line(run(*train), "net holds another network, 16-5-10 (sigmoid, sigmoid)", "or use --force")
    assert_one_line(run(*train, "--hidden", 5, "--activation", "relu"), "net holds another network")
    assert Path("net").read_bytes() == before
    assert run(*train, "--hidden", 5).out.endswith("written to net, replacing the previous network\n")
    assert run(*train, "--force").code == 0
    assert MLP.load("net").sizes == (16, 16, 10)
    Path("net").write_text("a letter")
    assert_one_line(run(*train), "net is not a gpunn model file: choose another --output, or use --force")
    assert Path("net").read_text() == "a letter"
    Path("net").write_bytes(b"")
    assert run(*train).code == 0


def test_a_schedule_is_given_with_its_numbers(run: Run, data_dir: Path) -> None:
    outcome = run("train", "--data-dir", data_dir, "--epochs", 2, "--schedule", "step:1,0.5", "--json")
    assert json.loads(outcome.out)["schedule"] == {"name": "Steps", "every": 1, "by": 0.5}
    assert_one_line(run("train", "--data-dir", data_dir, "--schedule", "step:x"), "schedule step takes every and by")


def test_a_network_that_learns_nothing_gets_a_warning(run: Run) -> None:
    outcome = run("train", "--learning-rate", 1000, "--epochs", 1, "--device", "cpu")
    assert outcome.code == 0
    assert "after epoch 1, the network does no better than guessing" in outcome.out
    assert "try learning rate 1\n" in outcome.out


def test_help_is_short_too(run: Run) -> None:
    assert run("train", "-h").out == run("train", "--help").out != ""
    assert run("-h").out == run("--help").out != ""


def test_the_command_line_works_in_a_thread_and_leaves_handlers_alone(tmp_path: Path, data_dir: Path) -> None:
    ended: list[object] = []

    def go() -> None:
        try:
            main(["train", "--data-dir", str(data_dir), "--epochs", "1", "--output", str(tmp_path / "net")])
        except SystemExit as done:
            ended.append(done.code)

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    go()
    assert ended == [0, 0]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_program_that_calls_the_command_line_keeps_its_handlers_after_an_interrupt(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("gpunn.engines.plain.backpropagate", interrupted)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    try:
        assert run("train", "--data-dir", data_dir, "--engine", "plain").code == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)


@pytest.mark.parametrize("command", ["train", "sweep", "evaluate", "predict", "devices", "tour"])
def test_every_command_offers_json(run: Run, command: str) -> None:
    assert "--json" in run(command, "--help").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "\x1b[2Jnet"),
        ("predict", "\udcff", "x.png"),
        ("train", "--data-dir", "a\x07b"),
        ("train", "--output", "/absent/\x1b[2J"),
        ("train", "--device", "\x1b[2J"),
        ("sweep", "--record", "/absent/\x1b[2J"),
        ("sweep", "--hidden", "\x1b[2J"),
        ("\x1b[2J",),
    ],
)
def test_no_message_holds_control_characters(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.err.strip().isprintable()
    assert "\\" in outcome.err


def test_as_many_outputs_are_trained_as_labels_name(run: Run, data_dir: Path) -> None:
    outcome = run("train", "--data-dir", data_dir, "--epochs", 1, "--batch-size", 10, "--json")
    assert json.loads(outcome.out)["sizes"] == [16, 16, 10]
    outcome = run("train", "--data-dir", data_dir, "--epochs", 1, "--batch-size", 10, "--json", "--classes", 12)
    assert json.loads(outcome.out)["sizes"] == [16, 16, 12]


def test_names_are_shown_without_control_characters(run: Run, data_dir: Path) -> None:
    name = "\x1b[2J\udcff.safetensors"
    told = run("train", "--data-dir", data_dir, "--epochs", 1, "--batch-size", 10, "--output", name).out
    told += run("evaluate", name, "--data-dir", data_dir).out
    assert told.count(r"\x1b[2J\udcff.safetensors") == 2
    assert all(line.isprintable() for line in told.splitlines())


def test_a_precision_that_the_cpu_lacks_gets_one_line_that_does_not_contradict_itself(run: Run, data_dir: Path) -> None:
    outcome = run("train", "--data-dir", data_dir, "--device", "cpu", "--precision", "tf32")
    assert_one_line(outcome, "TF32 needs the engine fused and a GPU", "choose the precision float32")


def test_evaluate_warns_of_another_data_set(run: Run, data_dir: Path, tmp_path: Path) -> None:
    assert run("train", "--data-dir", data_dir, "--epochs", 1, "--output", "net").code == 0
    assert run("evaluate", "net", "--data-dir", data_dir).err == ""
    other = tmp_path / "other"
    other.mkdir()
    write_data_set(other)
    outcome = run("evaluate", "net", "--data-dir", other)
    assert outcome.code == 0
    assert outcome.err == "gpunn: the network was trained on data but is evaluated on other: see --data-dir\n"
    MLP([784, 62]).save("many")
    outcome = run("evaluate", "many", "--device", "cpu")
    assert outcome.err == "gpunn: the network has 62 classes but is evaluated on a data set with 10: see --data-dir\n"
