"""IDX files, the format of MNIST and its relatives.

A header, then the values in row-major order, all big-endian:

    byte 0-1   zero
    byte 2     the type of the values: 8 uint8, 9 int8, 11 int16, 12 int32, 13 float32, 14 float64
    byte 3     the number of dimensions d
    4 d bytes  the size of each dimension, uint32

Source: Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits".
"""

import io
import math
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gpunn.errors import DataError
from gpunn.files import open_file
from gpunn.printing import printable

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
MAX_DIMENSIONS = 32

CHUNK = 1 << 16
"""Bytes read or decompressed at a time."""

MOST_PACKED = 1032
"""Maximum compression ratio of gzip."""

MOST_EMPTY = 100
"""Maximum number of empty members in a gzip file; some programs append one."""

FOREIGN = {
    b"version https://git-lfs": "a pointer of Git LFS in place of the data: run `git lfs pull`",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"BZh": "packed by bzip2: unpack it, or pack it by gzip",
    b"\xfd7zXZ": "packed by xz: unpack it, or pack it by gzip",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it, or pack it by gzip",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    GZIP_MAGIC: "gzip within gzip: unpack it once",
    b"\x93NUMPY": "a NumPy file: give its arrays to gpunn.Split",
    b"MATLAB": "a MATLAB file: give its arrays to gpunn.Split",
    b"\x89HDF": "an HDF5 file: give its arrays to gpunn.Split",
}
"""Other formats by their first bytes, and advice."""


def read_idx(path: str | bytes | os.PathLike[str]) -> NDArray[Any]:
    """Return the array in the IDX file at `path`, gzipped or not, in native byte order.

    Memory use stays close to the size of the data, whatever a damaged header says. Raises `DataError` for a file that
    is missing, truncated, too long, or not IDX. uint8 data is not copied and therefore read-only.
    """
    name = printable(path)
    try:
        with open_file(path) as file:
            return _array(name, file, os.fsdecode(path).lower().endswith(".gz"))
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error


def _array(name: str, file: BinaryIO, named_gz: bool) -> NDArray[Any]:
    start = file.read(CHUNK)
    file.seek(0)
    n_packed = os.fstat(file.fileno()).st_size
    if not start.startswith(GZIP_MAGIC):
        if named_gz:
            _check_foreign(name, start)
            raise DataError(f"{name} is not gzip though it is named so: rename it without .gz, or fetch it again")
        return _parsed(name, file, n_packed)
    with io.BufferedReader(_Unpacked(file)) as unpacked:
        try:
            return _parsed(name, unpacked, None, n_packed * MOST_PACKED)
        except EOFError as error:
            raise DataError(f"{name} is truncated: its gzip stream has no end; fetch it again") from error
        except zlib.error as error:
            raise DataError(f"{name} is damaged gzip ({error}): fetch it again") from error


def _parsed(name: str, file: BinaryIO, n_bytes: int | None, at_most: int | None = None) -> NDArray[Any]:
    """Return the array in `file`, which has `n_bytes`, or if None at most `at_most`."""
    header = file.read(4)
    if not header:
        raise DataError(f"{name} is truncated: found 0 bytes; fetch it again")
    if len(header) == 4 and (header[:2] != b"\0\0" or header[2] not in DTYPES or not 1 <= header[3] <= MAX_DIMENSIONS):
        _check_foreign(name, header + file.read(CHUNK))
        raise DataError(
            f"{name} is not an IDX file: found the magic number 0x{header.hex()}, "
            "expected 0x00000803 for images or 0x00000801 for labels"
        )
    n_header = 4 + 4 * header[3] if len(header) == 4 else 4
    header += file.read(n_header - len(header))
    if len(header) < n_header:
        raise DataError(f"{name} is truncated: found {len(header)} bytes, expected a header of {n_header} or more")
    dtype, shape = np.dtype(DTYPES[header[2]]), tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    expected = n_header + math.prod(shape) * dtype.itemsize
    wanted = f"expected {expected} for the shape {shape} in its header"
    if n_bytes is None:
        if at_most is not None and expected > at_most:
            raise DataError(f"{name} is truncated: found less than {at_most} bytes, {wanted}")
        values = _read(file, expected - n_header)
        if len(values) < expected - n_header:
            raise DataError(f"{name} is truncated: found {n_header + len(values)} bytes, {wanted}")
        if file.read(1):
            raise DataError(f"{name} has trailing bytes: found more than {expected} bytes, {wanted}")
    elif n_bytes != expected:
        what = "is truncated" if n_bytes < expected else "has trailing bytes"
        raise DataError(f"{name} {what}: found {n_bytes} bytes, {wanted}")
    else:
        values = _read(file, expected - n_header)
    try:
        array = np.frombuffer(values, dtype).reshape(shape)
    except ValueError as error:  # zero values with dimensions too large for NumPy, or a file truncated while being read
        raise DataError(f"{name} is not an IDX file: found the shape {shape} in its header ({error})") from error
    array.flags.writeable = False
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read(file: BinaryIO, n_bytes: int) -> bytearray:
    """Return the next `n_bytes`, or fewer at the end; memory grows with the data read, not with the header's claim."""
    found = bytearray()
    while len(found) < n_bytes and (more := file.read(min(CHUNK, n_bytes - len(found)))):
        found += more
    return found


def _check_foreign(name: str, start: bytes) -> None:
    """Raise `DataError` if a file that begins with `start` has another known format."""
    for known, what in FOREIGN.items():
        if start.startswith(known):
            raise DataError(f"{name} is {what}")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        raise DataError(f"{name} is a web page in place of the data: fetch the file itself, not the page about it")


class _Unpacked(io.RawIOBase):
    """Decompressed gzip stream; raises `EOFError` if it is truncated and `zlib.error` if it is damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self._chunks = _unpacked(file)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._chunks, b"")
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """Yield the decompressed members of a gzip file in chunks."""
    packed, n_empty = file.read(CHUNK), 0
    while packed:
        part, holds = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), False
        while not part.eof:
            if not packed:
                raise EOFError
            if found := part.decompress(packed, CHUNK):
                holds = True
                yield found
            packed = part.unconsumed_tail or (b"" if part.eof else file.read(CHUNK))
        n_empty += not holds
        if n_empty > MOST_EMPTY:
            raise zlib.error(f"more than {MOST_EMPTY} parts that hold nothing")
        # Members may be padded with zeros, as on tapes.
        packed = part.unused_data.lstrip(b"\0")
        while not packed and (more := file.read(CHUNK)):
            packed = more.lstrip(b"\0")
