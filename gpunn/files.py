"""Files that are written whole or not at all: beside their target, then renamed."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from gpunn.errors import OutputError


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` at `path`; whatever goes wrong, a file that was there stays as it was.

    Raises `OutputError` where the folder is missing or can't be written, or the disk is full.
    """
    target, staged = _stage(path)
    try:
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(target)
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error
    finally:
        staged.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise what `write_whole` would raise, before there is any content: by creating a file beside `path`."""
    _, staged = _stage(path)
    staged.unlink()


def _stage(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Create an empty file in the folder of `path`, behind its links: the target and the new file."""
    target = Path(os.path.realpath(path))
    # A name of its own for each write, so that two in one folder don't meet.
    staged = target.with_name(f".gpunn-{secrets.token_hex(8)}.part")
    try:
        there = target.stat().st_mode
    except FileNotFoundError:
        there = None
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error
    if there is not None and stat.S_ISDIR(there):
        raise _cannot_write(path, "it is a folder")
    if there is not None and not stat.S_ISREG(there):
        raise _cannot_write(path, "it is a device, not a file")
    if there is not None and not os.access(target, os.W_OK):
        raise _cannot_write(path, "it is read-only")
    try:
        staged.touch(exist_ok=False)
    except FileNotFoundError as error:
        raise _cannot_write(path, f"there is no folder {target.parent}") from error
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error
    if there is not None:
        with contextlib.suppress(OSError):  # file systems without permissions
            staged.chmod(stat.S_IMODE(there))
    return target, staged


def _cannot_write(path: str | os.PathLike[str], reason: str | None) -> OutputError:
    return OutputError(f"cannot write {os.fspath(path)}: {reason}; choose another place")
