"""`gpunn evaluate` and `gpunn devices`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import gpunn.backends
from gpunn import evaluation
from gpunn.backends import get_backend
from gpunn.cli import options
from gpunn.cli.data import data_for, misfits
from gpunn.distributed import mpi
from gpunn.engines import tuned
from gpunn.ensemble import load
from gpunn.evaluation import Evaluation
from gpunn.losses import loss_for
from gpunn.printing import printable

WIDEST_TABLE = 20
"""Maximum number of classes in a printed confusion matrix."""


@click.command()
@options.model
@options.device
@options.data_dir
@options.loss
@options.as_json
def evaluate(model: Path, device: str, data_dir: Path | None, loss: str | None, as_json: bool) -> None:
    """Evaluate MODEL on the test images: loss, accuracy, confusion matrix.

    Without --data-dir, they are those of the data set that it was trained on.
    """
    net = load(model)
    data = data_for(net, data_dir)
    test = data.test
    for warning in misfits(net, data):
        click.echo(f"gpunn: {warning}", err=True)
    backend, loss = evaluation.device_for(net, test, device), loss_for(net.output, loss)
    result = evaluation.evaluate(net, test, loss=loss, device=backend)
    if as_json:
        about: dict[str, Any] = {"model": str(model), **net.layers(), "loss_function": loss}
        about |= {"n_images": len(test), "device": backend.name}
        click.echo(json.dumps(about | result.to_dict()))
        return
    click.echo(f"{printable(model)}: {net} on {len(test):,} test images, device {backend.name}")
    click.echo(f"{loss.replace('_', ' ')} {result.loss:.5f}   test accuracy {result.accuracy:.2%}")
    for line in _confusion_table(result):
        click.echo(line)


@click.command()
@options.as_json
def devices(as_json: bool) -> None:
    """List devices, MPI and NCCL, and why any can't be used."""
    found, messengers = gpunn.backends.devices(), mpi.status()
    auto, is_tuned = get_backend("auto").name, bool(tuned.measured())
    if as_json:
        rows = [{"device": d.name, "usable": d.usable, "description": d.description, "reason": d.reason} for d in found]
        between = {m.name: {key: value for key, value in vars(m).items() if key != "name"} for m in messengers}
        click.echo(json.dumps({"auto": auto, "tuned": is_tuned, "devices": rows, **between}))
        return
    for status in (*found, *messengers):
        if status.usable:
            what = ", ".join(value if key == "name" else f"{key} {value}" for key, value in status.description.items())
            click.echo(f"{status.name:8}usable: {what}")
        else:
            click.echo(f"{status.name:8}not usable: {status.reason}")
    click.echo(f"{'auto':8}selects {auto}{'' if auto == 'cpu' else ' where it is estimated to be faster, else cpu'}")
    click.echo(
        f"{'speeds':8}{'measured here by gpunn tune' if is_tuned else 'built in; gpunn tune measures them here'}"
    )


def _confusion_table(result: Evaluation) -> Iterator[str]:
    n_classes = len(result.confusion)
    if n_classes > WIDEST_TABLE:
        yield f"(use --json for the confusion matrix of {n_classes} classes)"
        return
    width = max(5, len(str(result.confusion.max())) + 1)
    yield ""
    yield f"{'label':8}{'predicted':{width * n_classes}}{'recall':>8}"
    yield " " * 8 + "".join(f"{label:{width}}" for label in range(n_classes))
    for label, row in enumerate(result.confusion):
        found = f"{row[label] / row.sum():.1%}" if row.sum() else "-"
        yield f"{label:<8}" + "".join(f"{count:{width}}" for count in row) + f"{found:>8}"
