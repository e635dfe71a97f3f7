"""Affine and elastic distortions of images, written once for CPUs and GPU threads, so that both make the same images.

A distorted image is sampled from the original at other places: pixel p takes the grey level at c + M (p - c) + t + d(p)
where c is the centre. M and t are the affine part, d(p) the elastic one: noise on a grid of nodes, smoothed by a
Gaussian. All numbers are drawn by the hash of `gpunn.kernels.formulas.dropout` from the image's number, the number of
the draw, and a key. Sums of products are rounded once, by `fma`, in the same order everywhere.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

TRUNCATE = 4.0
"""Radius of the Gaussian, in sigma."""

DRAWS = 16
"""Number of the first draw for nodes; those before are for the affine part."""

ROTATION, SHEAR, HEIGHT, WIDTH, DOWN, RIGHT, CHOICE = range(7)
"""Numbers of the draws for the affine part."""

MIDDLE = 510
"""Mean of the sum of the four bytes of a hash."""

DEVIATION = math.sqrt(65535)
"""Standard deviation of that sum, 147.8, in units of that of a uniform number from -1 to 1."""

BORDER = 1
"""Pixels of background around the image, so that places to sample at aren't negative."""


class Limits(NamedTuple):
    """How far the affine part goes, in either direction."""

    rotation: Any
    """Half the angle, in radians; below pi / 2."""
    shear: Any
    """Likewise."""
    scaling: Any
    """Factors are from 1 - this to 1 + this."""
    shift: Any
    """Pixels."""
    either: Any
    """1 if an image is either rotated or sheared, 0 if it is both."""


class Affine(NamedTuple):
    """Where a pixel at (y, x) from the centre is sampled from: (yy y + yx x + top, xy y + xx x + left).

    These are rows and columns of the image with its border.
    """

    yy: Any
    yx: Any
    xy: Any
    xx: Any
    top: Any
    left: Any


class Grid(NamedTuple):
    """The nodes along one axis of an image: `n` of them, `spacing` pixels apart.

    The weights of pixel x are 0 but for those of the `span` nodes from (x + `lead`) // `spacing` on.
    """

    n: int
    spacing: int
    lead: int
    span: int

    @classmethod
    def of(cls, sigma: float, size: int) -> "Grid":
        """Return the nodes for an axis of `size` pixels; if `sigma` is 0 one, of no weight."""
        if not sigma:
            return cls(1, 1, 0, 1)
        spacing, radius = max(1, int(sigma)), radius_of(sigma)
        before = radius // spacing
        n = before + (size - 1 + radius) // spacing + 1
        return cls(n, spacing, before * spacing - radius + spacing - 1, 2 * radius // spacing + 1)

    def weights(self, sigma: float, size: int) -> list[list[float]]:
        """Return the weight of each node, in rows, for each pixel; a pixel's weights are a Gaussian's of `sigma`."""
        if not sigma:
            return [[0.0] * size]
        radius = radius_of(sigma)
        of_distance = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(-radius, radius + 1)]
        total, first = math.fsum(of_distance), radius // self.spacing * self.spacing
        distances = [[abs(node * self.spacing - first - x) for x in range(size)] for node in range(self.n)]
        return [[of_distance[radius + d] / total if d <= radius else 0.0 for d in row] for row in distances]


def radius_of(sigma: float) -> int:
    """Return the distance in pixels beyond which a Gaussian's weights are taken to be 0."""
    return int(TRUNCATE * sigma + 0.5)


def sine_of(number: Callable[[float], Any], fma: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """Return the sine for -pi / 2 to pi / 2, Taylor's series: off by less than 1e-7."""
    s1, s2, s3, s4, s5 = [number((-1) ** k / math.factorial(2 * k + 1)) for k in range(1, 6)]

    def sine(x: Any) -> Any:
        z = x * x
        return fma(x * z, fma(z, fma(z, fma(z, fma(z, s5, s4), s3), s2), s1), x)

    return sine


def cosine_of(number: Callable[[float], Any], fma: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """Return the cosine, likewise."""
    one, c1, c2, c3, c4, c5, c6 = [number((-1) ** k / math.factorial(2 * k)) for k in range(7)]

    def cosine(x: Any) -> Any:
        z = x * x
        return fma(z, fma(z, fma(z, fma(z, fma(z, fma(z, c6, c5), c4), c3), c2), c1), one)

    return cosine


class Operations(NamedTuple):
    """The operations of the affine part besides +, - and *."""

    number: Callable[[float], Any]
    """A constant, in the precision of the computation."""
    fma: Callable[[Any, Any, Any], Any]
    """a b + c, rounded once."""
    sine: Callable[[Any], Any]
    cosine: Callable[[Any], Any]


def affine_of(ops: Operations) -> Callable[..., Affine]:
    """Return the function that makes the affine part of an image out of seven draws, numbers from -1 to 1.

    The image is scaled, then sheared to the side, then rotated; `ease` is the factor of its angles, and `y`, `x` is the
    centre, with the border. What is computed here is the way back, from distorted pixels to those of the image.
    """
    fma, sine, cosine, zero, one, two = ops.fma, ops.sine, ops.cosine, *map(ops.number, (0, 1, 2))

    def affine(
        rotation: Any,
        shear: Any,
        height: Any,
        width: Any,
        down: Any,
        right: Any,
        choice: Any,
        limits: Any,
        ease: Any,
        y: Any,
        x: Any,
    ) -> Affine:
        chosen = limits.either > zero
        turn = zero if chosen and choice < zero else rotation * (limits.rotation * ease)
        lean = zero if chosen and choice >= zero else shear * (limits.shear * ease)
        s, t = sine(turn), sine(lean)
        # Of the whole angles: the sine and the cosine of one, the tangent of the other.
        sin, cos = two * s * cosine(turn), fma(-two * s, s, one)
        tan = two * t * cosine(lean) / fma(-two * t, t, one)
        tall, wide = fma(height, limits.scaling, one), fma(width, limits.scaling, one)
        top, left = fma(down, limits.shift, y), fma(right, limits.shift, x)
        return Affine(fma(-sin, tan, cos) / tall, -sin / wide, fma(cos, tan, sin) / tall, cos / wide, top, left)

    return affine
