"""The page in one piece: markup, style, program and data, under a policy that lets nothing else in or out."""

import base64
import hashlib
import html
import json
import os
from importlib import resources
from string import Template

from gpunn.datasets.split import Split
from gpunn.files import write_whole
from gpunn.history import History
from gpunn.network import MLP
from gpunn.printing import printable
from gpunn.show.contents import contents
from gpunn.show.snapshots import Snapshots

PROGRAM = ("numbers.js", "preparing.js", "drawing.js", "colours.js", "diagram.js", "charts.js", "gallery.js", "page.js")
"""The files of the program, in the order in which they need each other."""


def page(
    net: MLP,
    *,
    name: str = "",
    test: Split | None = None,
    loss: str | None = None,
    history: History | None = None,
    snapshots: Snapshots | None = None,
    half: bool = False,
) -> str:
    """Return a page that shows `net` at work, as HTML in one piece.

    `name` is what it is called, such as a file name. `test` are examples to choose a gallery from, `loss` is the loss
    on them, as of `gpunn.evaluate`. `history` and `snapshots` are those of its training. With `half`, weights are
    rounded to float16, which makes the page half as large, and moves answers by about 0.001.

    Raises `DataError` if it takes no images or `test` doesn't fit, `ConfigurationError` if it is too large for a page,
    and the errors of `MLP.check`.
    """
    found = contents(net, name=name, test=test, loss=loss, history=history, snapshots=snapshots, half=half)
    # A data block in HTML ends at "</script", and only there; without "<" it can't.
    data = json.dumps(found, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    style, program = _text("page.css"), '"use strict";\n' + "".join(map(_text, PROGRAM))
    policy = (
        f"default-src 'none'; script-src {_hash(program)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"{net}{f', {printable(name)}' if name else ''}"
    return Template(_text("page.html")).substitute(
        policy=policy, title=html.escape(title), style=style, program=program, data=data
    )


def write_page(path: str | bytes | os.PathLike[str], html: str) -> None:
    """Write a page to `path` atomically; raises `OutputError`."""
    write_whole(path, html.encode())


def _text(file: str) -> str:
    return resources.files(__package__).joinpath(file).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
