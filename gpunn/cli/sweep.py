"""`gpunn sweep`."""

import json
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import click

from gpunn.activations import HIDDEN
from gpunn.backends import get_backend
from gpunn.cli import options
from gpunn.cli.naming import default_name, ensemble_name, record_name
from gpunn.cli.signals import Interruptible, exit_code
from gpunn.cli.sweep_progress import SHOWN, SweepProgress
from gpunn.cli.values import hidden_layers, numbers
from gpunn.datasets import Split, load_mnist
from gpunn.defaults import BATCH_SIZE
from gpunn.ensemble import Ensemble
from gpunn.errors import ConfigurationError, DivergenceError, OutputError
from gpunn.evaluation import Evaluation, evaluate, or_none
from gpunn.files import check_writable, write_whole
from gpunn.network import MLP
from gpunn.optimizers import OPTIMIZERS
from gpunn.printing import printable
from gpunn.sweep import Cluster, Record, Run, Space, Sweep, ranked
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
@click.option(
    "--output",
    type=click.Path(),
    callback=options.as_path,
    help="Model file to write.  [default: named after sizes and seed, such as 784-16-10-seed0.safetensors, or "
    "ensemble-of-K.safetensors]",
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
        click.echo(json.dumps(_document(plan, files, outcome)))
    else:
        for line in _summary(plan, files, outcome, ensemble):
            click.echo(line)
    if outcome.model is None and not code:
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
    """The best network or the ensemble of the best, if there is one, its file, and evaluations on the test images.

    `members` are the results and the evaluations of its networks, the best one first.
    """

    model: MLP | Ensemble | None = None
    file: Path | None = None
    test: Evaluation | None = None
    members: tuple[tuple[Run, Evaluation], ...] = ()
    interrupted: bool = False


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
        for line in _introduction(plan, record, cluster):
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
        title = f"{number_of(len(plan.runs), 'network')}{_on(plan)}"
        write_whole(files.picture, picture(plan.runs, title, files.picture.suffix))
    return file


def _name_of(model: MLP | Ensemble, plan: Sweep) -> Path:
    """Return the default name of the model file."""
    if isinstance(model, Ensemble):
        return ensemble_name(model)
    return default_name(model, ranked(plan.runs)[0].configuration.seed)


def _on(plan: Sweep) -> str:
    """Return what the networks are trained on, with a preposition, if it has a name."""
    kind = plan.train.kind
    return f" on {kind.name}" if kind is not None and kind.name else ""


def _introduction(plan: Sweep, record: Record, cluster: Cluster | None) -> Iterator[str]:
    count, epochs = number_of(len(plan.configurations), "network"), number_of(plan.shared.epochs, "epoch")
    yield from wrap(f"{count}{_on(plan)}, {epochs} each: {fixed(plan.configurations)}".rstrip(": "), WIDTH)
    yield f"{len(plan.train):,} images to train on, {len(plan.held_out):,} held out to rank the networks by"
    done = f"has {len(record.runs)} of them already" if record.runs else "records each as it finishes"
    yield f"{printable(record.path)} {done}"
    if cluster is not None:
        workers = cluster.workers()
        threads = number_of(sum(workers.values()), "thread")
        yield f"trained by {number_of(len(workers), 'worker')} with {threads} at {printable(cluster.address)}"


def _summary(plan: Sweep, files: Files, outcome: Outcome, asked: int | None) -> Iterator[str]:
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
    if outcome.model is not None:
        yield from _told(outcome, asked)
        yield f"written to {printable(outcome.file or '')}"
    for what, path in (("all networks", files.csv), ("picture", files.picture)):
        if path is not None:
            yield f"{what} in {printable(path)}"


def _told(outcome: Outcome, asked: int | None) -> Iterator[str]:
    """Tell of the model that is written; `asked` is the number of networks that it should have, None for the best."""
    assert outcome.model is not None
    assert outcome.test is not None
    accuracy = f"test accuracy {outcome.test.accuracy:.2%}"
    if asked is None:
        yield f"best: {outcome.model}, held out {score(outcome.members[0][0])}; {accuracy}, measured for it alone"
        return
    fewer = f" instead of {asked}, as the others diverged" if len(outcome.members) < asked else ""
    yield f"{outcome.model}{fewer}: {accuracy}; of each alone, measured for these alone:"
    for rank, ((run, test), net) in enumerate(zip(outcome.members, outcome.model.nets, strict=True), 1):
        yield f"{rank:4}  held out {score(run)}  test {test.accuracy:.2%}  {net}"


def _document(plan: Sweep, files: Files, outcome: Outcome) -> dict[str, Any]:
    test = outcome.test
    return {
        "model": None if outcome.file is None else str(outcome.file),
        "record": str(files.record),
        "csv": None if files.csv is None else str(files.csv),
        "picture": None if files.picture is None else str(files.picture),
        "interrupted": outcome.interrupted,
        "n_networks": len(plan.configurations),
        "n_train": len(plan.train),
        "n_held_out": len(plan.held_out),
        "test_accuracy": None if test is None else or_none(test.accuracy),
        "test_loss": None if test is None else test.loss,
        "members": [
            {"number": run.number, "test_accuracy": or_none(found.accuracy), "test_loss": found.loss}
            for run, found in outcome.members
        ],
        "networks": [run.to_dict() for run in ranked(plan.runs)],
    }
