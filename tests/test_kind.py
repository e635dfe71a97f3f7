import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from gpunn import MLP, ConfigurationError, DataError, ModelFileError, Split, train
from gpunn.datasets import ImageKind

from .conftest import random_split

KIND = ImageKind("shapes", (3, 4), "whole", ("round", "square", "ünbekannt"))


def kind_split(n: int = 20) -> Split:
    return replace(random_split(n, 12, 3), kind=KIND)


def test_parts_of_a_split_keep_its_kind() -> None:
    assert kind_split()[:5].kind == KIND
    assert kind_split()[np.array([3, 1])].kind == KIND


def test_a_trained_network_remembers_its_data_in_the_model_file_too(tmp_path: Path) -> None:
    net = MLP([12, 3])
    assert net.kind is None
    assert net.grey is None
    train(net, kind_split(), epochs=1, batch_size=5, learning_rate=0.1, engine="plain", device="cpu")
    net.save(tmp_path / "net")
    for each in (net, MLP.load(tmp_path / "net")):
        assert each.kind == KIND
        assert each.grey is True


def test_going_on_with_images_of_no_kind_keeps_the_kind() -> None:
    net = MLP([12, 3])
    net.kind = KIND
    train(net, random_split(20, 12, 3), epochs=1, batch_size=5, learning_rate=0.1, engine="plain", device="cpu")
    assert net.kind == KIND


def test_what_older_readers_look_at_in_the_model_file_stays(tmp_path: Path) -> None:
    net = MLP([12, 3])
    net.kind, net.grey = KIND, True
    net.save(tmp_path / "net")
    with safe_open(tmp_path / "net", framework="numpy") as file:
        about = json.loads(file.metadata()["gpunn"])
    assert about.pop("data") == {
        "name": "shapes",
        "shape": [3, 4],
        "framing": "whole",
        "classes": ["round", "square", "ünbekannt"],
    }
    assert about.pop("grey") is True
    assert about == {"version": 1, "sizes": [12, 3], "activation": "sigmoid"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"data": 3}, "describes its data wrongly: found 3, expected an object"),
        ({"data": {"name": 3}}, "name must be printable text of at most 100 characters, got 3"),
        ({"data": {"name": "a\ud800"}}, "name must be printable text of at most 100 characters, got 'a\\ud800'"),
        ({"data": {"name": "x" * 1000}}, "name must be printable text of at most 100 characters, got 'xxx"),
        ({"data": {"shape": "ab"}}, "shape must be a tuple of two integers >= 1, or None, got 'ab'"),
        ({"data": {"shape": [3, 4.0]}}, "shape must be a tuple of two integers >= 1, or None, got (3, 4.0)"),
        ({"data": {"shape": [3, True]}}, "shape must be a tuple of two integers >= 1, or None, got (3, True)"),
        ({"data": {"shape": [3, 5]}}, "found images of 3 x 5 pixels, expected 12"),
        ({"data": {"framing": []}}, "framing must be one of whole, digit, emnist, got []"),
        ({"data": {"classes": "abc"}}, "classes must be a tuple of at most 256 names, got 'abc'"),
        ({"data": {"classes": ["a\x1b"]}}, "classes must be a tuple of at most 256 names, got ('a\\x1b',)"),
        ({"data": {"classes": ["a"] * 300}}, "classes must be a tuple of at most 256 names, got ("),
        ({"grey": 1}, "has 1 for grey: expected true or false"),
    ],
)
def test_a_wrong_description_of_the_data_is_refused_in_one_line(
    tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    tensors = {"weights.0": np.zeros((3, 12), np.float32), "biases.0": np.zeros(3, np.float32)}
    about = {"version": 1, "sizes": [12, 3], "activation": "sigmoid", **data}
    (tmp_path / "net").write_bytes(save(tensors, {"gpunn": json.dumps(about)}))
    with pytest.raises(ModelFileError, match=re.escape(message)) as refused:
        MLP.load(tmp_path / "net")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_a_description_that_does_not_fit_is_refused() -> None:
    net = MLP([13, 3])
    net.kind = KIND
    with pytest.raises(ConfigurationError, match="found images of 3 x 4 pixels, expected 13"):
        net.check()
    net.kind = "MNIST"  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="kind must be an ImageKind or None, got str"):
        net.check()
    with pytest.raises(DataError, match="found images of 3 x 4 pixels, expected 13"):
        replace(random_split(5, 13, 3), kind=KIND)
    with pytest.raises(DataError, match="kind must be an ImageKind or None, got str"):
        replace(random_split(5, 13, 3), kind="MNIST")  # type: ignore[arg-type]


def test_classes_without_names_are_called_by_their_numbers() -> None:
    assert [KIND.class_name(label) for label in (0, 2, 3, -1)] == ["round", "ünbekannt", "3", "-1"]
