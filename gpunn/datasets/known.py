"""Known data sets in MNIST's format: names, orientation of the images, and class names."""

import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpunn.datasets.framing import measured_framing
from gpunn.datasets.kind import LONGEST_NAME, ImageKind
from gpunn.printing import printable

DIGITS, LETTERS = tuple(string.digits), tuple(string.ascii_uppercase)

EMNIST_CLASSES = {
    "letters": LETTERS,
    "digits": DIGITS,
    "mnist": DIGITS,
    "balanced": (*DIGITS, *LETTERS, *"abdefghnqrt"),
    "bymerge": (*DIGITS, *LETTERS, *"abdefghnqrt"),
    "byclass": (*DIGITS, *LETTERS, *string.ascii_lowercase),
}
"""Source: G. Cohen, S. Afshar, J. Tapson and A. van Schaik, "EMNIST: an extension of MNIST to handwritten letters"."""

FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Source: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset"."""

FASHION_FOLDERS = {"fashion", "fashionmnist", "mnistfashion", "fmnist"}
KUZUSHIJI_FOLDERS = {"kmnist", "kuzushiji", "kuzushijimnist"}
"""Usual folder names of these data sets, reduced to lower-case letters and digits."""

FASHION_STARTS = (9, 0, 0, 3, 0, 2, 7, 2, 5, 5), (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)
"""First training and test labels, to recognise the data set, as its files have MNIST's names."""

MNIST_STARTS = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)

KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
"""Source: T. Clanuwat and others, "Deep learning for classical Japanese literature"."""


@dataclass(frozen=True)
class Known:
    """Properties of a data set derived from the `prefix` of its file names."""

    prefix: str

    @property
    def emnist(self) -> str:
        """Name of the EMNIST set, or empty."""
        name = self.prefix.removeprefix("emnist-")
        return name if name != self.prefix and name in EMNIST_CLASSES else ""

    @property
    def transposed(self) -> bool:
        """Whether the images are stored transposed, as in all of EMNIST."""
        return self.prefix == "emnist" or self.prefix.startswith("emnist-")

    def first_label(self, lowest: int, highest: int) -> int:
        """Return the label of the first class, given the `lowest` and `highest`: EMNIST's letters count from 1."""
        return 1 if self.emnist == "letters" and lowest >= 1 and highest <= len(LETTERS) else 0


def kind_of(
    known: Known, folder: Path, shape: tuple[int, int], images: NDArray[np.uint8], labels: tuple[NDArray[np.uint8], ...]
) -> ImageKind:
    """Return the description of images (n, n_pixels), whose training and test `labels` count from 0."""
    n_classes = 1 + max(int(each.max()) for each in labels)
    if known.transposed:
        classes = EMNIST_CLASSES.get(known.emnist, ())
        name = f"EMNIST {known.emnist}".strip()
        return _kind(name, shape, "emnist" if shape == (28, 28) else "whole", classes, n_classes)
    framing = measured_framing(images, shape)
    if known.prefix == "qmnist":
        return _kind("QMNIST", shape, framing, (), n_classes)
    if known.prefix:
        return _kind(known.prefix, shape, framing, (), n_classes)
    starts = tuple(tuple(each[:10].tolist()) for each in labels)
    places = {"".join(filter(str.isalnum, part.lower())) for part in folder.absolute().parts[-3:]}
    if starts == MNIST_STARTS and framing == "digit":
        return _kind("MNIST", shape, framing, (), n_classes)
    if starts == FASHION_STARTS or (places & FASHION_FOLDERS and framing == "whole"):
        return _kind("Fashion-MNIST", shape, "whole", FASHION, n_classes)
    if places & KUZUSHIJI_FOLDERS and framing == "whole":
        return _kind("KMNIST", shape, framing, KUZUSHIJI, n_classes)
    return _kind(folder.absolute().name, shape, framing, (), n_classes)


def _kind(name: str, shape: tuple[int, int], framing: str, classes: tuple[str, ...], n_classes: int) -> ImageKind:
    """Return the description, with class names only if there are enough of them."""
    return ImageKind(printable(name)[:LONGEST_NAME], shape, framing, classes if n_classes <= len(classes) else ())
