"""Constants that `gpunn tune` has measured on this machine: kept in a file, and used in place of the built-in ones."""

import functools
import json
import logging
from contextvars import Context
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.backends import Backend, get_backend
from gpunn.engines.speed import BUILT_IN, Speeds, constants, with_constants
from gpunn.errors import OutputError
from gpunn.files import check_writable, open_file, settings_file, write_whole
from gpunn.printing import printable

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the file."""

LONGEST = 2**20
"""Maximum size of the file in bytes."""


LARGEST = 1e15
"""Maximum value of a constant."""


class Kept(NamedTuple):
    """What is in the file: the devices that were measured, as they describe themselves, and the constants."""

    cpu: dict[str, str]
    gpu: dict[str, str] | None
    values: dict[str, float]


def path() -> Path | None:
    """Return the file's place in the user's folder for settings, or None if there is no such folder."""
    return settings_file("speeds.json")


def speeds(backend: Backend | None = None) -> Speeds:
    """Return the table for this machine: constants that were measured here, otherwise the built-in ones.

    With the `backend` of a GPU, its constants must have been measured with that GPU. If the file can't be used, that is
    logged once.
    """
    kept = _kept()
    if kept is None:
        return BUILT_IN
    values = kept.values
    if backend is not None and backend.name != "cpu" and kept.gpu != backend.describe():
        values = {name: value for name, value in values.items() if not name.startswith("gpu_")}
    return with_constants(BUILT_IN, values)


def measured() -> dict[str, float]:
    """Return the constants that were measured on this machine, by name; none if the file can't be used."""
    kept = _kept()
    return {} if kept is None else kept.values


def keep(values: dict[str, float], gpu: Backend | None) -> Path:
    """Write the constants `values`, measured with the GPU `gpu`, if any; return the file's path.

    Raises `OutputError` if it can't be written.
    """
    place = writable_path()
    kept = Kept(_this_cpu(), None if gpu is None else gpu.describe(), values)
    write_whole(place, json.dumps({"gpunn speeds": FORMAT, **kept._asdict()}, indent=1).encode() + b"\n")
    _read.cache_clear()
    return place


def writable_path() -> Path:
    """Return the file's path, its folder made; raises `OutputError` if it can't be written."""
    place = path()
    if place is None:
        raise OutputError("the user has no folder for settings: set HOME")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {printable(place)}: {reason}; choose another XDG_CONFIG_HOME") from error
    check_writable(place)
    return place


def forget() -> bool:
    """Remove the file; return whether there was one. Raises `OutputError` if it can't be removed."""
    place = path()
    if place is None:
        return False
    try:
        place.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OutputError(f"cannot remove {printable(place)}: {error.strerror or error}") from error
    finally:
        _read.cache_clear()
    return True


def _kept() -> Kept | None:
    place = path()
    return None if place is None else _read(place)


@functools.cache
def _read(place: Path) -> Kept | None:
    """Return what is in the file, or None if it is missing, damaged, or of another machine."""
    try:
        with open_file(place) as file:
            kept = _checked(json.loads(file.read(LONGEST)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        _ignore(place, f"it can't be read ({' '.join(str(error).split())})")
        return None
    here = _this_cpu()
    found = kept.cpu
    differences = [
        f"{name} {found.get(name)}, here {value}" for name, value in here.items() if found.get(name) != value
    ]
    if differences:
        _ignore(place, f"they are of another machine ({printable('; '.join(differences))})")
        return None
    return kept


def _ignore(place: Path, why: str) -> None:
    logger.info("speeds in %s are not used, as %s: gpunn tune measures them again", printable(place), why)


def _this_cpu() -> dict[str, str]:
    # All cores of this process, also where `at_most_cores` has divided them among threads.
    return Context().run(get_backend("cpu").describe)


def _checked(document: Any) -> Kept:
    """Return the parts of the file's content; raises `ValueError` if it isn't what `keep` writes."""
    if not isinstance(document, dict) or document.get("gpunn speeds") != FORMAT:
        raise ValueError("it is no such file, or of another version")
    cpu, gpu, values = (document.get(name) for name in Kept._fields)
    if not isinstance(cpu, dict) or not isinstance(values, dict) or not (gpu is None or isinstance(gpu, dict)):
        raise ValueError("it is incomplete")
    known = constants(BUILT_IN)
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in known or not number or not 0 < value <= LARGEST:
            raise ValueError(
                f"found {name!r}: {value!r}, expected a known constant, and a number above 0, to {LARGEST:g}"
            )
    return Kept(cpu, gpu, {name: float(value) for name, value in values.items()})
