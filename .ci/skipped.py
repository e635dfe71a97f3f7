"""Print what pytest skipped, by the report that it wrote with --junitxml, for `pytest @FILE`: tests and whole files.

The tests on GPUs are left out: what they lack can't be installed.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree


def node_id(case: ElementTree.Element) -> str:
    """Return pytest's name of a test, or of a file that was skipped as a whole."""
    outer, name = case.get("classname", ""), case.get("name", "")
    if not outer:
        return name.replace(".", "/") + ".py"
    parts = outer.split(".")
    n = next(n for n in range(len(parts), 0, -1) if Path(*parts[:n]).with_suffix(".py").is_file())
    return "::".join([f"{'/'.join(parts[:n])}.py", *parts[n:], name])


def main(report: str) -> None:
    """Print the tests and files that were skipped, by the JUnit report in that file."""
    cases = [case for case in ElementTree.parse(report).iter("testcase") if case.find("skipped") is not None]
    for name in sorted({node_id(case) for case in cases}):
        if not name.startswith(("tests/gpu/", "tests/simulator/")):
            print(name)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
