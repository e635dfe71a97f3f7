"""Checkpoints: a training that goes on from one ends with the bits of one that was never interrupted."""

import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save

from gpunn import (
    MLP,
    Averaging,
    Checkpoint,
    ConfigurationError,
    EarlyStopping,
    History,
    ModelFileError,
    OutputError,
    Split,
    train,
)
from gpunn.checkpoint_file import Resumed, read_checkpoint
from gpunn.optimizers import OPTIMIZERS, SGD, Adam
from gpunn.schedules import Constant, Cosine, OneCycle, Steps

from .conftest import parameters, random_split
from .strict_kernels import strict_gpu

EPOCHS = 6
SETTINGS: dict[str, Any] = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.1, "device": "cpu", "seed": 3}


class Interrupted(Exception):  # noqa: N818 - not an error
    """Stands for whatever ends a process."""


def fresh() -> MLP:
    return MLP([12, 24, 3], hidden="relu", output="softmax", seed=1)


def sparse(split: Split) -> Split:
    """The images with a pixel in four, so that engines for CPUs take them as sparse."""
    return Split(split.images * (np.arange(split.images.size).reshape(split.images.shape) % 4 == 0), split.labels)


def interrupted_after(epoch: int) -> Callable[[History], None]:
    def on_epoch(so_far: History) -> None:
        if len(so_far.epochs) == epoch:
            raise Interrupted

    return on_epoch


def begin(data: Split, path: Path, finished: int, **settings: Any) -> MLP:
    """Train until `finished` epochs are finished, and something ends it in the middle of the next one."""
    net = fresh()
    with pytest.raises(Interrupted):
        train(net, data, **SETTINGS | settings, checkpoint=path, on_epoch=interrupted_after(finished))
    return net


def assert_same(found: tuple[MLP, History], expected: tuple[MLP, History]) -> None:
    """Compare all bits of networks and histories, but for times."""
    for ours, theirs in zip(parameters(found[0]), parameters(expected[0]), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    histories = [history for _, history in (found, expected)]
    assert len({history.kept for history in histories}) == 1
    assert histories[0].warnings == histories[1].warnings
    for one, other in zip(*(history.epochs for history in histories), strict=True):
        assert (one.number, one.loss) == (other.number, other.loss)
        for what in ("test", "train", "held_out"):
            ours, theirs = getattr(one, what), getattr(other, what)
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert ours.loss == theirs.loss
                np.testing.assert_array_equal(ours.confusion, theirs.confusion)


RECIPES = [
    {"optimizer": optimizer, "schedule": schedule, "l2": l2, "early_stopping": stopping}
    for (optimizer, schedule), l2, stopping in zip(
        [
            *((name, "one-cycle") for name in OPTIMIZERS),
            *(("momentum", schedule) for schedule in ("constant", "step:2,0.5", "cosine")),
            ("adam", "constant"),
        ],
        [0.0, 1e-3, 0.0, 1e-3, 1e-3, 0.0, 1e-3, 0.0, 0.0],
        [None, EarlyStopping(2), EarlyStopping(1), None, EarlyStopping(5), None, None, EarlyStopping(3), None],
        strict=True,
    )
]


@pytest.mark.parametrize("engine", ["plain", "fused", "epoch"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe['optimizer']}, {recipe['schedule']}")
def test_a_training_interrupted_after_any_epoch_ends_with_the_same_bits(
    tmp_path: Path, engine: str, recipe: dict[str, Any]
) -> None:
    data, test, path = sparse(random_split(100, 12, 3)), random_split(30, 12, 3, seed=1), tmp_path / "run"
    # Batches small enough that the engine epoch defers updates of the optimisers with momentum.
    settings = SETTINGS | recipe | {"engine": engine, "test": test, "batch_size": 1 if engine == "epoch" else 16}
    settings["dropout"] = 0.25 if engine != "epoch" else 0.0
    net = fresh()
    expected = net, train(net, data, **settings)
    for epochs in range(1, len(expected[1].epochs) + 1):
        begin(data, path, epochs, **settings)
        again = fresh()
        assert_same((again, train(again, data, **settings, resume=path)), expected)


@pytest.mark.parametrize(
    ("engine", "recipe"),
    [
        ("epoch", {"dropout": 0.25, "batch_size": 1, "optimizer": "momentum"}),  # with deferred updates
        ("plain", {"distort": "affine", "label_smoothing": 0.1}),
        ("fused", {"distort": "simard", "dropout": 0.25, "optimizer": "adam"}),
        ("epoch", {"distort": "simard", "schedule": "cosine"}),
    ],
    ids=str,
)
def test_what_is_drawn_for_each_epoch_goes_on_too(tmp_path: Path, engine: str, recipe: dict[str, Any]) -> None:
    data, settings = random_split(60, 12, 3), SETTINGS | {"engine": engine} | recipe
    data = Split(data.images.reshape(-1, 3, 4), data.labels)
    net = fresh()
    expected = net, train(net, data, **settings)
    for epochs in range(1, EPOCHS + 1):
        begin(data, tmp_path / "run", epochs, **settings)
        again = fresh()
        assert_same((again, train(again, data, **settings, resume=tmp_path / "run")), expected)


@pytest.mark.parametrize("layers", ["dense floats", "float64", "rows of targets", "no hidden layer", "small batches"])
def test_other_kinds_of_networks_go_on_too(tmp_path: Path, layers: str) -> None:
    data, path = random_split(60, 12, 3), tmp_path / "run"
    sizes = [12, 3] if layers == "no hidden layer" else [12, 7, 5, 3]
    dtype = np.float64 if layers == "float64" else np.float32
    if layers == "dense floats":
        data = Split(data.images / np.float32(255) - np.float32(0.5), data.labels)
    if layers == "rows of targets":
        data = Split(data.images, np.random.default_rng(0).random((60, 3), np.float32))
    settings = SETTINGS | {"optimizer": "adam", "test": data[:20]}
    if layers == "small batches":  # in which the engine epoch updates weights and their transposes apart
        sizes, settings = [12, 33, 20, 3], settings | {"engine": "epoch", "optimizer": "sgd", "batch_size": 4}
    nets = [MLP(sizes, dtype=dtype) for _ in range(3)]
    expected = nets[0], train(nets[0], data, **settings)
    with pytest.raises(Interrupted):
        train(nets[1], data, **settings, checkpoint=path, on_epoch=interrupted_after(4))
    assert_same((nets[2], train(nets[2], data, **settings, resume=path)), expected)


@pytest.mark.parametrize("engine", ["plain", "fused", "epoch"])
@pytest.mark.parametrize("average", [0.7, Averaging(0.7, decay=0.8)], ids=["mean", "decay"])
@pytest.mark.parametrize("stopping", [None, EarlyStopping(1)], ids=["all epochs", "early stopping"])
def test_averages_of_weights_go_on_too(
    small: Split, tmp_path: Path, engine: str, average: float | Averaging, stopping: EarlyStopping | None
) -> None:
    settings = SETTINGS | {"average": average, "engine": engine, "early_stopping": stopping, "test": small[:30]}
    settings |= {"optimizer": "momentum"}
    net = fresh()
    expected = net, train(net, small, **settings)
    for epochs in range(1, len(expected[1].epochs) + 1):
        begin(small, tmp_path / "run", epochs, **settings)
        again = fresh()
        assert_same((again, train(again, small, **settings, resume=tmp_path / "run")), expected)


def test_more_epochs_may_be_asked_for_until_averages_have_begun(small: Split, tmp_path: Path) -> None:
    settings = SETTINGS | {"average": 0.5}  # which begins with the fourth of six epochs, and of five, the sixth of nine
    begin(small, tmp_path / "run", 3, **settings)
    for epochs in (5, 9):
        nets, more = (fresh(), fresh()), settings | {"epochs": epochs}
        histories = train(nets[0], small, **more, resume=tmp_path / "run"), train(nets[1], small, **more)
        assert_same((nets[0], histories[0]), (nets[1], histories[1]))
    begin(small, tmp_path / "run", 4, **settings)
    train(fresh(), small, **settings | {"epochs": 5}, resume=tmp_path / "run")
    with pytest.raises(ConfigurationError, match="was begun with epochs 6, of which 4 are finished, not 9"):
        train(fresh(), small, **settings | {"epochs": 9}, resume=tmp_path / "run")


def test_checkpoints_may_be_rare_and_the_end_is_kept_all_the_same(small: Split, tmp_path: Path) -> None:
    seen = []

    def on_epoch(so_far: History) -> None:
        seen.append(epochs_in(tmp_path / "run") if (tmp_path / "run").exists() else 0)
        interrupted_after(5)(so_far)

    with pytest.raises(Interrupted):
        train(fresh(), small, **SETTINGS, checkpoint=Checkpoint(tmp_path / "run", every=2), on_epoch=on_epoch)
    assert seen == [0, 0, 2, 2, 4]
    assert epochs_in(tmp_path / "run") == 5
    train(fresh(), small, **SETTINGS, checkpoint=Checkpoint(tmp_path / "run", every=100))
    assert epochs_in(tmp_path / "run") == EPOCHS


def epochs_in(path: Path) -> int:
    return int(about_of(path)["epochs"])


def about_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        found: dict[str, Any] = json.loads(file.metadata()["gpunn"])
    return found


def test_checkpoints_change_nothing_in_the_training(small: Split, tmp_path: Path) -> None:
    nets = fresh(), fresh()
    histories = [train(nets[0], small, **SETTINGS), train(nets[1], small, **SETTINGS, checkpoint=tmp_path / "run")]
    assert_same((nets[1], histories[1]), (nets[0], histories[0]))


def test_a_finished_training_is_over_at_once(small: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net, again = fresh(), fresh()
    settings = SETTINGS | {"early_stopping": EarlyStopping(1, least=10.0)}
    history = train(net, small, **settings, checkpoint=tmp_path / "run")
    assert len(history.epochs) == 2
    found = train(again, small, **settings, resume=tmp_path / "run", on_epoch=interrupted_after(0))
    assert_same((again, found), (net, history))
    assert again.training is found
    assert again.grey is True


def test_a_checkpoint_of_another_network_begun_where_there_is_none(
    small: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net, again = fresh(), fresh()
    with caplog.at_level(logging.INFO, "gpunn"):
        found = train(again, small, **SETTINGS, resume=tmp_path / "run", checkpoint=tmp_path / "run")
    assert_same((again, found), (net, train(net, small, **SETTINGS)))
    assert f"there is no checkpoint {tmp_path / 'run'} yet: beginning" in caplog.messages
    assert epochs_in(tmp_path / "run") == EPOCHS


def test_more_epochs_may_be_asked_for_where_rates_do_not_depend_on_their_number(small: Split, tmp_path: Path) -> None:
    for schedule in (Constant(), Steps(2, 0.5)):
        train(fresh(), small, **SETTINGS | {"epochs": 4, "schedule": schedule}, checkpoint=tmp_path / "run")
        nets = fresh(), fresh()
        settings = SETTINGS | {"epochs": 9, "schedule": schedule}
        histories = [train(nets[0], small, **settings), train(nets[1], small, **settings, resume=tmp_path / "run")]
        histories[1].warnings.clear()  # after its last epoch, of four, it was warned that it only guesses
        assert_same((nets[1], histories[1]), (nets[0], histories[0]))
    for changing in (Cosine(), OneCycle()):
        train(fresh(), small, **SETTINGS | {"epochs": 4, "schedule": changing}, checkpoint=tmp_path / "run")
        with pytest.raises(ConfigurationError, match="was begun with epochs 4, of which 4 are finished, not 9"):
            train(fresh(), small, **SETTINGS | {"epochs": 9, "schedule": changing}, resume=tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "was begun with batch_size 16, not 8"),
        ({"learning_rate": 0.2}, "was begun with learning_rate 0.1, not 0.2"),
        ({"seed": 4}, "was begun with seed 3, not 4"),
        ({"optimizer": Adam(0.8)}, "was begun with optimizer {'beta1': 0.9, 'beta2': 0.999, .*}, not {'beta1': 0.8"),
        ({"optimizer": SGD(0.9)}, "was begun with optimizer "),
        ({"schedule": "cosine"}, "was begun with schedule None, not {'name': 'Cosine'}"),
        ({"l2": 0.1}, "was begun with l2 None, not 0.1"),
        ({"dropout": 0.1}, "was begun with dropout None, not 0.1"),
        ({"early_stopping": EarlyStopping(3)}, "was begun with early_stopping None, not {"),
        ({"epochs": 2}, "was begun with epochs 6, of which 3 are finished, not 2"),
        ({"test": random_split(9, 12, 3)}, "was begun with test examples None, not [0-9a-f]{32}"),
    ],
)
def test_another_recipe_is_refused_in_one_line(
    small: Split, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    begin(small, tmp_path / "run", 3, optimizer="adam")
    net, untouched = fresh(), fresh()
    with pytest.raises(ConfigurationError, match=message) as caught:
        train(net, small, **SETTINGS | {"optimizer": "adam"} | change, resume=tmp_path / "run")
    assert str(caught.value).isprintable()
    np.testing.assert_array_equal(net.weights[0], untouched.weights[0])


def test_other_data_and_other_networks_are_refused(small: Split, tmp_path: Path) -> None:
    begin(small, tmp_path / "run", 2)
    labels = small.labels.copy()
    labels[7] = (labels[7] + 1) % 3
    for data in (small[:-1], Split(small.images, labels)):
        with pytest.raises(
            ConfigurationError, match=r"was begun with training examples [0-9a-f]{32}, not [0-9a-f]{32}"
        ):
            train(fresh(), data, **SETTINGS, resume=tmp_path / "run")
    for net, message in (
        (MLP([12, 25, 3], hidden="relu", output="softmax"), r"layers \[12, 24, 3\], not \[12, 25, 3\]"),
        (MLP([12, 24, 3], hidden="tanh", output="softmax"), "functions "),
        (MLP([12, 24, 3], hidden="relu", output="softmax", dtype=np.float64), "dtype float32, not float64"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            train(net, small, **SETTINGS, resume=tmp_path / "run")


def test_another_engine_goes_on_with_the_same_numbers_to_rounding_and_says_so(
    small: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begin(small, tmp_path / "run", 3, engine="plain", optimizer="momentum")
    nets = fresh(), fresh()
    train(nets[0], small, **SETTINGS, engine="plain", optimizer="momentum")
    history = train(nets[1], small, **SETTINGS, engine="epoch", optimizer="momentum", resume=tmp_path / "run")
    for ours, theirs in zip(parameters(nets[1]), parameters(nets[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert history.engine == "epoch"
    (message,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert message == (
        f"{tmp_path / 'run'} was begun with plain, and goes on with epoch: the numbers will be the same to rounding"
    )


def test_a_training_on_a_gpu_goes_on_there_and_on_a_cpu(
    small: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu, path = strict_gpu(monkeypatch), tmp_path / "run"
    settings = SETTINGS | {"device": gpu, "engine": "fused", "optimizer": "adam", "dropout": 0.25, "test": small[:50]}
    settings |= {"learning_rate": 0.01, "early_stopping": EarlyStopping(5)}
    nets = fresh(), fresh(), fresh()
    expected = nets[0], train(nets[0], small, **settings)
    begin(small, path, 4, **settings)
    assert_same((nets[1], train(nets[1], small, **settings, resume=path)), expected)
    assert "goes on with" not in caplog.text
    train(nets[2], small, **settings | {"device": "cpu"}, resume=path)
    for ours, theirs in zip(parameters(nets[2]), parameters(nets[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert f"{path} was begun with {gpu.name}, " in caplog.text


def test_auto_goes_on_by_the_engine_that_it_was_begun_with(small: Split, tmp_path: Path) -> None:
    begin(small, tmp_path / "run", 3, engine="plain")
    assert train(fresh(), small, **SETTINGS | {"device": "auto"}, resume=tmp_path / "run").engine == "plain"


def test_a_checkpoint_replaces_nothing_but_checkpoints(small: Split, tmp_path: Path) -> None:
    fresh().save(tmp_path / "net")
    (tmp_path / "text").write_text("precious")
    for name in ("net", "text"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(OutputError, match=f"{name} is not a checkpoint of gpunn: choose another place"):
            train(fresh(), small, **SETTINGS, checkpoint=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(OutputError, match="there is no folder"):
        train(fresh(), small, **SETTINGS, checkpoint=tmp_path / "absent" / "run")
    with pytest.raises(ConfigurationError, match="checkpoint every must be an integer >= 1, got 0"):
        Checkpoint("run", every=0)


def test_a_full_disk_costs_no_more_than_checkpoints(
    small: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begin(small, tmp_path / "run", 2)
    before, fsync = (tmp_path / "run").read_bytes(), os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    net = fresh()
    history = train(net, small, **SETTINGS, resume=tmp_path / "run", checkpoint=tmp_path / "run")
    assert len(history.epochs) == EPOCHS
    assert (tmp_path / "run").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert re.fullmatch(r"no checkpoint after epoch 3: cannot write .*: No space left on device; .*", warnings[0])
    monkeypatch.setattr(os, "fsync", fsync)
    again = fresh()
    assert_same((again, train(again, small, **SETTINGS, resume=tmp_path / "run")), (net, history))


def test_a_folder_that_vanishes_costs_no_more_than_checkpoints(small: Split, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()

    def on_epoch(so_far: History) -> None:
        if len(so_far.epochs) == 3:
            (folder / "run").unlink()
            folder.rmdir()
        elif len(so_far.epochs) == 5:
            folder.mkdir()

    history = train(fresh(), small, **SETTINGS, checkpoint=folder / "run", on_epoch=on_epoch)
    assert len(history.epochs) == EPOCHS
    assert epochs_in(folder / "run") == EPOCHS


def test_ctrl_c_while_the_last_checkpoint_is_written_does_not_lose_it(
    small: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    presses, fsync = iter(range(3)), os.fsync

    def pressing(descriptor: int) -> None:
        for _ in presses:
            raise KeyboardInterrupt
        fsync(descriptor)

    def on_epoch(so_far: History) -> None:
        if len(so_far.epochs) == 4:
            monkeypatch.setattr(os, "fsync", pressing)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(), small, **SETTINGS, checkpoint=tmp_path / "run", on_epoch=on_epoch)
    assert epochs_in(tmp_path / "run") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


ABSENT = object()


def changed(whole: bytes, folder: Path, *, about: dict[str, Any] | None = None, **arrays: Any) -> bytes:
    """Return the checkpoint `whole` with parts of its description and arrays replaced; None leaves an array out."""
    (folder / "whole").write_bytes(whole)
    found = load_file(folder / "whole") | {name.replace("_", "."): array for name, array in arrays.items()}
    described = about_of(folder / "whole") | (about or {})
    described = {key: value for key, value in described.items() if value is not ABSENT}
    kept = {name: np.ascontiguousarray(array) for name, array in found.items() if array is not None}
    return save(kept, {"gpunn": json.dumps(described)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"about": {"checkpoint": 2}}, "is a checkpoint of version 2, this gpunn reads versions up to 1"),
        ({"about": {"checkpoint": "1"}}, "is not a checkpoint: use one that"),
        ({"about": {"run": 1}}, "has 1 for its run"),
        ({"about": {"run": ABSENT}}, "has None for its run"),
        ({"about": {"epochs": 0}}, "has 0 for its epochs"),
        ({"about": {"epochs": 2**70}}, "for its epochs"),
        ({"about": {"epochs": 4}}, r"has \(3, 3\) for its shape of epochs"),
        ({"about": {"steps": -1}}, "has -1 for its steps"),
        ({"about": {"planned": None}}, "has None for its planned"),
        ({"about": {"order": {"bit_generator": "MT19937", "state": {}}}}, "for its order"),
        ({"about": {"order": None}}, "has None for its order"),
        ({"about": {"best": {"loss": "low", "since": 0}}}, "for its best"),
        ({"about": {"best": {"loss": 0.1, "since": 3}}}, "has 3 for its best"),
        ({"about": {"warnings": ["\x1b[2J"]}}, "for its warnings"),
        ({"about": {"where": []}}, "for its where"),
        ({"moments_1_3": None}, "lacks moments.1.3"),
        ({"more": np.zeros(1)}, r"has \['more'\] for its arrays"),
        ({"weights_0": np.zeros((24, 11), np.float32)}, r"has \(24, 11\) for its shape of weights.0"),
        ({"weights_0": np.zeros((24, 12))}, "has 'F64' for its dtype of weights.0"),
        ({"biases_1": np.array([1, 2, np.nan], np.float32)}, "biases.1 holds values that aren't finite"),
        ({"test_confusion": np.zeros((3, 3, 3), np.uint8)}, "has 'no examples' for its test.confusion"),
        ({"test_confusion": np.zeros((3, 2, 2), np.uint8)}, "for its shape of test.confusion"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(
    small: Split, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    settings = SETTINGS | {"optimizer": "adam", "early_stopping": EarlyStopping(9), "test": small[:30]}
    begin(small, tmp_path / "run", 3, **settings)
    (tmp_path / "run").write_bytes(changed((tmp_path / "run").read_bytes(), tmp_path, **change))
    net, untouched = fresh(), fresh()
    with pytest.raises(ModelFileError, match=message) as caught:
        train(net, small, **settings, resume=tmp_path / "run")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    np.testing.assert_array_equal(net.weights[0], untouched.weights[0])


def test_what_is_no_whole_file_is_refused(small: Split, tmp_path: Path) -> None:
    begin(small, tmp_path / "run", 1)
    whole = (tmp_path / "run").read_bytes()
    for end in range(0, len(whole), 97):
        (tmp_path / "run").write_bytes(whole[:end])
        with pytest.raises(ModelFileError, match=r"is not a whole safetensors file|is not a checkpoint"):
            train(fresh(), small, **SETTINGS, resume=tmp_path / "run")
    (tmp_path / "run").write_bytes(whole)
    with pytest.raises(ModelFileError, match="run is a checkpoint, not a model"):
        MLP.load(tmp_path / "run")
    fresh().save(tmp_path / "net")
    with pytest.raises(ModelFileError, match="is not a checkpoint"):
        train(fresh(), small, **SETTINGS, resume=tmp_path / "net")
    with pytest.raises(ModelFileError, match="Is a directory"):
        train(fresh(), small, **SETTINGS, resume=tmp_path)


def test_damaged_bytes_give_a_training_or_a_clear_error(small: Split, tmp_path: Path) -> None:
    settings = SETTINGS | {"optimizer": "adam", "early_stopping": EarlyStopping(1), "test": small[:30]}
    begun = begin(small, tmp_path / "run", 2, **settings).training
    assert isinstance(begun, History)
    whole, rng = (tmp_path / "run").read_bytes(), np.random.default_rng(0)
    run, net = about_of(tmp_path / "run")["run"], fresh()
    outcomes: set[type[object]] = set()
    for _ in range(500):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(whole) // rng.integers(1, 5), 2)] = rng.integers(0, 256, 2)
        (tmp_path / "run").write_bytes(damaged.tobytes())
        try:
            outcomes.add(type(read_checkpoint(tmp_path / "run", run, net, begun.recipe)))
        except (ModelFileError, ConfigurationError) as error:
            outcomes.add(type(error))
            assert str(error).isprintable()  # noqa: PT017
            assert len(str(error)) < 600  # noqa: PT017
    assert outcomes == {Resumed, ModelFileError, ConfigurationError}


def test_a_kind_of_images_is_that_of_the_data(small: Split, tmp_path: Path) -> None:
    from gpunn.datasets import ImageKind

    data = replace(small, kind=ImageKind("squares", (3, 4)))
    begin(data, tmp_path / "run", 2)
    net = fresh()
    train(net, data, **SETTINGS, resume=tmp_path / "run")
    assert net.kind == data.kind
