"""Reading of untrusted picture files, with limits on memory."""

import io
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpunn.datasets.framing import FIELD
from gpunn.errors import DataError
from gpunn.kernels.overheard import overheard
from gpunn.pictures.sheets import MOST_PIXELS, sheet_of_levels, sheet_of_picture, too_large
from gpunn.printing import printable

STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Prefixes of streams that may be read although they are not regular files."""
MOST_BYTES = 2**28
"""Maximum size of a stream in bytes."""
NUMPY = b"\x93NUMPY"
DEFLATE = 1100
"""Upper bound of the compression ratio of PNG."""
EXPECTED = "expected a PNG, a JPEG or a .npy file"

_decoding = threading.Lock()
"""Held while decoding: standard error is redirected for the whole process, which must not overlap between threads."""


def read_sheet(path: str | bytes | os.PathLike[Any]) -> Image.Image:
    """Return the picture at `path`, or on standard input for "-", as a sheet of mode L, RGB or F.

    Raises `DataError`, naming the file, if it can't be read.
    """
    name = os.fsdecode(path)
    shown = shown_name(path)
    try:
        with _opened(name, shown) as file:
            start = file.read(len(NUMPY))
            file.seek(0)
            if start == NUMPY or name.lower().endswith(".npy"):
                return sheet_of_levels(_read_npy(file, shown))
            return _read_picture(file, shown)
    except DataError as error:
        message = str(error)
        raise DataError(message if shown in message else f"{shown}: {message}") from error
    except OSError as error:
        raise DataError(f"cannot read {shown}: {error.strerror or error}") from error


def shown_name(path: str | bytes | os.PathLike[Any]) -> str:
    """Return the name of the picture at `path` for messages."""
    return "standard input" if os.fsdecode(path) == "-" else printable(path)


@contextmanager
def _opened(name: str, shown: str) -> Iterator[BinaryIO]:
    """Open a regular file or an explicit stream as a seekable file; refuse anything else, without blocking."""
    if "\0" in name:
        raise DataError(f"cannot read {shown}: a name can't hold a null byte")
    if name == "-":
        yield _whole(sys.stdin.buffer if sys.stdin is not None else None, shown)
        return
    stream = name.startswith(STREAMS)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | (0 if stream else getattr(os, "O_NONBLOCK", 0))
    try:
        handle = os.open(name, flags)
    except UnicodeError as error:
        raise DataError(f"cannot read {shown}: no file can have such a name") from error
    if stat.S_ISDIR(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError(f"cannot read {shown}: it is a folder; {EXPECTED}")
    file = os.fdopen(handle, "rb")
    with file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode):
            yield file
        elif stream:
            yield _whole(file, shown)
        else:
            raise DataError(f"cannot read {shown}: it is not a regular file; {EXPECTED}")


def _whole(stream: BinaryIO | None, shown: str) -> BinaryIO:
    """Read `stream` into memory."""
    if stream is None:
        raise DataError(f"cannot read {shown}: it is closed")
    if stream.isatty():
        raise DataError(
            f"cannot read {shown}: it is a terminal; pass a picture, as in: gpunn predict MODEL - <digit.png"
        )
    content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DataError(f"cannot read {shown}: it holds more than {MOST_BYTES // 2**20} MiB")
    return io.BytesIO(content)


def _size(file: BinaryIO) -> int:
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size


def _read_npy(file: BinaryIO, shown: str) -> NDArray[Any]:
    """Return the array in a .npy file, after checking its header against the file size."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, by_columns, dtype = read_header[version](file)
    except Exception as error:  # damaged headers fail in more ways than NumPy lists
        raise DataError(f"{shown} is not a NumPy file of numbers: expected one written by numpy.save") from error
    if dtype.hasobject:
        raise DataError(f"{shown} is not a NumPy file of numbers: expected one written by numpy.save")
    if dtype.kind not in "buif":
        raise DataError(f"{shown} holds {dtype}: expected an array of grey levels")
    n = prod(shape)
    if min(shape, default=0) < 0 or n > (_size(file) - file.tell()) // max(1, dtype.itemsize):
        raise DataError(f"{shown} is not a NumPy file of numbers: it ends before the array that its header describes")
    if tuple(shape) == (FIELD**2,):
        shape = (FIELD, FIELD)
    if len(shape) != 2 or n == 0:
        what = str(shape) if len(shape) < 8 else f"of {len(shape)} dimensions"
        raise DataError(f"{shown} has the shape {what}: expected (rows, columns), or (784,)")
    if shape[0] * shape[1] > MOST_PIXELS:
        raise DataError(f"{shown}: {too_large(shape[1], shape[0])}")
    levels = np.frombuffer(file.read(n * dtype.itemsize), dtype=dtype)
    if levels.dtype.kind == "f" and not np.isfinite(levels).all():
        raise DataError(f"{shown} holds levels that aren't finite: expected grey levels")
    return levels.reshape(shape, order="F" if by_columns else "C")


def _read_picture(file: BinaryIO, shown: str) -> Image.Image:
    try:
        with _decoding, overheard(), Image.open(file) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise DataError(f"{shown}: {too_large(width, height)}")
            if picture.format == "PNG" and width * height // 8 > DEFLATE * _size(file):
                raise DataError(f"cannot read {shown}: it ends before its {width} x {height} pixels; {EXPECTED}")
            with _quiet_libtiff(picture):
                upright = ImageOps.exif_transpose(picture)
            return sheet_of_picture(upright)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{shown} is not a readable picture: {EXPECTED}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{shown} has more than {MOST_PIXELS // 10**6} million pixels: reduce the picture") from error
    except Exception as error:  # damaged pictures fail in more ways than Pillow lists
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {shown}: {reason}; {EXPECTED}") from error


@contextmanager
def _quiet_libtiff(picture: Image.Image) -> Iterator[None]:
    """Suppress messages that libtiff, the decoder of compressed TIFF, writes to standard error."""
    if picture.format != "TIFF" or picture.info.get("compression") == "raw":
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # no standard error
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
