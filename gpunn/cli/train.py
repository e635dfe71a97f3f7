"""`gpunn train`."""

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpunn import training
from gpunn.checkpoint_file import is_checkpoint
from gpunn.cli import characters, options
from gpunn.cli.data import load_data
from gpunn.cli.distortions import check_distortions, distortion_options, write_distortions
from gpunn.cli.naming import check_replaceable, default_name
from gpunn.cli.progress import TrainingProgress
from gpunn.cli.ranks import over_ranks
from gpunn.cli.recipes import (
    RECIPES_IN_WORDS,
    fitting,
    learning_options,
    network_options,
    optimizer_with,
    recipe_option,
)
from gpunn.cli.resuming import checkpoint_for, network_from
from gpunn.cli.show import page_line
from gpunn.cli.signals import Interruptible, exit_code
from gpunn.datasets import Dataset
from gpunn.defaults import BATCH_SIZE
from gpunn.distributed import Ranks
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import ENGINES, PRECISIONS
from gpunn.errors import ConfigurationError, DeviceError, DivergenceError, GpunnError, OutputError
from gpunn.evaluation import or_none
from gpunn.files import check_writable
from gpunn.history import History
from gpunn.network import MLP
from gpunn.printing import printable

if TYPE_CHECKING:
    from gpunn.show import Snapshots


@click.command(epilog=RECIPES_IN_WORDS)
@recipe_option
@click.option(
    "--hidden",
    metavar="SIZES",
    callback=options.layer_sizes,
    default="16",
    show_default=True,
    help='Sizes of the hidden layers, such as 16 or 100,50; "" for no hidden layer.',
)
@network_options
@options.epochs
@click.option("--batch-size", type=int, help=f"Batch size.  [default: {BATCH_SIZE}, or all images if fewer]")
@click.option(
    "--learning-rate", type=float, help="Learning rate.  [default: derived from the network; 1 for 784-16-10]"
)
@learning_options
@distortion_options
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Random seed of the initial weights and the shuffling."
)
@options.device
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="|".join(["auto", *ENGINES]),
    help="Implementation of the training steps; auto picks the fastest that supports the options.",
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="|".join(PRECISIONS),
    help="Precision of matrix products; tf32 is faster on newer GPUs but less precise.",
)
@options.data_dir
@options.classes
@click.option(
    "--pad",
    metavar="ROWSxCOLUMNS",
    callback=options.image_shape,
    help="Put background around images, up to this shape, such as 29x29; the model file remembers it.",
)
@options.path(
    "--output",
    help="Model file to write.  [default: named after sizes and seed, such as 784-16-10-seed0.safetensors]",
)
@options.path(
    "--page",
    help="HTML file to write: the network at work, as of gpunn show, and how its weights formed.",
)
@options.path(
    "--checkpoint",
    "checkpoint_path",
    metavar="FILE",
    help="File that keeps the state of the training, for --resume.  [default: that of --resume]",
)
@click.option(
    "--every",
    metavar="EPOCHS",
    type=int,
    help="Epochs between checkpoints; the last state is kept, too.  [default: 1]",
)
@options.path(
    "--resume",
    metavar="FILE",
    help="Go on from this checkpoint, with otherwise the same options; begin if there is no such file.",
)
@options.path(
    "--from",
    "start",
    metavar="MODEL",
    help="Begin with the network in this model file, in place of random weights, and with its data set.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Overwrite --output even if it is another network or not a model file, and another --checkpoint.",
)
@options.as_json
@over_ranks
def train(
    hidden: list[int],
    activation: str,
    output_activation: str,
    init: str,
    epochs: int,
    batch_size: int | None,
    learning_rate: float | None,
    loss: str | None,
    optimizer: str,
    momentum: float | None,
    l2: float,
    schedule: str,
    dropout: float,
    label_smoothing: float,
    max_norm: float,
    average: float | None,
    distort: str | None,
    show_distortions: Path | None,
    early_stopping: int | None,
    seed: int,
    device: str,
    engine: str,
    precision: str,
    data_dir: Path | None,
    classes: int | None,
    pad: tuple[int, int] | None,
    output: Path | None,
    page: Path | None,
    checkpoint_path: Path | None,
    every: int | None,
    resume: Path | None,
    start: Path | None,
    force: bool,
    as_json: bool,
    ranks: Ranks | None,
) -> int:
    """Train a network and write it to a model file.

    Ctrl-C, SIGTERM and SIGHUP stop training and save the network of the last finished epoch, or of the best one with
    --early-stopping. With --checkpoint, the same command with --resume goes on, also after it was killed.
    """
    optimizing, learning_rate = optimizer_with(optimizer, momentum), fitting(learning_rate)
    stopping = None if early_stopping is None else EarlyStopping(early_stopping)
    leads = ranks is None or ranks.leads
    if page is not None and ranks is not None:
        raise ConfigurationError(
            "--page shows a training by one process: choose gpunn show for a network trained by several"
        )
    for path in (output, page):
        if path is not None and leads:
            check_writable(path)
    checkpoint = checkpoint_for(checkpoint_path, every, resume, force=force)
    if page is not None and resume is not None:
        raise ConfigurationError("--page shows a training from its beginning, not one that --resume goes on with")
    if start is None:
        dataset = load_data(data_dir, n_classes=classes)
        dataset = dataset if pad is None else dataset.padded(pad)
        sizes = [dataset.train.images.shape[1], *hidden, classes or dataset.n_classes]
        net = MLP(sizes, hidden=activation, output=output_activation, init=init, seed=seed)
    else:
        net, dataset = network_from(start, data_dir)
    check_distortions(show_distortions, distort)
    named_by_default = output is None
    if output is None:
        output = default_name(net, seed)
        if leads:
            check_writable(output)
    elif leads and not force:
        check_replaceable(output, net)
    snapshots = None
    if page is not None:
        from gpunn.show import Snapshots

        snapshots = Snapshots(net)
    if leads and show_distortions is not None and distort is not None:
        write_distortions(show_distortions, distort, dataset.train, seed)
        click.echo(f"distorted images are in {printable(show_distortions)}", err=as_json)
    history: History | None = None
    replaced = False
    ended_by: KeyboardInterrupt | DeviceError | DivergenceError | None = None
    # With --json, stdout is reserved for the document.
    with Interruptible() as interruptible, TrainingProgress(epochs, err=as_json, quiet=not leads) as progress:
        if ranks is not None:  # all of them end after the same batch
            interruptible.heeded = False
            ranks.interrupted = lambda: interruptible.signal is not None

        def on_epoch(so_far: History) -> None:
            nonlocal history
            history = so_far
            if snapshots is not None:
                snapshots(so_far)
            progress.show_epoch(so_far.epochs[-1])

        try:
            history = training.train(
                net,
                dataset,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                device=device,
                engine=engine,
                precision=precision,
                loss=loss,
                optimizer=optimizing,
                l2=l2,
                schedule=schedule,
                dropout=dropout,
                label_smoothing=label_smoothing,
                average=average,
                max_norm=max_norm,
                distort=distort,
                early_stopping=stopping,
                seed=seed,
                checkpoint=checkpoint,
                resume=resume,
                on_epoch=on_epoch,
                distributed=ranks,
            )
        except (KeyboardInterrupt, DeviceError, DivergenceError) as error:
            ended_by = error
        except Exception:
            # During compilation, an interrupt surfaces as a compiler error.
            if interruptible.signal is None:
                raise
            ended_by = KeyboardInterrupt()
        finally:
            interruptible.heeded = False
        if history is not None and leads:
            if named_by_default:  # another run may have taken the name meanwhile
                output = default_name(net, seed)
            replaced = output.exists() and output.stat().st_size > 0
            _save(net, output)
            if page is not None and snapshots is not None:
                _write_page(page, net, output, dataset, history=history, snapshots=snapshots, epochs=epochs)
    failure = ended_by if isinstance(ended_by, DeviceError | DivergenceError) else progress.failure
    if failure is not None:
        if history is not None:
            failure.add_note(f"the network after epoch {history.kept} is in {output}")
        raise failure
    code = 0 if ended_by is None else exit_code(interruptible.signal or signal.SIGINT)
    if not leads:
        return code
    if history is None:
        which = "the first" if resume is None else "another"
        click.echo(
            f"gpunn: interrupted before {which} epoch was finished: {printable(output)} was not written", err=True
        )
    elif as_json:
        document = _document(net, init if start is None else None, history, output, interrupted=bool(code))
        document |= {} if page is None else {"page": str(page)}
        click.echo(json.dumps(document | ({} if checkpoint is None else {"checkpoint": printable(checkpoint.path)})))
    else:
        for line in characters.curves(history.losses, history.accuracies):
            click.echo(line)
        click.echo(_summary(net, history, interrupted=bool(code)))
        click.echo(f"written to {printable(output)}{', replacing the previous network' if replaced else ''}")
        if page is not None:
            click.echo(page_line(page, net))
        if code and checkpoint is not None and is_checkpoint(checkpoint.path):
            click.echo(f"the same command with --resume {printable(checkpoint.path)} goes on")
    return code


def _save(net: MLP, output: Path) -> None:
    """Write the model file, or if that fails, one in the temporary folder."""
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


def _write_page(
    page: Path, net: MLP, model: Path, data: Dataset, *, history: History, snapshots: "Snapshots", epochs: int
) -> None:
    """Write a page about `net`, which was just trained and saved as `model`."""
    from gpunn import show

    try:
        snapshots.look_closer(data, history, epochs=epochs)
        html = show.page(net, name=model.name, test=data.test, history=history, snapshots=snapshots)
        show.write_page(page, html)
    except GpunnError as error:
        error.add_note(f"the network is in {model}")
        raise


def _summary(net: MLP, history: History, *, interrupted: bool) -> str:
    count = len(history.epochs)
    seconds = sum(epoch.seconds for epoch in history.epochs)
    of = f" after epoch {history.kept}, the best one" if history.kept != count else ""
    return (
        f"{'interrupted: ' if interrupted else ''}{net} on {history.device}, "
        f"engine {history.engine}{_over(history)}: {count} epoch{'s' * (count != 1)} in {seconds:.1f} s, "
        f"test accuracy {history.accuracy:.2%}{of}"
    )


def _over(history: History) -> str:
    """Return how many ranks trained together, if there were several."""
    averaged = "" if history.average_every is None else f", averaged every {history.average_every} steps"
    return "" if history.ranks == 1 else f" over {history.ranks} ranks{averaged}"


def _document(net: MLP, init: str | None, history: History, output: Path, *, interrupted: bool) -> dict[str, Any]:
    return {
        "model": str(output),
        "sizes": net.sizes,
        "functions": net.functions,
        "init": init,
        "n_parameters": net.n_parameters,
        "interrupted": interrupted,
        **history.to_dict(),
        "test_accuracy": or_none(history.accuracy),
    }
