"""What accuracy the default learning rates reach: `python -m tests.default_rates`, for every choice that README offers.

Each row trains a network on all 60,000 images with the defaults of `gpunn train` but for what the row names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import click

import gpunn
from gpunn.activations import HIDDEN
from gpunn.datasets.split import Dataset
from gpunn.defaults import default_learning_rate
from gpunn.initialization import DIVISORS
from gpunn.losses import LOSSES, loss_for
from gpunn.optimizers import OPTIMIZERS, optimizer_for
from gpunn.schedules import SCHEDULES

BAR = 0.9
LINEAR = ("identity", "tanh", "elu")
LEAST_SQUARES = 0.84
"""With these outputs, identity neurons before them make a linear least-squares fit, or nearly: 86 % at best."""


@dataclass(frozen=True)
class Combination:
    """A row of the table: what is chosen, and is otherwise the command line's default."""

    hidden: tuple[int, ...] = (16,)
    activation: str = "sigmoid"
    output: str = "sigmoid"
    loss: str | None = None
    init: str = "scaled"
    optimizer: str = "sgd"
    schedule: str = "constant"
    batch_size: int = 32

    @property
    def bar(self) -> float:
        """The accuracy that it has to reach."""
        linear = self.activation == "identity" and self.output in LINEAR
        return LEAST_SQUARES if linear else BAR

    @property
    def sizes(self) -> list[int]:
        """The layer sizes."""
        return [784, *self.hidden, 10]

    def network(self) -> gpunn.MLP:
        """Return it untrained."""
        return gpunn.MLP(self.sizes, hidden=self.activation, output=self.output, init=self.init)

    def learning_rate(self) -> float:
        """Return its default learning rate."""
        functions = (*[self.activation] * len(self.hidden), self.output)
        loss = loss_for(self.output, self.loss)
        return default_learning_rate(self.sizes, functions, loss, optimizer_for(self.optimizer))

    def train(self, data: Dataset, *, epochs: int = 15, engine: str = "auto") -> float:
        """Return the test accuracy that it reaches; NaN where it diverges."""
        try:
            return gpunn.train(
                self.network(),
                data,
                epochs=epochs,
                batch_size=self.batch_size,
                loss=self.loss,
                optimizer=self.optimizer,
                schedule=self.schedule,
                device="cpu",
                engine=engine,
            ).accuracy
        except gpunn.DivergenceError:
            return float("nan")


def combinations() -> Iterator[Combination]:
    """Yield what README's table offers: each choice with the defaults, and those that matter to the rate together."""
    for (name, loss), activation in product(LOSSES.items(), HIDDEN):
        for output in loss.outputs:
            yield Combination(activation=activation, output=output, loss=name)
    for optimizer in OPTIMIZERS:
        yield Combination(optimizer=optimizer)
        yield Combination((128,), optimizer=optimizer)
        yield Combination((128,), "relu", "softmax", "cross_entropy", "he", optimizer)
    for init in DIVISORS:
        yield Combination(init=init)
        if init != "normal":
            yield Combination((128,), "relu", "softmax", init=init)
    for schedule in SCHEDULES:
        yield Combination(schedule=schedule)
    for hidden in ((), (64,), (256,), (300,), (512,), (1024,), (100, 50), (256, 128)):
        yield Combination(hidden)
        if hidden:
            yield Combination(hidden, "relu", "softmax", init="he")
    for batch_size in (1, 8, 128, 512):
        yield Combination(batch_size=batch_size)


@click.command()
@click.option("--engine", default="auto", show_default=True)
@click.option("--only", default="", help="Rows whose line contains this text.")
def main(engine: str, only: str) -> None:
    """Print a line for each combination: its default rate and the test accuracy after 15 epochs."""
    data = gpunn.load_mnist()
    below = 0
    for row in dict.fromkeys(combinations()):
        layers = "-".join(map(str, row.sizes))
        name = (
            f"{layers:15} {row.activation:10} {row.output:10} {loss_for(row.output, row.loss):21} {row.init:7} "
            f"{row.optimizer:9} {row.schedule:11} {row.batch_size:4}"
        )
        if only not in name:
            continue
        accuracy = row.train(data, engine=engine)
        low = not accuracy >= row.bar
        below += low
        click.echo(
            f"{name} rate {row.learning_rate():<6g} {accuracy:7.2%}{'  below ' + format(row.bar, '.0%') if low else ''}"
        )
    click.echo(f"{below} below their bar")


if __name__ == "__main__":
    main()
