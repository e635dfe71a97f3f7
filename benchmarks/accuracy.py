"""Published test errors on MNIST beside those of networks that gpunn trains, the mean of several seeds.

    python -m benchmarks.accuracy [--only 784-30-10] [--seeds 3] [--json PATH]

Exit code 1: a mean is above what was published.
"""

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_machine
from benchmarks.published import PUBLISHED, Published
from gpunn import MLP, Dataset, get_backend, load_mnist, train
from gpunn.errors import GpunnError
from gpunn.files import check_writable, write_whole


@click.command()
@click.option("--only", multiple=True, metavar="SIZES", help="Networks such as 784-30-10; by default all.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all numbers there.")
def main(only: tuple[str, ...], seeds: int, device: str, json_path: Path | None) -> None:
    """Print a row a network: what was published, and what is measured here."""
    known = [row.name for row in PUBLISHED]
    for name in only:
        if name not in known:
            raise click.UsageError(f"found the network {name!r}, expected some of {', '.join(dict.fromkeys(known))}")
    try:
        if json_path is not None:
            check_writable(json_path)
        backend = get_backend(device)
    except GpunnError as error:
        raise click.UsageError(str(error)) from error
    machine = describe_machine([])
    click.echo("; ".join(f"{key} {value}" for key, value in machine.items()))
    click.echo(f"{'test error, %':<22}{'published':>10}{'mean':>7}{'from':>7}{'to':>7}{'s a seed':>10}  engine  source")
    data, records, missed = load_mnist(), [], []
    for row in PUBLISHED:
        if only and row.name not in only:
            continue
        if row.on_gpu and backend.name == "cpu":
            click.echo(f"{row.name:<22}{row.error:10.2f}{'for a GPU':>31}          {row.source}")
            continue
        record = measured(row, data, seeds, backend.name)
        records.append(record)
        click.echo(line(row, record))
        if record["mean"] > row.error:
            missed.append(
                f"{row.name}: found {record['mean']:.2f} % on the mean of {seeds} seeds, expected {row.error} %"
            )
        if json_path is not None:
            write_whole(json_path, json.dumps({"machine": machine, "rows": records}, indent=1).encode())
    if missed:
        raise click.ClickException("\n".join(missed))


def measured(row: Published, data: Dataset, seeds: int, device: str) -> dict[str, Any]:
    """Return the test errors of networks trained from each seed, in %, and the seconds that each took."""
    errors, taken, engine = [], [], ""
    for seed in range(seeds):
        net = MLP(row.sizes, seed=seed, **row.network)
        started = time.perf_counter()
        history = train(net, data.train[: row.images], test=data.test, device=device, seed=seed, **row.recipe)
        taken.append(time.perf_counter() - started)
        errors.append(error_of(history.accuracies, at_best=row.at_best))
        engine = history.engine
    about = {"network": row.name, "source": row.source, "published": row.error, "at_best": row.at_best}
    recipe = {name: value if isinstance(value, int | float | str) else str(value) for name, value in row.recipe.items()}
    found = {"errors": errors, "mean": statistics.mean(errors), "seconds": taken, "engine": engine, "device": device}
    return {**about, "init_and_functions": dict(row.network), "recipe": recipe, **found}


def error_of(accuracies: Sequence[float], *, at_best: bool) -> float:
    """Return the error in % of the last epoch, or of the best one."""
    return 100 * (1 - (max(accuracies) if at_best else accuracies[-1]))


def line(row: Published, record: dict[str, Any]) -> str:
    """Return a row of the table."""
    errors = record["errors"]
    numbers = f"{row.error:10.2f}{record['mean']:7.2f}{min(errors):7.2f}{max(errors):7.2f}"
    best = ", the best epoch" if row.at_best else ""
    return (
        f"{row.name:<22}{numbers}{statistics.mean(record['seconds']):10.1f}  {record['engine']:<6}  {row.source}{best}"
    )


if __name__ == "__main__":
    main()
