"""Recipes by name: what `gpunn train --recipe` and Python make of them, and what overrides them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, History, load_mnist, train
from gpunn.distortion import DISTORTIONS
from gpunn.plan import plan_for
from gpunn.recipes import RECIPES

from .conftest import Run, parameters

SMALL: dict[str, Any] = {"epochs": 3, "batch_size": 8}
"""What makes a recipe quick."""


def small_options(name: str, data_dir: Path) -> list[Any]:
    sizes = ["--hidden", "6,5", "--epochs", SMALL["epochs"], "--batch-size", SMALL["batch_size"]]
    return ["train", "--recipe", name, "--data-dir", data_dir, *sizes, "--device", "cpu", "--seed", 2]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_one_that_train_takes(name: str, data_dir: Path) -> None:
    recipe = RECIPES[name]
    data = recipe.prepared(load_mnist(data_dir))
    assert data.train.images.shape[1] == recipe.shape[0] * recipe.shape[1]
    net = replace(recipe, hidden=(4,)).network(data)
    asked = {"test": None, "engine": "auto", "precision": "float32", "loss": None, "optimizer": "sgd", "l2": 0.0}
    given = {**asked, "dropout": 0.0, "early_stopping": None, "seed": 0, **recipe.training, "batch_size": 8}
    plan = plan_for(net, data, **given)
    assert plan.epochs == recipe.training["epochs"]
    assert plan.recipe.distort is not None
    assert net.functions == ("relu", "softmax")
    assert recipe.about.startswith("-".join(map(str, (recipe.shape[0] * recipe.shape[1], *recipe.hidden, 10))))


def test_the_command_trains_the_network_that_python_does(run: Run, data_dir: Path) -> None:
    outcome = run(*small_options("ciresan-small", data_dir), "--output", "net", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    recipe = replace(RECIPES["ciresan-small"], hidden=(6, 5))
    data = recipe.prepared(load_mnist(data_dir))
    net = recipe.network(data, seed=2)
    train(net, data, device="cpu", seed=2, **{**recipe.training, **SMALL})
    for mine, theirs in zip(parameters(net), parameters(MLP.load("net")), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert found["sizes"] == [841, 6, 5, data.n_classes]
    assert found["functions"] == ["relu", "relu", "softmax"]


def test_options_override_a_recipe_before_and_after_it(run: Run, data_dir: Path) -> None:
    options = small_options("simard", data_dir)
    outcome = run("train", "--learning-rate", 0.25, *options[1:], "--activation", "tanh", "--pad", "30x29", "--json")
    found = json.loads(outcome.out)
    assert found["learning_rate"] == 0.25
    assert found["functions"] == ["tanh", "tanh", "softmax"]
    assert found["sizes"][0] == 30 * 29
    assert len(found["epochs"]) == 3
    assert found["distort"] == DISTORTIONS[RECIPES["simard"].training["distort"]].to_dict()


def test_a_recipe_goes_on_from_a_checkpoint_with_the_same_bits(run: Run, data_dir: Path) -> None:
    options = small_options("ciresan", data_dir)
    run(*options, "--output", "whole")
    recipe = replace(RECIPES["ciresan"], hidden=(6, 5))
    data = recipe.prepared(load_mnist(data_dir))
    net = recipe.network(data, seed=2)

    def one(history: History) -> bool:
        return False

    train(net, data, device="cpu", seed=2, checkpoint="state", on_epoch=one, **{**recipe.training, **SMALL})
    outcome = run(*options, "--output", "resumed", "--resume", "state")
    assert outcome.code == 0, outcome.err
    assert Path("whole").read_bytes() == Path("resumed").read_bytes()


def test_a_recipe_with_other_steps_has_a_rate_that_fits_them(run: Run, data_dir: Path) -> None:
    options = [*small_options("simard", data_dir), "--distort", "none"]
    for changes, of_recipe in ((["--optimizer", "adam"], False), ([], True)):
        run(*options, *changes, "--output", "net", "--force")
        record = MLP.load("net").training
        assert record is not None
        found = record.record()
        assert "distort" not in found
        assert (found["learning_rate"] == 0.5) == of_recipe


def test_help_names_recipes_and_what_was_published(run: Run) -> None:
    lines = run("train", "--help").out.splitlines()[-len(RECIPES) :]
    assert lines == [f"    {name:14} {recipe.about}" for name, recipe in RECIPES.items()]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("pad", ["29", "29x", "0x29", "29x-1", "29 x 29", "x"])
def test_shapes_to_pad_to_that_are_none_are_refused(run: Run, pad: str) -> None:
    outcome = run("train", "--pad", pad)
    assert (outcome.code, outcome.out) == (2, "")
    assert "must be rows x columns, such as 29x29, got" in outcome.err
    assert outcome.err.count("\n") == 1


def test_images_are_not_padded_to_smaller_ones(run: Run, data_dir: Path) -> None:
    outcome = run("train", "--data-dir", data_dir, "--pad", "3x9")
    assert outcome.code == 2
    assert "4 x 4 pixels, which can't be padded to 3 x 9" in outcome.err


def test_a_network_to_begin_with_brings_its_own_shape(run: Run, data_dir: Path) -> None:
    MLP([16, 3, 10]).save("net")
    for option, value in (("--pad", "5x5"), ("--recipe", "simard")):
        outcome = run("train", "--from", "net", option, value, "--data-dir", data_dir)
        assert outcome.code == 2
        assert f"--from begins with the layers of its network: leave out {option}" in outcome.err
