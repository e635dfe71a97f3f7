"""The options of `gpunn train` that say how neurons compute and how they learn."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from gpunn.activations import HIDDEN, OUTPUT
from gpunn.early_stopping import EarlyStopping
from gpunn.initialization import DIVISORS
from gpunn.losses import LOSSES
from gpunn.optimizers import SGD, Adam, Optimizer
from gpunn.schedules import CONSTANT, Cosine, Exponential, OneCycle, Schedule, Steps

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {
    "sgd": lambda _: SGD(),
    "momentum": SGD,
    "nesterov": lambda momentum: SGD(momentum, nesterov=True),
    "adam": lambda _: Adam(),
    "adamw": lambda _: Adam(decoupled=True),
}
"""By name; each takes the momentum, if it has any use for it."""

SCHEDULES: dict[str, Schedule] = {
    "constant": CONSTANT,
    "step": Steps(),
    "exponential": Exponential(),
    "cosine": Cosine(),
    "one-cycle": OneCycle(),
}


def network_options(command: Command) -> Command:
    """Add what `MLP` takes besides its sizes."""
    for option in (
        click.option(
            "--init",
            type=click.Choice(list(DIVISORS)),
            default="scaled",
            show_default=True,
            help="Draws the weights.",
        ),
        click.option(
            "--output-activation",
            "output_activation",
            type=click.Choice(OUTPUT),
            default="sigmoid",
            show_default=True,
            help="Activation function of the output layer.",
        ),
        click.option(
            "--activation",
            type=click.Choice(HIDDEN),
            default="sigmoid",
            show_default=True,
            help="Activation function of the hidden layers.",
        ),
    ):
        command = option(command)
    return command


def learning_options(command: Command) -> Command:
    """Add what `train` takes besides the learning rate, the batch size and the epochs."""
    for option in (
        click.option("--early-stopping", type=int, metavar="EPOCHS", help="End after so many without improvement."),
        click.option("--dropout", type=float, default=0.0, show_default=True, help="Share of hidden neurons left out."),
        click.option(
            "--schedule",
            type=click.Choice(list(SCHEDULES)),
            default="constant",
            show_default=True,
            help="How the learning rate changes.",
        ),
        click.option("--l2", type=float, default=0.0, show_default=True, help="L2 penalty of the weights."),
        click.option("--momentum", type=float, default=0.9, show_default=True, help="Of momentum and nesterov."),
        click.option(
            "--optimizer",
            type=click.Choice(list(OPTIMIZERS)),
            default="sgd",
            show_default=True,
            help="Makes steps.",
        ),
        click.option(
            "--loss",
            type=click.Choice(list(LOSSES)),
            help="What training makes small.  [default: cross_entropy for softmax outputs, else squared_error]",
        ),
    ):
        command = option(command)
    return command


def chosen(*, optimizer: str, momentum: float, schedule: str, early_stopping: int | None) -> dict[str, Any]:
    """Return these options as arguments of `train`."""
    return {
        "optimizer": OPTIMIZERS[optimizer](momentum),
        "schedule": SCHEDULES[schedule],
        "early_stopping": None if early_stopping is None else EarlyStopping(early_stopping),
    }
