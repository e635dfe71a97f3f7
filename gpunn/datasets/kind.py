"""Description of a data set's images, stored with the networks trained on them."""

import re
import reprlib
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from gpunn.errors import ConfigurationError

FRAMINGS = ("whole", "digit", "emnist")
LONGEST_NAME = 100
MOST_CLASSES = 256
DIGEST = re.compile("[0-9a-f]{32}|")


@dataclass(frozen=True)
class ImageKind:
    """Description of images: `name` of the data set, `shape` (rows, columns), `framing`, and names of the `classes`.

    `framing` says how to preprocess a picture to match these images: "digit" as in MNIST, scaled into 20 x 20 pixels
    and centred by mass in 28 x 28; "emnist" as in EMNIST, scaled into 24 x 24 and centred by its box in 28 x 28;
    "whole": the whole picture is scaled to `shape` without cropping. `shape` is None if only the number of pixels is
    known, and `classes` is empty if classes have only numbers.

    `digest` is a hash of the data set's files, see `gpunn.load_mnist`, or "" if unknown; it doesn't count where kinds
    are compared.

    `unpadded` is the shape that images had before background was put around them, or None; see `Split.padded`.

    Raises `ConfigurationError` for invalid values.
    """

    name: str = ""
    shape: tuple[int, int] | None = None
    framing: str = "whole"
    classes: tuple[str, ...] = ()
    digest: str = field(default="", compare=False)
    unpadded: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise ConfigurationError(
                f"name must be printable text of at most {LONGEST_NAME} characters, got {reprlib.repr(self.name)}"
            )
        if self.shape is not None and not _is_shape(self.shape):
            raise ConfigurationError(
                f"shape must be a tuple of two integers >= 1, or None, got {reprlib.repr(self.shape)}"
            )
        if self.unpadded is not None and not (
            _is_shape(self.unpadded) and self.shape is not None and fits_in(self.unpadded, self.shape)
        ):
            raise ConfigurationError(
                f"unpadded must be a shape that fits into {self.shape}, or None, got {reprlib.repr(self.unpadded)}"
            )
        if self.framing not in FRAMINGS:
            raise ConfigurationError(f"framing must be one of {', '.join(FRAMINGS)}, got {reprlib.repr(self.framing)}")
        if (
            not isinstance(self.classes, tuple)
            or len(self.classes) > MOST_CLASSES
            or not all(map(_is_name, self.classes))
        ):
            raise ConfigurationError(
                f"classes must be a tuple of at most {MOST_CLASSES} names, got {reprlib.repr(self.classes)}"
            )
        if not isinstance(self.digest, str) or not DIGEST.fullmatch(self.digest):
            raise ConfigurationError(f"digest must be 32 hexadecimal digits, or empty, got {reprlib.repr(self.digest)}")

    @property
    def original(self) -> "ImageKind":
        """The kind of the images before they were padded."""
        return self if self.unpadded is None else replace(self, shape=self.unpadded, unpadded=None)

    def class_name(self, label: int) -> str:
        """Return the name of the class `label`, or its number if it has none."""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def check_pixels(self, n_pixels: int) -> None:
        """Raise `ConfigurationError` if `shape` doesn't have `n_pixels` pixels."""
        if self.shape is not None and self.shape[0] * self.shape[1] != n_pixels:
            raise ConfigurationError(
                f"found images of {self.shape[0]} x {self.shape[1]} pixels, expected {n_pixels} pixels in all"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON types, without what is unknown of its files, or of padding."""
        return {name: value for name, value in asdict(self).items() if value or name not in ("digest", "unpadded")}

    @classmethod
    def from_dict(cls, found: object) -> Self:
        """Return the description from the output of `to_dict`; raises `ConfigurationError` for anything else."""
        if not isinstance(found, dict):
            raise ConfigurationError(f"found {reprlib.repr(found)}, expected an object")
        values = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        for key in ("shape", "classes", "unpadded"):  # JSON has no tuples
            if isinstance(values.get(key), list):
                values[key] = tuple(values[key])
        return cls(**values)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME and value.isprintable()


def fits_in(shape: tuple[int, int], larger: tuple[int, int]) -> bool:
    """Whether images of `shape` fit into images of the shape `larger`."""
    return shape[0] <= larger[0] and shape[1] <= larger[1]


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)
