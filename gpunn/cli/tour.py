"""`gpunn tour`: a page from a neuron to MNIST."""

import json
from pathlib import Path

import click

from gpunn.cli import options
from gpunn.cli.screen import Screen
from gpunn.cli.signals import Interruptible
from gpunn.files import check_writable, write_whole
from gpunn.printing import printable


@click.command()
@options.output("tour.html", "HTML file to write.")
@options.as_json
def tour(output: Path, as_json: bool) -> None:
    """Write a page from a neuron to MNIST, in twelve stations.

    From McCulloch and Pitts to a network that reads digits; every number on it is computed while it is made, in a few
    seconds.
    """
    from gpunn.tour.page import STATIONS

    check_writable(output)
    html = _page()
    write_whole(output, html.encode())
    if as_json:
        click.echo(json.dumps({"page": str(output), "stations": STATIONS}))
    else:
        click.echo(f"{printable(output)}: {STATIONS} stations, {len(html.encode()) / 1e6:.1f} MB")


def _page() -> str:
    """Make the page; stderr says which station it is at."""
    from rich.status import Status

    from gpunn.tour.page import STATIONS, page

    screen = Screen(err=True, names=("gpunn.kernels",))
    screen.below = status = Status("", console=screen.console)

    def tell(number: int, what: str) -> None:
        line = f"station {number:{len(str(STATIONS))}}/{STATIONS}  {what}"
        if screen.is_live:
            status.update(line)
            status.start()
        else:
            screen.show(line)

    with Interruptible() as interruptible, screen:
        try:
            return page(tell)
        except Exception:
            # During compilation, an interrupt surfaces as a compiler error.
            if interruptible.signal is None:
                raise
        raise KeyboardInterrupt(interruptible.signal)
