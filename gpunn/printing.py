"""Text from outside, file names above all, as a message may hold it."""

import os


def printable(text: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    r"""Return `text` with everything that can't be printed escaped, as Python does: ESC as \x1b, a line's end as \n.

    A message with control characters could change what a terminal shows, and one with surrogates, which is what names
    that aren't UTF-8 have for their other bytes, can't be written at all.
    """
    name = os.fsdecode(text)
    if name.isprintable():
        return name
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in name)


def one_line(text: str) -> str:
    """Return `text`, such as an error's, in one line that can be printed."""
    return printable(" ".join(text.split()))
