"""Escaping of external text, such as file names, for messages."""

import os


def printable(text: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    r"""Return `text` with unprintable characters escaped as in Python: ESC as \x1b, newline as \n.

    Control characters could garble the terminal; surrogates, which stand for the non-UTF-8 bytes of file names, can't
    be written at all.
    """
    name = os.fsdecode(text)
    if name.isprintable():
        return name
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in name)


def one_line(text: str) -> str:
    """Return `text`, such as an error message, as one printable line."""
    return printable(" ".join(text.split()))
