"""What model files remember of data and training, and what commands make of it."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

import gpunn
from gpunn import MLP, Ensemble, ModelFileError, Split, train
from gpunn.datasets import ImageKind, load_mnist, places
from gpunn.datasets.places import folder_of, remember
from gpunn.model_file import RECORDS
from gpunn.optimizers import SGD
from gpunn.training_record import MOST_ROWS, TrainingRecord

from .conftest import Run, random_split, write_data_set

RECIPE: dict[str, Any] = {"batch_size": 20, "learning_rate": 0.5, "device": "cpu", "engine": "plain"}


def trained(small: Split, **settings: Any) -> MLP:
    net = MLP([12, 5, 3], hidden="relu", output="softmax")
    train(net, small, test=small[:50], **RECIPE | {"epochs": 3} | settings)
    return net


def reloaded(net: MLP | Ensemble, tmp_path: Path) -> MLP | Ensemble:
    net.save(tmp_path / "net")
    return gpunn.load(tmp_path / "net")


def about_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        found: dict[str, Any] = json.loads(file.metadata()["gpunn"])
    return found


def test_a_model_file_remembers_recipe_seed_history_and_versions(small: Split, tmp_path: Path) -> None:
    net = trained(small, optimizer=SGD(0.8), schedule="cosine", seed=7, l2=1e-4)
    (back,) = reloaded(net, tmp_path).nets
    assert net.training is not None
    assert back.training is not None
    record = back.training.record()
    assert record == net.training.record()
    assert (record["device"], record["engine"], record["seed"]) == ("cpu", "plain", 7)
    assert record["optimizer"] == {"name": "SGD", "momentum": 0.8, "nesterov": False}
    assert (record["schedule"], record["planned_epochs"]) == ({"name": "Cosine"}, 3)
    assert (record["loss_function"], record["l2"], record["n_examples"]) == ("cross_entropy", 1e-4, 200)
    assert record["versions"]["gpunn"] == gpunn.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["epochs"]["epoch"] == [1, 2, 3]
    assert {"loss", "test_loss", "test_accuracy"} <= record["epochs"].keys()


def test_an_ensemble_remembers_each_training(small: Split, tmp_path: Path) -> None:
    both = reloaded(Ensemble([trained(small, seed=seed) for seed in (1, 2)]), tmp_path)
    assert [net.training.record()["seed"] for net in both.nets if net.training] == [1, 2]


def test_going_on_with_a_loaded_network_and_saving_it_again_keeps_a_record(small: Split, tmp_path: Path) -> None:
    (back,) = reloaded(trained(small), tmp_path).nets
    again = reloaded(back, tmp_path).nets[0].training
    assert again is not None
    assert again.record()["epochs"]["epoch"] == [1, 2, 3]
    train(back, small, **RECIPE, epochs=1)
    assert back.training is not None
    assert back.training.record()["epochs"]["epoch"] == [1]


def test_a_record_of_many_epochs_stays_small_and_has_the_last_one(tmp_path: Path) -> None:
    net = MLP([12, 3])
    train(net, random_split(4, 12, 3), epochs=2500, batch_size=4, learning_rate=0.1, device="cpu", engine="plain")
    (back,) = reloaded(net, tmp_path).nets
    assert back.training is not None
    epochs = back.training.record()["epochs"]["epoch"]
    assert len(epochs) == MOST_ROWS
    assert (epochs[0], epochs[-1]) == (1, 2500)
    many = Ensemble([net] * 40)
    many.save(tmp_path / "many")
    assert len(json.dumps(about_of(tmp_path / "many"))) < RECORDS + 40 * 100
    assert len(gpunn.load(tmp_path / "many").nets) == 40


def test_numbers_of_numpy_in_a_recipe_can_be_saved(small: Split, tmp_path: Path) -> None:
    net = trained(small, optimizer=SGD(np.float32(0.5)))  # type: ignore[arg-type]
    (back,) = reloaded(net, tmp_path).nets
    assert back.training is not None
    assert back.training.record()["optimizer"]["momentum"] == 0.5


def test_old_files_without_a_record_load(run: Run, tmp_path: Path) -> None:
    net = MLP([4, 2])
    arrays = {"weights.0": net.weights[0], "biases.0": net.biases[0]}
    old = {"version": 1, "sizes": [4, 2], "activation": "sigmoid", "grey": True}
    old["data"] = {"name": "squares", "shape": [2, 2], "framing": "whole", "classes": []}
    (tmp_path / "old").write_bytes(save(arrays, {"gpunn": json.dumps(old)}))
    back = MLP.load(tmp_path / "old")
    assert back.training is None
    assert back.kind is not None
    assert back.kind.digest == ""
    assert re.search(r"^training +unknown$", run("info", "old").out, re.MULTILINE)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ([1], "found [1] for the training, expected an object"),
        ({"seed": "\x1b[2J"}, "found '\\x1b[2J' in the training"),
        ({"seed\n": 1}, "in the training, expected short text and finite numbers"),
        ({"seed": 1e999}, "found inf in the training"),
        ({"seed": 10**30}, "in the training"),
        ({"note": "x" * 2000}, "in the training"),
        ({"note": [0] * 2000}, "in the training"),
        ({"note": {"a": {"b": {"c": {"d": {"e": 1}}}}}}, "in the training"),
        ({"warnings": 1}, "found the warnings 1, expected a list"),
        ({"epochs": []}, "found the epochs [], expected a table of numbers"),
        ({"epochs": 3}, "found the epochs 3, expected a table of numbers"),
        ({"epochs": {"loss": ["low"]}}, "expected a table of numbers"),
        ({"epochs": {"loss": [1.0], "epoch": [1, 2]}}, "expected a table of numbers"),
    ],
)
def test_a_record_that_could_not_be_shown_is_refused(tmp_path: Path, training: Any, message: str) -> None:
    net = MLP([4, 2])
    arrays = {"weights.0": net.weights[0], "biases.0": net.biases[0]}
    about = json.dumps({"version": 1, "sizes": [4, 2], "activation": "sigmoid", "training": training})
    (tmp_path / "net").write_bytes(save(arrays, {"gpunn": about}))
    with pytest.raises(ModelFileError, match=re.escape(message)) as caught:
        MLP.load(tmp_path / "net")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_the_hash_is_that_of_the_files_and_unknown_to_comparisons(data_dir: Path, tmp_path: Path) -> None:
    kind = load_mnist(data_dir).train.kind
    assert kind is not None
    assert len(kind.digest) == 32
    same = tmp_path / "again" / "data"
    same.mkdir(parents=True)
    write_data_set(same)
    again = load_mnist(same).train.kind
    assert again == kind
    assert again.digest == kind.digest
    labels = same / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\3")
    other = load_mnist(same).train.kind
    assert other is not None
    assert other.digest != kind.digest


@pytest.mark.parametrize("kind", [{"digest": "abc"}, {"digest": 1}])
def test_hashes_of_another_form_are_refused(kind: dict[str, Any]) -> None:
    with pytest.raises(gpunn.ConfigurationError, match=r"must be"):
        ImageKind.from_dict(kind)


def test_info_shows_what_a_file_remembers(run: Run, data_dir: Path) -> None:
    recipe = ["--optimizer", "momentum", "--schedule", "step:2,0.5", "--seed", 3]
    assert run("train", "--data-dir", data_dir, "--epochs", 4, "--device", "cpu", *recipe, "--output", "net").code == 0
    told = run("info", "net")
    assert (told.code, told.err) == (0, "")
    for line in (
        r"net: 16-16-10",
        r"data +data, 4 x 4 pixels, grey levels",
        r"files +BLAKE2b [0-9a-f]{32}",
        r"training +60 examples, on cpu, engine plain",
        r"recipe +batch size 32, .*seed 3, optimizer SGD, momentum 0.9, .*schedule Steps, every 2, by 0.5.*",
        rf"versions +gpunn {gpunn.__version__}, numpy .*",
        r"epochs +4, of which 4 was kept",
        r"loss +[▁▂▃▄▅▆▇█]{4}  .*",
    ):
        assert re.search(f"^{line}$", told.out, re.MULTILINE), line
    document = json.loads(run("info", "net", "--json").out)
    assert document["sizes"] == [16, 16, 10]
    assert document["training"]["seed"] == 3
    assert document["data"].keys() == {"name", "shape", "framing", "classes", "digest"}


def test_info_of_an_ensemble_shows_each_network(run: Run, small: Split) -> None:
    Ensemble([trained(small, seed=seed) for seed in (1, 2)]).save("both")
    out = run("info", "both").out
    assert re.findall(r"seed \d", out) == ["seed 1", "seed 2"]
    assert len(json.loads(run("info", "both", "--json").out)["networks"]) == 2


def test_evaluate_takes_the_data_set_that_the_network_was_trained_on(run: Run, data_dir: Path) -> None:
    assert run("train", "--data-dir", data_dir, "--epochs", 1, "--output", "net").code == 0
    named, unnamed = run("evaluate", "net", "--data-dir", data_dir), run("evaluate", "net")
    assert unnamed == named
    assert unnamed.err == ""
    images = data_dir / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + b"\3")
    changed = run("evaluate", "net")
    assert changed.code == 0
    assert changed.err == "gpunn: the files of data are other ones than those that the network was trained on\n"
    images.unlink()
    gone = run("evaluate", "net")
    assert gone.code == 2
    assert gone.err.endswith("the network was trained on what was there: give its folder by --data-dir\n")
    assert gone.err.count("\n") == 1


def test_a_data_set_is_found_by_its_hash_whoever_made_the_model(run: Run, data_dir: Path, settings: Path) -> None:
    net = MLP([16, 10])
    net.kind = kind = load_mnist(data_dir).train.kind
    assert kind is not None
    net.save("net")
    unknown = run("evaluate", "net")
    assert unknown.err == "gpunn: the network was trained on data: give its folder by --data-dir\n"
    named = run("evaluate", "net", "--data-dir", "data")
    assert (named.code, run("evaluate", "net")) == (0, named)
    (note,) = settings.rglob("data-sets.json")
    before = note.stat()
    assert run("evaluate", "net", "--data-dir", data_dir).code == 0
    assert note.stat() == before
    for damaged in ("", "{", "[1]", f'{{"{kind.digest}": 3}}', f'{{"{kind.digest}": "\\u0000"}}'):
        note.write_text(damaged)
        assert run("evaluate", "net") == unknown
    note.unlink()
    note.parent.rmdir()
    note.parent.write_text("no folder")
    assert run("evaluate", "net", "--data-dir", "data") == named
    assert run("evaluate", "net") == unknown


def test_a_copy_of_mnist_that_has_changed_is_not_taken_for_the_embedded_one(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = load_mnist(data_dir)
    assert embedded.train.kind is not None
    net = MLP([16, 10])
    net.kind = replace(embedded.train.kind, name="MNIST")
    net.save("net")
    scored = run("evaluate", "net", "--data-dir", data_dir).out
    images = data_dir / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-16] + b"\3" * 16)
    monkeypatch.setattr(
        "gpunn.cli.data.load_mnist", lambda folder, **how: load_mnist(folder, **how) if folder else embedded
    )
    assert run("evaluate", "net").out == scored


def test_only_so_many_data_sets_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST", 3)
    for number in range(4):
        remember(f"{number}", f"/sets/{number}")
    remember("3", b"/moved/\xff/../3")
    found = [folder_of(f"{number}") for number in range(4)]
    assert found == [None, Path("/sets/1"), Path("/sets/2"), Path(os.fsdecode(b"/moved/3"))]


def test_files_tell_nothing_of_where_they_were_made(run: Run, data_dir: Path, tmp_path: Path) -> None:
    options = ["--data-dir", data_dir, "--device", "cpu", "--epochs", 2, "--output", tmp_path / "net"]
    assert run("train", *options, "--checkpoint", tmp_path / "run").code == 0
    for name in ("net", "run"):
        content = (tmp_path / name).read_bytes()
        assert tmp_path.name.encode() not in content
        assert tmp_path.parent.name.encode() not in content


def test_folders_in_files_of_older_versions_are_ignored(run: Run, data_dir: Path) -> None:
    net = MLP([16, 10])
    arrays = {"weights.0": net.weights[0], "biases.0": net.biases[0]}
    data = {"name": "data", "shape": [4, 4], "framing": "whole", "classes": [], "digest": "0" * 32}
    data["folder"] = str(data_dir)
    old = {"version": 1, "sizes": [16, 10], "activation": "sigmoid", "data": data}
    Path("old").write_bytes(save(arrays, {"gpunn": json.dumps(old)}))
    MLP.load("old").save("new")
    assert str(data_dir).encode() not in Path("new").read_bytes()
    assert run("evaluate", "old").err == "gpunn: the network was trained on data: give its folder by --data-dir\n"


def test_evaluate_scores_no_network_on_mnist_that_was_trained_on_something_else(run: Run) -> None:
    net = MLP([784, 10])
    net.kind = ImageKind("Fashion-MNIST", (28, 28))
    net.save("net")
    outcome = run("evaluate", "net")
    assert outcome.code == 2
    assert outcome.err == "gpunn: the network was trained on Fashion-MNIST: give its folder by --data-dir\n"


def test_info_shows_records_of_any_content_that_files_may_have(run: Run) -> None:
    net = MLP([4, 2])
    odd = {"optimizer": {"name": True, "x": [1]}, "engine": {}, "n_examples": None, "versions": 3, "epochs": {}}
    net.training = TrainingRecord.from_dict(odd)
    net.save("net")
    outcome = run("info", "net")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"^recipe +optimizer True, x \[1\]$", outcome.out, re.MULTILINE)
