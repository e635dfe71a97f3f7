"""What a training run leaves behind besides the network: its course, epoch by epoch."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from gpunn.early_stopping import EarlyStopping
from gpunn.engines.base import Recipe
from gpunn.evaluation import Evaluation


@dataclass(frozen=True)
class Epoch:
    """One finished epoch.

    `number` counts from 1; `loss` is the mean over the training images, each measured before its batch's step;
    `seconds` is the training alone, without the evaluations: `test` of the test images, `held_out` of those that early
    stopping goes by.
    """

    number: int
    loss: float
    seconds: float
    images_per_second: float
    test: Evaluation | None = None
    held_out: Evaluation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the epoch as JSON's types, without the confusion matrix."""
        row: dict[str, Any] = {
            "epoch": self.number,
            "loss": self.loss,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }
        if self.test is not None:
            row |= {"test_loss": self.test.loss, "test_accuracy": self.test.accuracy}
        if self.held_out is not None:
            row |= {"held_out_loss": self.held_out.loss, "held_out_accuracy": self.held_out.accuracy}
        return row


@dataclass
class History:
    """How a run was made and how it went: `epochs` has one entry for each finished epoch.

    `kept` is the number of the epoch whose network the run has left: the last one, or with early stopping the best.
    """

    device: str
    engine: str
    recipe: Recipe
    early_stopping: EarlyStopping | None = None
    epochs: list[Epoch] = field(default_factory=list)
    kept: int = 0

    @property
    def losses(self) -> list[float]:
        """The training loss of each epoch."""
        return [epoch.loss for epoch in self.epochs]

    @property
    def accuracies(self) -> list[float]:
        """The test accuracy after each epoch; empty where no test images were given."""
        return [epoch.test.accuracy for epoch in self.epochs if epoch.test is not None]

    @property
    def accuracy(self) -> float:
        """The test accuracy of the network that is kept; NaN where no test images were given."""
        test = self.epochs[self.kept - 1].test if self.epochs else None
        return math.nan if test is None else test.accuracy

    def to_dict(self) -> dict[str, Any]:
        """Return the history as JSON's types."""
        return {
            "device": self.device,
            "engine": self.engine,
            **self.recipe.to_dict(),
            **({} if self.early_stopping is None else {"early_stopping": asdict(self.early_stopping)}),
            "kept_epoch": self.kept,
            "epochs": [epoch.to_dict() for epoch in self.epochs],
        }
