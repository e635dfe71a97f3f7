"""Where `gpunn train` begins: with random weights, from a checkpoint, or with a trained network."""

from pathlib import Path

import click

from gpunn.checkpoint_file import is_checkpoint
from gpunn.checkpoints import Checkpoint
from gpunn.cli.data import data_for
from gpunn.datasets import Dataset
from gpunn.errors import ConfigurationError, OutputError
from gpunn.network import MLP
from gpunn.printing import printable

OF_NETWORKS = ("hidden", "activation", "output_activation", "init", "classes", "pad", "recipe")
"""Parameters that say what network is made."""


def checkpoint_for(path: Path | None, every: int | None, resume: Path | None, *, force: bool) -> Checkpoint | None:
    """Return where checkpoints are written, by default where `resume` reads one, or None if none are asked for.

    Raises `OutputError` if that is another training's checkpoint, unless it may be replaced by `force`.
    """
    path = path or resume
    if path is None:
        if every is not None:
            raise ConfigurationError("--every needs --checkpoint")
        return None
    same = resume is not None and path.resolve() == resume.resolve()
    if not same and not force and is_checkpoint(path):
        raise OutputError(
            f"{printable(path)} is a checkpoint: go on from it by --resume, choose another --checkpoint, or use --force"
        )
    return Checkpoint(path, 1 if every is None else every)


def network_from(model: Path, data_dir: Path | None) -> tuple[MLP, Dataset]:
    """Return the network to begin with, and what to train it on: by default the data set that it was trained on.

    Raises `ConfigurationError` if the command line also says what network is to be made.
    """
    context = click.get_current_context()
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "")
        if option.name in OF_NETWORKS and given is click.core.ParameterSource.COMMANDLINE:
            raise ConfigurationError(f"--from begins with the layers of its network: leave out {option.opts[0]}")
    net = MLP.load(model)
    return net, data_for(net, data_dir)
