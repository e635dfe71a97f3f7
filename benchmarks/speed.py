"""How much faster gpunn trains on the CPU than its peers: one epoch over the 60,000 images of MNIST, the same work.

    python -m benchmarks.speed [--network 784-16-10] [--batch-sizes 1,32] [--peers numpy,jax] [--assert-speed]

Every contestant starts from the same weights and sees the same images in the same order; all networks are compared
with one of float64. Without options it goes through the table of `benchmarks.bars`.
"""

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.bars import Row, chosen_rows
from benchmarks.contest import hold
from benchmarks.machine import describe_machine
from benchmarks.peers import peers_on
from benchmarks.record import row_record
from benchmarks.standings import standing, verdict
from benchmarks.table import LEGEND, Table
from gpunn import Split, load_mnist
from gpunn.engines import ENGINES
from gpunn.files import check_writable, write_whole


@click.command()
@click.option("--network", "networks", multiple=True, metavar="SIZES", help="Layer sizes, such as 784-16-10.")
@click.option("--batch-sizes", default="", metavar="SIZES", help="Such as 1,32,1024.")
@click.option("--dense", is_flag=True, help="Images without a zero pixel.")
@click.option("--images", type=click.IntRange(min=1), help="Train on the first ones only, without bars.")
@click.option("--engines", default="auto", show_default=True, help="gpunn's; the bar is for the first.")
@click.option("--peers", default="all", show_default=True, help=f"all, none, or some of {','.join(peers_on('cpu'))}.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all numbers there.")
@click.option("--assert-speed", is_flag=True, help="Exit with 1 where a row is below its bar.")
def main(  # noqa: PLR0917 - one argument an option, passed by name
    networks: tuple[str, ...],
    batch_sizes: str,
    dense: bool,
    images: int | None,
    engines: str,
    peers: str,
    rounds: int,
    json_path: Path | None,
    assert_speed: bool,
) -> None:
    """Print a row a network and batch size; exit with 1 where a result is wrong."""
    rows = _rows(networks, batch_sizes, dense)
    if images is not None:
        rows = [replace(row, bar=None) for row in rows]
    engine_names, peer_names = _engine_names(engines), _peer_names(peers)
    if json_path is not None:
        check_writable(json_path)
    machine = describe_machine()
    click.echo("; ".join(f"{key} {value}" for key, value in machine.items()))
    click.echo(LEGEND)
    table = Table(peer_names, engine_names)
    click.echo(table.header())

    split = load_mnist().train[:images]
    told: set[str] = set()
    failures, written = [], []
    for row in rows:
        data = Split(np.maximum(split.images, 1), split.labels) if row.dense else split
        contest = hold(row, data, engine_names, peer_names, rounds)
        found = standing(contest.results, engine_names[0])
        judged = verdict(found, row.bar)
        click.echo(table.line(row, contest, found, judged))
        for name, reason in contest.absent.items():
            if reason not in told:
                click.echo(f"    {name}: {reason}")
                told.add(reason)
        for result in contest.results:
            if result.problem is not None:
                click.echo(f"    {result.name}, {result.threads or 'its own'} threads: {result.problem}")
                failures.append(f"{row}: {result.name}, {result.problem}")
        if assert_speed and judged not in {"", "ok"}:
            failures.append(f"{row}: {judged}, expected {row.bar:g} times the best peer's speed")
        written.append(row_record(row, contest, found, judged))
        if json_path is not None:
            write_whole(json_path, json.dumps({"machine": machine, "rows": written}, indent=1).encode())
    if failures:
        raise click.ClickException("\n".join(dict.fromkeys(failures)))


def _rows(networks: tuple[str, ...], batch_sizes: str, dense: bool) -> list[Row]:
    try:
        rows = chosen_rows(networks, [int(size) for size in batch_sizes.split(",") if size], dense=dense)
        if any(row.batch_size < 1 or min(row.sizes) < 1 or len(row.sizes) < 2 for row in rows):
            raise ValueError("sizes below 1, or a network without layers")
    except ValueError as error:
        raise click.UsageError(f"{error}: expected sizes such as 784-16-10 and 1,32") from error
    return rows


def _engine_names(engines: str) -> list[str]:
    names = engines.split(",")
    if unknown := set(names) - {"auto", *ENGINES}:
        raise click.UsageError(f"found the engine {min(unknown)!r}, expected auto, plain, fused or epoch")
    return names


def _peer_names(peers: str) -> list[str]:
    if peers in {"all", "none"}:
        return peers_on("cpu") if peers == "all" else []
    names = peers.split(",")
    if unknown := set(names) - set(peers_on("cpu")):
        raise click.UsageError(f"found the peer {min(unknown)!r}, expected {', '.join(peers_on('cpu'))}")
    return names


if __name__ == "__main__":
    main()
