"""The options of `gpunn train` that say how neurons compute and how they learn."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from gpunn.activations import HIDDEN, OUTPUT
from gpunn.cli import options
from gpunn.early_stopping import EarlyStopping
from gpunn.errors import ConfigurationError
from gpunn.initialization import DIVISORS
from gpunn.optimizers import SGD, Adam, Optimizer
from gpunn.schedules import CONSTANT, Cosine, Exponential, OneCycle, Schedule, Steps

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], float]] = {
    "sgd": (SGD, 1.0),
    "momentum": (SGD, 0.1),
    "nesterov": (partial(SGD, nesterov=True), 0.1),
    "adam": (Adam, 0.001),
    "adamw": (partial(Adam, decoupled=True), 0.001),
}
"""By name, with the learning rate that each has by default."""

WITH_MOMENTUM = ("momentum", "nesterov")

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
        click.option(
            "--early-stopping",
            type=int,
            metavar="EPOCHS",
            help="End after so many without improvement on a tenth of the images, held out.",
        ),
        click.option("--dropout", type=float, default=0.0, show_default=True, help="Share of hidden neurons left out."),
        click.option(
            "--schedule",
            type=click.Choice(list(SCHEDULES)),
            default="constant",
            show_default=True,
            help="How the learning rate changes.",
        ),
        click.option("--l2", type=float, default=0.0, show_default=True, help="L2 penalty, AdamW's weight decay."),
        click.option("--momentum", type=float, help="Of momentum and nesterov.  [default: 0.9]"),
        click.option(
            "--optimizer",
            type=click.Choice(list(OPTIMIZERS)),
            default="sgd",
            show_default=True,
            help="Makes steps.",
        ),
        options.loss,
    ):
        command = option(command)
    return command


def chosen(
    *, optimizer: str, learning_rate: float | None, momentum: float | None, schedule: str, early_stopping: int | None
) -> dict[str, Any]:
    """Return these options as arguments of `train`; raises `ConfigurationError` for a momentum without use."""
    make, usual = OPTIMIZERS[optimizer]
    if momentum is not None and optimizer not in WITH_MOMENTUM:
        raise ConfigurationError(f"found --momentum with the optimizer {optimizer}, expected momentum or nesterov")
    return {
        "optimizer": make(0.9 if momentum is None else momentum) if optimizer in WITH_MOMENTUM else make(),
        "learning_rate": usual if learning_rate is None else learning_rate,
        "schedule": SCHEDULES[schedule],
        "early_stopping": None if early_stopping is None else EarlyStopping(early_stopping),
    }
