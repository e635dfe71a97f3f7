"""The command line: gpunn train | sweep | evaluate | info | predict | show | export | devices | tour | tune."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NoReturn

import click

import gpunn
from gpunn.cli import inspection
from gpunn.cli.export import export as export_command
from gpunn.cli.info import info as info_command
from gpunn.cli.predict import predict as predict_command
from gpunn.cli.show import show as show_command
from gpunn.cli.signals import Interruptible, exit_code, handlers_restored, number_of
from gpunn.cli.sweep import sweep as sweep_command
from gpunn.cli.tour import tour as tour_command
from gpunn.cli.train import train as train_command
from gpunn.cli.tune import tune as tune_command
from gpunn.cli.values import repeated
from gpunn.engines.stopping import Stopped
from gpunn.errors import GpunnError
from gpunn.printing import one_line


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gpunn.__version__, prog_name="gpunn")
@click.pass_context
def gpunn_command(context: click.Context) -> None:
    """Train multi-layer perceptrons on MNIST, on a CPU or a CUDA GPU."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    train_command,
    sweep_command,
    inspection.evaluate,
    info_command,
    predict_command,
    show_command,
    export_command,
    inspection.devices,
    tour_command,
    tune_command,
):
    gpunn_command.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 on success, 2 with one line on stderr for bad input, 130 after Ctrl-C.

    After SIGTERM it is 143, after SIGHUP 129. With `arguments`, the caller goes on running, and its signal handlers are
    restored. Without, an interrupted program ignores further signals until it exits.
    """
    with nullcontext() if arguments is None else handlers_restored(), Interruptible() as interruptible:
        _run(arguments, interruptible)


def _run(arguments: Sequence[str] | None, interruptible: Interruptible) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names may hold characters that the terminal can't encode: escape them.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = gpunn_command.main(repeated(gpunn_command, arguments), prog_name="gpunn", standalone_mode=False)
    except click.ClickException as error:
        _fail(error, error.format_message())
    except GpunnError as error:
        _fail(error, str(error))
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        _fail(error, f"out of memory{reason}: choose a smaller network, batch or picture")
    except (click.Abort, KeyboardInterrupt, Stopped) as error:
        _end_interrupted(error, interruptible)
    except OSError as error:
        # Flushing stdout at exit would fail again, with a traceback.
        if isinstance(sys.stdout, io.TextIOWrapper):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader closed the pipe, as `head` does
            sys.exit(1)
        _fail(error, f"cannot write the output: {error.strerror or error}")
    except Exception as error:
        # During compilation, an interrupt surfaces as a compiler error.
        if interruptible.signal is None:
            raise
        _end_interrupted(error, interruptible)
    sys.exit(code or 0)


def _end_interrupted(error: BaseException, interruptible: Interruptible) -> NoReturn:
    """Say that a signal ended the command, and exit with its code."""
    interruptible.heeded = False
    click.echo("gpunn: interrupted", err=True)
    sys.exit(exit_code(_number_of(error) or interruptible.signal or signal.SIGINT))


def _number_of(error: BaseException) -> int | None:
    """Return the number of the signal that an error is of; click raises another one from it."""
    return number_of(error if isinstance(error, KeyboardInterrupt) else error.__cause__)


def _fail(error: Exception, message: str) -> None:
    """Print `message` and the notes of `error` in one line on stderr, and exit with code 2."""
    parts = [message, *getattr(error, "__notes__", [])]
    click.echo(f"gpunn: {one_line('; '.join(parts))}", err=True)
    sys.exit(2)
