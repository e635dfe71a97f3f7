"""Where data sets are on this machine: a file in the user's folder for settings, by the hash of their files.

Model files have only the hash, so that they say nothing about the machine that they were made on.
"""

import contextlib
import json
import os
from pathlib import Path

from gpunn.errors import OutputError
from gpunn.files import open_file, settings_file, write_whole

MOST = 1000
"""Maximum number of data sets; of more, those noted last are kept."""

LARGEST = 2**23
"""Maximum size of the file in bytes."""


def remember(digest: str, data_dir: str | bytes | os.PathLike[str]) -> None:
    """Note that the data set with this hash is at `data_dir`, as `load_mnist` takes it.

    Without a folder for settings that can be written nothing is noted, and `folder_of` won't know it.
    """
    place, folder, known = settings_file("data-sets.json"), os.path.abspath(os.fsdecode(data_dir)), _known()  # noqa: PTH100 - Path's would keep ".."
    if place is None or known.get(digest) == folder:
        return
    known.pop(digest, None)
    kept = dict([*known.items(), (digest, folder)][-MOST:])
    with contextlib.suppress(OSError, OutputError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps(kept, indent=1).encode() + b"\n")


def folder_of(digest: str) -> Path | None:
    """Return where the data set with this hash was last, or None if that isn't known."""
    found = _known().get(digest)
    return None if found is None else Path(found)


def _known() -> dict[str, str]:
    """Return the folders by hashes; none if the file is missing or damaged."""
    place = settings_file("data-sets.json")
    if place is None:
        return {}
    try:
        with open_file(place) as file:
            found = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {digest: folder for digest, folder in pairs if isinstance(folder, str) and "\0" not in folder}
