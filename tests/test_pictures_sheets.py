"""Digits on real sheets: disturbances, sheets without a digit, and doubts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from gpunn import MLP, DataError, Dataset
from gpunn.pictures import prepare, prepare_digit, read_digit
from gpunn.pictures.components import components, windowed
from gpunn.pictures.finding import FAINT_INK, FILLED, FRAME, SEVERAL, TINY, TOUCHING

from .disturbances import BAR, DISTURBANCES, read_share, trained

FEW = dict.fromkeys(
    (
        "untouched",
        "frame of 1 pixel",
        "dark left edge",
        "grain",
        "light on dark",
        "JPEG",
        "low contrast",
        "blue ink on yellow paper",
        "off the middle",
        "stripe of shadow",
        "light of a lamp",
    ),
    60,
)
"""Disturbances that have harder variants among the others."""
FEW |= {
    "thin strokes, 2 pixels on 1000": 40,
    "small digit on a large sheet": 40,
    "squared paper at an angle": 60,
    "ruled paper at an angle": 60,
}
"""Large sheets take long. `python -m tests.disturbances` reads 200 of each."""
FACTOR = {"squared paper at an angle": 10, "ruled paper at an angle": 10}
"""Larger sheets: lines have a fixed width, and on small sheets would be as wide as strokes."""


@pytest.fixture(scope="module")
def net(mnist: Dataset) -> MLP:
    return trained(mnist)


@pytest.mark.parametrize("name", DISTURBANCES)
def test_disturbed_sheets_are_read_nearly_as_well_as_mnists_own_images(name: str, mnist: Dataset, net: MLP) -> None:
    n = FEW.get(name, 100)
    some = mnist.test[:n]
    own = float(np.mean(net.predict(some.images) == some.labels))
    # Of few, one answer is much.
    assert read_share(name, some, net, factor=FACTOR.get(name, 4)) >= BAR * own - 1 / n


def page(width: int = 400, height: int = 300, level: int = 255) -> Image.Image:
    return Image.new("L", (width, height), level)


def grain(deviation: float, shape: tuple[int, ...] = (300, 400)) -> Image.Image:
    levels = np.random.default_rng(1).normal(220, deviation, shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def lined(*lines: tuple[int, ...], level: int = 0, width: int = 1) -> Image.Image:
    sheet = page()
    for line in lines:
        ImageDraw.Draw(sheet).line(line, fill=level, width=width)
    return sheet


def curved(depth: float, spread: float) -> Image.Image:
    y, x = np.mgrid[:300, :400]
    return Image.fromarray((250 - depth * np.exp(-((x - 200) ** 2 + (y - 150) ** 2) / spread)).astype(np.uint8))


def grained(picture: Image.Image) -> Image.Image:
    levels = np.asarray(picture) * 0.9 + np.random.default_rng(2).normal(0, 4, (300, 400))
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def specked() -> Image.Image:
    sheet = page()
    for x, y in np.random.default_rng(3).integers(0, 300, (25, 2)):
        ImageDraw.Draw(sheet).ellipse((x - 3, y - 3, x + 3, y + 3), fill=40)
    return sheet


LIGHT = {
    "light from one side": Image.fromarray(np.tile(np.linspace(50, 250, 400), (300, 1)).astype(np.uint8)),
    "vignette": curved(-150, 40000),
    "shadow of a hand": curved(150, 14000),
    "stripe of shadow": Image.fromarray(
        np.tile(np.where(abs(np.arange(400) - 200) < 40, 130, 255), (300, 1)).astype(np.uint8)
    ),
}

EMPTY = {
    "white": page(),
    "black": page(level=0),
    "colour": Image.new("RGB", (50, 50), (200, 30, 40)),
    "transparent": Image.new("RGBA", (50, 50), (0, 0, 0, 0)),
    "half transparent": Image.new("RGBA", (50, 50), (0, 0, 0, 90)),
    "faint pixel": Image.fromarray(np.where(np.arange(90000) == 4711, 250, 255).astype(np.uint8).reshape(300, 300)),
    "black pixel": Image.fromarray(np.where(np.arange(90000) == 4711, 0, 255).astype(np.uint8).reshape(300, 300)),
    "faint rule": lined((0, 150, 399, 150), level=225),
    "black rule": lined((0, 150, 399, 150), width=3),
    "upright rule": lined((120, 0, 120, 299), level=200),
    "rule between margins": lined((30, 150, 370, 150), level=200),
    "rule at an angle": lined((0, 140, 399, 160), level=200),
    "squared": lined(
        *((x, 0, x, 299) for x in range(0, 400, 20)), *((0, y, 399, y) for y in range(0, 300, 20)), level=180
    ),
    "frame": lined((0, 0, 399, 0), (0, 299, 399, 299), (0, 0, 0, 299), (399, 0, 399, 299), width=4),
    "light from one side": Image.fromarray(np.tile(np.linspace(80, 250, 400), (300, 1)).astype(np.uint8)),
    "vignette": curved(-120, 60000),
    "soft shadow": curved(120, 8000),
    **{f"grain of {level}": grain(level) for level in (1, 2, 4, 8, 16)},
    "coloured grain": grain(8, (300, 400, 3)),
    **LIGHT,
    **{f"{name}, with grain": grained(picture) for name, picture in LIGHT.items()},
    "dust": specked(),
    "dust and grain": grained(specked()),
    "slanting rules": lined(*((0, y, 399, y + 16) for y in range(-20, 300, 40)), level=150, width=2),
    "large grain": grain(12, (1500, 2000)),
}


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("name", EMPTY)
def test_pages_without_a_digit_are_refused(tmp_path: Path, name: str, ending: str) -> None:
    picture = EMPTY[name]
    if ending == "jpg" and picture.mode == "RGBA":
        picture = picture.convert("RGB")
    picture.save(tmp_path / f"page.{ending}")
    with pytest.raises(DataError, match=r"page\.\w+: found no digit"):
        read_digit(tmp_path / f"page.{ending}")


def digit(mnist: Dataset, number: int, size: int = 140) -> Image.Image:
    return Image.fromarray(255 - mnist.test.images[number].reshape(28, 28)).resize((size, size))


def placed(mnist: Dataset, *numbers: int) -> Image.Image:
    sheet = page(190 * len(numbers) + 40)
    for position, number in enumerate(numbers):
        sheet.paste(digit(mnist, number), (20 + 190 * position, 60))
    return sheet


def test_a_clear_digit_raises_no_doubts(mnist: Dataset) -> None:
    for number in range(20):
        assert prepare(placed(mnist, number)).doubts == ()


def test_doubts_are_reported(mnist: Dataset) -> None:
    box = page()
    ImageDraw.Draw(box).rectangle((60, 40, 340, 260), outline=0, width=3)
    faint = Image.fromarray((np.asarray(placed(mnist, 0)).astype(int) // 16 + 230).astype(np.uint8))
    blot = page()
    ImageDraw.Draw(blot).rectangle((180, 120, 220, 160), fill=0)
    speck = page(1200, 1000)
    speck.paste(digit(mnist, 0, 28), (300, 300))
    cases = {
        SEVERAL: placed(mnist, 0, 1, 4),
        TOUCHING: digit(mnist, 1, 280).crop((60, 40, 200, 235)),
        FILLED: blot,
        FRAME: box,
        FAINT_INK: faint,
        TINY: speck,
    }
    for doubt, sheet in cases.items():
        assert doubt in prepare(sheet).doubts


def test_the_largest_of_several_digits_is_read_alone(mnist: Dataset) -> None:
    both = page(500)
    both.paste(digit(mnist, 0, 200), (20, 40))
    both.paste(digit(mnist, 1, 120), (320, 80))
    alone = page(500)
    alone.paste(digit(mnist, 0, 200), (20, 40))
    difference = prepare(both).image.astype(int) - prepare(alone).image
    assert np.abs(difference).max() <= 1


def test_a_bar_apart_from_its_digit_belongs_to_it(mnist: Dataset) -> None:
    # The ninth test image is a 5 whose bar doesn't touch it.
    five = mnist.test.images[8]
    found = prepare(digit(mnist, 8, 280)).image
    assert np.abs(found.astype(int) - five).mean() < 12
    assert found.reshape(28, 28)[:9].max() > 200


@pytest.mark.parametrize("pen", [2, 4, 10, 40, 90])
def test_strokes_of_any_pen_come_out_bright(pen: int) -> None:
    sheet = page(1000, 1000)
    ImageDraw.Draw(sheet).line([(200, 120), (800, 120), (450, 900)], fill=0, width=pen)
    found = prepare(sheet).image.reshape(28, 28)
    assert np.median(found.max(axis=1)[5:23]) > 230


def test_levels_that_are_not_finite_are_refused() -> None:
    for value in (np.nan, np.inf, -np.inf):
        levels = np.zeros((30, 30), np.float32)
        levels[8:20, 14:17] = 1
        levels[0, 0] = value
        with pytest.raises(DataError, match="aren't finite"):
            prepare_digit(levels)
    with pytest.raises(DataError, match="aren't finite"):
        prepare_digit(np.full((9, 9), np.longdouble("1e400")))


def test_arrays_of_no_levels_are_refused() -> None:
    for levels in (np.array([["a"]]), [[1, 2]], np.zeros(5), np.zeros((0, 3)), np.zeros((2, 2), complex)):
        with pytest.raises(DataError, match=r"^found .* expected"):
            prepare_digit(levels)  # type: ignore[arg-type]


def test_components_are_those_that_a_flood_fill_finds() -> None:
    rng = np.random.default_rng(0)
    for density in (0.2, 0.4, 0.6):
        mask = rng.random((23, 31)) < density
        found = components(mask)
        labels = np.full((25, 33), -1)
        wanted = np.pad(mask, 1)
        n = 0
        for position in np.argwhere(wanted):
            stack = [tuple(position)] if labels[tuple(position)] < 0 else []
            n += len(stack)
            while stack:
                row, column = stack.pop()
                labels[row, column] = n - 1
                near = [(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
                stack += [pixel for pixel in near if wanted[pixel] and labels[pixel] < 0]
        labels = labels[1:-1, 1:-1]
        np.testing.assert_array_equal(found.labels, labels)
        for number in range(n):
            rows, columns = np.nonzero(labels == number)
            box = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
            assert (found.top[number], found.bottom[number], found.left[number], found.right[number]) == box
            assert found.area[number] == len(rows)
    assert len(components(np.zeros((4, 5), bool))) == 0


@pytest.mark.parametrize("size", [1, 3, 7, 19])
def test_windows_are_those_that_pillow_finds(size: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    expected = Image.fromarray(values).filter(ImageFilter.MaxFilter(size))
    np.testing.assert_array_equal(windowed(np.maximum, values, size), np.asarray(expected))


def test_windows_may_be_wider_than_the_sheet() -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    assert (windowed(np.minimum, values, 101) == values.min()).all()
