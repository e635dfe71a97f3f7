"""Background around images: networks trained on padded ones remember it, wherever images go into them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpunn import MLP, DataError, Dataset, evaluate, train
from gpunn.datasets import ImageKind
from gpunn.pictures import MNIST_KIND, read_picture

from .conftest import Run, random_split


@pytest.fixture(scope="module")
def net(mnist: Dataset) -> MLP:
    """841-8-10 after an epoch on padded digits."""
    net = MLP([841, 8, 10])
    train(net, mnist.train[:3000].padded((29, 29)), epochs=1, device="cpu")
    return net


@pytest.fixture
def model(net: MLP, tmp_path: Path) -> Path:
    net.save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_padded_images_have_background_around_them() -> None:
    split = replace(random_split(3, 6, 3), kind=ImageKind(shape=(2, 3)))
    found = split.padded((5, 6))
    assert found.kind == ImageKind(shape=(5, 6), unpadded=(2, 3))
    assert found.kind.original == split.kind
    rows = found.images.reshape(3, 5, 6)
    np.testing.assert_array_equal(rows[:, 1:3, 1:4].reshape(3, -1), split.images)
    assert rows.sum() == split.images.sum()
    np.testing.assert_array_equal(found.labels, split.labels)
    assert split.padded((2, 3)) is split
    assert found.padded((5, 6)) is found


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (ImageKind(shape=(2, 3)), (2, 2), r"2 x 3 pixels, which can't be padded to 2 x 2: expected a larger"),
        (ImageKind(shape=(2, 3), unpadded=(1, 3)), (3, 3), "2 x 3 pixels, which are padded already"),
        (ImageKind(shape=(2, 3)), (2.5, 3), r"expected a shape \(rows, columns\) to pad them to, got \(2.5, 3\)"),
        (ImageKind(shape=(2, 3)), 29, "expected a shape .* got 29"),
        (None, (3, 3), "in unknown rows to pad"),
    ],
)
def test_what_cannot_be_padded_is_refused(kind: ImageKind | None, shape: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(random_split(3, 6, 3), kind=kind).padded(shape)


def test_a_model_file_remembers_padding(net: MLP, model: Path, run: Run) -> None:
    kind = MLP.load(model).kind
    assert kind is not None
    assert kind == net.kind == replace(MNIST_KIND, shape=(29, 29), unpadded=(28, 28))
    assert "MNIST, 29 x 29 pixels, padded from 28 x 28, grey levels" in run("info", model).out


def test_commands_pad_what_a_network_takes(net: MLP, model: Path, run: Run, mnist: Dataset) -> None:
    expected = evaluate(net, mnist.test.padded((29, 29)), device="cpu")
    outcome = run("evaluate", model, "--json", "--device", "cpu")
    assert json.loads(outcome.out)["accuracy"] == expected.accuracy
    assert outcome.err == ""
    assert run("show", model).code == 0
    page = Path("page.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert (data["shape"], data["unpadded"], data["framing"]) == ([29, 29], [28, 28], "digit")
    assert data["test"]["accuracy"] == expected.accuracy


def test_pictures_are_prepared_then_padded(model: Path, run: Run, tmp_path: Path) -> None:
    picture = np.zeros((60, 60), np.uint8)
    picture[10:50, 25:33] = 255
    Image.fromarray(picture).save(tmp_path / "one.png")
    (row,) = json.loads(run("predict", model, tmp_path / "one.png", "--show", "--json").out)
    pixels = np.array(row["pixels"])
    np.testing.assert_array_equal(pixels[:28, :28], read_picture(tmp_path / "one.png").pixels)
    assert pixels.shape == (29, 29)
    assert pixels[28].sum() == pixels[:, 28].sum() == 0
    (row,) = json.loads(run("predict", model, tmp_path / "one.png", "--framing", "whole", "--show", "--json").out)
    whole = read_picture(tmp_path / "one.png", ImageKind(shape=(28, 28))).pixels
    np.testing.assert_array_equal(np.array(row["pixels"])[:28, :28], whole)
