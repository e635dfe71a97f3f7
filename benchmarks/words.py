"""Errors in a line, as tables and records have them."""

LONGEST = 300


def in_a_line(error: BaseException) -> str:
    """Return the kind and the message of an error in one line, cut short where it is long."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
