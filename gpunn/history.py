"""What a training run leaves behind besides the network: its course, epoch by epoch."""

from dataclasses import dataclass, field
from typing import Any

from gpunn.evaluation import Evaluation


@dataclass(frozen=True)
class Epoch:
    """One finished epoch.

    `number` counts from 1; `loss` is the mean over the training images, each measured before its batch's step;
    `seconds` is the training alone, without the evaluation `test` of the test images.
    """

    number: int
    loss: float
    seconds: float
    images_per_second: float
    test: Evaluation | None = None

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
        return row


@dataclass
class History:
    """How a run was made and how it went: `epochs` has one entry for each finished epoch."""

    device: str
    engine: str
    batch_size: int
    learning_rate: float
    seed: int
    epochs: list[Epoch] = field(default_factory=list)
    precision: str = "float32"

    @property
    def losses(self) -> list[float]:
        """The training loss of each epoch."""
        return [epoch.loss for epoch in self.epochs]

    @property
    def accuracies(self) -> list[float]:
        """The test accuracy after each epoch; empty where no test images were given."""
        return [epoch.test.accuracy for epoch in self.epochs if epoch.test is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return the history as JSON's types."""
        return {
            "device": self.device,
            "engine": self.engine,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "precision": self.precision,
            "seed": self.seed,
            "epochs": [epoch.to_dict() for epoch in self.epochs],
        }
