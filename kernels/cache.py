"""A folder of compiled kernels, for later processes. Damaged files are treated as missing.

It is never beside the source: `pip uninstall` would leave the files there.
"""

import hashlib
import logging
import os
import shutil
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from typing import final

import numba

from .folders import user_folder

logger = logging.getLogger(__name__)

SUFFIX, PART = ".nbc", ".part"
"""Suffixes of a kernel's file, and of one that is still being written."""

MOST = 2**28
"""Maximum size of the folder in bytes, enough for hundreds of kinds of networks; then old kernels are removed."""

SEAL = 16
"""Length of the hash before a kernel, in bytes: damaged machine code must not be run."""


def folder() -> Path | None:
    """Return the folder for compiled kernels: in NUMBA_CACHE_DIR if that is set, else in the user's cache folder.

    It may be missing or unusable. Returns None if the user has no cache folder.
    """
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR).absolute() / "gpunn"
    of_user = user_folder(xdg=("XDG_CACHE_HOME", ".cache"), mac="Caches", windows=("LOCALAPPDATA", "Local"))
    return None if of_user is None else of_user / "gpunn" / "kernels"


@final
class Shelf:
    """Reads and writes cached files in `folder`; does nothing if that is None.

    Failures are no errors, as kernels can be compiled again: each kind is logged once per process.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.keeps = True
        """Whether all writes have succeeded."""
        self._complained: set[str] = set()
        self._swept = False

    def read(self, name: str) -> bytes | None:
        """Return the content written under `name`, or None if it is missing or damaged."""
        if self.folder is None:
            return None
        path = self.folder / name
        try:
            self._check_owner()
            if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe could block for ever
                raise OSError(f"it is not a regular file: {path}")
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.complain(error)
            return None
        if _sealed(content[SEAL:]) != content:
            self.complain(f"it was damaged: {path}")
            return None
        with suppress(OSError):
            os.utime(path)
        return content[SEAL:]

    def write(self, name: str, content: bytes) -> None:
        """Write `content` under `name`, atomically replacing what is there."""
        if self.folder is None:
            self._cannot_keep("the user has no cache folder")
            return
        path = self.folder / name
        part = self.folder / f"{uuid.uuid4().hex}{PART}"
        try:
            # Cached machine code is run: nobody else may put any there.
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._check_owner()
            self._sweep(self.folder)
            try:
                with part.open("xb") as file:
                    file.write(_sealed(content))
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            self._cannot_keep(str(error))

    def complain(self, why: object) -> None:
        """Log that a cached kernel can't be used."""
        self._say("a cached kernel can't be used, and is compiled again", why)

    def _cannot_keep(self, why: str) -> None:
        self.keeps = False
        advice = "set NUMBA_CACHE_DIR to a folder that can be written to"
        self._say("compiled kernels can't be kept, and every process will compile them again", f"{why}; {advice}")

    def _say(self, what: str, why: object) -> None:
        if what not in self._complained:
            self._complained.add(what)
            logger.info("%s: %s", what, " ".join(str(why).split()))

    def _check_owner(self) -> None:
        """Raise `PermissionError` if other users can have written to the folder, whose content is run."""
        if self.folder is None or not hasattr(os, "geteuid"):
            return
        found = self.folder.stat()
        if found.st_uid not in {os.geteuid(), 0}:
            raise PermissionError(f"the folder belongs to another user: {self.folder}")
        if found.st_mode & stat.S_IWOTH:
            raise PermissionError(f"everybody can write to the folder: {self.folder}")

    def _sweep(self, folder: Path) -> None:
        """Once per process, if there is more than `MOST`, remove the least recently used files until half is left.

        A process that misses one compiles it again.
        """
        if self._swept:
            return
        self._swept = True
        found = []
        for path in [path for path in folder.iterdir() if path.suffix in {SUFFIX, PART}]:
            with suppress(OSError):
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= MOST:
            return
        for _, size, path in sorted(found):
            with suppress(OSError):
                path.unlink()
            total -= size
            if total <= MOST // 2:
                return


def _sealed(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=SEAL).digest() + content
