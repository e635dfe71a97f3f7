"""What a model file remembers of a training: JSON types, checked where they are read.

The record of a training has its device, engine and recipe as in `History.to_dict`, the number of examples, the versions
of the packages, and under "epochs" a table, {"epoch": [1, 2], "loss": [0.5, 0.3], ...}. It has no times, so that the
same training gives the same file.
"""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol, Self, final

import numpy as np

from gpunn.errors import ConfigurationError

MOST_ROWS = 1000
"""Maximum number of epochs in a record; of more, evenly spaced ones are kept."""

MOST_ENTRIES, MOST_DEPTH = 50, 4
LONGEST_KEY, LONGEST_TEXT = 100, 1000
LARGEST = 2**63
"""What a record may hold at most, so that a file from elsewhere can be shown."""


class Recorded(Protocol):
    """What knows how a network was trained: a `History`, or what a model file remembers of one."""

    def record(self) -> dict[str, Any]:
        """Return the record of the training, in JSON types."""


@final
@dataclass(frozen=True)
class TrainingRecord:
    """The record of a training, as read from a model file."""

    found: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """Return the record of the training, in JSON types."""
        return dict(self.found)

    @classmethod
    def from_dict(cls, found: object) -> Self:
        """Return the record from the output of `record`; raises `ConfigurationError` for anything else."""
        if not isinstance(found, dict):
            raise ConfigurationError(f"found {reprlib.repr(found)} for the training, expected an object")
        _check(found, MOST_DEPTH)
        if not isinstance(found.get("warnings", []), list):
            raise ConfigurationError(f"found the warnings {reprlib.repr(found['warnings'])}, expected a list")
        epochs = found.get("epochs", {})
        columns: list[Any] = list(epochs.values()) if isinstance(epochs, dict) else [None]
        if not all(map(_is_column, columns)) or len({len(column) for column in columns}) > 1:
            raise ConfigurationError(f"found the epochs {reprlib.repr(epochs)}, expected a table of numbers")
        return cls(found)


def table(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return `rows`, which have the same keys, as a table with numbers of six digits, of at most `MOST_ROWS` rows."""
    return _thinned({name: [_rounded(row[name]) for row in rows] for name in (rows[0] if rows else ())}, MOST_ROWS)


def fitting(record: dict[str, Any], most: int) -> dict[str, Any]:
    """Return `record` with as many of its epochs as fit into `most` characters; without its epochs if none do."""
    rows = len(next(iter(record.get("epochs", {}).values()), ()))
    while len(json.dumps(record, default=plain)) > most and rows:
        rows //= 2
        record = record | {"epochs": _thinned(record["epochs"], rows)}
    return record


def plain(value: object) -> object:
    """Return what JSON lacks, such as numbers of NumPy, as JSON types: for `json.dumps`."""
    return value.item() if isinstance(value, np.generic) else reprlib.repr(value)


def _thinned(epochs: dict[str, list[Any]], rows: int) -> dict[str, list[Any]]:
    """Return at most `rows` rows of the table, evenly spaced, the last one among them."""
    n = len(next(iter(epochs.values()), ()))
    if n <= rows:
        return epochs
    kept = [] if not rows else np.linspace(n - 1, 0, rows, endpoint=rows > 1).astype(int)[::-1].tolist()
    return {name: [column[row] for row in kept] for name, column in epochs.items()}


def _rounded(number: Any) -> Any:
    return float(f"{number:.6g}") if isinstance(number, float) else number


def _is_column(found: object) -> bool:
    numbers = found if isinstance(found, list) else [""]
    return all(
        number is None or (isinstance(number, int | float) and not isinstance(number, bool)) for number in numbers
    )


def _check(value: object, depth: int) -> None:
    """Raise `ConfigurationError` unless `value` is plain: finite numbers, short printable text, and not much of it."""
    if isinstance(value, dict):
        fits = len(value) <= MOST_ENTRIES and all(len(key) <= LONGEST_KEY and key.isprintable() for key in value)
        inner = list(value.values())
    elif isinstance(value, list):
        fits, inner = len(value) <= MOST_ROWS, value
    elif isinstance(value, str):
        fits, inner = len(value) <= LONGEST_TEXT and value.isprintable(), []
    else:
        fits, inner = value is None or (abs(value) < LARGEST if isinstance(value, int) else isfinite(value)), []  # type: ignore[arg-type]
    if not fits or (inner and not depth):
        raise ConfigurationError(f"found {reprlib.repr(value)} in the training, expected short text and finite numbers")
    for each in inner:
        _check(each, depth - 1)
