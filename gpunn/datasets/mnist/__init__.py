"""MNIST, embedded beside this file, and other data sets in its four-file form (Fashion-MNIST, KMNIST, EMNIST).

MNIST's 60,000 training and 10,000 test images of handwritten digits, 28 x 28 grey levels, are by Y. LeCun,
C. Cortes and C. J. C. Burges, derived from NIST's Special Databases 1 and 3, under CC BY-SA 3.0.
"""

import os
from pathlib import Path

import numpy as np

from gpunn.datasets.idx import read_idx
from gpunn.datasets.split import Dataset, Split
from gpunn.errors import DataError

PREFIXES = {"train": "train", "test": "t10k"}


def load_mnist(data_dir: str | os.PathLike[str] | None = None, *, n_classes: int = 10) -> Dataset:
    """Return the embedded MNIST, or the data set in `data_dir`, as `Dataset(train, test)`.

    `data_dir` holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`, each gzipped (with `.gz`) or not. Images may have any size and are laid out row by
    row, `images` (n, n_pixels) uint8; `labels` (n,) uint8 lie in 0 to `n_classes` - 1. The arrays are read-only.

    Raises `DataError` for files that are missing, damaged, or don't fit together.
    """
    folder = Path(__file__).parent if data_dir is None else Path(data_dir)
    try:
        names = set(os.listdir(folder))  # noqa: PTH208 - names are wanted, not paths
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"there is no folder {folder}: expected one with the four files of an MNIST-like data set"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error
    train, test = (_read_split(folder, names, prefix, n_classes) for prefix in PREFIXES.values())
    if train.images.shape[1] != test.images.shape[1]:
        raise DataError(
            f"{folder} has training images of {train.images.shape[1]} pixels and test images of "
            f"{test.images.shape[1]}: expected one size"
        )
    return Dataset(train, test)


def _read_split(folder: Path, names: set[str], prefix: str, n_classes: int) -> Split:
    images_file = _find(folder, names, f"{prefix}-images", "idx3-ubyte")
    images = read_idx(images_file)
    if images.dtype != np.uint8 or images.ndim != 3 or images.size == 0:
        raise DataError(
            f"{images_file} holds {images.dtype} of shape {images.shape}: expected uint8 images (n, rows, columns)"
        )
    labels_file = _find(folder, names, f"{prefix}-labels", "idx1-ubyte")
    labels = read_idx(labels_file)
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(f"{labels_file} holds {labels.dtype} of shape {labels.shape}: expected uint8 labels (n,)")
    try:
        split = Split(images.reshape(len(images), -1), labels)
        split.check_labels(n_classes)
    except DataError as error:
        raise DataError(f"{labels_file}: {error}") from error
    return split


def _find(folder: Path, names: set[str], stem: str, kind: str) -> Path:
    # Some distributions write train-images.idx3-ubyte, with a dot.
    for name in (f"{stem}-{kind}", f"{stem}-{kind}.gz", f"{stem}.{kind}", f"{stem}.{kind}.gz"):
        if name in names:
            return folder / name
    raise DataError(f"there is no {stem}-{kind} in {folder}, gzipped or not: expected the four files of MNIST's form")
