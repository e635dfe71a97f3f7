"""Search for a data set's four files in a folder, by the names of MNIST, EMNIST or QMNIST."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpunn.errors import DataError
from gpunn.printing import printable

NAME = re.compile(
    r"(?P<prefix>.*?)(?P<part>train|test|t10k)[-_](?P<what>images|labels)[-_.](?P<form>idx[0-9]-[a-z]+)(?P<packed>\.gz)?",
    re.IGNORECASE,
)
"""File names such as emnist-letters-train-images-idx3-ubyte.gz, or train-images.idx3-ubyte, with a dot."""

ROLES = ("train images", "train labels", "test images", "test labels")

PLAIN = "mnist"
"""Name of the data set without a prefix, to select it among others."""

DEPTH, MOST_FOLDERS, SHOWN = 3, 200, 5


@dataclass(frozen=True)
class Found:
    """A data set in a folder: the `prefix` of its file names, without the hyphen, and the `files` by role."""

    prefix: str
    files: Mapping[str, Path]

    @property
    def called(self) -> str:
        """The name that selects the data set."""
        return self.prefix or PLAIN

    @property
    def whole(self) -> bool:
        """Whether all four files were found."""
        return len(self.files) == len(ROLES)


def find_files(data_dir: Path) -> tuple[Path, Found]:
    """Return the folder and the four files of the data set at `data_dir`.

    `data_dir` is a folder; if it holds several data sets, the folder and a file name prefix, as in
    "emnist/emnist-letters", or "mnist" for the set without a prefix. Raises `DataError` that lists the candidates.
    """
    chosen = None
    folder = data_dir
    if not _is_folder(data_dir) and _is_folder(data_dir.parent):
        folder, chosen = data_dir.parent, data_dir.name.lower().rstrip("-_")
    elif not _is_folder(data_dir):
        raise _no_folder(data_dir)
    sets = _sets(folder)
    if chosen is not None:
        sets = [each for each in sets if each.called.lower() == chosen]
        if not sets:
            if os.path.lexists(data_dir):
                raise DataError(
                    f"{printable(data_dir)} is a file: expected a folder with the four files of an MNIST-like data "
                    "set; arrays from anywhere else go into gpunn.Split"
                )
            raise _no_folder(data_dir)
    whole = [each for each in sets if each.whole]
    if len(whole) == 1:
        return folder, whole[0]
    if whole:
        names = sorted(each.called for each in whole)
        raise DataError(
            f"found several data sets in {printable(folder)}, {printable(_some(names, len(names)))}: choose one, as "
            f"{printable(folder / names[0])}"
        )
    raise DataError(_missing(folder, sets))


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _cannot_read(path, error) from error


def _no_folder(path: Path) -> DataError:
    return DataError(
        f"there is no folder {printable(path)}: expected one with the four files of an MNIST-like data set"
    )


def _cannot_read(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot read {printable(path)}: {error.strerror or error}")


def _sets(folder: Path) -> list[Found]:
    """Return the complete and incomplete data sets in `folder`."""
    found: dict[str, dict[str, Path]] = {}
    for path, match in _candidates(folder):
        part = "train" if match["part"].lower() == "train" else "test"
        files = found.setdefault(match["prefix"].rstrip("-_.").lower(), {})
        files.setdefault(f"{part} {match['what'].lower()}", path)
    return [Found(prefix, files) for prefix, files in sorted(found.items())]


def _candidates(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    """Yield files with names of data sets, preferred ones first."""
    matches = [(name, match) for name in _names(folder) if (match := NAME.fullmatch(name))]
    # "t10k" before "test", and unpacked files before packed ones.
    matches.sort(key=lambda each: (each[1]["part"].lower() == "test", bool(each[1]["packed"]), each[0]))
    folders = []
    for name, match in matches:
        path = folder / name
        if path.is_dir():
            folders.append((path, match))
        else:
            yield path, match
    for path, match in folders:  # some programs unpack a file into a folder of the same name
        for name in _names(path):
            inner = NAME.fullmatch(name)
            same = inner and all(inner[key].lower() == match[key].lower() for key in ("prefix", "part", "what", "form"))
            if inner and same and (path / name).is_file():
                yield path / name, inner


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted, not paths
    except OSError as error:
        raise _cannot_read(folder, error) from error


def _missing(folder: Path, sets: list[Found]) -> str:
    """Return an error message with the missing file and what `folder` holds instead."""
    best = max(sets, key=lambda each: len(each.files), default=Found("", {}))
    part, what = next(role for role in ROLES if role not in best.files).split()
    test = "test" if best.prefix else "t10k"
    form = "idx3-ubyte" if what == "images" else "idx2-int" if best.prefix == "qmnist" else "idx1-ubyte"
    wanted = f"{best.prefix}{'-' * bool(best.prefix)}{part if part == 'train' else test}-{what}-{form}"
    message = f"there is no {printable(wanted)} in {printable(folder)}, gzipped or not"
    below = next(filter(_holds_set, _below(folder)), None)
    if below is not None:
        return f"{message}: the four files are in {printable(below)}, so give that folder"
    names = _names(folder)
    if not names:
        return f"{message}: the folder is empty, expected the four files of MNIST's format"
    archives = [name for name in names if name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))]
    if archives:
        return f"{message}: unpack {printable(archives[0])}, which may hold it"
    return f"{message}: expected the four files of MNIST's format, found {printable(_some(names, SHOWN))}"


def _holds_set(folder: Path) -> bool:
    try:
        return any(found.whole for found in _sets(folder))
    except DataError:  # unreadable
        return False


def _below(folder: Path) -> Iterator[Path]:
    """Yield the folders below `folder` breadth-first, at most `MOST_FOLDERS` and `DEPTH` levels."""
    level, n = [folder], 0
    for _ in range(DEPTH):
        following = []
        for each in level:
            try:
                inner = sorted(path for path in each.iterdir() if path.is_dir() and os.access(path, os.R_OK | os.X_OK))
            except OSError:
                continue
            for path in inner:
                n += 1
                if n > MOST_FOLDERS:
                    return
                yield path
                following.append(path)
        level = following


def _some(names: list[str], most: int) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
