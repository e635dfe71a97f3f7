import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from gpunn import DataError, Dataset, load_mnist

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
        ("train-labels-idx1-ubyte", np.full(60, 10, np.uint8), "found the label 10, expected 0 to 9 for 10 classes"),
        ("train-labels-idx1-ubyte", np.zeros((60, 1), np.uint8), r"expected uint8 labels \(n,\)"),
        ("train-images-idx3-ubyte", np.zeros((60, 16), np.uint8), r"expected uint8 images \(n, rows, columns\)"),
        ("train-images-idx3-ubyte", np.zeros((0, 4, 4), np.uint8), r"holds uint8 of shape \(0, 4, 4\)"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 4, 5), np.uint8), "16 pixels and test images of 20"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    write_data_set(tmp_path)
    (tmp_path / name).write_bytes(idx_bytes(array))
    with pytest.raises(DataError, match=message):
        load_mnist(tmp_path)


def test_more_classes_can_be_allowed(tmp_path: Path) -> None:
    write_data_set(tmp_path, n_classes=47)
    with pytest.raises(DataError, match="expected 0 to 9 for 10 classes"):
        load_mnist(tmp_path)
    assert load_mnist(tmp_path, n_classes=47).train.labels.max() == 46


def test_raw_and_gzipped_files_mix(tmp_path: Path) -> None:
    write_data_set(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    assert len(load_mnist(tmp_path).train) == 60
