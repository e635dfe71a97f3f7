"""History of a training run, epoch by epoch."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gpunn.backends.base import version
from gpunn.early_stopping import EarlyStopping
from gpunn.engines.base import Recipe
from gpunn.evaluation import Evaluation, or_none
from gpunn.plots.curves import Curves, curves
from gpunn.schedules import CONSTANT
from gpunn.training_record import table
from gpunn.version import __version__

TIMES = ("seconds", "images_per_second")
PACKAGES = ("numpy", "numba", "cupy")


@dataclass(frozen=True)
class Epoch:
    """One finished epoch.

    `number` counts from 1; `loss` is the mean training loss, each batch's measured before its step; `seconds` is the
    training time without evaluation. `test`, `train` (at most `gpunn.plan.TRAIN_SAMPLE` examples) and `held_out`
    (for early stopping) evaluate the network after the epoch.
    """

    number: int
    loss: float
    seconds: float
    images_per_second: float
    test: Evaluation | None = None
    held_out: Evaluation | None = None
    train: Evaluation | None = None

    def line(self, epochs: int) -> str:
        """Return the epoch's figures in one line of at most 80 columns; `epochs` is the total number of epochs."""
        figures = [counted(self.number, epochs), f"loss {self.loss:.4f}"]
        if self.test is not None:
            figures.append(f"test loss {self.test.loss:.4f}")
            if not math.isnan(self.test.accuracy):
                figures.append(f"test accuracy {self.test.accuracy:.2%}")
        return "  ".join([*figures, f"{_short(self.images_per_second)} images/s"])

    def to_dict(self) -> dict[str, Any]:
        """Return the epoch as JSON types, without the confusion matrices."""
        row: dict[str, Any] = {
            "epoch": self.number,
            "loss": self.loss,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }
        if self.test is not None:
            row |= {"test_loss": self.test.loss, "test_accuracy": or_none(self.test.accuracy)}
        if self.train is not None:
            row |= {"train_accuracy": or_none(self.train.accuracy)}
        if self.held_out is not None:
            row |= {"held_out_loss": self.held_out.loss, "held_out_accuracy": or_none(self.held_out.accuracy)}
        return row


def goes_on(answer: object) -> bool:
    """Whether training goes on after a callback's `answer`: only False ends it."""
    return not isinstance(answer, bool | np.bool_) or bool(answer)


def counted(number: int, epochs: int) -> str:
    """Return the epoch number and the total, as in "epoch  3/15"."""
    return f"epoch {number:{len(str(epochs))}}/{epochs}"


def _short(rate: float) -> str:
    """Format `rate` with three significant digits, such as 2.35M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if rate >= size:
            return f"{rate / size:.3g}{unit}"
    return f"{rate:.3g}"


def _versions(device: str) -> dict[str, str]:
    """Return the versions of gpunn, and of the packages that take part in a training on `device`."""
    return {"gpunn": __version__} | {
        package: version(package) for package in PACKAGES if package != "cupy" or device != "cpu"
    }


@dataclass(repr=False)
class History:
    """Settings and results of a run; `epochs` has one entry for each finished epoch.

    `kept` is the number of the epoch whose network was kept: the last one, or with early stopping the best.
    `warnings` are the warnings of the run, such as no progress. `failure` says why training ended before its time, if
    `gpunn.train_many` had to end it: it diverged.
    """

    device: str
    engine: str
    recipe: Recipe
    early_stopping: EarlyStopping | None = None
    epochs: list[Epoch] = field(default_factory=list)
    kept: int = 0
    warnings: list[str] = field(default_factory=list)
    failure: str | None = None
    planned: int = 0
    """Number of epochs that were asked for."""
    n_examples: int = 0
    """Number of examples it was trained on."""
    ranks: int = 1
    """Number of processes that trained it together."""
    average_every: int | None = None
    """Number of steps after which they took the mean of their weights; None if they added up gradients."""

    def __repr__(self) -> str:
        n, seconds = len(self.epochs), sum(epoch.seconds for epoch in self.epochs)
        found = f"History: {n} epoch{'s' * (n != 1)} in {seconds:.1f} s on {self.device}, engine {self.engine}"
        if self.epochs:
            found += f", loss {self.epochs[self.kept - 1].loss:.4f}"
        return found if math.isnan(self.accuracy) else f"{found}, test accuracy {self.accuracy:.2%}"

    @property
    def losses(self) -> list[float]:
        """The training loss of each epoch."""
        return [epoch.loss for epoch in self.epochs]

    @property
    def test_losses(self) -> list[float]:
        """The test loss after each epoch; empty without test examples."""
        return [epoch.test.loss for epoch in self.epochs if epoch.test is not None]

    @property
    def train_accuracies(self) -> list[float]:
        """The accuracy on training examples after each epoch; empty without test examples."""
        return [epoch.train.accuracy for epoch in self.epochs if epoch.train is not None]

    @property
    def accuracies(self) -> list[float]:
        """The test accuracy after each epoch; empty without test examples."""
        return [epoch.test.accuracy for epoch in self.epochs if epoch.test is not None]

    @property
    def accuracy(self) -> float:
        """The test accuracy of the kept network; NaN without test examples."""
        test = self.epochs[self.kept - 1].test if self.epochs else None
        return math.nan if test is None else test.accuracy

    def plot(self, ax: Any = None) -> Any:
        """Draw loss and accuracy over epochs on Matplotlib's axes `ax`, by default new ones of `pyplot`; return them.

        The accuracy is on a twin of `ax`, with its axis on the right. Raises `ConfigurationError` if Matplotlib is
        missing.
        """
        from gpunn.plots.axes import draw_history

        return draw_history(ax, self._curves(), self._kept_before_the_last())

    def _repr_html_(self) -> str:
        """Return the curves as HTML in one piece, for notebooks."""
        from gpunn.plots.html import history

        notes = [*self.warnings, *([] if self.failure is None else [self.failure])]
        return history(repr(self), self._curves(), self._kept_before_the_last(), notes)

    def _curves(self) -> list[Curves]:
        """Return loss and accuracy over epochs, without those that are unknown or not finite."""
        found: dict[str, dict[str, list[tuple[int, float]]]] = {"loss": {}, "accuracy": {}}
        for epoch in self.epochs:
            found["loss"].setdefault("training", []).append((epoch.number, epoch.loss))
            for label, result in (("training", epoch.train), ("test", epoch.test), ("held out", epoch.held_out)):
                if result is not None:
                    if label != "training":
                        found["loss"].setdefault(label, []).append((epoch.number, result.loss))
                    found["accuracy"].setdefault(label, []).append((epoch.number, result.accuracy))
        drawn = [curves(quantity, series) for quantity, series in found.items()]
        return [each for each in drawn if each.curves]

    def _kept_before_the_last(self) -> int | None:
        """Return the number of the epoch whose network was kept, or None if it is the last one."""
        return self.kept if self.epochs and self.kept != self.epochs[-1].number else None

    def record(self) -> dict[str, Any]:
        """Return what a model file remembers, see `gpunn.training_record`, in JSON types."""
        found = self.to_dict()
        rows = [{name: value for name, value in row.items() if name not in TIMES} for row in found.pop("epochs")]
        # Without a schedule, how many epochs were planned makes no difference.
        planned = {} if self.recipe.schedule == CONSTANT else {"planned_epochs": self.planned}
        about = {"n_examples": self.n_examples, "versions": _versions(self.device)}
        return found | planned | about | {"epochs": table(rows)}

    def to_dict(self) -> dict[str, Any]:
        """Return the history as JSON types."""
        return {
            "device": self.device,
            "engine": self.engine,
            **self.recipe.to_dict(),
            **({} if self.early_stopping is None else {"early_stopping": asdict(self.early_stopping)}),
            **({} if self.ranks == 1 else {"ranks": self.ranks}),
            **({} if self.average_every is None else {"average_every": self.average_every}),
            "kept_epoch": self.kept,
            "warnings": self.warnings,
            **({} if self.failure is None else {"failure": self.failure}),
            "epochs": [epoch.to_dict() for epoch in self.epochs],
        }
