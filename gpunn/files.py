"""Files that are written whole or not at all: beside their target, then renamed."""

import os
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
        raise _cannot_write(path, error) from error
    finally:
        staged.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise what `write_whole` would raise, before there is any content: by creating a file beside `path`."""
    _, staged = _stage(path)
    staged.unlink()


def _stage(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Create an empty file in the folder of `path`, behind its links: the target and the new file."""
    target = Path(os.path.realpath(path))
    staged = target.with_name(f".{target.name}.{os.getpid()}.part")
    # os.path answers False where a folder on the way can't be entered or a name is too long; touch then says why.
    if os.path.isdir(target):  # noqa: PTH112
        raise OutputError(f"cannot write {os.fspath(path)}: it is a folder; name a file in it")
    if os.path.exists(target) and not os.path.isfile(target):  # noqa: PTH110, PTH113
        raise OutputError(f"cannot write {os.fspath(path)}: it is a device, not a file; name a file")
    try:
        staged.touch()
    except FileNotFoundError as error:
        raise OutputError(
            f"cannot write {os.fspath(path)}: there is no folder {target.parent}; create it first"
        ) from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    return target, staged


def _cannot_write(path: str | os.PathLike[str], error: OSError) -> OutputError:
    reason = error.strerror or type(error).__name__
    return OutputError(f"cannot write {os.fspath(path)}: {reason}; choose another place")
