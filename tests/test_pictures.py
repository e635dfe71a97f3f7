import re
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpunn import MLP, DataError, Dataset, Split, evaluate, train
from gpunn.pictures import prepare_digit, read_digit


@pytest.fixture(scope="module")
def net(mnist: Dataset) -> MLP:
    net = MLP([784, 16, 10])
    train(net, mnist.train, epochs=4, batch_size=32, learning_rate=1.0, device="cpu")
    return net


def on_paper(digit: np.ndarray, factor: int, *, dark: bool, noise: float = 0.0) -> np.ndarray:
    """Draw an MNIST image large, off the middle of a sheet that isn't square, uint8."""
    large = np.asarray(Image.fromarray(digit.reshape(28, 28)).resize((28 * factor, 28 * factor)), dtype=float)
    sheet = np.zeros((40 * factor, 60 * factor))
    sheet[3 * factor : 31 * factor, 25 * factor : 53 * factor] = large
    levels = 230 - 0.8 * sheet if dark else 20 + 0.8 * sheet
    # A shadow across the sheet, and grain.
    levels += noise * (np.linspace(-3, 3, levels.shape[1]) + np.random.default_rng(0).normal(size=levels.shape))
    return levels.clip(0, 255).round().astype(np.uint8)


def test_mnists_own_images_stay_as_they_are(mnist: Dataset) -> None:
    images = mnist.test.images[:300]
    prepared = np.stack([prepare_digit(image.reshape(28, 28)) for image in images])
    same = (prepared == images).all(axis=1)
    # The rest touch the box by a trace of ink that is cropped, or sit a pixel off in the original.
    assert same.mean() > 0.8


@pytest.mark.parametrize(
    ("ending", "factor", "dark", "noise"),
    [("png", 10, True, 0), ("png", 1, False, 0), ("jpg", 6, True, 0), ("jpg", 20, False, 4), ("npy", 3, True, 0)],
)
def test_drawn_large_and_stored_a_digit_is_recognised_as_before(
    tmp_path: Path, mnist: Dataset, net: MLP, ending: str, factor: int, dark: bool, noise: float
) -> None:
    some = mnist.test[: 40 if factor == 20 else 100]  # 560 x 560 pixels take long
    prepared = []
    for number, image in enumerate(some.images):
        path = tmp_path / f"{number}.{ending}"
        levels = on_paper(image, factor, dark=dark, noise=noise)
        if ending == "npy":
            np.save(path, levels)
        else:
            Image.fromarray(levels).save(path)
        prepared.append(read_digit(path))
    accuracy = evaluate(net, Split(np.stack(prepared), some.labels), device="cpu").accuracy
    assert accuracy >= evaluate(net, some, device="cpu").accuracy - 0.03


@pytest.mark.parametrize("shape", [(801, 801), (3000, 4000), (28, 3000)])
def test_a_small_digit_on_a_large_sheet_keeps_its_details(mnist: Dataset, net: MLP, shape: tuple[int, int]) -> None:
    some = mnist.test[:20]
    prepared = []
    for image in some.images:
        sheet = np.zeros(shape, np.uint8)
        sheet[-28:, 700:728] = image.reshape(28, 28)
        prepared.append(prepare_digit(sheet))
    # Up to the few that sit a pixel off, the pictures are MNIST's own.
    assert np.mean([np.array_equal(ours, theirs) for ours, theirs in zip(prepared, some.images, strict=True)]) > 0.6
    accuracy = evaluate(net, Split(np.stack(prepared), some.labels), device="cpu").accuracy
    assert accuracy >= evaluate(net, some, device="cpu").accuracy - 0.05


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16", "I", "F"])
def test_every_kind_of_pixel_is_read(tmp_path: Path, mnist: Dataset, mode: str) -> None:
    image = Image.fromarray(on_paper(mnist.test.images[0], 4, dark=True))
    path = tmp_path / ("digit.tiff" if mode in ("I", "F") else "digit.png")
    if mode.startswith("I"):
        Image.fromarray(np.asarray(image).astype(np.uint16 if mode == "I;16" else np.int32) * 257).save(path)
    else:
        image.convert(mode, dither=Image.Dither.NONE).save(path)
    expected = prepare_digit(np.asarray(on_paper(mnist.test.images[0], 4, dark=True)))
    difference = np.abs(read_digit(path).astype(int) - expected)
    assert difference.mean() < (20 if mode == "1" else 1)


@pytest.mark.parametrize("light", [False, True])
def test_what_is_transparent_is_background(tmp_path: Path, mnist: Dataset, light: bool) -> None:
    digit = mnist.test.images[0].reshape(28, 28)
    shade = np.full((28, 28, 3), 255 if light else 0, np.uint8)
    Image.fromarray(np.dstack([shade, digit])).save(tmp_path / "digit.png")
    assert np.abs(read_digit(tmp_path / "digit.png").astype(int) - digit.ravel()).mean() < 1


def test_extreme_shapes_fit_the_field() -> None:
    for shape in ((1, 300), (300, 1), (1, 1), (2000, 3)):
        levels = np.zeros((shape[0] + 20, shape[1] + 20))
        levels[10:-10, 10:-10] = 1
        image = prepare_digit(levels)
        assert image.shape == (784,)
        assert image.max() > 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 5)), "every pixel has the same level"),
        (np.zeros((5, 5, 3)), "has the shape (5, 5, 3): expected (rows, columns), or (784,)"),
        (np.zeros((0, 5)), "has the shape (0, 5)"),
        (np.array([["a"]]), "holds <U1: expected an array of grey levels"),
        (np.array([[np.nan, 1.0]]), "holds levels that aren't finite"),
        (np.array([[None]]), "is not a NumPy file of numbers"),
    ],
)
def test_arrays_that_are_no_picture_are_refused(tmp_path: Path, array: Any, message: str) -> None:
    np.save(tmp_path / "digit.npy", array)
    with pytest.raises(DataError, match=re.escape(message)):
        read_digit(tmp_path / "digit.npy")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*absent\.png: No such file"):
        read_digit(tmp_path / "absent.png")
    with pytest.raises(DataError, match=r"cannot read .*absent\.npy: No such file"):
        read_digit(tmp_path / "absent.npy")
    for name, message in (("text.png", "is not a readable picture"), ("text.npy", "is not a NumPy file of numbers")):
        (tmp_path / name).write_text("a digit, honestly")
        with pytest.raises(DataError, match=message):
            read_digit(tmp_path / name)


def test_levels_of_any_size_are_taken(tmp_path: Path, mnist: Dataset) -> None:
    digit = mnist.test.images[0].reshape(28, 28)
    for factor in (1e-300, 1e300):
        for image in (digit * factor, np.kron(digit, np.ones((20, 20))) * factor):
            difference = np.abs(prepare_digit(image).astype(int) - digit.ravel())
            assert difference.mean() < 4


def test_an_array_file_that_claims_to_be_enormous_is_refused(tmp_path: Path) -> None:
    for shape in ("(10, 10)", f"({10**15}, 10)", f"({10**30},)"):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        (tmp_path / "digit.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header.encode())
        with pytest.raises(DataError, match="is not a NumPy file of numbers"):
            read_digit(tmp_path / "digit.npy")


def test_whatever_a_decoder_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exif_transpose(picture: Image.Image) -> Image.Image:
        warnings.warn("Corrupt EXIF data", stacklevel=1)
        raise struct.error("unpack requires\na buffer of 4 bytes")

    Image.new("L", (5, 5)).save(tmp_path / "digit.png")
    monkeypatch.setattr("gpunn.pictures.files.ImageOps.exif_transpose", exif_transpose)
    with pytest.raises(DataError, match=r"cannot read .*png: unpack requires a buffer of 4 bytes"):
        read_digit(tmp_path / "digit.png")


def test_the_ending_of_an_array_file_may_be_in_capitals(tmp_path: Path) -> None:
    with (tmp_path / "DIGIT.NPY").open("wb") as file:
        np.save(file, np.eye(28))
    assert read_digit(tmp_path / "DIGIT.NPY").max() > 0


@pytest.mark.parametrize("ending", ["png", "jpg", "npy"])
def test_truncated_files_are_refused(tmp_path: Path, mnist: Dataset, ending: str) -> None:
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    levels = on_paper(mnist.test.images[0], 1, dark=True)
    if ending == "npy":
        np.save(whole, levels)
    else:
        Image.fromarray(levels).save(whole)
    content = whole.read_bytes()
    for end in range(0, len(content) * 9 // 10, 7):
        cut.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"cut\."):
            read_digit(cut)
