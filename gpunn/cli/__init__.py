"""The command line: gpunn train | evaluate | predict | devices."""

import os
import sys
from collections.abc import Sequence

import click

import gpunn
from gpunn.cli import inspection
from gpunn.cli.interruption import INTERRUPTED
from gpunn.cli.train import train as train_command
from gpunn.errors import GpunnError


@click.group()
@click.version_option(gpunn.__version__, prog_name="gpunn")
def gpunn_command() -> None:
    """Train multi-layer perceptrons on MNIST, on the CPU or a CUDA GPU."""


for _command in (train_command, inspection.evaluate, inspection.predict, inspection.devices):
    gpunn_command.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 when done, 2 with one line on stderr for bad input, 130 after Ctrl-C."""
    try:
        code = gpunn_command.main(arguments, prog_name="gpunn", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as request:
        click.echo(request.ctx.get_help())
        sys.exit(0)
    except click.ClickException as error:
        _fail(error.format_message())
    except GpunnError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"out of memory ({error}): choose a smaller network, batch or picture")
    except (click.Abort, KeyboardInterrupt):
        click.echo("gpunn: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        # What is still to be written would fail again when Python ends, and louder.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader has seen enough
            sys.exit(1)
        _fail(f"cannot write the output: {error.strerror or error}")
    sys.exit(code or 0)


def _fail(message: str) -> None:
    click.echo(f"gpunn: {' '.join(message.split())}", err=True)
    sys.exit(2)
