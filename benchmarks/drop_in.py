"""gpunn's estimators beside scikit-learn's: what they learn, and the time that an epoch of `fit` takes.

    python -m benchmarks.drop_in [--only accuracies] [--seeds 3] [--batch-sizes 32,128] [--json PATH]

Exit code 1: accuracies differ by more than chance, or the losses of networks that were timed do.
"""

import json
from pathlib import Path

import click

from benchmarks.drop_in_accuracies import CONTESTS, compared
from benchmarks.drop_in_times import SOLVERS, Row, timed
from benchmarks.machine import describe_machine
from gpunn import get_backend
from gpunn.engines import ENGINES
from gpunn.errors import GpunnError
from gpunn.files import check_writable, write_whole

PARTS = ("accuracies", "times")


def _numbers(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    try:
        return [int(number) for number in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"found {value!r}, expected whole numbers such as 1,32,128") from error


@click.command()
@click.option("--only", type=click.Choice(PARTS), help="One part; by default both.")
@click.option("--seeds", default=10, show_default=True, type=click.IntRange(min=2), help="Of the accuracies.")
@click.option("--data", multiple=True, type=click.Choice(sorted({each.data for each in CONTESTS})), help="Of these.")
@click.option("--solvers", multiple=True, type=click.Choice(list(SOLVERS)), help="To be timed; by default all.")
@click.option("--hidden", default="16,128", show_default=True, callback=_numbers, help="One network for each.")
@click.option("--batch-sizes", default="1,32,128", show_default=True, callback=_numbers)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Both sides, in turn.")
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Of an epoch that may be timed on all images.",
)
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
@click.option("--engine", default="auto", show_default=True, type=click.Choice(["auto", *ENGINES]))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all numbers there.")
def main(
    only: str | None,
    seeds: int,
    data: tuple[str, ...],
    solvers: tuple[str, ...],
    hidden: list[int],
    batch_sizes: list[int],
    rounds: int,
    seconds: float,
    device: str,
    engine: str,
    json_path: Path | None,
) -> None:
    """Print a row for each setting, scikit-learn and gpunn side by side."""
    try:
        if json_path is not None:
            check_writable(json_path)
        name = get_backend(device).name
    except GpunnError as error:
        raise click.UsageError(str(error)) from error
    machine = describe_machine(["scikit-learn"])
    click.echo("; ".join(f"{key} {value}" for key, value in machine.items()))
    records: dict[str, list[dict[str, object]]] = {part: [] for part in PARTS}
    wrong: list[str] = []

    if only != "times":
        click.echo(f"\nAccuracies on test images, {seeds} seeds, mean and standard deviation, %")
        click.echo(f"{'':<34}{'epochs':>7}{'scikit-learn':>17}{'gpunn':>17}{'difference':>12}{'chance':>8}  engine")
        for contest in CONTESTS:
            if data and contest.data not in data:
                continue
            found = compared(contest, seeds, name, engine)
            click.echo(found.line())
            records["accuracies"].append(found.record())
            wrong += found.wrong()
    if only != "accuracies":
        click.echo(f"\nSeconds of an epoch over 60,000 images of MNIST, float32 / 255, median of {rounds} rounds")
        click.echo(Row.header())
        for width in hidden:
            for batch_size in batch_sizes:
                for solver in solvers or SOLVERS:
                    row = timed(
                        width,
                        batch_size,
                        solver,
                        rounds=rounds,
                        seconds=seconds,
                        mine={"device": name, "engine": engine},
                    )
                    click.echo(row.line())
                    records["times"].append(row.record())
                    wrong += row.wrong()
        click.echo("* timed on a part of the images, and scaled. First: an epoch and all that comes before it.")
    if json_path is not None:
        write_whole(json_path, json.dumps({"machine": machine, **records}, indent=1).encode())
    if wrong:
        raise click.ClickException("\n".join(wrong))


if __name__ == "__main__":
    main()
