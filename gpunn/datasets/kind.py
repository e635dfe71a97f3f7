"""What the images of a data set are like, so that a network remembers what it was trained on."""

import reprlib
from dataclasses import asdict, dataclass
from typing import Any, Self

from gpunn.errors import ConfigurationError

FRAMINGS = ("whole", "digit", "emnist")
LONGEST_NAME = 100
MOST_CLASSES = 256


@dataclass(frozen=True)
class ImageKind:
    """What images are like: `name` of the set, `shape` (rows, columns), `framing`, and the names of the `classes`.

    `framing` says how a picture is prepared to look like these images: "digit" as MNIST's makers did, in a box of
    20 x 20 pixels whose ink is centred by mass in 28 x 28; "emnist" as EMNIST's did, in a box of 24 x 24 that is itself
    in the middle of 28 x 28; "whole": the whole picture is shrunk to `shape`, and nothing is cropped. `shape` is None
    where only the number of pixels is known, and `classes` is empty where the classes have no names but their numbers.

    Raises `ConfigurationError` for what no data set can have.
    """

    name: str = ""
    shape: tuple[int, int] | None = None
    framing: str = "whole"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise ConfigurationError(f"found the name {reprlib.repr(self.name)} of a data set, expected printable text")
        if self.shape is not None and not _is_shape(self.shape):
            raise ConfigurationError(
                f"found images of shape {reprlib.repr(self.shape)}, expected two whole numbers of 1 or more, or None"
            )
        if self.framing not in FRAMINGS:
            raise ConfigurationError(
                f"found the framing {reprlib.repr(self.framing)}, expected {' or '.join(FRAMINGS)}"
            )
        if (
            not isinstance(self.classes, tuple)
            or len(self.classes) > MOST_CLASSES
            or not all(map(_is_name, self.classes))
        ):
            raise ConfigurationError(
                f"found the classes {reprlib.repr(self.classes)}, expected a tuple of at most {MOST_CLASSES} names"
            )

    def class_name(self, label: int) -> str:
        """Return the name of the class `label`: its number, where it has no other."""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def check_pixels(self, n_pixels: int) -> None:
        """Raise `ConfigurationError` where images of this `shape` don't have so many pixels."""
        if self.shape is not None and self.shape[0] * self.shape[1] != n_pixels:
            raise ConfigurationError(
                f"found images of {self.shape[0]} x {self.shape[1]} pixels, expected {n_pixels} pixels in all"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: object) -> Self:
        """Return the description that `to_dict` gave; raises `ConfigurationError` for anything else."""
        if not isinstance(found, dict):
            raise ConfigurationError(f"found {reprlib.repr(found)}, expected an object")
        values = {key: found[key] for key in ("name", "shape", "framing", "classes") if key in found}
        for key in ("shape", "classes"):  # JSON has no tuples
            if isinstance(values.get(key), list):
                values[key] = tuple(values[key])
        return cls(**values)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME and value.isprintable()


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)
