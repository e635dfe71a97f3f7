"""`gpunn sweep`."""

import json
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from gpunn.activations import HIDDEN
from gpunn.backends import get_backend
from gpunn.cli import options
from gpunn.cli.data import load_data
from gpunn.cli.naming import default_name, ensemble_name, record_name
from gpunn.cli.signals import Interruptible, exit_code
from gpunn.cli.sweep_outcome import Files, Outcome, document, introduction, on_what, summary
from gpunn.cli.sweep_progress import SweepProgress
from gpunn.cli.values import hidden_layers, numbers
from gpunn.datasets import Split
from gpunn.defaults import BATCH_SIZE
from gpunn.ensemble import Ensemble
from gpunn.errors import ConfigurationError, DivergenceError
from gpunn.evaluation import evaluate
from gpunn.files import write_whole
from gpunn.network import MLP
from gpunn.optimizers import OPTIMIZERS
from gpunn.sweep import Cluster, Record, Space, Sweep, ranked
from gpunn.sweep.picture import picture
from gpunn.sweep.tables import csv_of, number_of

Values = tuple[Any, ...]


@click.command()
@click.option(
    "--hidden",
    metavar="SIZES...",
    multiple=True,
    callback=hidden_layers,
    default=("16",),
    help='Sizes of the hidden layers, such as 16 128 100,50 for three kinds of networks; "" for no hidden layer.  '
    "[default: 16]",
)
@click.option(
    "--activation",
    type=click.Choice(HIDDEN),
    metavar=f"[{'|'.join(HIDDEN)}]...",
    multiple=True,
    default=("sigmoid",),
    help="Activation functions of the hidden layers.  [default: sigmoid]",
)
@click.option(
    "--optimizer",
    type=click.Choice(list(OPTIMIZERS)),
    metavar=f"[{'|'.join(OPTIMIZERS)}]...",
    multiple=True,
    default=("sgd",),
    help="Optimisers.  [default: sgd]",
)
@click.option(
    "--learning-rate",
    metavar="RATE...",
    multiple=True,
    callback=numbers(float),
    help="Learning rates.  [default: the one that suits each network]",
)
@click.option(
    "--batch-size",
    metavar="N...",
    multiple=True,
    callback=numbers(int),
    help=f"Batch sizes.  [default: {BATCH_SIZE}, or all images if fewer]",
)
@click.option(
    "--l2",
    metavar="LAMBDA...",
    multiple=True,
    callback=numbers(float),
    default=("0",),
    help="L2 penalties; with adamw, weight decays.  [default: 0]",
)
@click.option(
    "--dropout",
    metavar="SHARE...",
    multiple=True,
    callback=numbers(float),
    default=("0",),
    help="Fractions of hidden activations to drop.  [default: 0]",
)
@click.option(
    "--seed",
    metavar="N...",
    multiple=True,
    callback=numbers(int),
    default=("0",),
    help="Random seeds of the initial weights and the shuffling; 0..4 are five.  [default: 0]",
)
@click.option("--sample", type=int, metavar="N", help="Train N random combinations, not all.")
@click.option(
    "--sweep-seed",
    type=int,
    default=0,
    show_default=True,
    help="Random seed of --sample, and of the images held out.",
)
@options.epochs
@options.output_activation
@options.loss
@options.init
@options.schedule
@options.device
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Train on the Dask cluster of this scheduler, such as tcp://10.0.0.1:8786. Needs distributed.",
)
@options.data_dir
@options.classes
@click.option(
    "--ensemble",
    type=click.IntRange(min=1),
    metavar="K",
    help="Write the K best networks as one model, which predicts the mean of their outputs.",
)
@options.path(
    "--output",
    help="Model file to write.  [default: named after sizes and seed, such as 784-16-10-seed0.safetensors, or "
    "ensemble-of-K.safetensors]",
)
@options.path("--csv", help="CSV file to write, with a row a network.")
@options.path(
    "--picture",
    "picture_path",
    help="Picture to write, .png or .svg: parallel coordinates. Needs Matplotlib.",
)
@options.path(
    "--record",
    "record_path",
    help="File in which every finished network is recorded.  [default: sweep.jsonl, or named after --output]",
)
@click.option("--resume", is_flag=True, help="Go on with the record of an interrupted sweep, if there is one.")
@click.option("--force", is_flag=True, help="Overwrite --output and --record.")
@options.as_json
def sweep(
    hidden: Values,
    activation: Values,
    optimizer: Values,
    learning_rate: Values,
    batch_size: Values,
    l2: Values,
    dropout: Values,
    seed: Values,
    sample: int | None,
    sweep_seed: int,
    epochs: int,
    output_activation: str,
    loss: str | None,
    init: str,
    schedule: str,
    device: str,
    scheduler: str | None,
    data_dir: Path | None,
    classes: int | None,
    ensemble: int | None,
    output: Path | None,
    csv: Path | None,
    picture_path: Path | None,
    record_path: Path | None,
    resume: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Train many networks, and write the best one, or an ensemble of the best, to a model file.

    Options with "..." take several values, as in --learning-rate 0.1 0.3 1, and all combinations are trained. With
    --sample, only random ones; a value may then be a range, as in --learning-rate 0.01..1 or --hidden 16..64,10..20.

    Networks are ranked by a tenth of the training images, held out from all of them. The test images measure only
    what is written, at the end.

    Ctrl-C, SIGTERM and SIGHUP stop the sweep. The same command with --resume goes on where it stopped, also after it
    was killed.
    """
    space = Space(hidden, activation, optimizer, learning_rate or (None,), batch_size or (None,), l2, dropout, seed)
    files = Files(output, csv, picture_path, record_path or record_name(output, resume=resume))
    files.check(force=force)
    if device != "auto" and scheduler is None:
        get_backend(device)  # raises before there is a record
    dataset = load_data(data_dir, n_classes=classes)
    plan = Sweep(
        space,
        dataset,
        n_outputs=classes,
        epochs=epochs,
        output=output_activation,
        loss=loss,
        init=init,
        schedule=schedule,
        sample=sample,
        seed=sweep_seed,
    )
    if ensemble is not None and ensemble > len(plan.configurations):
        raise ConfigurationError(
            f"--ensemble must be at most {len(plan.configurations)}, the number of networks, got {ensemble}"
        )
    with (
        nullcontext() if scheduler is None else Cluster(scheduler) as cluster,
        plan.record(files.record, resume=resume, replace=force and not resume) as record,
    ):
        outcome, failure, code = _trained(
            plan, dataset.test, record, files, ensemble, device=device, cluster=cluster, err=as_json
        )
    if failure is not None:
        raise failure
    if as_json:
        click.echo(json.dumps(document(plan, files, outcome)))
    else:
        for line in summary(plan, files, outcome, ensemble):
            click.echo(line)
    if outcome.model is None and not code:
        raise DivergenceError("all networks diverged, so that there is none to write: try lower learning rates")
    return code


def _trained(
    plan: Sweep,
    test: Split,
    record: Record,
    files: Files,
    ensemble: int | None,
    *,
    device: str,
    cluster: Cluster | None,
    err: bool,
) -> tuple[Outcome, OSError | None, int]:
    """Train and write all, with the progress shown; return the outcome, an error of the display, and the exit code."""
    outcome = Outcome()
    with Interruptible() as interruptible, SweepProgress(plan, record.runs, err=err) as progress:
        for line in introduction(plan, record, cluster):
            progress.show(line)
        try:
            nets = plan.run(
                record,
                keep=ensemble or 1,
                device=device,
                cluster=cluster,
                on_epoch=progress.on_epoch,
                on_run=progress.on_run,
            )
            if nets:
                model = nets[0] if ensemble is None else Ensemble(nets)
                # With a cluster, the device is that of its workers.
                outcome = _evaluated(model, plan, test, device if cluster is None else "auto")
        except KeyboardInterrupt:
            outcome = Outcome(interrupted=True)
        except Exception:
            # During compilation, an interrupt surfaces as a compiler error.
            if interruptible.signal is None:
                raise
            outcome = Outcome(interrupted=True)
        finally:
            interruptible.heeded = False
        if not outcome.interrupted:
            outcome = outcome._replace(file=_written(plan, outcome.model, files))
    code = exit_code(interruptible.signal or signal.SIGINT) if outcome.interrupted else 0
    return outcome, progress.failure, code


def _evaluated(model: MLP | Ensemble, plan: Sweep, test: Split, device: str) -> Outcome:
    """Return the outcome with the evaluations of a model and of each of its networks."""
    loss = plan.shared.loss
    found = [evaluate(net, test, loss=loss, device=device) for net in model.nets]
    # Of one network there is nothing more to evaluate.
    together = found[0] if len(found) == 1 else evaluate(model, test, loss=loss, device=device)
    return Outcome(model, test=together, members=tuple(zip(ranked(plan.runs)[: len(found)], found, strict=True)))


def _written(plan: Sweep, model: MLP | Ensemble | None, files: Files) -> Path | None:
    """Write the model, the CSV and the picture; return the model file."""
    file = None
    if model is not None:
        file = files.model or _name_of(model, plan)
        model.save(file)
    if files.csv is not None:
        write_whole(files.csv, csv_of(plan.runs))
    if files.picture is not None:
        title = f"{number_of(len(plan.runs), 'network')}{on_what(plan)}"
        write_whole(files.picture, picture(plan.runs, title, files.picture.suffix))
    return file


def _name_of(model: MLP | Ensemble, plan: Sweep) -> Path:
    """Return the default name of the model file."""
    if isinstance(model, Ensemble):
        return ensemble_name(model)
    return default_name(model, ranked(plan.runs)[0].configuration.seed)
