"""Safe file access: only regular files are read, and files are written atomically."""

import contextlib
import errno
import os
import re
import secrets
import stat
import time
import zlib
from pathlib import Path
from typing import BinaryIO

from gpunn.errors import OutputError
from gpunn.printing import printable

KINDS = {
    stat.S_IFDIR: "Is a directory",
    stat.S_IFIFO: "it is a pipe, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
}

PART = re.compile(r"\.gpunn-(?:(?P<host>[0-9a-f]{8})-(?P<process>[0-9]{1,10})-)?[0-9a-f]{16}\.part")
"""Name of a file being written: host and process that write it. Older versions had neither."""

ABANDONED = 86_400
"""Seconds after which a partial file counts as abandoned; writing one takes less than a minute."""


def open_file(path: str | bytes | os.PathLike[str]) -> BinaryIO:
    """Open the file at `path` for reading; raises `OSError`, also for pipes and devices, which could block."""
    name = os.fsdecode(path)
    if "\0" in name:
        raise OSError(errno.EINVAL, "a null byte is in its name")
    kind = stat.S_IFMT(Path(name).stat().st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, KINDS.get(kind, "it is not a file"))
    return Path(name).open("rb")


def write_whole(path: str | bytes | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` atomically; on failure an existing file is left unchanged.

    Removes partial files that killed processes left in the same folder. Raises `OutputError` if the folder is missing
    or not writable, or the disk is full.
    """
    target, staged = _stage(path)
    try:
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error
    finally:
        staged.unlink(missing_ok=True)
    _remove_abandoned(target.parent)


def _sync_folder(folder: Path) -> None:
    """Ask the system to write the names in `folder` to the disk, so that a power failure doesn't undo a renaming."""
    if os.name != "posix":  # elsewhere folders can't be opened
        return
    with contextlib.suppress(OSError):  # file systems that can't
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(path: str | bytes | os.PathLike[str]) -> None:
    """Raise what `write_whole` would raise, before there is content, by creating a file beside `path`.

    Removes partial files of killed processes as `write_whole` does.
    """
    target, staged = _stage(path)
    staged.unlink()
    _remove_abandoned(target.parent)


def _stage(path: str | bytes | os.PathLike[str]) -> tuple[Path, Path]:
    """Create an empty file in the folder of `path`, links resolved; return the target and the new file."""
    if "\0" in os.fsdecode(path):
        raise _cannot_write(path, "a null byte is in its name")
    target = Path(os.path.realpath(os.fsdecode(path)))
    # A unique name, so that concurrent writes don't collide.
    staged = target.with_name(f".gpunn-{_host()}-{os.getpid()}-{secrets.token_hex(8)}.part")
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
        # Some existing folders take no files, such as /proc.
        what = f"in {printable(target.parent)} no file can be made"
        if not target.parent.exists():
            what = f"there is no folder {printable(target.parent)}"
        raise _cannot_write(path, what) from error
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error
    if there is not None:
        with contextlib.suppress(OSError):  # file systems without permissions
            staged.chmod(stat.S_IMODE(there))
    return target, staged


def _remove_abandoned(folder: Path) -> None:
    """Remove partial files of processes that no longer run.

    Processes on other hosts that share the folder can't be checked; their files are removed after `ABANDONED` seconds.
    Files that can't be inspected or removed stay.
    """
    parts = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        parts = [(entry, found) for entry in entries if (found := PART.fullmatch(entry.name))]
    for entry, found in parts:
        with contextlib.suppress(OSError):
            here = found["host"] == _host()
            over = not _runs(int(found["process"])) if here else time.time() - entry.stat().st_mtime > ABANDONED
            if over and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink()


def _runs(process: int) -> bool:
    """Whether the process runs, or may run."""
    if os.name != "posix":  # elsewhere signal 0 would kill it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # such as a process of another user
        return True
    return True


def _host() -> str:
    """Return eight hexadecimal digits that identify this host and its process namespace."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    # Containers may share a host name and a folder, and each numbers its processes from 1.
    with contextlib.suppress(OSError):
        name += f" {Path('/proc/self/ns/pid').readlink()} {Path('/proc/sys/kernel/random/boot_id').read_text('ascii')}"
    return f"{zlib.crc32(name.encode('utf-8', 'surrogateescape')):08x}"


def _cannot_write(path: str | bytes | os.PathLike[str], reason: str | None) -> OutputError:
    return OutputError(f"cannot write {printable(path)}: {reason}; choose another place")
