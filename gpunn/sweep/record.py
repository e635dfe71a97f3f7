"""The record of a sweep: one file, a line for each finished network, by which an interrupted sweep goes on.

The first line says what the sweep is; each further one is a `Run`. Lines are JSON. Every line is handed to the system
as soon as a network is finished, so that whatever ends the process loses nothing; about once a second the system is
asked to write them to the disk, so that a power failure loses little. What such a failure leaves of the last line is
cut off; other lines that can't be read stay, and don't count.
"""

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from gpunn.errors import ConfigurationError, OutputError
from gpunn.files import check_writable
from gpunn.printing import printable
from gpunn.sweep.runs import Run
from gpunn.sweep.space import Configuration

FORMAT = "gpunn sweep 1"

SYNCED = 1.0
"""Minimum number of seconds between two calls of `fsync`, which may take longer than training a network."""


@final
class Record:
    """The record at `path` of a sweep that `about`, in JSON types, tells from others; locked until closed.

    An existing record is read with `resume`, and replaced with `replace`; `runs` are those that it holds. Raises
    `OutputError` if the file can't be written, is in use by another process, is no record, or is one and neither
    `resume` nor `replace` is set; `ConfigurationError` if it is the record of another sweep.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        about: dict[str, Any],
        configurations: Sequence[Configuration],
        *,
        resume: bool = False,
        replace: bool = False,
    ) -> None:
        self.path = Path(path)
        self.runs: list[Run] = []
        check_writable(path)
        self._synced = time.monotonic()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise self._failed(error) from error
        try:
            self._lock()
            self._begin(json.dumps({"format": FORMAT} | about).encode() + b"\n", about, configurations, resume, replace)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, run: Run) -> None:
        """Write a finished run."""
        self._write(json.dumps(run.to_dict()).encode() + b"\n")
        self.runs.append(run)
        if time.monotonic() - self._synced > SYNCED:
            self._sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._sync()
        finally:
            os.close(self._file)

    def _begin(
        self, header: bytes, about: dict[str, Any], configurations: Sequence[Configuration], resume: bool, replace: bool
    ) -> None:
        found = b"" if replace else self.path.read_bytes()
        whole = 0
        if not header.startswith(found):  # otherwise it is empty, or its first line was cut off
            first, *lines = found.splitlines(keepends=True)
            self._check(first, about, resume=resume)
            self._read(lines, configurations)
            whole = found.rindex(b"\n") + 1
        os.ftruncate(self._file, whole)
        if not whole:
            self._write(header)
        self._sync()

    def _check(self, first: bytes, about: dict[str, Any], *, resume: bool) -> None:
        """Raise an error unless the first line is the header of a record, and of this sweep's."""
        name = printable(self.path)
        found = _parsed(first)
        if found.get("format") != FORMAT or not all(isinstance(found.get(part), dict) for part in about):
            raise OutputError(f"{name} is not a record of gpunn sweep: choose another --record, or use --force")
        if not resume:
            raise OutputError(
                f"{name} is the record of a sweep: go on with it by --resume, choose another --record, or use --force"
            )
        for part, values in about.items():
            for key in values:
                before = found[part].get(key)
                if before != values[key]:
                    was = f"was begun with {key} {_short(before)}, not {_short(values[key])}"
                    raise ConfigurationError(f"{name} {was}: give what it was begun with, or another --record")

    def _read(self, lines: Sequence[bytes], configurations: Sequence[Configuration]) -> None:
        """Read the runs, each number once."""
        seen: set[int] = set()
        for line in lines:
            try:
                run = Run.from_dict(_parsed(line))
            except (KeyError, TypeError):
                continue
            if not 1 <= run.number <= len(configurations) or run.configuration != configurations[run.number - 1]:
                raise ConfigurationError(
                    f"{printable(self.path)} has another network {run.number} than this sweep, as other versions of "
                    "NumPy draw: choose another --record"
                )
            if run.number not in seen:
                seen.add(run.number)
                self.runs.append(run)

    def _write(self, content: bytes) -> None:
        try:
            while content:  # at once, unless the disk is full
                content = content[os.write(self._file, content) :]
        except OSError as error:
            raise self._failed(error) from error

    def _sync(self) -> None:
        with contextlib.suppress(OSError):  # file systems that can't
            os.fsync(self._file)
        self._synced = time.monotonic()

    def _lock(self) -> None:
        """Lock the file, which its closing undoes, also by the end of the process; not on Windows."""
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(
                    f"{printable(self.path)} is in use by another sweep: choose another --record"
                ) from error
            except OSError:  # file systems without locks
                return

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {printable(self.path)}: {error.strerror or error}; choose another --record")


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the object of a whole line, or an empty one."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _short(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
