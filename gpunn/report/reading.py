"""Reading the files that `pytest --benchmark` leaves: everything is checked before anything is drawn."""

import json
import os
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpunn.errors import ResultsFileError
from gpunn.files import open_file
from gpunn.printing import printable
from gpunn.report.results import Ceiling, Entrant, Epochs, Kernel, Race, Run, Task, Times

VERSION = 1
"""Of the layout of the files."""

LARGEST = 1e18
"""No number in such a file is larger."""

LARGEST_FILE, MOST_PARTS, MOST_NUMBERS = 4 << 20, 100_000, 10_000
"""Bytes of such a file, its objects and lists, and numbers in a row of them: none has more."""

KEY = "gpunn benchmarks"
"""What tells such a file from others; its value is the version."""


def read_run(path: str | os.PathLike[str]) -> Run:
    """Return what is in the file at `path`; raises `ResultsFileError`, in one line, where it isn't such a file."""
    top = _Record(path, "", _parsed(path))
    version = top.values.get(KEY)
    if version is None:
        raise top.foreign("it is another kind of JSON")
    if version != VERSION:
        raise top.foreign(f"its layout is version {version!r:.20}, and this gpunn reads {VERSION}")
    rows = list(top.records("rows"))
    of = {what: [row for row in rows if row.text("what") == what] for what in _KINDS}
    images = top.record("options").whole("images")
    return Run(
        path=Path(path),
        started=top.text("started"),
        revision=top.text("revision"),
        machine=top.texts("machine"),
        devices={name: top.record("devices").texts(name) for name in top.record("devices").names()},
        epochs=tuple(_epochs(row, images) for row in of["epoch"]),
        kernels=tuple(map(_kernel, of["kernel"])),
        races=tuple(map(_race, of["time to accuracy"])),
        ceilings=tuple(map(_ceiling, of["ceiling"])),
        skipped=tuple(map(_skipped, top.records("skipped"))),
    )


_KINDS = ("epoch", "kernel", "time to accuracy", "ceiling")


def _parsed(path: str | os.PathLike[str]) -> dict[str, Any]:
    name = printable(path)
    try:
        with open_file(path) as file:
            content = file.read() if os.fstat(file.fileno()).st_size <= LARGEST_FILE else None
        # Python's objects take many times the room of their text.
        if content is None or content.count(b"{") + content.count(b"[") > MOST_PARTS:
            raise ResultsFileError(f"{name} is too large, or has too many rows: expected what pytest --benchmark wrote")
        found = json.loads(content)
    except OSError as error:
        raise ResultsFileError(f"cannot read {name}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # bytes that aren't text included
        if isinstance(error, ResultsFileError):
            raise
        reason = printable(str(error)[:200])
        raise ResultsFileError(f"{name} is no JSON ({reason}): expected what pytest --benchmark wrote") from error
    return found if isinstance(found, dict) else {}


def _epochs(row: "_Record", images: int) -> Epochs:
    task = Task(row.network(), row.whole("batch_size"), row.flag("dense"), images)
    problem = row.problem()
    return Epochs(task, row.entrant(), None if problem else row.times(), problem)


def _kernel(row: "_Record") -> Kernel:
    problem = row.problem()
    fused, unfused, copy = (None if problem else row.record(way).times() for way in ("fused", "unfused", "copy"))
    shape = tuple(map(int, row.numbers("shape")))
    n_bytes = row.whole("bytes")
    return Kernel(row.device(), row.text("name"), shape, n_bytes, fused, unfused, copy, problem)


def _race(row: "_Record") -> Race:
    problem, entrant = row.problem(), row.entrant()
    network, goal = row.network(), row.number("goal")
    if problem and "epochs" not in row.values:  # it broke down
        return Race(network, goal, entrant, 0, 0.0, (), None, problem)
    settings = row.whole("batch_size"), row.number("learning_rate"), tuple(map(int, row.numbers("epochs", least=1)))
    return Race(network, goal, entrant, *settings, None if problem else row.times(), problem)


def _ceiling(row: "_Record") -> Ceiling:
    known = ("copied_bytes_per_second", "multiplied_operations_per_second")
    copied, multiplied = (row.number(name) if name in row.values else None for name in known)
    return Ceiling(row.device(), copied, multiplied)


def _skipped(row: "_Record") -> str:
    about = [row.text(name) for name in ("device", "name", "network") if name in row.values]
    if "batch_size" in row.values:
        about.append(f"batch size {row.whole('batch_size')}")
    return f"{', '.join(about)}: {row.text('reason')}"


class _Record:
    """A JSON object whose values are checked as they are asked for; `place` is where in the file it is."""

    def __init__(self, path: str | os.PathLike[str], place: str, values: dict[str, Any]) -> None:
        self._path, self._place, self.values = path, place, values

    def foreign(self, why: str) -> ResultsFileError:
        where = printable(self._path)
        return ResultsFileError(f"{where}: {printable(why)}; expected a file that pytest --benchmark wrote")

    def text(self, name: str) -> str:
        found = self._value(name, str, "text")
        if not found.isprintable():  # what no page can hold
            raise self._wrong(name, "text")
        return str(found)

    def texts(self, name: str) -> dict[str, str]:
        record = self.record(name)
        return {key: record.text(key) for key in record.names()}

    def names(self) -> list[str]:
        """Return the names of the values, which are text too."""
        for name in self.values:
            if not name.isprintable():
                raise self.foreign(f"the name {name!r:.40} in {self._place or 'the file'} should be text")
        return list(self.values)

    def device(self) -> str:
        found = self.text("device")
        if not re.fullmatch("cpu|cuda:[0-9]{1,4}", found):
            raise self._wrong("device", "cpu or cuda:N")
        return found

    def flag(self, name: str) -> bool:
        return bool(self._value(name, bool, "true or false"))

    def number(self, name: str) -> float:
        found = self._value(name, (int, float), "a number")
        if isinstance(found, bool) or not 0 <= found <= LARGEST:
            raise self._wrong(name, f"a number from 0 to {LARGEST:g}")
        return float(found)

    def whole(self, name: str) -> int:
        found = self._value(name, int, "a whole number")
        if isinstance(found, bool) or not 1 <= found <= LARGEST:
            raise self._wrong(name, f"a whole number from 1 to {LARGEST:g}")
        return int(found)

    def numbers(self, name: str, least: int = 0) -> list[float]:
        found = self._value(name, list, "numbers")
        if not least <= len(found) <= MOST_NUMBERS:
            raise self._wrong(name, f"{least} to {MOST_NUMBERS} numbers")
        items = {f"[{place}]": item for place, item in enumerate(found)}
        record = _Record(self._path, f"{self._place}{name}", items)
        return [record.number(place) for place in items]

    def record(self, name: str) -> "_Record":
        return _Record(self._path, f"{self._place}{name}.", self._value(name, dict, "an object"))

    def records(self, name: str) -> Iterator["_Record"]:
        for number, values in enumerate(self._value(name, list, "a list")):
            if not isinstance(values, dict):
                raise self._wrong(f"{name}[{number}]", "an object")
            yield _Record(self._path, f"{self._place}{name}[{number}].", values)

    def problem(self) -> str | None:
        return None if self.values.get("problem") is None else self.text("problem")

    def entrant(self) -> Entrant:
        return Entrant(self.flag("is_peer"), self.device(), self.text("name"))

    def network(self) -> str:
        sizes = self.text("network")
        layers = sizes.split("-")
        if len(layers) < 2 or not all(re.fullmatch("[1-9][0-9]{0,8}", size) for size in layers):
            raise self._wrong("network", "layer sizes such as 784-16-10")
        return sizes

    def times(self) -> Times:
        quartiles = self.numbers("quartiles")
        if len(quartiles) != 3 or not 0 < quartiles[0] <= quartiles[1] <= quartiles[2]:
            raise self._wrong("quartiles", "three rising numbers above 0")
        low, median, high = quartiles
        return Times(low, median, high, self.flag("wide"))

    def _value(self, name: str, kind: type | tuple[type, ...], what: str) -> Any:
        found = self.values.get(name)
        if not isinstance(found, kind):
            raise self._wrong(name, what)
        return found

    def _wrong(self, name: str, what: str) -> ResultsFileError:
        found = f"found {reprlib.repr(self.values[name]):.40}" if name in self.values else "it is missing"
        return self.foreign(f"{self._place}{name} should be {what}, {found}")
