"""`gpunn tour`: a page from a neuron to MNIST."""

from pathlib import Path

import click

from gpunn.cli import options
from gpunn.cli.screen import Screen
from gpunn.files import check_writable, write_whole
from gpunn.printing import printable


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    callback=options.as_path,
    default="tour.html",
    show_default=True,
    help="HTML file to write.",
)
def tour(output: Path) -> None:
    """Write a page from a neuron to MNIST, in twelve stations.

    From McCulloch and Pitts to a network that reads digits; every number on it is computed while it is made, in a few
    seconds.
    """
    from rich.status import Status

    from gpunn.tour.page import STATIONS, page

    check_writable(output)
    screen = Screen(err=True, names=("gpunn.kernels",))
    status = Status("", console=screen.console)

    def tell(number: int, what: str) -> None:
        line = f"station {number:2}/{STATIONS}  {what}"
        if screen.is_live:
            status.update(line)
            status.start()
        else:
            screen.show(line)

    screen.below = status
    with screen:
        html = page(tell)
    write_whole(output, html.encode())
    click.echo(f"{printable(output)}: {STATIONS} stations, {len(html.encode()) / 1e6:.1f} MB")
