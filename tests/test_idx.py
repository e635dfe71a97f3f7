import gzip
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import DataError
from gpunn.datasets.idx import read_idx

from .conftest import idx_bytes

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def write(folder: Path, content: bytes, name: str = "images") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, np.uint8), (0x09, np.int8), (0x0B, np.int16), (0x0C, np.int32), (0x0D, np.float32), (0x0E, np.float64)],
)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 7)])
def test_every_type_and_shape_of_the_format_is_read(
    tmp_path: Path, code: int, dtype: type, shape: tuple[int, ...]
) -> None:
    expected: Any = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    found = read_idx(write(tmp_path, idx_bytes(expected, code)))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_gzip_is_recognised_with_or_without_the_name(tmp_path: Path) -> None:
    for name in ("images.gz", "images"):
        np.testing.assert_array_equal(read_idx(write(tmp_path, gzip.compress(idx_bytes(IMAGES)), name)), IMAGES)


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_truncated_at_any_byte_is_refused(tmp_path: Path, compress: bool) -> None:
    content = gzip.compress(idx_bytes(IMAGES)) if compress else idx_bytes(IMAGES)
    for end in range(len(content)):
        path = write(tmp_path, content[:end], "images.gz" if compress else "images")
        with pytest.raises(DataError, match=r"truncated|not gzip|damaged gzip"):
            read_idx(path)


def test_a_damaged_byte_of_a_gzip_stream_is_found(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(idx_bytes(IMAGES)))
    content[-20] ^= 0xFF
    with pytest.raises(DataError, match="damaged gzip"):
        read_idx(write(tmp_path, bytes(content), "images.gz"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx_bytes(IMAGES) + b"\0", "trailing bytes: found 41 bytes, expected 40"),
        (b"\0\0\x08\x03", "truncated: found 4 bytes, expected a header of 16"),
        (b"\x89PNG....", r"not an IDX file: found the magic number 0x89504e47, expected 0x00000803"),
        (b"\0\0\x07\x01\0\0\0\0", "not an IDX file"),
        (b"\0\0\x08\x00", "not an IDX file"),
        (b"\0\0\x08\xff" + b"\xff" * 1020, "not an IDX file"),
        (b"\0\0\x08\x03" + b"\0" * 4 + b"\xff" * 8, "not an IDX file: found the shape"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated: found 16 bytes, expected 79228"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_idx(write(tmp_path, content))


def test_a_file_named_gz_that_is_not_gzip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not gzip though it is named so"):
        read_idx(write(tmp_path, idx_bytes(IMAGES), "images.gz"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="Is a directory"):
        read_idx(tmp_path)


def peak_of_refusal(path: Path, message: str) -> int:
    """Return how much memory was allocated until `path` was refused with `message`."""
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("n", [1, 1000, 2**31])
def test_no_more_is_unpacked_than_the_header_announces_or_the_file_can_hold(tmp_path: Path, n: int) -> None:
    header = b"\0\0\x08\x03" + np.array([n, 28, 28], ">u4").tobytes()
    announced = len(header) + n * 784
    bomb = gzip.compress(header + bytes(64 << 20))  # 64 KiB
    message = "trailing bytes: found more than" if announced < 64 << 20 else "truncated: found less than"
    assert peak_of_refusal(write(tmp_path, bomb, "images.gz"), message) < 4 * min(announced, 64 << 20) + (1 << 20)


def test_memory_is_taken_as_values_come_and_not_as_they_are_announced(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = b"\0\0\x08\x03" + np.array([100_000, 28, 28], ">u4").tobytes() + rng.bytes(100_000)
    packed = write(tmp_path, gzip.compress(content), "images.gz")
    assert peak_of_refusal(packed, "truncated: found 100016 bytes, expected 78400016") < 1 << 20
    assert peak_of_refusal(write(tmp_path, content), "truncated: found 100016 bytes, expected 78400016") < 1 << 20


@pytest.mark.parametrize("first", [b"", idx_bytes(IMAGES)])
def test_gzip_of_many_empty_parts_is_refused_after_a_few(tmp_path: Path, first: bytes) -> None:
    content = (gzip.compress(first) if first else b"") + gzip.compress(b"") * 200_000
    with pytest.raises(DataError, match="more than 100 parts that hold nothing"):
        read_idx(write(tmp_path, content, "images.gz"))


def test_gzip_in_several_parts_with_zeros_between_and_after_is_read(tmp_path: Path) -> None:
    content = idx_bytes(IMAGES)
    parts = [gzip.compress(content[:7]), bytes(512), gzip.compress(b""), gzip.compress(content[7:]), bytes(100_000)]
    np.testing.assert_array_equal(read_idx(write(tmp_path, b"".join(parts), "images.gz")), IMAGES)
    with pytest.raises(DataError, match="damaged gzip"):
        read_idx(write(tmp_path, b"".join(parts) + b"more", "images.gz"))


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html>", "is a web page in place of the data: fetch the file itself"),
        (b"\xef\xbb\xbf<HTML>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a pointer of Git LFS"),
        (b"PK\x03\x04....", "is a zip archive: unpack it"),
        (b"\x93NUMPY\x01\0", "is a NumPy file: give its arrays to gpunn.Split"),
    ],
)
def test_other_formats_are_recognised(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_idx(write(tmp_path, content, name))


def test_a_file_that_was_packed_twice_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is gzip within gzip: unpack it once"):
        read_idx(write(tmp_path, gzip.compress(gzip.compress(idx_bytes(IMAGES))), "images.gz"))


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is a pipe, not a file"):
        read_idx(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is a device, not a file"):
        read_idx("/dev/zero")


def test_odd_names_are_taken_and_shown_without_control_characters(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"\xff\x1b[2J", b"plain"):
        (tmp_path / os.fsdecode(name)).write_bytes(idx_bytes(IMAGES))
        np.testing.assert_array_equal(read_idx(folder + b"/" + name), IMAGES)
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
        with pytest.raises(DataError, match="truncated") as refused:
            read_idx(folder + b"/" + name)
        assert str(refused.value).isprintable()
    with pytest.raises(DataError, match=r"cannot read a\\x00b: a null byte is in its name"):
        read_idx("a\0b")
