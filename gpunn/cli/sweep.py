"""`gpunn sweep`."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import click

from gpunn.activations import HIDDEN
from gpunn.backends import get_backend
from gpunn.cli import options
from gpunn.cli.naming import default_name, record_name
from gpunn.cli.signals import Interruptible, exit_code
from gpunn.cli.sweep_progress import SHOWN, SweepProgress
from gpunn.cli.values import hidden_layers, numbers
from gpunn.datasets import Split, load_mnist
from gpunn.defaults import BATCH_SIZE
from gpunn.errors import ConfigurationError, DivergenceError, OutputError
from gpunn.evaluation import Evaluation, evaluate, or_none
from gpunn.files import check_writable, write_whole
from gpunn.network import MLP
from gpunn.optimizers import OPTIMIZERS
from gpunn.printing import printable
from gpunn.sweep import Record, Space, Sweep, ranked
from gpunn.sweep.picture import check_picture, picture
from gpunn.sweep.tables import WIDTH, csv_of, fixed, number_of, score, table, varying

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
@options.data_dir
@options.classes
@click.option(
    "--output",
    type=click.Path(),
    callback=options.as_path,
    help="Model file to write.  [default: named after sizes and seed, such as 784-16-10-seed0.safetensors]",
)
@click.option("--csv", type=click.Path(), callback=options.as_path, help="CSV file to write, with a row a network.")
@click.option(
    "--picture",
    "picture_path",
    type=click.Path(),
    callback=options.as_path,
    help="Picture to write, .png or .svg: parallel coordinates. Needs Matplotlib.",
)
@click.option(
    "--record",
    "record_path",
    type=click.Path(),
    callback=options.as_path,
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
    data_dir: Path | None,
    classes: int | None,
    output: Path | None,
    csv: Path | None,
    picture_path: Path | None,
    record_path: Path | None,
    resume: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Train many networks, and write the best one to a model file.

    Options with "..." take several values, as in --learning-rate 0.1 0.3 1, and all combinations are trained. With
    --sample, only random ones; a value may then be a range, as in --learning-rate 0.01..1 or --hidden 16..64,10..20.

    Networks are ranked by a tenth of the training images, held out from all of them. The test images measure only the
    best one, at the end.

    Ctrl-C, SIGTERM and SIGHUP stop the sweep. The same command with --resume goes on where it stopped, also after it
    was killed.
    """
    space = Space(hidden, activation, optimizer, learning_rate or (None,), batch_size or (None,), l2, dropout, seed)
    files = Files(output, csv, picture_path, record_path or record_name(output, resume=resume))
    files.check(force=force)
    if device != "auto":
        get_backend(device)  # raises before there is a record
    dataset = load_mnist(data_dir, n_classes=classes)
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
    with plan.record(files.record, resume=resume, replace=force and not resume) as record:
        outcome, failure, code = _trained(plan, dataset.test, record, files, device=device, err=as_json)
    if failure is not None:
        raise failure
    if as_json:
        click.echo(json.dumps(_document(plan, files, outcome)))
    else:
        for line in _summary(plan, files, outcome):
            click.echo(line)
    if outcome.best is None and not code:
        raise DivergenceError("all networks diverged, so that there is none to write: try lower learning rates")
    return code


@dataclass(frozen=True)
class Files:
    """What is written; `model` is None until it has a name, or if no network is written."""

    model: Path | None
    csv: Path | None
    picture: Path | None
    record: Path

    def check(self, *, force: bool) -> None:
        """Raise an error for what couldn't be written after the training."""
        named = [path for path in (self.model, self.csv, self.picture, self.record) if path is not None]
        for path in named:
            check_writable(path)
        if len({path.resolve() for path in named}) < len(named):
            raise ConfigurationError("--output, --csv, --picture and --record must be different files")
        if self.picture is not None:
            check_picture(self.picture)
        if self.model is not None and not force and self.model.exists() and self.model.stat().st_size > 0:
            raise OutputError(f"{printable(self.model)} exists: choose another --output, or use --force")


class Outcome(NamedTuple):
    """The best network, if there is one, its file, and its evaluation on the test images."""

    best: MLP | None = None
    model: Path | None = None
    test: Evaluation | None = None
    interrupted: bool = False


def _trained(
    plan: Sweep, test: Split, record: Record, files: Files, *, device: str, err: bool
) -> tuple[Outcome, OSError | None, int]:
    """Train and write all, with the progress shown; return the outcome, an error of the display, and the exit code."""
    outcome = Outcome()
    with Interruptible() as interruptible, SweepProgress(plan, record.runs, err=err) as progress:
        for line in _introduction(plan, record):
            progress.show(line)
        try:
            nets = plan.run(record, device=device, on_epoch=progress.on_epoch, on_run=progress.on_run)
            if nets:
                outcome = Outcome(nets[0], test=evaluate(nets[0], test, loss=plan.shared.loss, device=device))
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
            outcome = outcome._replace(model=_written(plan, outcome.best, files))
    code = exit_code(interruptible.signal or signal.SIGINT) if outcome.interrupted else 0
    return outcome, progress.failure, code


def _written(plan: Sweep, best: MLP | None, files: Files) -> Path | None:
    """Write the best network, the CSV and the picture; return the model file."""
    model = None
    if best is not None:
        model = files.model or default_name(best, ranked(plan.runs)[0].configuration.seed)
        best.save(model)
    if files.csv is not None:
        write_whole(files.csv, csv_of(plan.runs))
    if files.picture is not None:
        title = f"{number_of(len(plan.runs), 'network')}{_on(plan)}"
        write_whole(files.picture, picture(plan.runs, title, files.picture.suffix))
    return model


def _on(plan: Sweep) -> str:
    """Return what the networks are trained on, with a preposition, if it has a name."""
    kind = plan.train.kind
    return f" on {kind.name}" if kind is not None and kind.name else ""


def _introduction(plan: Sweep, record: Record) -> Iterator[str]:
    count, epochs = number_of(len(plan.configurations), "network"), number_of(plan.shared.epochs, "epoch")
    yield from wrap(f"{count}{_on(plan)}, {epochs} each: {fixed(plan.configurations)}".rstrip(": "), WIDTH)
    yield f"{len(plan.train):,} images to train on, {len(plan.held_out):,} held out to rank the networks by"
    done = f"has {len(record.runs)} of them already" if record.runs else "records each as it finishes"
    yield f"{printable(record.path)} {done}"


def _summary(plan: Sweep, files: Files, outcome: Outcome) -> Iterator[str]:
    runs = ranked(plan.runs)
    if runs:
        yield ""
        yield from table(runs[:SHOWN], varying(plan.configurations))
        yield ""
    failed = sum(run.failure is not None for run in runs)
    diverged = f", of which {failed} diverged" if failed else ""
    if outcome.interrupted:
        yield (
            f"interrupted: {len(runs)} of {number_of(len(plan.configurations), 'network')} are in "
            f"{printable(files.record)}{diverged}; the same command with --resume goes on"
        )
        return
    seconds = sum(run.seconds for run in runs)
    yield f"{number_of(len(runs), 'network')}{diverged}, {seconds:.1f} s of training in all"
    if outcome.test is not None and outcome.best is not None:
        yield (
            f"best: {outcome.best}, held out {score(runs[0])}; test accuracy {outcome.test.accuracy:.2%}, "
            "measured for it alone"
        )
        yield f"written to {printable(outcome.model or '')}"
    for what, path in (("all networks", files.csv), ("picture", files.picture)):
        if path is not None:
            yield f"{what} in {printable(path)}"


def _document(plan: Sweep, files: Files, outcome: Outcome) -> dict[str, Any]:
    test = outcome.test
    return {
        "model": None if outcome.model is None else str(outcome.model),
        "record": str(files.record),
        "csv": None if files.csv is None else str(files.csv),
        "picture": None if files.picture is None else str(files.picture),
        "interrupted": outcome.interrupted,
        "n_networks": len(plan.configurations),
        "n_train": len(plan.train),
        "n_held_out": len(plan.held_out),
        "test_accuracy": None if test is None else or_none(test.accuracy),
        "test_loss": None if test is None else test.loss,
        "networks": [run.to_dict() for run in ranked(plan.runs)],
    }
