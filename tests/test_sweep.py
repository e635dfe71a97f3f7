"""Sweeps: what is tried, how it is ranked, recorded and shown, and the command line."""

import csv
import io
import itertools
import json
import math
import re
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from gpunn import (
    MLP,
    ConfigurationError,
    DataError,
    Dataset,
    DeviceError,
    Ensemble,
    OutputError,
    Split,
    evaluate,
    load,
    load_mnist,
    train,
)
from gpunn.cli import gpunn_command
from gpunn.cli.naming import record_name
from gpunn.cli.sweep import sweep as sweep_command
from gpunn.cli.values import repeated
from gpunn.sweep import Configuration, Range, Run, Space, Sweep, ranked, runs, search
from gpunn.sweep.picture import picture
from gpunn.sweep.space import Choice
from gpunn.sweep.tables import csv_of, fixed, table, varying

from .conftest import ROOT, Outcome, parameters, random_split
from .conftest import Run as CommandLine
from .test_cli import assert_one_line

SMALL = ("--epochs", 1, "--batch-size", 10, "--device", "cpu")


def complete(choice: Choice) -> Configuration:
    """Return the configuration of a choice without defaults."""
    rate, batch_size = choice.learning_rate or 1.0, choice.batch_size or 32
    return Configuration(
        choice.hidden, choice.activation, choice.optimizer, rate, batch_size, choice.l2, choice.dropout, choice.seed
    )


def learnable(n: int = 300, seed: int = 0) -> Split:
    """Images of 12 pixels whose class, of 3, is where they are bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n, dtype=np.uint8)
    images = rng.integers(0, 120, (n, 12), dtype=np.uint8)
    images[np.arange(n)[:, np.newaxis], 4 * labels[:, np.newaxis] + np.arange(4)] += 100
    return Split(images, labels)


def sweep_of(space: Space, data: Split | Dataset | None = None, **options: Any) -> Sweep:
    return Sweep(space, learnable() if data is None else data, epochs=options.pop("epochs", 2), **options)


def trained(sweep: Sweep, **options: Any) -> list[MLP]:
    return sweep.run(device="cpu", **options)


def run_of(number: int, accuracy: float | None, **settings: Any) -> Run:
    """Return a run with this held-out accuracy, or one that failed."""
    values: dict[str, Any] = {
        "hidden": (16,),
        "activation": "relu",
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "batch_size": 32,
        "l2": 0.0,
        "dropout": 0.0,
        "seed": 0,
    }
    loss = None if accuracy is None else 1 - accuracy
    failure = None if accuracy is not None else "training diverged"
    configuration = Configuration(**values | settings)
    return Run(number, configuration, 50, 2, accuracy, loss, accuracy, loss, 0.5, "cpu", "epoch", failure)


# What is tried


def test_a_grid_has_every_combination_once() -> None:
    space = Space(hidden=((16,), (4, 3)), learning_rate=(0.1, 1.0), seed=(0, Range(2, 4)))
    found = space.configurations(complete)
    expected = itertools.product(((16,), (4, 3)), (0.1, 1.0), (0, 2, 3, 4))
    assert [(each.hidden, each.learning_rate, each.seed) for each in found] == list(expected)
    assert space.n_combinations == len(found) == 16


def test_what_makes_the_same_network_is_tried_once() -> None:
    space = Space(
        hidden=((), (5,)),
        activation=("sigmoid", "relu"),
        learning_rate=(None, 1.0),
        batch_size=(None, 32),
        dropout=(0.0, 0.5),
    )
    found = sweep_of(space).configurations
    without = [each for each in found if not each.hidden]
    # Without hidden layers there is nothing to activate or drop, and the default rate of these networks is 1.
    assert [(each.activation, each.learning_rate, each.batch_size, each.dropout) for each in without] == [
        ("", 1.0, 32, 0.0)
    ]
    assert {(each.activation, each.learning_rate, each.dropout) for each in found if each.hidden} == {
        ("sigmoid", 1.0, 0.0),
        ("sigmoid", 1.0, 0.5),
        ("relu", 0.2, 0.0),
        ("relu", 0.2, 0.5),
        ("relu", 1.0, 0.0),
        ("relu", 1.0, 0.5),
    }
    assert len(found) == 7


WIDE = Space(
    hidden=((Range(16, 64), 10), (8,)),
    activation=("sigmoid", "relu"),
    learning_rate=(Range(0.001, 10.0),),
    batch_size=(Range(8, 512),),
    l2=(0.0, Range(1e-6, 1e-3)),
    dropout=(Range(0.0, 0.5),),
    seed=(Range(0, 9),),
)


def test_a_sample_is_distinct_and_within_its_ranges() -> None:
    found = WIDE.configurations(complete, sample=500)
    assert len(set(found)) == len(found) == 500
    for each in found:
        assert each.hidden == (8,) or (16 <= each.hidden[0] <= 64 and each.hidden[1:] == (10,))
        assert 0.001 <= each.learning_rate <= 10
        assert 8 <= each.batch_size <= 512
        assert each.l2 == 0 or 1e-6 <= each.l2 <= 1e-3
        assert 0 <= each.dropout <= 0.5
        assert 0 <= each.seed <= 9
        assert each.learning_rate == float(f"{each.learning_rate:.3g}")
        assert all(isinstance(whole, int) for whole in (*each.hidden, each.batch_size, each.seed))


def test_rates_and_sizes_are_drawn_by_their_logarithm_and_dropout_and_seeds_evenly() -> None:
    found = WIDE.configurations(complete, sample=2000)
    n = len(found)
    # A share of n has a standard deviation of at most 1 / (2 sqrt(n)).
    tolerance = 4 * 0.5 / math.sqrt(n)
    for name, middle in (("learning_rate", 0.1), ("batch_size", 64), ("dropout", 0.25), ("seed", 4.5)):
        below = np.mean([getattr(each, name) < middle for each in found])
        assert below == pytest.approx(0.5, abs=tolerance), name
    assert np.mean([each.l2 == 0 for each in found]) == pytest.approx(0.5, abs=tolerance)


def test_a_sample_is_the_same_on_every_machine() -> None:
    found = WIDE.configurations(complete, sample=3, seed=7)
    assert found == [
        Configuration((8,), "relu", "sgd", 3.45, 20, 0.0, 0.203, 7),
        Configuration((63, 10), "relu", "sgd", 0.0505, 351, 9.81e-06, 0.0991, 9),
        Configuration((8,), "sigmoid", "sgd", 0.00446, 338, 8.98e-05, 0.29, 8),
    ]
    assert WIDE.configurations(complete, sample=3, seed=8) != found
    # More of them begin with the same ones.
    assert WIDE.configurations(complete, sample=30, seed=7)[:3] == found


def test_a_sample_of_at_least_all_combinations_is_the_grid() -> None:
    space = Space(hidden=((4,), (5,)), seed=(Range(0, 4),))
    assert space.configurations(complete, sample=10) == space.configurations(complete)
    assert space.configurations(complete, sample=10**4) == space.configurations(complete)
    assert len(space.configurations(complete, sample=9)) == 9


def test_a_range_that_has_fewer_values_than_the_sample_gives_all_of_them() -> None:
    found = Space(hidden=((Range(3, 5),),)).configurations(complete, sample=10)
    assert {each.hidden for each in found} == {(3,), (4,), (5,)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Range(3, 2), r"a range must go up, such as 2\.\.3, got 3\.\.2"),
        (lambda: Range(0, math.inf), "an end of a range must be a finite number, got inf"),
        (lambda: Space(hidden=()), "hidden must have at least one value, got none"),
        (lambda: Space(hidden=(16, 32)), r"hidden must be a list of lists, such as \[\[16\], \[100, 50\]\], got 16"),  # type: ignore[arg-type]
        (lambda: Space(learning_rate=0.1), r"learning_rate must be a list of values, got 0\.1"),  # type: ignore[arg-type]
        (lambda: Space(activation="relu"), "activation must be a list of values, got 'relu'"),
        (lambda: Space(seed=(None,)), "seed must be an integer >= 0, got None"),  # type: ignore[arg-type]
        (lambda: Space(hidden=((3, 0),)), "layer size must be an integer >= 1, got 0"),
        (lambda: Space(hidden=((Range(0, 3),),)), "layer size must be an integer >= 1, got 0"),
        (lambda: Space(hidden=((Range(1.5, 3.0),),)), r"layer size must be an integer >= 1, got 1\.5"),
        (lambda: Space(activation=("warp",)), "activation must be one of sigmoid, .*, got 'warp'"),
        (lambda: Space(optimizer=("warp",)), "optimizer must be one of sgd, .*, got 'warp'"),
        (lambda: Space(learning_rate=(0.0,)), "learning_rate must be a finite number > 0, got 0"),
        (lambda: Space(l2=(Range(0.0, 1.0),)), "an end of a range of l2 must be a finite number > 0, got 0"),
        (lambda: Space(l2=(-1.0,)), "l2 must be a finite number >= 0, got -1"),
        (lambda: Space(dropout=(Range(0.0, 1.0),)), "dropout must be a finite number >= 0 and < 1, got 1"),
        (lambda: Space(seed=(-1,)), "seed must be an integer >= 0, got -1"),
        (lambda: sweep_of(Space(batch_size=(271,))), "batch_size must be at most 270, the number of training examples"),
        (
            lambda: sweep_of(Space(seed=(Range(0, 10**9),))),
            r"1,000,000,001 combinations are more than 10,000: .*sample",
        ),
        (lambda: sweep_of(Space(dropout=(Range(0.0, 0.5),))), r"dropout 0\.0\.\.0\.5 is a range: give values, or"),
        (lambda: sweep_of(Space(hidden=((9, Range(1, 4)),))), r"hidden 9,1\.\.4 is a range: give values, or"),
        (lambda: sweep_of(Space(), sample=0), "sample must be an integer >= 1, got 0"),
        (lambda: sweep_of(Space(), sample=10_001), "a sample must be of at most 10,000 networks, got 10,001"),
        (lambda: sweep_of(Space(), seed=-1), "the sweep's seed must be an integer >= 0, got -1"),
        (lambda: sweep_of(Space(), epochs=0), "epochs must be an integer >= 1, got 0"),
        (lambda: sweep_of(Space(), output="warp"), "output activation must be one of sigmoid, .*, got 'warp'"),
        (lambda: sweep_of(Space(), init="warp"), "init must be one of scaled, .*, got 'warp'"),
        (lambda: sweep_of(Space(), schedule="warp"), "schedule must be one of constant, .*, got 'warp'"),
        (lambda: sweep_of(Space(), loss="cross_entropy"), "loss cross_entropy needs output activation softmax"),
        (lambda: sweep_of(Space(hidden=((10**9, 10**9),))), "need .* GiB of memory for the weights alone"),
        (lambda: sweep_of(Space(), learnable(1)), "1 of 1 examples would be held out, which leaves none to train on"),
        (lambda: trained(sweep_of(Space()), keep=0), "keep must be an integer >= 1, got 0"),
    ],
)
def test_invalid_sweeps_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_examples_that_are_no_split_are_refused() -> None:
    with pytest.raises(DataError, match=r"^found a ndarray, expected a Split or a Dataset"):
        Sweep(Space(), np.zeros((5, 5)))  # type: ignore[arg-type]


def test_a_space_takes_lists_and_numpys_numbers(tmp_path: Path) -> None:
    lists: Any = {"hidden": [np.array([4])], "learning_rate": np.array([0.5, 1]), "batch_size": [np.int64(10)]}
    sweep, same = sweep_of(Space(**lists)), Space(hidden=((4,),), learning_rate=(0.5, 1.0), batch_size=(10,))
    with sweep.record(tmp_path / "record") as record:
        trained(sweep, record=record)
    with sweep_of(same).record(tmp_path / "record", resume=True) as record:
        assert len(record.runs) == 2


# Training and ranking

FIELDS = Space(hidden=((4,), (5,)), activation=("sigmoid", "relu"), learning_rate=(0.05, 0.5), seed=(0, 3))


def test_each_network_is_that_of_train_ranked_by_what_it_has_not_seen() -> None:
    sweep = sweep_of(FIELDS, output="softmax", init="he", schedule="cosine")
    best = trained(sweep, keep=3)
    assert sorted(run.number for run in sweep.runs) == list(range(1, 17))
    held_out = {image.tobytes() for image in sweep.held_out.images}
    assert len(sweep.held_out) == 30
    assert not held_out & {image.tobytes() for image in sweep.train.images}
    alone: dict[int, MLP] = {}
    for run in sweep.runs:
        settings = run.configuration
        assert settings == sweep.configurations[run.number - 1]
        net = MLP(
            [12, *settings.hidden, 3], hidden=settings.activation, output="softmax", init="he", seed=settings.seed
        )
        history = train(
            net,
            sweep.train,
            test=sweep.held_out,
            epochs=2,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            schedule="cosine",
            seed=settings.seed,
            device="cpu",
        )
        alone[run.number] = net
        found = evaluate(net, sweep.held_out, device="cpu")
        assert run.held_out_accuracy == found.accuracy == history.accuracy
        assert run.held_out_loss == pytest.approx(found.loss, rel=1e-6)
        assert run.train_loss == history.losses[-1]
        assert run.n_parameters == net.n_parameters
    expected = sorted(sweep.runs, key=lambda run: (-(run.held_out_accuracy or 0), run.held_out_loss))
    assert ranked(sweep.runs) == expected
    for run, net in zip(expected[:3], best, strict=True):
        for ours, theirs in zip(parameters(net), parameters(alone[run.number]), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_test_set_has_no_influence() -> None:
    one, other = (sweep_of(FIELDS, Dataset(learnable(), random_split(20, 12, 3, seed))) for seed in (1, 2))
    for sweep in (one, other):
        trained(sweep)
    assert [run.held_out_loss for run in ranked(one.runs)] == [run.held_out_loss for run in ranked(other.runs)]


def test_another_sweep_seed_holds_out_others() -> None:
    one, same, other = (sweep_of(Space(), seed=seed).held_out.images for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_targets_that_are_no_classes_are_ranked_by_loss() -> None:
    inputs = np.random.default_rng(0).random((200, 3), np.float32)
    sweep = sweep_of(
        Space(learning_rate=(0.01, 0.3)), Split(inputs, inputs @ [[1.0, 2], [0, 1], [1, 0]]), output="identity"
    )
    trained(sweep)
    assert [run.held_out_accuracy for run in sweep.runs] == [None, None]
    losses = [run.held_out_loss for run in ranked(sweep.runs)]
    assert losses == sorted(losses, key=lambda loss: loss or 0.0)
    assert len(table(ranked(sweep.runs), ["learning_rate"])) == 3


DIVERGING = Space(activation=("identity",), learning_rate=(0.01, 1e30), seed=(0, 1))


def test_networks_that_diverge_come_last_without_figures() -> None:
    sweep = sweep_of(DIVERGING, output="identity")
    best = trained(sweep, keep=4)
    assert [run.failure is None for run in ranked(sweep.runs)] == [True, True, False, False]
    for run in ranked(sweep.runs)[2:]:
        assert run.configuration.learning_rate == 1e30
        assert run.failure is not None
        assert "training diverged in epoch 1" in run.failure
        assert (run.held_out_accuracy, run.held_out_loss, run.train_accuracy, run.train_loss) == (None,) * 4
    assert len(best) == 2


def test_groups_are_bounded_by_number_and_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(Space(hidden=((4,), (400,)), seed=(Range(0, 299),)))
    numbered = list(enumerate(sweep.configurations, 1))
    found = list(runs.groups(numbered, sweep.shared))
    assert [numbers for group in found for numbers in group] == numbered
    assert [len(group) for group in found] == [256, 256, 88]
    n_parameters = sweep.shared.n_parameters(sweep.configurations[-1])
    assert n_parameters == MLP([12, 400, 3]).n_parameters
    monkeypatch.setattr(runs, "available_memory", lambda: 4 * 16 * 10 * n_parameters)
    found = list(runs.groups(numbered, sweep.shared))
    assert [numbers for group in found for numbers in group] == numbered
    assert max(len(group) for group in found if group[0][1].hidden == (400,)) == 10
    monkeypatch.setattr(runs, "available_memory", lambda: 1)
    assert [len(group) for group in runs.groups(numbered[:3], sweep.shared)] == [1, 1, 1]


def test_only_a_group_and_the_best_networks_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "TOGETHER", 3)
    living: list[int] = []
    made: weakref.WeakSet[MLP] = weakref.WeakSet()
    network = runs.Shared.network

    def noted(shared: runs.Shared, configuration: Configuration) -> MLP:
        net = network(shared, configuration)
        made.add(net)
        return net

    def count(_: Run) -> None:
        living.append(len(made))

    monkeypatch.setattr(runs.Shared, "network", noted)
    trained(sweep_of(Space(hidden=((3,),), seed=(Range(0, 19),)), epochs=1), keep=2, on_run=count)
    assert len(living) == 20
    assert max(living) <= 3 + 2


# The record


def test_an_interrupted_sweep_goes_on_and_ends_with_the_same_networks(tmp_path: Path) -> None:
    whole = sweep_of(FIELDS)
    expected = trained(whole, keep=2)
    seen = 0

    def stop(_: Run) -> None:
        nonlocal seen
        seen += 1
        if seen % 5 == 0:
            raise KeyboardInterrupt

    for sweep in (sweep_of(FIELDS) for _ in range(3)):
        with sweep.record(tmp_path / "record", resume=True) as record, pytest.raises(KeyboardInterrupt):
            trained(sweep, record=record, on_run=stop)
    sweep = sweep_of(FIELDS)
    trained_now: list[int] = []
    with sweep.record(tmp_path / "record", resume=True) as record:
        left = set(range(1, 17)) - {run.number for run in record.runs}
        best = trained(sweep, record=record, keep=2, on_run=lambda run: trained_now.append(run.number))
    assert trained_now == list(left)
    assert len(left) == 1

    def figures(run: Run) -> dict[str, Any]:
        return {name: value for name, value in run.to_dict().items() if name != "seconds"}

    assert list(map(figures, ranked(sweep.runs))) == list(map(figures, ranked(whole.runs)))
    for ours, theirs in zip(best, expected, strict=True):
        for one, other in zip(parameters(ours), parameters(theirs), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("cut", [1, 40, 150])
def test_what_a_power_failure_leaves_of_a_line_is_trained_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "record"
    sweep = sweep_of(FIELDS)
    with sweep.record(path) as record:
        trained(sweep, record=record)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    wrong = lines[5].replace(b'"seconds": ', b'"seconds": "1", "before": ')
    for content, expected, passed_over in (
        (whole[:-cut], 15, 0),
        (whole + b"\0" * 100, 16, 0),
        (whole + b'{"number": 1}\n', 16, 1),
        (b"".join([*lines[:5], b"\xff" * 20 + b"\n", *lines[6:]]), 15, 1),
        (b"".join([*lines[:5], wrong, *lines[6:]]), 15, 1),
        (b"".join([*lines[:5], lines[4], *lines[6:]]), 15, 1),
        (lines[0], 0, 0),
        (lines[0][:cut], 0, 0),
        (b"", 0, 0),
    ):
        path.write_bytes(content)
        again = sweep_of(FIELDS)
        with again.record(path, resume=True) as record:
            assert len(record.runs) == expected
            trained(again, record=record)
        assert path.read_bytes().count(b"\n") == 17 + passed_over
        assert [run.held_out_loss for run in ranked(again.runs)] == [run.held_out_loss for run in ranked(sweep.runs)]


def test_the_record_of_another_sweep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record"
    with sweep_of(FIELDS).record(path):
        pass
    before = path.read_bytes()
    for sweep, message in (
        (sweep_of(FIELDS, epochs=3), "record was begun with epochs 2, not 3: give what it was begun with"),
        (sweep_of(Space()), "was begun with hidden 4 5, not 16"),
        (sweep_of(FIELDS, sample=5), "was begun with sample None, not 5"),
        (sweep_of(FIELDS, seed=1), "was begun with sweep seed 0, not 1"),
        (sweep_of(FIELDS, output="softmax"), "was begun with output activation sigmoid, not softmax"),
        (sweep_of(FIELDS, learnable(seed=1)), "was begun with training images 300 with the hash .*, not 300 with the"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            sweep.record(path, resume=True)
        with pytest.raises(OutputError, match="record is the record of a sweep: go on with it by --resume, choose"):
            sweep.record(path)
    assert path.read_bytes() == before
    with sweep_of(FIELDS, epochs=3).record(path, replace=True):
        pass
    assert path.read_bytes() != before


def test_a_record_of_other_networks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record"
    sweep = sweep_of(FIELDS)
    with sweep.record(path) as record:
        trained(sweep, record=record)
    path.write_bytes(path.read_bytes().replace(b'"learning_rate": 0.5', b'"learning_rate": 0.6'))
    with pytest.raises(ConfigurationError, match=r"has another network \d+ than this sweep"):
        sweep_of(FIELDS).record(path, resume=True)


def test_a_file_that_is_no_record_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    damaged = b'{"format": "gpunn sweep 1", "options": [1], "data": 2}\n'
    for content in (b"Dear reader", b"{}\n", b"[1]\n", b"[" * 100_000 + b"\n", damaged):
        path.write_bytes(content)
        for resume in (False, True):
            with pytest.raises(OutputError, match="letter is not a record of gpunn sweep: choose another --record"):
                sweep_of(FIELDS).record(path, resume=resume)
        assert path.read_bytes() == content


def test_a_record_in_use_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="without fcntl, records aren't locked")
    with sweep_of(FIELDS).record(tmp_path / "record"), pytest.raises(OutputError, match="is in use by another sweep"):
        sweep_of(FIELDS).record(tmp_path / "record", resume=True)
    with sweep_of(FIELDS).record(tmp_path / "record", resume=True):
        pass


def test_a_best_network_that_cannot_be_made_again_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "record"
    sweep = sweep_of(Space())
    with sweep.record(path) as record:
        trained(sweep, record=record)
    accuracy = sweep.runs[0].held_out_accuracy
    path.write_text(path.read_text().replace(f'"held_out_accuracy": {accuracy}', '"held_out_accuracy": 0.125'))
    again = sweep_of(Space())
    with again.record(path, resume=True) as record:
        assert len(trained(again, record=record)) == 1
    assert f"network 1, trained again, has a held-out accuracy of {accuracy} instead of 0.125" in caplog.text


def test_an_error_says_where_finished_networks_are_if_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DeviceError("the GPU has gone")

    begun, fresh = tmp_path / "begun", tmp_path / "fresh"
    with sweep_of(FIELDS).record(begun) as record:
        trained(sweep_of(FIELDS), record=record)
    begun.write_bytes(b"".join(begun.read_bytes().splitlines(keepends=True)[:3]))
    monkeypatch.setattr(search, "train_group", fail)
    for path, notes in ((begun, [f"{begun} has what was finished, and --resume goes on"]), (fresh, [])):
        sweep = sweep_of(FIELDS)
        with sweep.record(path, resume=True) as record, pytest.raises(DeviceError) as raised:
            trained(sweep, record=record)
        assert getattr(raised.value, "__notes__", []) == notes


# Tables and pictures


def test_the_table_fits_a_terminal_whatever_varies() -> None:
    deep = tuple([100] * 30)
    extreme = {"learning_rate": 1.23456e-05, "batch_size": 60_000, "l2": 0.000123, "dropout": 0.0123, "seed": 99_999}
    found = [
        run_of(1, 0.91, hidden=deep, activation="leaky_relu", optimizer="momentum", **extreme),
        run_of(2, 0.9, hidden=()),
        run_of(3, None, hidden=(5,), optimizer="nesterov"),
    ]
    names = varying([run.configuration for run in found])
    assert len(names) == 8
    lines = table(ranked(found), names)
    assert max(map(len, lines)) <= 80
    assert re.match(r"   1   91\.00% 100[,10]*\.\.\. +leaky_relu momentum  1\.23e-05 60000 0\.000123", lines[1])
    assert lines[2].split()[:3] == ["2", "90.00%", "none"]
    assert lines[3].split()[:3] == ["-", "diverged", "5"]
    assert table(found[1:2], ["hidden", "learning_rate"]) == [
        "rank  held out  hidden  rate",
        "   1    90.00%  none     0.1",
    ]
    assert fixed([run.configuration for run in found[1:2]]) == (
        "hidden none, activation relu, optimizer sgd, learning rate 0.1, batch size 32"
    )


def test_the_csv_has_a_row_for_each_network_and_complete_numbers() -> None:
    found = [run_of(1, None, hidden=()), run_of(2, 0.9, hidden=(100, 50), l2=1 / 3), run_of(3, 0.95)]
    rows = list(csv.DictReader(io.StringIO(csv_of(found).decode())))
    assert list(rows[0]) == [
        *(
            "rank",
            "number",
            "hidden",
            "activation",
            "optimizer",
            "learning_rate",
            "batch_size",
            "l2",
            "dropout",
            "seed",
        ),
        *("n_parameters", "epochs", "held_out_accuracy", "held_out_loss", "train_accuracy", "train_loss", "seconds"),
        *("device", "engine", "failure"),
    ]
    assert [(row["rank"], row["number"], row["hidden"]) for row in rows] == [
        ("1", "3", "16"),
        ("2", "2", "100,50"),
        ("", "1", ""),
    ]
    assert float(rows[1]["l2"]) == 1 / 3
    assert (rows[2]["held_out_loss"], rows[2]["failure"]) == ("", "training diverged")


@pytest.fixture
def matplotlib() -> Any:
    return pytest.importorskip("matplotlib", reason='needs Matplotlib: pip install "gpunn[plot]"')


def drawn(sample: int) -> list[Run]:
    """Return runs with random settings and accuracies, some of which failed."""
    rng = np.random.default_rng(0)
    configurations = WIDE.configurations(complete, sample=sample)
    accuracies = [None if number % 7 == 3 else float(rng.random()) for number in range(len(configurations))]
    return [
        replace(
            run_of(number, accuracy, **{name: getattr(each, name) for name in Choice._fields}), n_parameters=50 + number
        )
        for number, (each, accuracy) in enumerate(zip(configurations, accuracies, strict=True), 1)
    ]


def texts(svg: bytes) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode())


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("sample", [2, 9, 200])
def test_a_picture_has_an_axis_for_whatever_varies(sample: int) -> None:
    found = drawn(sample)
    svg = picture(found, "networks", ".svg")
    assert svg == picture(found, "networks", ".svg")
    titles = ["rate", "batch", "held-out accuracy", "parameters" if sample == 200 else "hidden"]
    assert set(titles) <= set(texts(svg))
    best = ranked(found)[0].held_out_accuracy
    assert f"{best:.2%}" in texts(svg)
    assert ("diverged" in texts(svg)) == (sample > 3)
    assert picture(found, "networks", ".png").startswith(b"\x89PNG\r\n")


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize(
    "found",
    [
        [run_of(1, 0.9)],
        [run_of(1, 1.0), run_of(2, 1.0, seed=1)],
        [run_of(1, 1.0), run_of(2, 0.5, seed=1)],
        [run_of(1, None), run_of(2, None, seed=1)],
        [run_of(number, 0.5, l2=0.0 if number == 1 else 0.1, seed=number) for number in range(1, 20)],
    ],
    ids=["one", "faultless", "one faultless", "all failed", "alike"],
)
def test_a_picture_of_little_is_drawn(found: list[Run]) -> None:
    assert "held-out accuracy" in texts(picture(found, "networks", ".svg"))


# The command line


def outcome_of(run: CommandLine, data_dir: Path, *options: object) -> Outcome:
    return run("sweep", "--data-dir", data_dir, *SMALL, *options)


def test_a_sweep_prints_the_best_and_writes_all_that_is_asked_for(
    run: CommandLine, data_dir: Path, matplotlib: Any
) -> None:
    options = ["--hidden", 3, "5,4", "", "--learning-rate", 0.1, 1, "--seed", "0..1"]
    outcome = outcome_of(run, data_dir, *options, "--csv", "all.csv", "--picture", "all.svg")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:3] == [
        "12 networks on data, 1 epoch each: optimizer sgd, batch size 10",
        "54 images to train on, 6 held out to rank the networks by",
        "sweep.jsonl records each as it finishes",
    ]
    progress = [
        line for line in lines if re.match(r" ?\d+/12 networks  0:00:\d\d left  best: \d+\.\d\d% held out", line)
    ]
    assert 5 <= len(progress) <= 10
    header = lines.index("rank  held out  hidden  activation  rate  seed")
    assert [line.split()[0] for line in lines[header + 1 : header + 11]] == [str(rank) for rank in range(1, 11)]
    assert max(map(len, lines[header:])) <= 80
    rows = list(csv.DictReader(io.StringIO(Path("all.csv").read_text())))
    assert len(rows) == 12
    best = rows[0]
    found = re.search(
        r"^best: (16-\S+), held out (.*)%; test accuracy (.*)%, measured for it alone$", outcome.out, re.M
    )
    assert found
    assert found[1] == "-".join(["16", *best["hidden"].replace(",", "-").split(), "10"])
    assert float(found[2]) == pytest.approx(100 * float(best["held_out_accuracy"]), abs=0.005)
    model = f"{found[1]}-seed{best['seed']}.safetensors"
    assert f"written to {model}" in lines
    evaluated = run("evaluate", model, "--data-dir", data_dir, "--device", "cpu").out
    assert f"test accuracy {found[3]}%" in evaluated
    assert Path("all.svg").read_bytes().startswith(b"<?xml")
    assert {path.name for path in Path().iterdir()} == {"all.csv", "all.svg", "data", model, "sweep.jsonl"}


def test_a_sweeps_first_line_fits_a_terminal(run: CommandLine, data_dir: Path) -> None:
    outcome = outcome_of(run, data_dir, "--l2", 1e-4, "--dropout", 0.25, "--hidden", "10,10,10")
    first, second = outcome.out.splitlines()[:2]
    assert f"{first} {second}" == (
        "1 network on data, 1 epoch each: hidden 10,10,10, activation sigmoid, optimizer sgd, learning rate 1, "
        "batch size 10, l2 0.0001, dropout 0.25"
    )
    assert max(len(first), len(second)) <= 80


def test_json_is_one_document(run: CommandLine, data_dir: Path) -> None:
    outcome = outcome_of(run, data_dir, "--sample", 5, "--learning-rate", "0.1..1", "--json", "--output", "net")
    document = json.loads(outcome.out)
    assert "5/5 networks" in outcome.err
    assert (document["model"], document["record"], document["interrupted"]) == ("net", "net.sweep.jsonl", False)
    assert (document["n_networks"], document["n_train"], document["n_held_out"]) == (5, 54, 6)
    assert len(document["networks"]) == 5
    accuracies = [network["held_out_accuracy"] for network in document["networks"]]
    assert accuracies == sorted(accuracies, reverse=True)
    evaluated = json.loads(run("evaluate", "net", "--data-dir", data_dir, "--json").out)
    assert document["test_accuracy"] == evaluated["accuracy"]


def test_the_best_are_written_as_one_ensemble(run: CommandLine, data_dir: Path) -> None:
    options = ["--hidden", 3, 5, "--learning-rate", 0.1, 1, "--seed", "0..1"]
    outcome = outcome_of(run, data_dir, *options, "--ensemble", 3, "--csv", "all.csv")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[-2:] == ["written to ensemble-of-3.safetensors", "all networks in all.csv"]
    ensemble = load("ensemble-of-3.safetensors")
    assert isinstance(ensemble, Ensemble)
    test = load_mnist(data_dir).test
    accuracy = evaluate(ensemble, test, device="cpu").accuracy
    begin = lines.index(
        f"ensemble of 3 networks: test accuracy {accuracy:.2%}; of each alone, measured for these alone:"
    )
    best = list(csv.DictReader(io.StringIO(Path("all.csv").read_text())))[:3]
    for line, row, net in zip(lines[begin + 1 : begin + 4], best, ensemble.nets, strict=True):
        held_out, accuracy = float(row["held_out_accuracy"]), evaluate(net, test, device="cpu").accuracy
        assert line == f"   {row['rank']}  held out {held_out:.2%}  test {accuracy:.2%}  16-{row['hidden']}-10"

    # From the record the same networks are made again, and as many as are asked for now.
    Path("ensemble-of-3.safetensors").rename("before")
    document = json.loads(outcome_of(run, data_dir, *options, "--ensemble", 4, "--resume", "--json").out)
    assert (document["model"], len(document["members"])) == ("ensemble-of-4.safetensors", 4)
    assert [member["number"] for member in document["members"]][:3] == [int(row["number"]) for row in best]
    again = load("ensemble-of-4.safetensors")
    for ours, before in zip(again.nets, ensemble.nets, strict=False):
        for one, other in zip(parameters(ours), parameters(before), strict=True):
            np.testing.assert_array_equal(one, other)
    assert document["test_accuracy"] == evaluate(again, test, device="cpu").accuracy
    assert document["members"][3]["test_loss"] == pytest.approx(evaluate(again.nets[3], test, device="cpu").loss)


def test_networks_that_diverged_are_in_no_ensemble(run: CommandLine, data_dir: Path) -> None:
    options = ["--activation", "identity", "--output-activation", "identity", "--learning-rate", 0.01, "1e30"]
    outcome = outcome_of(run, data_dir, *options, "--ensemble", 2, "--output", "net")
    assert outcome.code == 0
    assert "ensemble of 1 network instead of 2, as the others diverged: test accuracy" in outcome.out
    assert len(load("net").nets) == 1


def test_several_values_may_follow_an_option_or_be_given_one_by_one() -> None:
    command = ["sweep", "--hidden", "16", "100,50", "", "--seed=1", "2", "--json", "--l2", "-1", "0", "--epochs", "3"]
    assert repeated(gpunn_command, command) == [
        *("sweep", "--hidden", "16", "--hidden", "100,50", "--hidden", "", "--seed=1", "--seed", "2", "--json"),
        *("--l2", "-1", "--l2", "0", "--epochs", "3"),
    ]
    surplus = ["sweep", "--epochs", "3", "4"]
    assert repeated(gpunn_command, surplus) == surplus
    for others in (["predict", "net", "a.png", "b.png"], [], ["-h"], ["warp"]):
        assert repeated(gpunn_command, others) is others


def test_a_sweep_is_resumed_only_when_asked(run: CommandLine, data_dir: Path) -> None:
    options = ["--seed", "0..2", "--record", "record", "--output", "net"]
    assert outcome_of(run, data_dir, *options).code == 0
    before = Path("record").read_bytes()
    assert_one_line(outcome_of(run, data_dir, *options), "net exists: choose another --output, or use --force")
    Path("net").unlink()
    assert_one_line(outcome_of(run, data_dir, *options), "record is the record of a sweep: go on with it by --resume")
    assert_one_line(
        outcome_of(run, data_dir, *options, "--resume", "--epochs", 2), "record was begun with epochs 1, not 2"
    )
    outcome = outcome_of(run, data_dir, *options, "--resume", "--csv", "all.csv")
    assert outcome.code == 0
    assert "record has 3 of them already" in outcome.out
    assert Path("record").read_bytes() == before
    assert len(Path("all.csv").read_text().splitlines()) == 4
    assert "record records each as it finishes" in outcome_of(run, data_dir, *options, "--force").out


def test_a_default_record_is_never_that_of_an_earlier_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for expected in ("sweep.jsonl", "sweep-2.jsonl", "sweep-3.jsonl"):
        assert record_name(None, resume=False) == Path(expected)
        Path(expected).touch()
        assert record_name(None, resume=True) == Path(expected)
    assert record_name(Path("a/net.safetensors"), resume=True) == Path("a/net.sweep.jsonl")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--hidden 16..64", ["hidden 16..64 is a range", "--sample N"]),
        ("--hidden 16..x", ["'--hidden': must be an integer, or a range such as 16..64, got '16..x'"]),
        ("--hidden 4,x", ["'--hidden': must be comma-separated integers >= 1, such as 16 or 100,50, got '4,x'"]),
        ("--learning-rate 1 x", ["'--learning-rate': must be a number, or a range such as 0.1..1, got 'x'"]),
        ("--learning-rate 1..0.1 --sample 3", ["a range must go up, such as 0.1..1.0, got 1.0..0.1"]),
        ("--learning-rate nan", ["learning_rate must be a finite number > 0, got nan"]),
        ("--seed 0..1.5", ["'--seed': must be an integer, or a range such as 16..64, got '0..1.5'"]),
        ("--seed 0..99999", ["100,000 combinations are more than 10,000: give fewer values", "--sample N"]),
        ("--optimizer sgd warp", ["'--optimizer': 'warp' is not one of 'sgd'"]),
        ("--batch-size 55", ["batch_size must be at most 54, the number of training examples, got 55"]),
        ("--ensemble 2", ["--ensemble must be at most 1, the number of networks, got 2"]),
        ("--ensemble 0", ["'--ensemble': 0 is not in the range x>=1"]),
        ("--sample 0", ["sample must be an integer >= 1, got 0"]),
        ("--epochs 0", ["epochs must be an integer >= 1, got 0"]),
        ("--json surplus", ["unexpected extra argument"]),
        ("--picture all.gif", ["a picture's name must end in .png or .svg, got all.gif"]),
        ("--csv same --record same", ["--output, --csv, --picture and --record must be different files"]),
        ("--csv absent/all.csv", ["cannot write absent/all.csv: there is no folder"]),
        ("--record data", ["cannot write data: it is a folder"]),
        ("--output data/train-images-idx3-ubyte", ["exists: choose another --output, or use --force"]),
        ("--device tpu", ["device must be auto, cpu, cuda or cuda:N, got 'tpu'"]),
    ],
)
def test_bad_options_get_one_line(run: CommandLine, data_dir: Path, options: str, parts: list[str]) -> None:
    outcome = outcome_of(run, data_dir, *options.split())
    assert outcome.code == 2
    assert outcome.err.startswith("gpunn: ")
    assert outcome.err.count("\n") == 1
    for part in parts:
        assert part in outcome.err
    assert not list(Path().glob("*.jsonl"))


def test_a_picture_without_matplotlib_is_refused_before_the_training(
    run: CommandLine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = outcome_of(run, data_dir, "--picture", "all.png")
    assert_one_line(outcome, "--picture needs Matplotlib", "pip install 'gpunn[plot]'")
    assert [path.name for path in Path().iterdir()] == ["data"]


def test_a_sweep_of_which_all_networks_diverge_gets_one_line(run: CommandLine, data_dir: Path) -> None:
    options = ["--activation", "identity", "--output-activation", "identity", "--learning-rate", "1e30", "1e31"]
    outcome = outcome_of(run, data_dir, *options, "--csv", "all.csv")
    assert outcome.code == 2
    assert outcome.err == "gpunn: all networks diverged, so that there is none to write: try lower learning rates\n"
    assert "2 networks, of which 2 diverged" in outcome.out
    assert len(Path("all.csv").read_text().splitlines()) == 3


def test_every_option_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text("utf-8").partition("## Sweeps")[2].partition("\n## ")[0]
    options = [option.opts[0] for option in sweep_command.params if isinstance(option, click.Option)]
    of_train = {"--loss", "--init", "--schedule", "--device", "--data-dir", "--classes", "--json", "--help"}
    for name in options:
        assert f"`{name}" in guide or name in of_train, name
