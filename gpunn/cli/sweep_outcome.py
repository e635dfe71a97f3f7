"""What `gpunn sweep` writes, what came of it, and how that is told."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

from gpunn.cli.sweep_progress import SHOWN
from gpunn.ensemble import Ensemble
from gpunn.errors import ConfigurationError, OutputError
from gpunn.evaluation import Evaluation, or_none
from gpunn.files import check_writable
from gpunn.network import MLP
from gpunn.plots.files import check_picture
from gpunn.printing import printable
from gpunn.sweep import Cluster, Record, Run, Sweep, ranked
from gpunn.sweep.tables import WIDTH, fixed, number_of, score, table, varying


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
            check_picture("--picture", self.picture)
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


def on_what(plan: Sweep) -> str:
    """Return what the networks are trained on, with a preposition, if it has a name."""
    kind = plan.train.kind
    return f" on {kind.name}" if kind is not None and kind.name else ""


def introduction(plan: Sweep, record: Record, cluster: Cluster | None) -> Iterator[str]:
    """Yield what is said before the training."""
    count, epochs = number_of(len(plan.configurations), "network"), number_of(plan.shared.epochs, "epoch")
    yield from wrap(f"{count}{on_what(plan)}, {epochs} each: {fixed(plan.configurations)}".rstrip(": "), WIDTH)
    yield f"{len(plan.train):,} images to train on, {len(plan.held_out):,} held out to rank the networks by"
    done = f"has {len(record.runs)} of them already" if record.runs else "records each as it finishes"
    yield f"{printable(record.path)} {done}"
    if cluster is not None:
        workers = cluster.workers()
        threads = number_of(sum(workers.values()), "thread")
        yield f"trained by {number_of(len(workers), 'worker')} with {threads} at {printable(cluster.address)}"


def summary(plan: Sweep, files: Files, outcome: Outcome, asked: int | None) -> Iterator[str]:
    """Yield what is said at the end; `asked` is the number of networks of the ensemble, None for the best network."""
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


def document(plan: Sweep, files: Files, outcome: Outcome) -> dict[str, Any]:
    """Return the document that --json prints."""
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
