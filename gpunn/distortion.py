"""Distortions of images: what is drawn for each image in each epoch."""

from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.checks import check_number, check_whole
from gpunn.datasets.split import Split
from gpunn.errors import ConfigurationError, DataError
from gpunn.kernels.distortion import Elastic, elastic, limits
from gpunn.kernels.formulas.distortion import Limits

DISTORTION = 3
"""Second seed component of the generator of keys; epoch orders have none, early stopping has 1, dropout 2."""

LARGEST = 1000.0
"""Pixels: more than any use needs, and few enough for float32."""


@final
@dataclass(frozen=True)
class Distortion:
    """How images are distorted: each number is drawn anew for each image and epoch, and is as likely to be negative.

    - `rotation` and `shear` are the largest angles, in degrees; shear moves rows to the side. With `either`, an image
      is rotated or sheared, not both. Classes in `halved` get angles half as large.
    - `scaling` is the largest relative change of height and of width, each by itself.
    - `shift` is the largest shift down and to the right, in pixels.
    - Elastic: each pixel is moved down and to the right by `alpha` times fields of noise, uniform numbers from -1 to 1,
      smoothed by a Gaussian of `sigma` pixels. Source: Simard et al., "Best practices for convolutional neural
      networks", 2003.

    Of the noise, numbers that fall within a square of int(sigma) pixels are drawn as one sum, at one pixel: smoothed,
    that makes no difference. The Gaussian ends at 4 `sigma`. Around the image there is background, grey level 0.

    Raises `ConfigurationError` for numbers out of range.
    """

    rotation: float = 0.0
    shear: float = 0.0
    scaling: float = 0.0
    shift: float = 0.0
    sigma: float = 0.0
    alpha: float = 0.0
    either: bool = False
    halved: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_number("rotation", self.rotation, least=0, most=180)
        check_number("shear", self.shear, least=0, below=90)
        check_number("scaling", self.scaling, least=0, below=1)
        check_number("shift", self.shift, least=0, most=LARGEST)
        check_number("sigma", self.sigma, least=0, most=LARGEST)
        check_number("alpha", self.alpha, least=0, most=LARGEST)
        if self.alpha and not self.sigma:
            raise ConfigurationError(f"elastic distortions need a sigma > 0, got 0 with alpha {self.alpha:g}")
        if not isinstance(self.halved, tuple):
            raise ConfigurationError(f"halved must be a tuple of classes, got {self.halved!r}")
        for label in self.halved:
            check_whole("a class in halved", label, 0)

    def key(self, seed: int, epoch: int) -> int:
        """Return the 32-bit number that decides what is drawn in `epoch`, from 1, given the training seed `seed`."""
        return int(np.random.default_rng((seed, DISTORTION, epoch)).integers(2**32))

    def limits(self) -> Limits:
        """Return the numbers of the affine part for kernels."""
        return limits(self.rotation, self.shear, self.scaling, self.shift, either=self.either)

    def elastic(self, shape: tuple[int, int]) -> Elastic:
        """Return the nodes of the elastic part and their weights, on the host, for images of `shape`."""
        return elastic(shape, self.sigma, self.alpha)

    def ease(self, split: Split) -> NDArray[np.float32]:
        """Return the factor of each image's angles, (n,): 1, or 1/2 for classes in `halved`.

        Raises `DataError` if classes are needed, and the labels encode none.
        """
        found = np.ones(len(split), np.float32)
        if self.halved:
            if split.classes is None:
                raise DataError(
                    "distortions that differ between classes need labels that are classes: halved must be ()"
                )
            found[np.isin(split.classes, self.halved)] = 0.5
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what is drawn, as JSON types, without what is 0."""
        return {name: list(value) if name == "halved" else value for name, value in asdict(self).items() if value}


DISTORTIONS = {
    "affine": Distortion(rotation=15, shear=15, scaling=0.15, shift=1, halved=(1, 7)),
    "simard": Distortion(sigma=4, alpha=34),
    "ciresan": Distortion(rotation=15, shear=15, scaling=0.175, sigma=5, alpha=37, either=True, halved=(1, 7)),
}
"""By name: affine alone; elastic alone, as Simard et al. 2003; and both, as Ciresan et al., "Deep, big, simple neural
nets for handwritten digit recognition", 2010, who turn ones and sevens less, as they are alike."""


def distortion_for(choice: str | Distortion | None) -> Distortion | None:
    """Return the distortion named `choice`, or `choice` itself; raises `ConfigurationError` for anything else."""
    if choice is None or isinstance(choice, Distortion):
        return choice
    if not isinstance(choice, str) or choice not in DISTORTIONS:
        raise ConfigurationError(
            f"distort must be one of {', '.join(DISTORTIONS)}, or a gpunn.Distortion, got {choice!r}"
        )
    return DISTORTIONS[choice]


def shape_to_distort(split: Split) -> tuple[int, int]:
    """Return rows and columns of the images of `split`; raises `DataError` unless they are known grey levels."""
    if not split.grey:
        raise DataError(f"found images of {split.images.dtype} to distort, expected grey levels (uint8)")
    if split.kind is None or split.kind.shape is None:
        raise DataError(
            f"found images of {split.images.shape[1]} pixels in unknown rows to distort: give a Split of "
            "images (n, rows, columns), or its kind: gpunn.datasets.ImageKind(shape=(rows, columns))"
        )
    return split.kind.shape
