"""The IDX file format, in which MNIST and its relatives come.

A header of big-endian numbers, then the values, row by row, big-endian:

    byte 0-1   zero
    byte 2     the type of the values: 8 uint8, 9 int8, 11 int16, 12 int32, 13 float32, 14 float64
    byte 3     the number of dimensions d
    4 d bytes  the size of each dimension, uint32

Source: Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.errors import DataError

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
MAX_DIMENSIONS = 32


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the array in the IDX file at `path`, gzipped or not, in the machine's byte order.

    Raises `DataError` for a file that is missing, truncated, too long, or no IDX file. uint8 data is not copied
    and hence read-only.
    """
    name = os.fspath(path)
    content = _content(name)
    if len(content) < 4:
        raise DataError(f"{name} is truncated: found {len(content)} bytes, expected a header of 4 or more")
    if content[:2] != b"\0\0" or content[2] not in DTYPES or not 1 <= content[3] <= MAX_DIMENSIONS:
        raise DataError(
            f"{name} is no IDX file: found the magic number 0x{content[:4].hex()}, "
            "expected 0x00000803 for images or 0x00000801 for labels"
        )
    dtype, n_dimensions = np.dtype(DTYPES[content[2]]), content[3]
    n_header = 4 + 4 * n_dimensions
    if len(content) < n_header:
        raise DataError(f"{name} is truncated: found {len(content)} bytes, expected a header of {n_header}")
    shape = tuple(np.frombuffer(content, ">u4", n_dimensions, offset=4).tolist())
    expected = n_header + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        what = "is truncated" if len(content) < expected else "has trailing bytes"
        raise DataError(
            f"{name} {what}: found {len(content)} bytes, expected {expected} for the shape {shape} in its header"
        )
    try:
        array = np.frombuffer(content, dtype, offset=n_header).reshape(shape)
    except ValueError as error:  # no values at all, in dimensions that NumPy can't count
        raise DataError(f"{name} is no IDX file: found the shape {shape} in its header ({error})") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def _content(name: str) -> bytes:
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error
    if not content.startswith(GZIP_MAGIC):
        if name.endswith(".gz"):
            raise DataError(f"{name} is not gzip though it is named so: rename it without .gz, or fetch it again")
        return content
    try:
        return gzip.decompress(content)
    except EOFError as error:
        raise DataError(f"{name} is truncated: its gzip stream has no end; fetch it again") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{name} is damaged gzip ({error}): fetch it again") from error
