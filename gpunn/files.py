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
from gpunn.kernels.folders import user_folder
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

UNNAMED: int | None = getattr(os, "O_TMPFILE", None)
"""Flag of `os.open`, on Linux alone, for a file without a name, which vanishes with what has it open."""

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

    Where there are files without names, as on most of Linux, a process that is killed leaves no partial file; if it
    replaces one, a kill within some microseconds leaves a whole file under another name. Elsewhere a partial one may
    stay. The next `write_whole` or `check_writable` in the folder removes what processes of this host left, and after a
    day what others did.

    Raises `OutputError` if the folder is missing or not writable, or the disk is full.
    """
    target, mode = _target(path)
    try:
        if not _write_unnamed(target, mode, content):
            _write_named(path, target, mode, content)
        _sync_folder(target.parent)
    except OutputError:
        raise
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error
    _remove_abandoned(target.parent)


def _write_unnamed(target: Path, mode: int | None, content: bytes) -> bool:
    """Write a file that has no name before it is whole; return False where that can't be."""
    file = _open_unnamed(target.parent)
    if file is None:
        return False
    with file:
        _fill(file, content, mode)
        return _name(file.fileno(), target)


def _open_unnamed(folder: Path) -> BinaryIO | None:
    """Return a new file in `folder` that has no name, or None where files always have one, or none can be made."""
    if UNNAMED is None:
        return None
    try:
        return os.fdopen(os.open(folder, UNNAMED | os.O_WRONLY, 0o666), "wb")
    except OSError:
        return None


def _name(descriptor: int, target: Path) -> bool:
    """Give the file its name, in place of an existing one; return False if it can't be given any."""
    unnamed, staged = f"/proc/self/fd/{descriptor}", _part(target)
    # `src_dir_fd`, which absolute paths leave unused, makes Python call linkat(2), as link(2) doesn't follow links.
    try:
        os.link(unnamed, target, src_dir_fd=descriptor)
    except FileExistsError:
        pass
    except OSError:  # such as without /proc, or on file systems without links
        return False
    else:
        return True
    try:
        os.link(unnamed, staged, src_dir_fd=descriptor)
    except OSError:
        return False
    try:
        staged.replace(target)  # links replace nothing
    finally:
        staged.unlink(missing_ok=True)
    return True


def _write_named(path: str | bytes | os.PathLike[str], target: Path, mode: int | None, content: bytes) -> None:
    """Write a file under another name, and rename it."""
    staged = _stage(path, target)
    try:
        with staged.open("wb") as file:
            _fill(file, content, mode)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


def _fill(file: BinaryIO, content: bytes, mode: int | None) -> None:
    """Write `content` to the disk, with the permissions `mode` if that is given."""
    if mode is not None:
        with contextlib.suppress(OSError, AttributeError):  # file systems without permissions; and Windows
            os.fchmod(file.fileno(), mode)
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


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


def settings_file(name: str) -> Path | None:
    """Return the place of a file in the user's folder for settings, or None if there is no such folder."""
    folder = user_folder(xdg=("XDG_CONFIG_HOME", ".config"), mac="Application Support", windows=("APPDATA", "Roaming"))
    return None if folder is None else folder / "gpunn" / name


def check_writable(path: str | bytes | os.PathLike[str]) -> None:
    """Raise what `write_whole` would raise, before there is content, by creating a file beside `path`.

    Removes partial files of killed processes as `write_whole` does.
    """
    target, _ = _target(path)
    file = _open_unnamed(target.parent)
    if file is None:
        _stage(path, target).unlink()
    else:
        file.close()
    _remove_abandoned(target.parent)


def _target(path: str | bytes | os.PathLike[str]) -> tuple[Path, int | None]:
    """Return the file to write, links resolved, and the permissions of the one that is there."""
    if "\0" in os.fsdecode(path):
        raise _cannot_write(path, "a null byte is in its name")
    target = Path(os.path.realpath(os.fsdecode(path)))
    try:
        there = target.stat().st_mode
    except FileNotFoundError:
        return target, None
    except OSError as error:
        raise _cannot_write(path, error.strerror) from error
    if stat.S_ISDIR(there):
        raise _cannot_write(path, "it is a folder")
    if not stat.S_ISREG(there):
        raise _cannot_write(path, "it is a device, not a file")
    if not os.access(target, os.W_OK):
        raise _cannot_write(path, "it is read-only")
    return target, stat.S_IMODE(there)


def _part(target: Path) -> Path:
    """Return a name of a file being written, unique, so that concurrent writes don't collide."""
    return target.with_name(f".gpunn-{_host()}-{os.getpid()}-{secrets.token_hex(8)}.part")


def _stage(path: str | bytes | os.PathLike[str], target: Path) -> Path:
    """Create an empty file beside `target`, which `path` names; return it."""
    staged = _part(target)
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
    return staged


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
