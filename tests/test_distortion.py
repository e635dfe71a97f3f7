"""Distorted images: held to SciPy in float64, the same on CPUs and GPUs."""

from typing import Any

import numpy as np
import pytest

from gpunn import Dataset
from gpunn.distortion import DISTORTIONS, Distortion
from gpunn.errors import ConfigurationError
from gpunn.kernels.cpu.distort import distort as on_cpu
from gpunn.kernels.formulas.distortion import Grid

from . import distortion_oracle as oracle
from .host_gpu import HostGpu

ALL = Distortion(rotation=40, shear=20, scaling=0.3, shift=2.5, sigma=1.7, alpha=9)
KEY = 0x9ABCDEF1
CASES = {
    **DISTORTIONS,
    "all": ALL,
    "upside down": Distortion(rotation=180, shear=60),
    "rough": Distortion(sigma=0.4, alpha=2),
    "smooth": Distortion(sigma=30, alpha=900),
    "far": Distortion(shift=1000, sigma=2, alpha=1000),
}
SHAPES = [(28, 28), (29, 29), (5, 7), (1, 1), (9, 70), (33, 3)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> HostGpu:
    return HostGpu(monkeypatch)


def distort(
    images: np.ndarray,
    shape: tuple[int, int],
    ease: np.ndarray,
    distortion: Distortion,
    key: int = KEY,
    threads: int = 1,
) -> np.ndarray:
    """Return images distorted by the kernel for CPUs."""
    out = np.full_like(images, 77)
    for thread in range(threads):
        on_cpu(
            images, ease, distortion.elastic(shape), distortion.limits(), key, out=out, thread=thread, threads=threads
        )
    return out


def drawn(shape: tuple[int, int], n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return random images, and factors of their angles."""
    rng = np.random.default_rng(shape)
    return rng.integers(0, 256, (n, shape[0] * shape[1]), dtype=np.uint8), rng.choice([0.5, 1], n).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_are_distorted_as_by_scipy_in_float64(shape: tuple[int, int], name: str) -> None:
    images, ease = drawn(shape)
    expected = oracle.distorted(images, shape, ease, CASES[name], KEY)
    np.testing.assert_allclose(distort(images, shape, ease, CASES[name]), expected, atol=0.51)


@pytest.mark.parametrize("name", CASES)
def test_gpus_make_the_images_that_cpus_make(gpu: HostGpu, name: str) -> None:
    for shape in SHAPES:
        images, ease = drawn(shape, 3)
        distortion, out = CASES[name], np.full_like(images, 77)
        on_gpu = gpu.backend.kernels
        on_gpu.distort(images, ease, distortion.elastic(shape), distortion.limits(), KEY, out=out)
        np.testing.assert_array_equal(out, distort(images, shape, ease, distortion))


def test_an_image_is_the_same_whatever_the_threads_and_the_other_images() -> None:
    images, ease = drawn((28, 28), 31)
    whole = distort(images, (28, 28), ease, ALL)
    for threads in (2, 3, 40):
        np.testing.assert_array_equal(distort(images, (28, 28), ease, ALL, threads=threads), whole)
    np.testing.assert_array_equal(distort(images[:9], (28, 28), ease[:9], ALL), whole[:9])
    same = distort(np.repeat(images[:1], 31, axis=0), (28, 28), ease, ALL)
    assert len(np.unique(same, axis=0)) == 31
    assert (distort(images, (28, 28), ease, ALL, key=KEY ^ 1) != whole).any(axis=1).all()


def test_without_distortion_images_stay_as_they_are() -> None:
    images, ease = drawn((9, 70))
    np.testing.assert_array_equal(distort(images, (9, 70), ease, Distortion()), images)


def test_nodes_make_the_field_that_noise_of_every_pixel_makes() -> None:
    distortion = DISTORTIONS["ciresan"]
    fields: list[np.ndarray] = []
    for image in range(400):
        fields += oracle.displacement(distortion, (28, 28), image, KEY)
    found = np.array(fields) / distortion.alpha
    # Of uniform noise of variance 1 / 3 at every pixel, smoothed by a Gaussian of sigma.
    variance = 1 / 3 / (4 * np.pi * distortion.sigma**2)
    assert np.mean(found**2) == pytest.approx(variance, rel=0.05)
    assert np.mean(found**2, axis=0).min() > 0.75 * variance
    assert np.mean(found**2, axis=0).max() < 1.25 * variance
    for distance in (3, 5, 10):
        products = np.mean(found[:, :, distance:] * found[:, :, :-distance])
        expected = variance * np.exp(-(distance**2) / (4 * distortion.sigma**2))
        assert products == pytest.approx(expected, abs=0.05 * variance)
    assert np.mean(found**4) / np.mean(found**2) ** 2 == pytest.approx(3, abs=0.2)  # nearly normal
    assert abs(np.mean(found)) < 0.05 * np.sqrt(variance)


@pytest.mark.parametrize("sigma", [0.3, 1, 1.99, 2, 3.5, 5, 9])
def test_fields_vary_alike_at_every_pixel(sigma: float) -> None:
    grid = Grid.of(sigma, 40)
    found = grid.spacing * np.sum(np.square(grid.weights(sigma, 40)), axis=0)
    pixels = np.exp(-0.5 * (np.arange(-50, 51) / sigma) ** 2)
    np.testing.assert_allclose(found, np.sum((pixels / pixels.sum()) ** 2), rtol=4e-4)


def test_digits_keep_their_ink(mnist: Dataset) -> None:
    images = mnist.train.images[:2000]
    for distortion in DISTORTIONS.values():
        found = distort(images, (28, 28), distortion.ease(mnist.train[:2000]), distortion)
        assert np.sum(found, dtype=float) == pytest.approx(np.sum(images, dtype=float), rel=0.1)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"rotation": 181}, "rotation must be a finite number >= 0 and <= 180, got 181"),
        ({"shear": 90.0}, "shear must be a finite number >= 0 and < 90, got 90"),
        ({"scaling": 1}, "scaling must be a finite number >= 0 and < 1, got 1"),
        ({"shift": -1}, "shift must be a finite number >= 0 and <= 1000, got -1"),
        ({"alpha": 30}, "elastic distortions need a sigma > 0, got 0 with alpha 30"),
        ({"alpha": float("nan"), "sigma": 3}, "alpha must be a finite number"),
        ({"halved": 7}, "halved must be a tuple of classes, got 7"),
        ({"halved": (-1,)}, "a class in halved must be an integer >= 0, got -1"),
    ],
)
def test_distortions_out_of_range_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Distortion(**numbers)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("images", np.zeros((4, 6), np.float32), TypeError, "images of dtype float32, expected uint8"),
        ("images", np.zeros((4, 7), np.uint8), ValueError, r"images of shape \(4, 7\), expected \(4, 6\)"),
        ("images", [[0] * 6] * 4, TypeError, "images of type list"),
        ("ease", np.zeros(3, np.float32), ValueError, r"ease of shape \(3,\), expected \(4,\)"),
        ("key", 2**32, ValueError, "key must be from 0 to 4294967295"),
        ("out", np.zeros((4, 12), np.uint8)[:, ::2], ValueError, "out with strides"),
    ],
)
def test_arguments_of_the_kernel_are_checked(name: str, value: Any, error: type[Exception], message: str) -> None:
    images = np.zeros((4, 6), np.uint8)
    given: dict[str, Any] = {"images": images, "ease": np.ones(4, np.float32), "key": 5, "out": images.copy()} | {
        name: value
    }
    with pytest.raises(error, match=message):
        on_cpu(given["images"], given["ease"], ALL.elastic((2, 3)), ALL.limits(), given["key"], out=given["out"])


def test_images_are_not_distorted_in_place() -> None:
    images, ease = drawn((5, 7))
    with pytest.raises(ValueError, match="must not overlap"):
        on_cpu(images, ease, ALL.elastic((5, 7)), ALL.limits(), KEY, out=images)
