"""Checks that several modules make of their arguments."""

import math

import numpy as np

from gpunn.errors import ConfigurationError


def check_whole(name: str, value: object, lowest: int) -> None:
    """Raise `ConfigurationError` where `value` isn't an integer of `lowest` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
        raise ConfigurationError(f"found {name} {value!r}, expected a whole number of {lowest} or more")


def check_number(
    name: str,
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Raise `ConfigurationError` where `value` isn't a finite number within these bounds; `least` and `most` are."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    if least <= number <= most and above < number < below and math.isfinite(number):
        return
    bounds = [f"of {least:g} or more"] if least > -math.inf else []
    bounds += [f"above {above:g}"] if above > -math.inf else []
    bounds += [f"below {below:g}"] if below < math.inf else []
    bounds += [f"up to {most:g}"] if most < math.inf else []
    raise ConfigurationError(f"found {name} {value!r}, expected a finite number {' and '.join(bounds)}")
