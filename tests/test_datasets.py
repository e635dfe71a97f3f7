import gzip
import hashlib
import os
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import DataError, Dataset, load_mnist
from gpunn.datasets import ImageKind

from .conftest import idx_bytes, write_data_set

SHA256 = {
    "train images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def test_the_embedded_mnist_is_the_original(mnist: Dataset) -> None:
    for name, split in (("train", mnist.train), ("test", mnist.test)):
        images = idx_bytes(split.images.reshape(-1, 28, 28))
        assert hashlib.sha256(images).hexdigest() == SHA256[f"{name} images"]
        assert hashlib.sha256(idx_bytes(split.labels)).hexdigest() == SHA256[f"{name} labels"]
    assert mnist.train.images.shape == (60_000, 784)
    assert mnist.test.labels.shape == (10_000,)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("side", [1, 4, 28])
def test_a_folder_in_mnists_form_is_read(tmp_path: Path, compress: bool, side: int) -> None:
    arrays = write_data_set(tmp_path, side=side, compress=compress)
    data = load_mnist(tmp_path)
    np.testing.assert_array_equal(data.train.images, arrays["train-images-idx3-ubyte"].reshape(60, -1))
    np.testing.assert_array_equal(data.test.labels, arrays["t10k-labels-idx1-ubyte"])


def test_names_with_a_dot_are_found_too(tmp_path: Path) -> None:
    write_data_set(tmp_path)
    for file in list(tmp_path.iterdir()):
        file.rename(file.with_name(file.name.replace("-idx", ".idx")))
    assert len(load_mnist(tmp_path).train) == 60


def test_a_missing_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        load_mnist(tmp_path / "absent")
    write_data_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="there is no t10k-labels-idx1-ubyte in"):
        load_mnist(tmp_path)


def test_a_folder_that_may_not_be_entered_is_named(locked_folder: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*locked: Permission denied"):
        load_mnist(locked_folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.zeros(61, np.uint8), "found 61 labels for 60 images"),
        ("train-labels-idx1-ubyte", np.zeros((60, 1), np.uint8), r"expected whole numbers \(n,\)"),
        ("train-images-idx3-ubyte", np.zeros((60, 16), np.uint8), r"expected uint8 images \(n, rows, columns\)"),
        ("train-images-idx3-ubyte", np.zeros((0, 4, 4), np.uint8), r"holds uint8 of shape \(0, 4, 4\)"),
        (
            "t10k-images-idx3-ubyte",
            np.zeros((10, 4, 5), np.uint8),
            "training images of 4 x 4 and test images of 4 x 5 pixels",
        ),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    write_data_set(tmp_path)
    (tmp_path / name).write_bytes(idx_bytes(array))
    with pytest.raises(DataError, match=message):
        load_mnist(tmp_path)


def test_classes_are_as_many_as_labels_name_unless_fewer_are_asked_for(tmp_path: Path) -> None:
    write_data_set(tmp_path, n_classes=47)
    with pytest.raises(DataError, match="expected 0 to 9 for 10 classes"):
        load_mnist(tmp_path, n_classes=10)
    assert load_mnist(tmp_path, n_classes=47).n_classes == 47
    assert load_mnist(tmp_path).n_classes == 47


def test_raw_and_gzipped_files_mix(tmp_path: Path) -> None:
    write_data_set(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    assert len(load_mnist(tmp_path).train) == 60


UPRIGHT = np.random.default_rng(0).integers(0, 256, (30, 5, 4), dtype=np.uint8)


def write_set(folder: Path, pattern: str, images: Any = UPRIGHT, labels: Any = None, *, test: str = "test") -> None:
    """Write a data set whose files are named by `pattern`, with {part}, {what} and {form} in it."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = (np.arange(len(images)) % 10).astype(np.uint8) if labels is None else labels
    for part in ("train", test):
        for what, array in (("images", images), ("labels", labels)):
            code = {"uint8": 0x08, "int32": 0x0C, "float32": 0x0D}[str(array.dtype)]
            form = f"idx{array.ndim}-{'int' if code == 0x0C else 'ubyte'}"
            content = idx_bytes(array, code)
            name = pattern.format(part=part, what=what, form=form)
            (folder / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)


MNISTS = "{part}-{what}-{form}"
LETTERS = "emnist-letters-{part}-{what}-{form}"


@pytest.mark.parametrize("pattern", [LETTERS, LETTERS + ".gz", (LETTERS + ".GZ").upper()])
def test_emnists_letters_are_turned_upright_and_called_by_their_names(tmp_path: Path, pattern: str) -> None:
    pattern = pattern.replace("PART", "part").replace("WHAT", "what").replace("FORM", "form")
    labels = (1 + np.arange(30) % 26).astype(np.uint8)
    write_set(tmp_path, pattern, UPRIGHT.transpose(0, 2, 1), labels)
    data = load_mnist(tmp_path)
    for split in data:
        np.testing.assert_array_equal(split.images, UPRIGHT.reshape(30, -1))
        np.testing.assert_array_equal(split.labels, labels - 1)
        assert split.kind == ImageKind("EMNIST letters", (5, 4), "whole", tuple(string.ascii_uppercase))
    assert data.n_classes == 26


@pytest.mark.parametrize(
    ("name", "n_classes", "last"),
    [("digits", 10, "9"), ("balanced", 47, "t"), ("byclass", 62, "z"), ("mnist", 10, "9")],
)
def test_emnists_other_sets_have_their_classes(tmp_path: Path, name: str, n_classes: int, last: str) -> None:
    write_set(tmp_path, f"emnist-{name}-{{part}}-{{what}}-{{form}}", np.zeros((30, 28, 28), np.uint8))
    data = load_mnist(tmp_path)
    assert data.n_classes == n_classes
    assert data.train.kind is not None
    assert data.train.kind.framing == "emnist"
    assert data.train.kind.classes[-1] == last


@pytest.mark.parametrize("columns", [None, 8])
def test_qmnists_labels_are_read(tmp_path: Path, columns: int | None) -> None:
    classes = np.arange(30, dtype=np.int32) % 10
    labels = classes if columns is None else np.stack([classes, *[np.full(30, 1000, np.int32)] * 7], axis=1)
    write_set(tmp_path, "qmnist-{part}-{what}-{form}.gz", labels=labels)
    data = load_mnist(tmp_path)
    np.testing.assert_array_equal(data.test.labels, classes)
    assert data.train.labels.dtype == np.uint8
    assert data.train.kind == ImageKind("QMNIST", (5, 4), "whole")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(30, 256, np.int32), "found the label 256, expected 0 to 255"),
        (np.full(30, -1, np.int32), "found the label -1, expected 0 or more"),
        (np.zeros(30, np.float32), r"holds float32 of shape \(30,\): expected whole numbers"),
        (np.zeros((30, 3), np.int32), r"holds int32 of shape \(30, 3\): expected whole numbers"),
    ],
)
def test_labels_that_name_no_class_are_refused(tmp_path: Path, labels: Any, message: str) -> None:
    write_set(tmp_path, MNISTS, labels=labels)
    with pytest.raises(DataError, match=message):
        load_mnist(tmp_path)


def test_labels_from_1_take_a_class_more_and_are_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_set(tmp_path, MNISTS, labels=(1 + np.arange(30) % 5).astype(np.uint8))
    assert load_mnist(tmp_path).n_classes == 6
    assert "start at 1: they take 6 classes, and none is of class 0" in caplog.text
    with pytest.raises(DataError, match="these labels start at 1: subtract 1, or use 6 outputs"):
        load_mnist(tmp_path, n_classes=5)


def test_the_embedded_mnist_is_described(mnist: Dataset) -> None:
    assert mnist.train.kind == mnist.test.kind == ImageKind("MNIST", (28, 28), "digit")
    assert mnist.n_classes == 10


def test_fashion_mnist_is_recognised_by_its_images_and_its_folder_or_labels(tmp_path: Path, mnist: Dataset) -> None:
    clothes = np.full((30, 28, 28), 9, np.uint8)
    write_set(tmp_path / "FashionMNIST" / "raw", MNISTS, clothes)
    kind = load_mnist(tmp_path / "FashionMNIST" / "raw").train.kind
    assert kind is not None
    assert (kind.name, kind.framing, kind.class_name(9)) == ("Fashion-MNIST", "whole", "Ankle boot")
    write_set(tmp_path / "other", MNISTS, clothes)
    assert load_mnist(tmp_path / "other").train.kind == ImageKind("other", (28, 28), "whole")
    for part, start in (("train", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]), ("test", [9, 2, 1, 1, 6, 1, 4, 6, 5, 7])):
        labels = np.array(start * 3, np.uint8)
        (tmp_path / "other" / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    assert load_mnist(tmp_path / "other").train.kind == kind
    # Digits stay digits, wherever they lie.
    write_set(tmp_path / "fashion", MNISTS, mnist.train.images[:30].reshape(-1, 28, 28))
    assert load_mnist(tmp_path / "fashion").train.kind == ImageKind("fashion", (28, 28), "digit")


def test_names_in_upper_case_and_a_folder_of_a_files_name_are_found(tmp_path: Path) -> None:
    write_data_set(tmp_path, compress=True)
    for file in list(tmp_path.iterdir()):
        file.rename(file.with_name(file.name.upper()))
    assert len(load_mnist(tmp_path).train) == 60
    folder = tmp_path / "train-images-idx3-ubyte"
    folder.mkdir()
    assert len(load_mnist(tmp_path).train) == 60
    (folder / "train-images-idx3-ubyte").write_bytes(
        gzip.decompress((tmp_path / "TRAIN-IMAGES-IDX3-UBYTE.GZ").read_bytes())
    )
    assert len(load_mnist(tmp_path).train) == 60
    (tmp_path / "TRAIN-IMAGES-IDX3-UBYTE.GZ").unlink()
    assert len(load_mnist(tmp_path).train) == 60


def test_one_of_several_sets_is_chosen_by_the_names_of_its_files(tmp_path: Path) -> None:
    write_set(tmp_path, MNISTS, test="t10k")
    write_set(tmp_path, LETTERS, UPRIGHT[:7])
    with pytest.raises(
        DataError, match=r"several data sets in .*, emnist-letters, mnist: choose one, as .*/emnist-let"
    ):
        load_mnist(tmp_path)
    assert len(load_mnist(tmp_path / "emnist-letters").train) == 7
    assert len(load_mnist(tmp_path / "mnist").train) == 30
    with pytest.raises(DataError, match=r"there is no folder .*/emnist-digits"):
        load_mnist(tmp_path / "emnist-digits")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "the folder is empty"),
        (["notes.txt", "a.csv"], "expected the four files of MNIST's format, found a.csv, notes.txt"),
        ([f"{n}.png" for n in range(30)], r"found 0.png, 1.png, 10.png, 11.png, 12.png and 25 more"),
        (["gzip.zip"], "unpack gzip.zip, which may hold it"),
        (["a\x1b[2J"], r"found a\\x1b\[2J"),
        (["emnist-letters-train-images-idx3-ubyte.gz"], "there is no emnist-letters-train-labels-idx1-ubyte in"),
    ],
)
def test_the_error_lists_what_is_there_instead_of_the_files(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message) as refused:
        load_mnist(tmp_path)
    assert str(refused.value).isprintable()


def test_a_folder_some_levels_too_high_leads_to_the_files(tmp_path: Path) -> None:
    write_set(tmp_path / "root" / "MNIST" / "raw", MNISTS)
    with pytest.raises(DataError, match=r"the four files are in .*/root/MNIST/raw, so give that folder"):
        load_mnist(tmp_path / "root")


def test_a_file_in_place_of_the_folder_and_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").touch()
    with pytest.raises(DataError, match=r"mnist\.npz is a file: expected a folder .* go into gpunn\.Split"):
        load_mnist(tmp_path / "mnist.npz")
    for path in ("a\0b", b"a\0b"):
        with pytest.raises(DataError, match=r"cannot read a\\x00b: a null byte is in its name"):
            load_mnist(path)
    with pytest.raises(DataError, match="File name too long"):
        load_mnist(tmp_path / ("x" * 300))
    write_data_set(tmp_path)
    assert len(load_mnist(os.fsencode(tmp_path)).train) == 60
