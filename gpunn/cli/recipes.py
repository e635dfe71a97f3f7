"""Options of `gpunn train` for the network and the training algorithm."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from gpunn.activations import HIDDEN
from gpunn.cli import options
from gpunn.errors import ConfigurationError
from gpunn.optimizers import OPTIMIZERS, SGD, Optimizer
from gpunn.recipes import FUNCTIONS, RECIPES, NamedRecipe

Command = TypeVar("Command", bound=Callable[..., Any])

WITH_MOMENTUM = ("momentum", "nesterov")


RECIPES_IN_WORDS = "\n".join(
    [
        "\b",
        "Recipes, with the test errors that were published:",
        *(f"  {name:14} {each.about}" for name, each in RECIPES.items()),
    ]
)
"""For the end of the help: a line each."""


def _use(ctx: click.Context, param: click.Parameter, name: str | None) -> None:  # noqa: ARG001
    """Make the numbers of the recipe `name` the defaults of the options."""
    if name is not None:
        ctx.default_map = {**(ctx.default_map or {}), **_as_options(RECIPES[name])}


def _as_options(recipe: NamedRecipe) -> dict[str, Any]:
    """Return the values of the options of `gpunn train` that are equivalent to the recipe, by parameter."""
    network = {"activation": FUNCTIONS["hidden"], "output_activation": FUNCTIONS["output"], "init": FUNCTIONS["init"]}
    sizes = {"hidden": ",".join(map(str, recipe.hidden)), "pad": "{}x{}".format(*recipe.shape)}
    return {**network, **sizes, **recipe.training}


def fitting(learning_rate: float | None) -> float | None:
    """Return the learning rate; None, for one that fits, if it is a recipe's but the loss or the steps are others."""
    source = click.get_current_context().get_parameter_source
    others = [source(name) for name in ("optimizer", "momentum", "loss")]
    of_recipe = source("learning_rate") is click.core.ParameterSource.DEFAULT_MAP
    return None if of_recipe and click.core.ParameterSource.COMMANDLINE in others else learning_rate


recipe_option = click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    callback=_use,
    expose_value=False,
    is_eager=True,
    help="Network and training of this recipe, see below; other options change it.",
)


def network_options(command: Command) -> Command:
    """Add the options of `MLP` other than its sizes."""
    for option in (
        options.init,
        options.output_activation,
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
    """Add the options of `train` other than learning rate, batch size and epochs."""
    for option in (
        click.option(
            "--early-stopping",
            type=int,
            metavar="EPOCHS",
            help="Stop after this many epochs without improvement on a held-out tenth of the training images.",
        ),
        click.option(
            "--dropout", type=float, default=0.0, show_default=True, help="Fraction of hidden activations to drop."
        ),
        click.option(
            "--label-smoothing",
            type=float,
            default=0.0,
            show_default=True,
            help="Fraction of each class's target to spread over all classes.",
        ),
        click.option(
            "--max-norm",
            type=float,
            default=0.0,
            show_default=True,
            help="Largest norm of the weights into a hidden neuron; 0 for no limit.",
        ),
        click.option(
            "--average",
            type=float,
            metavar="SHARE",
            help="Average the weights over the last epochs, this share of all.",
        ),
        options.schedule,
        click.option("--l2", type=float, default=0.0, show_default=True, help="L2 penalty; with adamw, weight decay."),
        click.option("--momentum", type=float, help="Momentum of --optimizer momentum or nesterov.  [default: 0.9]"),
        click.option(
            "--optimizer",
            type=click.Choice(list(OPTIMIZERS)),
            default="sgd",
            show_default=True,
            help="Optimiser.",
        ),
        options.loss,
    ):
        command = option(command)
    return command


def optimizer_with(name: str, momentum: float | None) -> Optimizer:
    """Return the optimiser `name`; raises `ConfigurationError` if it takes no `momentum` and one is given."""
    optimizer = OPTIMIZERS[name]
    if momentum is None:
        return optimizer
    if not isinstance(optimizer, SGD) or name not in WITH_MOMENTUM:
        raise ConfigurationError(f"--momentum needs --optimizer {' or '.join(WITH_MOMENTUM)}, got {name}")
    return replace(optimizer, momentum=momentum)
