import gzip
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
        (b"\x89PNG....", r"no IDX file: found the magic number 0x89504e47, expected 0x00000803"),
        (b"\0\0\x07\x01\0\0\0\0", "no IDX file"),
        (b"\0\0\x08\x00", "no IDX file"),
        (b"\0\0\x08\xff" + b"\xff" * 1020, "no IDX file"),
        (b"\0\0\x08\x03" + b"\0" * 4 + b"\xff" * 8, "no IDX file: found the shape"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated: found 16 bytes, expected 79228"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: bytes, message: str) -> None:
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
