"""`gpunn train`."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from gpunn import training
from gpunn.cli import options
from gpunn.cli.interruption import INTERRUPTED, CtrlC
from gpunn.cli.progress import TrainingProgress
from gpunn.cli.recipes import OPTIMIZERS, chosen, learning_options, network_options
from gpunn.datasets import load_mnist
from gpunn.engines import ENGINES, PRECISIONS
from gpunn.errors import DeviceError, DivergenceError, OutputError
from gpunn.files import check_writable
from gpunn.history import History
from gpunn.network import MLP
from gpunn.printing import printable

RATES = ", ".join(f"{rate:g} for {name}" for name, (_, rate) in OPTIMIZERS.items())


@click.command()
@click.option(
    "--hidden",
    metavar="SIZES",
    callback=options.layer_sizes,
    default="16",
    show_default=True,
    help="Sizes of the hidden layers, such as 16 or 100,50.",
)
@network_options
@click.option("--epochs", type=int, default=15, show_default=True, help="How often to see every image.")
@click.option("--batch-size", type=int, default=32, show_default=True, help="Images a step.")
@click.option("--learning-rate", type=float, help=f"Step size, eta.  [default: {RATES}]")
@learning_options
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the weights and the order of the images.")
@options.device
@click.option(
    "--engine", default="auto", show_default=True, metavar="|".join(["auto", *ENGINES]), help="How to run an epoch."
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="|".join(PRECISIONS),
    help="Of the factors in matrix products; tf32 is faster on newer GPUs, and coarser.",
)
@options.data_dir
@click.option(
    "--classes", type=click.IntRange(min=1), help="Classes in the data set.  [default: as many as its labels name]"
)
@click.option(
    "--output",
    type=click.Path(),
    callback=options.as_path,
    default="model.safetensors",
    show_default=True,
    help="The model file to write.",
)
@options.as_json
def train(
    hidden: list[int],
    activation: str,
    output_activation: str,
    init: str,
    epochs: int,
    batch_size: int,
    learning_rate: float | None,
    loss: str | None,
    optimizer: str,
    momentum: float | None,
    l2: float,
    schedule: str,
    dropout: float,
    early_stopping: int | None,
    seed: int,
    device: str,
    engine: str,
    precision: str,
    data_dir: Path | None,
    classes: int | None,
    output: Path,
    as_json: bool,
) -> int:
    """Train a network on all training images and write it to a model file.

    Ctrl-C ends the run and keeps the network as it was after the last finished epoch, or the best one with
    --early-stopping.
    """
    check_writable(output)
    learning = chosen(
        optimizer=optimizer,
        learning_rate=learning_rate,
        momentum=momentum,
        schedule=schedule,
        early_stopping=early_stopping,
    )
    dataset = load_mnist(data_dir, n_classes=classes)
    sizes = [dataset.train.images.shape[1], *hidden, classes or dataset.n_classes]
    net = MLP(sizes, hidden=activation, output=output_activation, init=init, seed=seed)
    history: History | None = None
    ended_by: KeyboardInterrupt | DeviceError | DivergenceError | OSError | None = None
    # With --json the standard output belongs to the document.
    with CtrlC() as ctrl_c, TrainingProgress(epochs, err=as_json) as progress:

        def on_epoch(so_far: History) -> None:
            nonlocal history
            history = so_far
            progress.show_epoch(so_far.epochs[-1])

        try:
            training.train(
                net,
                dataset.train,
                epochs=epochs,
                batch_size=batch_size,
                test=dataset.test,
                device=device,
                engine=engine,
                precision=precision,
                loss=loss,
                l2=l2,
                dropout=dropout,
                seed=seed,
                **learning,
                on_epoch=on_epoch,
            )
        # Ctrl-C, a GPU that failed, numbers that grew too large, or progress that can't be shown any more.
        except (KeyboardInterrupt, DeviceError, DivergenceError, OSError) as error:
            ended_by = error
        finally:
            ctrl_c.heeded = False
        if history is not None:
            _save(net, output)
    if isinstance(ended_by, DeviceError | DivergenceError | OSError):
        if history is not None and not isinstance(ended_by, BrokenPipeError):
            ended_by.add_note(f"the network after epoch {history.kept} is in {output}")
        raise ended_by
    if history is None:
        click.echo(
            f"gpunn: interrupted before the first epoch was finished: {printable(output)} is not written", err=True
        )
        return INTERRUPTED
    interrupted = ended_by is not None
    if as_json:
        click.echo(json.dumps(_document(net, init, history, output, interrupted)))
    else:
        click.echo(_summary(net, history, output, interrupted))
    return INTERRUPTED if interrupted else 0


def _save(net: MLP, output: Path) -> None:
    """Write the model file, and where that fails after all, one in the folder for temporary files."""
    try:
        net.save(output)
    except OutputError as error:
        try:
            descriptor, rescued = tempfile.mkstemp(prefix="gpunn-", suffix=".safetensors")
            os.close(descriptor)
            net.save(rescued)
        except OSError:
            raise error from None
        error.add_note(f"the network is in {rescued}")
        raise


def _summary(net: MLP, history: History, output: Path, interrupted: bool) -> str:
    count = len(history.epochs)
    seconds = sum(epoch.seconds for epoch in history.epochs)
    of = f" after epoch {history.kept}, the best one" if history.kept != count else ""
    return (
        f"{'interrupted: ' if interrupted else ''}{net} on {history.device}, "
        f"engine {history.engine}: {count} epoch{'s' * (count != 1)} in {seconds:.1f} s, "
        f"test accuracy {history.accuracy:.2%}{of}; written to {printable(output)}"
    )


def _document(net: MLP, init: str, history: History, output: Path, interrupted: bool) -> dict[str, Any]:
    return {
        "model": str(output),
        "sizes": net.sizes,
        "functions": net.functions,
        "init": init,
        "n_parameters": net.n_parameters,
        "interrupted": interrupted,
        **history.to_dict(),
        "test_accuracy": history.accuracy,
    }
