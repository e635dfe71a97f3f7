"""Options that take several values, and ranges: `--learning-rate 0.1 0.3 1`, `--hidden 16 16..64,10`."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from gpunn.cli.options import layer_sizes
from gpunn.errors import ConfigurationError
from gpunn.sweep import Range

Number = TypeVar("Number", int, float)


def repeated(group: click.Group, arguments: Sequence[str] | None) -> Sequence[str] | None:
    """Return `arguments` as click takes them: with the option's name before each of its values.

    Only options of the command, the first argument, that may be repeated have several values; these end at the next
    option. None stands for the process's arguments, and is returned if there are no such options.
    """
    given = sys.argv[1:] if arguments is None else arguments
    command = group.commands.get(given[0]) if given else None
    options = [option for option in command.params if isinstance(option, click.Option)] if command else []
    several = {name for option in options if option.multiple for name in option.opts}
    if not several:
        return arguments
    spelled: list[str] = []
    option, value_follows = "", False
    for argument in given:
        if not value_follows and argument.startswith("-"):
            name, has_value, _ = argument.partition("=")
            option = name if name in several else ""
            value_follows = bool(option and not has_value)
        elif value_follows:
            value_follows = False
        elif option:
            spelled.append(option)
        spelled.append(argument)
    return spelled


def hidden_layers(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[int | Range, ...], ...]:
    """Parse each value as in "100,50" or "16..64,10"; raises `click.BadParameter`."""

    def parsed(value: str) -> tuple[int | Range, ...]:
        if ".." in value:
            return tuple(_number(ctx, param, int, size) for size in value.split(","))
        return tuple(layer_sizes(ctx, param, value))

    return tuple(map(parsed, values))


def numbers(
    number: type[Number],
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[Number | Range, ...]]:
    """Return a callback that parses each value as in "0.3" or "0.1..1"; raises `click.BadParameter`."""
    return lambda ctx, param, values: tuple(_number(ctx, param, number, value) for value in values)


def _number(ctx: click.Context, param: click.Parameter, number: type[Number], text: str) -> Number | Range:
    low, is_range, high = text.partition("..")
    try:
        return Range(number(low), number(high)) if is_range else number(text)
    except ConfigurationError:  # of a range that goes down
        raise
    except ValueError as error:
        kind, example = ("an integer", "16..64") if number is int else ("a number", "0.1..1")
        raise click.BadParameter(f"must be {kind}, or a range such as {example}, got {text!r}", ctx, param) from error
