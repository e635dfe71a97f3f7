"""Untrusted picture files: decompression bombs, pipes, odd names, decoders that write to standard error."""

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpunn import DataError
from gpunn.datasets.kind import ImageKind
from gpunn.pictures import read_digit, read_picture


def bar(mode: str = "L") -> Image.Image:
    levels = np.full((60, 60), 255, np.uint8)
    levels[10:50, 28:33] = 0
    return Image.fromarray(levels).convert(mode)


def png(width: int, height: int, content: bytes, *, colour: int = 0) -> bytes:
    """Return a PNG whose header claims `width` x `height` pixels of 8 bits, whatever `content` holds."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def peak_memory(path: Path, message: str) -> int:
    """Return the most memory that refusing the picture at `path` takes in a process of its own, in bytes."""
    program = (
        "import resource, sys, gpunn\n"
        "from gpunn.pictures import read_digit\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        "try:\n    read_digit(sys.argv[1])\n"
        "except gpunn.DataError as error:\n    print(error, file=sys.stderr)\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    return int(done.stdout)


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    """Return a function that returns the peak memory since the test began, in bytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("colour", [0, 6])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path, colour: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(13000, 13000, zlib.compress(bytes(13000 * 13001)), colour=colour))
    assert peak_memory(path, "13000 x 13000 pixels are more than 50 million: reduce the picture") < 50e6


def test_a_picture_beyond_what_pillow_takes_is_refused_as_well(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60000, 60000, b""))
    assert peak_memory(path, "has more than 50 million pixels") < 50e6


def test_a_header_that_its_file_cannot_keep_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(png(7000, 7000, zlib.compress(bytes(100)), colour=6))
    assert peak_memory(path, "it ends before its 7000 x 7000 pixels") < 50e6


def test_an_honest_large_picture_takes_a_few_times_its_size(tmp_path: Path, peak: Callable[[], int]) -> None:
    levels = np.full((6000, 8000), 255, np.uint8)
    levels[1000:5000, 3800:4200] = 0
    Image.fromarray(levels).save(tmp_path / "large.png")
    del levels
    tracemalloc.reset_peak()
    assert read_digit(tmp_path / "large.png").max() == 255
    assert peak() < 6000 * 8000


@pytest.mark.parametrize("shape", ["(10**5, 10**5)", "(2000000, 30)", "(0, 7)", "(-1, 28)", "(3,) * 64"])
def test_array_headers_are_not_trusted(tmp_path: Path, shape: str, peak: Callable[[], int]) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {eval(shape)}, }}".ljust(500) + "\n"
    (tmp_path / "digit.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"x")
    with pytest.raises(DataError, match=r"digit\.npy"):
        read_digit(tmp_path / "digit.npy")
    assert peak() < 5e6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ending", ["tiff", "pfm", "npy"])
def test_pictures_that_hold_no_finite_levels_are_refused(tmp_path: Path, value: float, ending: str) -> None:
    levels = np.asarray(bar(), dtype=np.float32).copy()
    levels[0, 0] = value
    path = tmp_path / f"digit.{ending}"
    if ending == "npy":
        np.save(path, levels)
    else:
        Image.fromarray(levels).save(path)
    with pytest.raises(DataError, match=r"digit\.\w+.* levels that aren't finite"):
        read_digit(path)


def test_levels_beyond_float64_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "digit.npy", np.full((28, 28), np.longdouble("1e400")))
    with pytest.raises(DataError, match=r"digit\.npy.* levels that aren't finite"):
        read_digit(tmp_path / "digit.npy")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, what in (
        (tmp_path / "pipe.png", "not a regular file"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "not a regular file"),
    ):
        with pytest.raises(DataError, match=f"cannot read .*: it is {what}"):
            read_digit(path)


@pytest.mark.parametrize("name", ["a\0b.png", b"a\0b.npy", "\udcff.png", f"{chr(0xD800)}.png", "a\x1b[1mb.png", ""])
def test_names_that_cannot_be_are_one_printable_line(name: str | bytes) -> None:
    with pytest.raises(DataError, match="cannot read") as caught:
        read_digit(name)
    assert str(caught.value).isprintable()


def test_names_may_be_bytes_and_hold_what_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    with open(path, "wb") as file:  # noqa: PTH123 -- a Path can't be bytes
        bar().save(file, "PNG")
    assert read_digit(path).max() == 255
    assert read_digit(os.fsdecode(path)).max() == 255


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("ending", ["png", "npy"])
def test_standard_input_is_read(name: str, ending: str) -> None:
    content = io.BytesIO()
    if ending == "npy":
        np.save(content, np.asarray(bar()))
    else:
        bar().save(content, "PNG")
    program = "import sys, gpunn; print(gpunn.read_digit(sys.argv[1]).sum())"
    done = subprocess.run(
        [sys.executable, "-c", program, name], input=content.getvalue(), capture_output=True, check=True
    )
    assert int(done.stdout) > 0


def test_libtiff_writes_nothing_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "digit.tif"
    for compression in ("tiff_lzw", "tiff_adobe_deflate"):
        bar().save(path, compression=compression)
        content = bytearray(path.read_bytes())
        for start in range(8, len(content), 3):
            damaged = content.copy()
            damaged[start : start + 4] = b"\xff\x00\xff\x7f"
            path.write_bytes(damaged)
            with suppress(DataError):
                read_digit(path)
    assert capfd.readouterr().err == ""
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


WHOLE = ImageKind("things", (28, 28), "whole", ("a", "b"))


def test_images_of_their_own_kind_stay_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    images[:, [0, -1]] = images[:, :, [0, -1]] = 7
    for image in images:
        Image.fromarray(image).save(tmp_path / "thing.png")
        np.testing.assert_array_equal(read_digit(tmp_path / "thing.png", WHOLE), image.ravel())
        Image.fromarray(255 - image).save(tmp_path / "thing.png")
        np.testing.assert_array_equal(read_digit(tmp_path / "thing.png", WHOLE), image.ravel())


def test_a_whole_picture_keeps_its_proportions_and_its_corners(tmp_path: Path) -> None:
    levels = np.zeros((100, 200), np.uint8)
    levels[5:15, 5:15] = levels[85:95, 185:195] = 255
    Image.fromarray(levels).save(tmp_path / "wide.png")
    found = read_picture(tmp_path / "wide.png", ImageKind("things", (20, 30), "whole"))
    assert found.shape == (20, 30)
    rows, columns = np.nonzero(found.pixels > 60)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 16, 0, 29)
    Image.new("L", (9, 9), 3).save(tmp_path / "blank.png")
    with pytest.raises(DataError, match="every pixel has the same level"):
        read_digit(tmp_path / "blank.png", WHOLE)


def test_emnists_framing_fills_its_box_and_centres_it(tmp_path: Path) -> None:
    levels = np.full((200, 200), 255, np.uint8)
    levels[40:160, 50:62] = levels[148:160, 50:120] = 0
    Image.fromarray(levels).save(tmp_path / "l.png")
    image = read_picture(tmp_path / "l.png", ImageKind("EMNIST", (28, 28), "emnist")).pixels
    rows, columns = np.nonzero(image > 60)
    assert (rows.min(), rows.max()) == (2, 25)
    assert columns.min() + columns.max() == 27


@pytest.mark.parametrize("shape", [None, (9, 9)])
def test_an_incomplete_kind_is_refused(tmp_path: Path, shape: tuple[int, int] | None) -> None:
    bar().save(tmp_path / "bar.png")
    kind = ImageKind("", shape, "digit" if shape else "whole")
    with pytest.raises(DataError, match=rf"bar\.png: framing {kind.framing} needs .*, got "):
        read_digit(tmp_path / "bar.png", kind)


def test_pictures_in_several_threads_leave_warnings_as_they_were(tmp_path: Path) -> None:
    import warnings
    from concurrent.futures import ThreadPoolExecutor

    bar().save(tmp_path / "bar.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(read_digit, [tmp_path / "bar.png"] * 40))) == 40
    assert list(warnings.filters) == before
