"""`gpunn tune`: measure how fast this machine is."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
from rich.console import Console

from gpunn import tuning
from gpunn.backends.limits import usable_cores
from gpunn.cli import options
from gpunn.cli.screen import Screen
from gpunn.cli.signals import Interruptible, exit_code
from gpunn.engines import tuned
from gpunn.engines.speed import BUILT_IN, constants
from gpunn.printing import printable


@click.command()
@click.option("--show", is_flag=True, help="Print what was measured before, and measure nothing.")
@click.option("--reset", is_flag=True, help="Remove what was measured; built-in constants apply again.")
@options.as_json
def tune(show: bool, reset: bool, as_json: bool) -> None:
    """Measure how fast this machine is, and keep it for --device auto and --engine auto.

    Takes less than a minute, on a machine that does nothing else. Writes one file, in the user's folder for settings.
    """
    if show and reset:
        raise click.UsageError("--show and --reset can't be combined")
    place: Path | None = tuned.path()
    if reset:
        said = "removed" if tuned.forget() else "there is no"
        values: Mapping[str, float] = {}
    elif show:
        with Screen(err=True, names=(tuned.__name__,)):  # says why a file isn't used
            values, said = tuned.measured(), ""
    else:
        place = tuned.writable_path()
        found = _measured()
        tuned.keep(found.values, found.gpu)
        values, said = found.values, "written to"
    if as_json:
        click.echo(json.dumps(_document(place, values)))
        return
    if not reset:
        for line in _table(values):
            click.echo(line)
    if said:
        click.echo(f"{said} {printable(place or 'file')}")


def _measured() -> tuning.Measurements:
    """Measure; a line on a terminal says what, and another one if the results will be poor."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > usable_cores() / 2:
        click.echo(f"gpunn: other programs are busy (load {load:.1f}): run gpunn tune again when they aren't", err=True)
    with Interruptible() as interruptible, Console(stderr=True).status("measuring") as status:
        try:
            return tuning.measure(lambda step: status.update(f"measuring {step}"))
        except (KeyboardInterrupt, Exception):
            # During compilation, an interrupt surfaces as a compiler error.
            if interruptible.signal is None:
                raise
            interruptible.heeded = False
    click.echo("gpunn: interrupted", err=True)
    raise click.exceptions.Exit(exit_code(interruptible.signal))


def _document(place: Path | None, values: Mapping[str, float]) -> dict[str, object]:
    rows = {
        name: {
            "unit": constant.unit,
            "built_in": constant.value,
            "source": constant.source,
            "measured": values.get(name),
        }
        for name, constant in constants(BUILT_IN).items()
    }
    return {"file": None if place is None else str(place), "tuned": bool(values), "constants": rows}


def _table(values: Mapping[str, float]) -> Iterator[str]:
    yield f"{'constant':22}{'unit':>8}{'built in':>12}{'here':>12}"
    for name, constant in constants(BUILT_IN).items():
        reckoned = "*" if constant.source.startswith("reckoned") else " "
        here = _shown(values[name]) if name in values else "-"
        yield f"{name:22}{constant.unit:>8}{_shown(constant.value):>11}{reckoned}{here:>12}"
    yield "* reckoned, not measured; - not measured here: the built-in constant applies"


def _shown(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.10g}"
