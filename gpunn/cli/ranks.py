"""Options of `gpunn train` for training over the processes of mpirun."""

import functools
from collections.abc import Callable
from typing import Any

import click

from gpunn.distributed import Ranks
from gpunn.distributed.mpi import world
from gpunn.errors import ConfigurationError, GpunnError

Command = Callable[..., int]


def over_ranks(command: Command) -> Command:
    """Add --distributed and --average-every to `command`, which gets `ranks`, or None without --distributed.

    An error of all ranks is that of the first one; that of some of them ends the others.
    """

    @click.option(
        "--distributed",
        is_flag=True,
        help="Train one network over the processes (ranks) that mpirun has started, as in mpirun -n 4 gpunn train "
        "--distributed; each computes its part of every batch, and the first one prints and saves.",
    )
    @click.option(
        "--average-every",
        type=int,
        metavar="N",
        help="With --distributed, let each rank make N steps on batches of its own, then take the mean of their "
        "weights: another way of training, for batches too small to pay for a message each.",
    )
    @functools.wraps(command)
    def run(*, distributed: bool, average_every: int | None, **options: Any) -> int:
        if not distributed:
            if average_every is not None:
                raise ConfigurationError("--average-every needs --distributed, and ranks started by mpirun")
            return command(ranks=None, **options)
        ranks = Ranks(world(), average_every=average_every)
        try:
            with ranks.ending_together(waiting=True):
                return command(ranks=ranks, **options)
        except (GpunnError, click.ClickException, MemoryError):
            if ranks.leads:
                raise
            return 2

    return run
