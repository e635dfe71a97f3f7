"""Data sets: images and labels for training and testing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gpunn.datasets.arrays import as_floats, as_images, as_targets, classes_of, in_rows, scaled
from gpunn.datasets.framing import measured_framing
from gpunn.datasets.kind import ImageKind
from gpunn.datasets.padding import padded, padded_kind
from gpunn.errors import ConfigurationError, DataError


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Split:
    """Images (or other inputs) and labels (or other targets): arrays or lists of numbers.

    `images` is (n, n_pixels) or (n, rows, columns), with or without a channel of 1; it is stored as (n, n_pixels),
    row-major. The dtype decides what a network is given:

    - uint8 arrays are grey levels and are divided by 255;
    - floats, booleans and integers are used unchanged, as float32 or float64;
    - but other integers are grey levels too if evidently so: at least 16 pixels, all values from 0 to 255 and some of
      at least 128. To override this, convert them to uint8 or to floats.

    `labels` are classes (n,), integers from 0 to 255, stored as uint8; or rows of targets (n, n_outputs), stored as
    floats: [[0], [1]] are two rows for one output, [0, 1] two classes. A network with one output also takes the classes
    0 and 1. Labels are stored as a read-only copy; images are copied only if converted.

    `kind` describes the images, if known; for grey levels (n, rows, columns) it is detected.

    `len(split)` is n; `split[:1000]`, or any other index of rows, is a smaller `Split`. Raises `DataError` if the
    arrays don't fit together or hold non-finite numbers.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    kind: ImageKind | None

    def __init__(self, images: ArrayLike, labels: ArrayLike, kind: ImageKind | None = None) -> None:
        array = as_images(images)
        found, targets = in_rows(array), as_targets(labels)
        if len(found) != len(targets):
            raise DataError(f"found {len(targets)} labels for {len(found)} images, expected one label per image")
        if kind is not None:
            _check_kind(kind, found.shape[1])
        elif array.ndim > 2 and array.dtype == np.uint8:
            shape = array.shape[2:] if array.ndim == 4 and array.shape[1] == 1 else array.shape[1:3]
            kind = ImageKind(shape=(int(shape[0]), int(shape[1])), framing=measured_framing(found, shape))
        for name, value in (("images", found), ("labels", targets), ("kind", kind)):
            object.__setattr__(self, name, value)

    @property
    def grey(self) -> bool:
        """Whether the images are grey levels."""
        return bool(self.images.dtype == np.uint8)

    @property
    def labeled(self) -> bool:
        """Whether the labels are classes."""
        return self.labels.ndim == 1

    @property
    def classes(self) -> NDArray[np.uint8] | None:
        """The class of each example, (n,); None if the targets encode no classes.

        Rows of targets encode classes if each row is non-negative and sums to 1, or is -1 with a single 1; a single
        column does if it holds only 0 and 1, or only -1 and 1.
        """
        return classes_of(self.labels)

    @property
    def n_classes(self) -> int:
        """Number of classes, from the labels or the class names; or number of targets per row."""
        if not self.labeled:
            return int(self.labels.shape[1])
        return max(1 + int(self.labels.max()), len(self.kind.classes) if self.kind is not None else 0)

    def inputs(self, dtype: DTypeLike) -> NDArray[Any]:
        """Return the images for an engine: uint8, or floats of `dtype`."""
        return self.images if self.grey else as_floats("images", self.images, dtype)

    def targets(self, dtype: DTypeLike, n_outputs: int) -> NDArray[Any]:
        """Return the labels for an engine: classes, uint8 (n,), or rows of `dtype`, (n, `n_outputs`)."""
        if not self.labeled:
            return as_floats("targets", self.labels, dtype)
        return self.labels.astype(dtype)[:, np.newaxis] if n_outputs == 1 else self.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator["Split"]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, rows: int | slice | list[int] | NDArray[Any]) -> "Split":
        if isinstance(rows, int | np.integer):
            rows = [int(rows)]
        return Split(self.images[rows], self.labels[rows], self.kind)

    def __repr__(self) -> str:
        inputs = f"{self.images.shape[1]} {'grey levels' if self.grey else self.images.dtype}"
        targets = f"labels up to {self.labels.max()}" if self.labeled else f"rows of {self.labels.shape[1]} targets"
        name = f"{self.kind.name}: " if self.kind is not None and self.kind.name else ""
        return f"Split({name}{len(self):,} x {inputs}, {targets})"

    def padded(self, shape: tuple[int, int]) -> "Split":
        """Return the images with zeros around them, of `shape`, (rows, columns); itself if they are of that shape.

        A network trained on them remembers it. Raises `DataError` if images are larger, or padded already.
        """
        if self.kind is not None and self.kind.shape == shape:
            return self
        kind = padded_kind(self.kind, shape)
        return Split(padded(self.images, kind), self.labels, kind)

    def check_labels(self, n_classes: int) -> None:
        """Raise `DataError` unless all labels are from 0 to `n_classes` - 1."""
        if not self.labeled:
            return
        lowest, highest = int(self.labels.min()), int(self.labels.max())
        if highest < n_classes:
            return
        advice = f"use a network with {highest + 1} outputs (--classes {highest + 1}), or mend the labels"
        if lowest == 1 and highest == n_classes:
            advice = f"these labels start at 1: subtract 1, or use {highest + 1} outputs (--classes {highest + 1})"
        raise DataError(f"found the label {highest}, expected 0 to {n_classes - 1} for {n_classes} classes: {advice}")


def _check_kind(kind: object, n_pixels: int) -> None:
    if not isinstance(kind, ImageKind):
        raise DataError(f"kind must be an ImageKind or None, got {type(kind).__name__}")
    try:
        kind.check_pixels(n_pixels)
    except ConfigurationError as error:
        raise DataError(str(error)) from error


def check_fits(split: Split, sizes: tuple[int, ...]) -> None:
    """Raise `DataError` if a network with layer `sizes` can't take these images or labels."""
    if not isinstance(split, Split):
        raise DataError(f"found a {type(split).__name__}, expected a Split, such as dataset.train")
    if split.images.shape[1] != sizes[0]:
        raise DataError(
            f"found images of {split.images.shape[1]} pixels, the network expects {sizes[0]}: "
            "use the data it was made for, or a network with as many inputs as pixels"
        )
    if split.labeled:
        split.check_labels(max(2, sizes[-1]))  # one output means two classes
        return
    if (width := split.labels.shape[1]) != sizes[-1]:
        advice = "labels that are classes are (n,), so ravel() them; or " if width == 1 else ""
        raise DataError(
            f"found rows of {width} target{'s' * (width != 1)}, the network has {sizes[-1]} outputs: "
            f"{advice}use a network with as many outputs as targets"
        )


def check_alike(trained: Split, test: Split) -> None:
    """Raise `DataError` if one split has grey levels and the other floats that can't be grey levels divided by 255."""
    for one, other in ((trained, test), (test, trained)):
        if one.grey and not other.grey and not scaled(other.images):
            raise DataError(
                f"found grey levels to {'train' if one is trained else 'test'} on, and floats from "
                f"{other.images.min():g} to {other.images.max():g} for the other: expected one kind of inputs"
            )


HELD_OUT = 1
"""Second seed component of the generator of held-out examples; epoch orders have none, dropout has 2."""


def n_held_out_of(n: int, share: float) -> int:
    """Return how many of `n` examples `hold_out` holds out; raises `ConfigurationError` likewise."""
    n_held_out = max(1, round(share * n))
    if n_held_out >= n:
        raise ConfigurationError(
            f"{n_held_out} of {n} examples would be held out, which leaves none to train on: use more examples or a "
            "smaller share"
        )
    return n_held_out


def hold_out(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Return the examples to train on and a `share` of them that is held out, drawn by `seed`, at least one each.

    Raises `ConfigurationError` if none would be left to train on.
    """
    n_held_out = n_held_out_of(len(split), share)
    order = np.random.default_rng((seed, HELD_OUT)).permutation(len(split))
    return split[np.sort(order[n_held_out:])], split[np.sort(order[:n_held_out])]


class Dataset(NamedTuple):
    """A training and a test split."""

    train: Split
    test: Split

    @property
    def n_classes(self) -> int:
        """Number of classes, from the labels or the class names; or number of targets per row."""
        return max(split.n_classes for split in self)

    def padded(self, shape: tuple[int, int]) -> "Dataset":
        """Return the data set with zeros around its images, of `shape`, see `Split.padded`."""
        return Dataset(self.train.padded(shape), self.test.padded(shape))
