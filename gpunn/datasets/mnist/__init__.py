"""The embedded MNIST, and other data sets in its four-file format (Fashion-MNIST, KMNIST, EMNIST, QMNIST).

MNIST's 60,000 training and 10,000 test images of handwritten digits, 28 x 28 grey levels, are by Y. LeCun,
C. Cortes and C. J. C. Burges, derived from NIST's Special Databases 1 and 3, under CC BY-SA 3.0.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.datasets.folder import ROLES, find_files
from gpunn.datasets.idx import read_idx
from gpunn.datasets.known import Known, kind_of
from gpunn.datasets.split import Dataset, Split
from gpunn.errors import DataError
from gpunn.printing import printable

logger = logging.getLogger(__name__)

QMNIST_COLUMNS = 8
"""Number of columns of QMNIST's labels; the first is the class."""


def load_mnist(data_dir: str | bytes | os.PathLike[str] | None = None, *, n_classes: int | None = None) -> Dataset:
    """Return the embedded MNIST, or the data set in `data_dir`, as `Dataset(train, test)`.

    `data_dir` holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`, each gzipped (with `.gz`) or not, in lower or upper case. Fashion-MNIST and KMNIST use
    the same names; those of EMNIST (`emnist-letters-train-images-idx3-ubyte`) and QMNIST
    (`qmnist-train-labels-idx2-int`) are recognised too. If a folder holds several data sets, append the prefix of the
    file names, as in "emnist/emnist-letters", or "mnist" for MNIST's own names.

    `images` (n, n_pixels) are uint8, row-major, of any size. EMNIST's images are stored transposed; files with EMNIST's
    names are turned upright. `labels` (n,) are uint8 from 0; `n_classes`, if given, is checked to cover them. EMNIST's
    letters, which count from 1, are shifted to start at 0. `kind` describes the images, with a hash of the files'
    bytes, BLAKE2b in the order of `gpunn.datasets.folder.ROLES`. The arrays are read-only.

    Raises `DataError` for files that are missing, damaged, or don't fit together.
    """
    if data_dir is not None and "\0" in os.fsdecode(data_dir):
        raise DataError(f"cannot read {printable(data_dir)}: a null byte is in its name")
    folder, found = find_files(Path(__file__).parent if data_dir is None else Path(os.fsdecode(data_dir)))
    known = Known(found.prefix)
    parts = []
    for part in ("train", "test"):
        images_file, labels_file = found.files[f"{part} images"], found.files[f"{part} labels"]
        images, labels = _read_images(images_file, transposed=known.transposed), _read_labels(labels_file)
        if len(images) != len(labels):
            raise DataError(
                f"{printable(labels_file)}: found {len(labels)} labels for {len(images)} images, expected one label "
                "per image"
            )
        parts.append((images, labels, labels_file))
    (train, train_labels, _), (test, test_labels, _) = parts
    if train.shape[1:] != test.shape[1:]:
        sizes = " and test images of ".join(f"{images.shape[1]} x {images.shape[2]}" for images in (train, test))
        raise DataError(f"{printable(folder)} has training images of {sizes} pixels: expected one size")
    first = _first_label(known, folder, np.concatenate([train_labels, test_labels]))
    try:
        labels_from_0 = tuple(Split(images, labels - first).labels for images, labels, _ in parts)
    except DataError as error:
        raise DataError(f"{printable(folder)}: {error}") from error
    shape = (int(train.shape[1]), int(train.shape[2]))
    rows = train.reshape(len(train), -1)
    kind = replace(kind_of(known, folder, shape, rows, labels_from_0), digest=_digest(found.files))
    splits = []
    for (images, _, labels_file), labels in zip(parts, labels_from_0, strict=True):
        split = Split(images.reshape(len(images), -1), labels, kind)
        if n_classes is not None:
            try:
                split.check_labels(n_classes)
            except DataError as error:
                raise DataError(f"{printable(labels_file)}: {error}") from error
        splits.append(split)
    return Dataset(*splits)


def _digest(files: Mapping[str, Path]) -> str:
    """Return a hash of the bytes of all files."""
    found = hashlib.blake2b(digest_size=16)
    for role in ROLES:
        try:
            found.update(files[role].read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {printable(files[role])}: {error.strerror or error}") from error
    return found.hexdigest()


def _first_label(known: Known, folder: Path, labels: NDArray[Any]) -> int:
    lowest, highest = int(labels.min()), int(labels.max())
    first = known.first_label(lowest, highest)
    if lowest == 1 and first == 0:
        logger.warning(
            "the labels in %s start at 1: they take %d classes, and none is of class 0", printable(folder), highest + 1
        )
    return first


def _read_images(path: Path, *, transposed: bool) -> NDArray[np.uint8]:
    """Return images (n, rows, columns), upright."""
    images = read_idx(path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.size == 0:
        raise DataError(
            f"{printable(path)} holds {images.dtype} of shape {images.shape}: expected uint8 images (n, rows, columns)"
        )
    if transposed:
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
        images.flags.writeable = False
    return images


def _read_labels(path: Path) -> NDArray[np.int64]:
    """Return labels (n,) as int64."""
    labels = read_idx(path)
    if labels.ndim == 2 and labels.shape[1] == QMNIST_COLUMNS and labels.dtype.kind == "i":
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{printable(path)} holds {labels.dtype} of shape {labels.shape}: expected whole numbers (n,)")
    return labels.astype(np.int64)
