"""python -m benchmarks.report RESULT... -o page.html: a page about the results of one or several runs."""

import sys
from pathlib import Path

import click

from benchmarks.report.page import write_page
from gpunn.errors import GpunnError
from gpunn.printing import one_line, printable


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("page.html"),
    show_default=True,
    help="Page to write.",
)
def main(results: tuple[Path, ...], output: Path) -> None:
    """Write a page about RESULT files of `pytest --benchmark`.

    Several machines are shown side by side; two runs on one machine are also compared.
    """
    try:
        click.echo(printable(write_page(results, output)))
    except GpunnError as error:
        click.echo(f"benchmarks.report: {one_line(str(error))}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.report")
