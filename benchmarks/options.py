"""The options of `pytest --benchmark`: light, as plain `pytest` reads this too."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

N_PIXELS, N_CLASSES, N_IMAGES = 784, 10, 60_000


def add_options(add: Callable[..., None]) -> None:
    """Add all of them by `add`, pytest's `addoption`."""
    add("--benchmark", action="store_true", help="Time epochs of MNIST, kernels and the way to an accuracy.")
    add("--network", action="append", type=_network, default=[], metavar="SIZES", help="784-16-10; can be repeated.")
    add(
        "--batch-sizes", type=_wholes, default=[], metavar="SIZES", help="Such as 1,32; by default all that have a bar."
    )
    add("--recipes", type=_names("recipe"), default=[], metavar="NAMES", help="sigmoid, adam or nesterov.")
    add("--at-once", type=_wholes, default=None, metavar="N,N", help="Numbers of networks that are trained at once.")
    add("--devices", default="all", metavar="NAMES", help="Such as cpu,cuda:0; by default all that can be used.")
    add("--engines", type=_names("engine"), default=[], metavar="NAMES", help="Such as epoch,plain; by default all.")
    peers = "Other libraries, such as torch,jax; all of them where none is named; none: no one."
    add("--peers", nargs="?", const=["all"], type=_names("peer"), default=[], metavar="NAMES", help=peers)
    add("--dense", action="store_true", help="Train on images without a zero pixel.")
    add("--images", type=_whole(N_IMAGES), default=N_IMAGES, metavar="N", help="Train on the first N images only.")
    add("--seconds", type=_number(3600), default=2.0, metavar="S", help="For the rounds of each row; default: 2.")
    add("--seeds", type=_whole(1000), default=3, metavar="N", help="Of published accuracies and estimators.")
    add("--isolate", action="store_true", help="Give each contestant a process, which is ended when it hangs.")
    add(
        "--minutes", type=_number(10_000), default=None, metavar="M", help="Time for all; what doesn't fit is left out."
    )
    add("--assert-speed", action="store_true", help="Fail where gpunn misses a bar; timed beside all peers.")
    # With a space, pytest would take the folder of a file that is there already for the root of the tests.
    results = "Write all numbers there, with = before the path; by default into .benchmarks/."
    add("--results", type=Path, default=None, metavar="PATH", help=results)


def _whole(most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise ArgumentTypeError(f"found {text!r}, expected a whole number from 1 to {most}")
        return int(text)

    return whole


def _wholes(text: str) -> list[int]:
    return list(dict.fromkeys(map(_whole(2**31 - 1), text.split(","))))


def _number(most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or float(text) > most:
            raise ArgumentTypeError(f"found {text!r}, expected a number from 0 to {most:g}")
        return float(text)

    return number


def _network(text: str) -> str:
    if not re.fullmatch(rf"{N_PIXELS}(-[1-9][0-9]{{0,5}})*-{N_CLASSES}", text):
        raise ArgumentTypeError(
            f"found {text!r}, expected sizes from {N_PIXELS} pixels to {N_CLASSES} digits: 784-16-10"
        )
    return text


def _names(what: str) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        known = _known(what)
        found = list(dict.fromkeys(text.split(",")))
        for name in found:
            if name not in known:
                raise ArgumentTypeError(f"found the {what} {name!r}, expected some of {', '.join(known)}")
        return found

    return names


def _known(what: str) -> list[str]:
    """Return the names that there are; imported here, as it takes its time."""
    if what == "engine":
        from gpunn.engines import ENGINES

        return list(ENGINES)
    if what == "peer":
        from benchmarks.peers import PEERS

        return ["all", "none", *PEERS]
    from benchmarks.workloads.epochs import RECIPES

    return list(RECIPES)
