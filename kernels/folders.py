"""The user's own folders, as each system names them."""

import os
import sys
from pathlib import Path


def user_folder(*, xdg: tuple[str, str], mac: str, windows: tuple[str, str]) -> Path | None:
    """Return a folder of the user's, which may be missing, or None if there is no home folder.

    `xdg` and `windows` are an environment variable and the folder under the home folder if that isn't set; `mac` is the
    folder under "Library".
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path's raises if there is none
    if sys.platform == "win32":
        variable, default = windows
        found = Path(os.environ.get(variable, home / "AppData" / default))
    elif sys.platform == "darwin":
        found = home / "Library" / mac
    else:
        variable, default = xdg
        found = Path(os.environ.get(variable, ""))
        if not found.is_absolute():  # such as "": the XDG specification says to ignore it
            found = home / default
    return found if found.is_absolute() else None
