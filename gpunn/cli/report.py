"""`gpunn report`: an HTML report of benchmark results."""

import json
from pathlib import Path

import click

from gpunn.cli import options
from gpunn.errors import OutputError
from gpunn.files import check_writable, write_whole
from gpunn.printing import printable


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    callback=options.as_path,
    default="report.html",
    show_default=True,
    help="HTML file to write.",
)
@click.option(
    "--pictures", type=click.Path(), callback=options.as_path, help="Folder for a copy of each picture as SVG."
)
@options.as_json
def report(results: tuple[Path, ...], output: Path, pictures: Path | None, as_json: bool) -> None:
    """Write an HTML report of `pytest --benchmark` RESULT files.

    Several machines are shown side by side; two runs on one machine are also compared.
    """
    from gpunn.report.page import page
    from gpunn.report.reading import read_run

    check_writable(output)
    html, drawn = page([read_run(path) for path in results])
    if pictures is not None:
        try:
            pictures.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write {printable(pictures)}: {error.strerror or error}; choose another place"
            ) from error
        for picture in drawn:
            write_whole(pictures / f"{picture.name}.svg", picture.wide)
    write_whole(output, html.encode())
    if as_json:
        click.echo(json.dumps({"page": str(output), "pictures": [picture.name for picture in drawn]}))
    else:
        click.echo(f"{printable(output)}: {len(drawn)} pictures")
