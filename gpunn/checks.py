"""Checks of arguments, shared by several modules."""

import math

import numpy as np

from gpunn.errors import ConfigurationError


def check_whole(name: str, value: object, lowest: int) -> None:
    """Raise `ConfigurationError` unless `value` is an integer of at least `lowest`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
        raise ConfigurationError(f"{name} must be an integer >= {lowest}, got {value!r}")


def check_number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Raise `ConfigurationError` unless `value` is finite, in [`least`, `most`] and strictly in (`above`, `below`)."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    if least <= number <= most and above < number < below and math.isfinite(number):
        return
    bounds = [f">= {least:g}"] if least > -math.inf else []
    bounds += [f"> {above:g}"] if above > -math.inf else []
    bounds += [f"< {below:g}"] if below < math.inf else []
    bounds += [f"<= {most:g}"] if most < math.inf else []
    rule = f" {' and '.join(bounds)}" if bounds else ""
    raise ConfigurationError(f"{name} must be a finite number{rule}, got {value!r}")
