"""Checks that several modules make of their arguments."""

import numpy as np

from gpunn.errors import ConfigurationError


def check_whole(name: str, value: object, lowest: int) -> None:
    """Raise `ConfigurationError` where `value` isn't an integer of `lowest` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
        raise ConfigurationError(f"found {name} {value!r}, expected a whole number of {lowest} or more")
