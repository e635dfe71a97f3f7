"""What a data set is here: images and labels, to train on and to test on."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunn.datasets.kind import ImageKind
from gpunn.errors import ConfigurationError, DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels: `images` (n, n_pixels) uint8 grey levels, row by row; `labels` (n,) uint8.

    `kind` describes the images, where that is known.
    `len(split)` is n; `split[:1000]`, or any other index of rows, is a smaller `Split`. Raises `DataError` where
    the arrays don't fit together.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    kind: ImageKind | None = None

    def __post_init__(self) -> None:
        for name, array, ndim in (("images", self.images, 2), ("labels", self.labels, 1)):
            if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != ndim:
                found = (
                    f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                )
                shape = "(n, n_pixels)" if ndim == 2 else "(n,)"
                raise DataError(f"found {name} as {found}, expected a NumPy array of uint8 and shape {shape}")
        if len(self.images) != len(self.labels):
            raise DataError(
                f"found {len(self.labels)} labels for {len(self.images)} images, expected one label an image"
            )
        if self.images.size == 0:
            raise DataError(f"found images of shape {self.images.shape}, expected one image and one pixel at least")
        if self.kind is not None:
            _check_kind(self.kind, self.images.shape[1])

    @property
    def grey(self) -> bool:
        """Whether the images are grey levels."""
        return bool(self.images.dtype == np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | NDArray[Any]) -> "Split":
        return Split(self.images[rows], self.labels[rows], self.kind)

    def check_labels(self, n_classes: int) -> None:
        """Raise `DataError` where a label is not one of 0 to `n_classes` - 1."""
        highest = int(self.labels.max())
        if highest >= n_classes:
            raise DataError(
                f"found the label {highest}, expected 0 to {n_classes - 1} for {n_classes} classes: "
                "mend the labels, or use a network with more outputs"
            )


def _check_kind(kind: object, n_pixels: int) -> None:
    if not isinstance(kind, ImageKind):
        raise DataError(f"found a {type(kind).__name__} for kind, expected an ImageKind or None")
    try:
        kind.check_pixels(n_pixels)
    except ConfigurationError as error:
        raise DataError(str(error)) from error


def check_fits(split: Split, sizes: tuple[int, ...]) -> None:
    """Raise `DataError` where a network of layer `sizes` can't take these images or name these classes."""
    if not isinstance(split, Split):
        raise DataError(f"found a {type(split).__name__}, expected a Split, such as the train of a Dataset")
    if split.images.shape[1] != sizes[0]:
        raise DataError(
            f"found images of {split.images.shape[1]} pixels, the network expects {sizes[0]}: "
            "use the data it was made for, or a network with as many inputs as pixels"
        )
    split.check_labels(sizes[-1])


class Dataset(NamedTuple):
    """A data set in two splits."""

    train: Split
    test: Split
