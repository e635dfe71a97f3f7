"""Distorted images by SciPy, in float64."""

import math
import operator

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from gpunn.distortion import Distortion
from gpunn.kernels.formulas.dropout import Operations, hash_of

_hashed = hash_of(Operations(operator.add, operator.xor, operator.mul, operator.rshift))


def drawn(image: int, key: int, first: int, n: int) -> np.ndarray:
    """Return `n` draws of an image from number `first` on, uint32."""
    columns = np.arange(first, first + n, dtype=np.uint32)
    found: np.ndarray = _hashed(np.full(n, image, np.uint32), columns, np.uint32(key))
    return found


def displacement(distortion: Distortion, shape: tuple[int, int], image: int, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how far down and to the right of a pixel the elastic part samples, (rows, columns) each."""
    rows, columns = shape
    if not distortion.alpha:
        return np.zeros(shape), np.zeros(shape)
    sigma = distortion.sigma
    spacing, radius = max(1, math.floor(sigma)), math.floor(4 * sigma + 0.5)
    # Nodes lie on multiples of the spacing, also beyond the edges, as far as the Gaussian reaches.
    below, right = (
        np.arange(-(radius // spacing) * spacing, size + radius, spacing)[..., None] for size in (rows, columns)
    )
    n, fields = len(below) * len(right), []
    for field in range(2):
        draws = drawn(image, key, 16 + field * n, n)
        noise = draws.view(np.uint8).reshape(n, 4).sum(axis=1, dtype=float) - 510
        pixels = np.zeros((rows + 2 * radius, columns + 2 * radius))
        # A node stands for spacing^2 pixels with uniform noise from -1 to 1, whose variance is 1 / 3.
        variance = 4 * (256**2 - 1) / 12
        pixels[below + radius, right.T + radius] = noise.reshape(len(below), len(right)) * math.sqrt(
            spacing**2 / 3 / variance
        )
        smooth = gaussian_filter(pixels, sigma, mode="constant", truncate=4.0)
        fields.append(distortion.alpha * smooth[radius : radius + rows, radius : radius + columns])
    return fields[0], fields[1]


def affine(distortion: Distortion, image: int, key: int, ease: float) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix and offset by which places in the distorted image become places in the image, from its centre."""
    uniform = (drawn(image, key, 0, 7) >> np.uint32(8)) / 2.0**23 - 1
    angle, lean, tall, wide, down, right, choice = uniform
    turn = math.radians(distortion.rotation) * ease * angle
    side = math.radians(distortion.shear) * ease * lean
    if distortion.either:
        turn, side = (turn, 0.0) if choice >= 0 else (0.0, side)
    rotated = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    sheared = np.array([[1, 0], [math.tan(side), 1]])
    scaled = np.diag([1 / (1 + tall * distortion.scaling), 1 / (1 + wide * distortion.scaling)])
    return rotated @ sheared @ scaled, distortion.shift * np.array([down, right])


def distorted(
    images: np.ndarray, shape: tuple[int, int], ease: np.ndarray, distortion: Distortion, key: int
) -> np.ndarray:
    """Return distorted images (n, rows x columns), float64 grey levels that aren't rounded."""
    centre = (np.array(shape)[:, None, None] - 1) / 2
    pixels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")) - centre
    found = []
    for number, image in enumerate(images):
        matrix, offset = affine(distortion, number, key, float(ease[number]))
        places = np.einsum("ij,jrc->irc", matrix, pixels) + centre + offset[:, None, None]
        places += np.stack(displacement(distortion, shape, number, key))
        grey = image.reshape(shape).astype(float)
        found.append(map_coordinates(grey, places, order=1, mode="grid-constant").ravel())
    return np.array(found)
