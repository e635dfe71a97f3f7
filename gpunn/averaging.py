"""Averages of weights over epochs, which generalise better than the weights of the last one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from numpy.typing import NDArray

from gpunn.checks import check_number
from gpunn.errors import ConfigurationError

Arrays = list[NDArray[Any]]


@final
@dataclass(frozen=True)
class Averaging:
    """The network is the average of the parameters after each of the last epochs, a `share` of all, at least one.

    Without `decay` each counts the same. Source: Izmailov et al., "Averaging weights leads to wider optima and better
    generalization", 2018. With `decay`, d, it is an exponential moving average: a <- d a + (1 - d) w after each epoch.
    """

    share: float = 0.25
    decay: float | None = None

    def __post_init__(self) -> None:
        check_number("averaging share", self.share, above=0, most=1)
        if self.decay is not None:
            check_number("averaging decay", self.decay, least=0, below=1)

    def begins(self, epochs: int) -> int:
        """Return the number of the first of `epochs` that counts, from 1."""
        return 1 + epochs - max(1, round(self.share * epochs))

    def to_dict(self) -> dict[str, float]:
        """Return what is averaged, as JSON types."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def averaging_for(choice: float | Averaging | None) -> Averaging | None:
    """Return averaging of a share of the epochs, or `choice` itself; raises `ConfigurationError` for anything else."""
    if choice is None or isinstance(choice, Averaging):
        return choice
    if not isinstance(choice, int | float) or isinstance(choice, bool):
        raise ConfigurationError(f"average must be a share of the epochs or a gpunn.Averaging, got {choice!r}")
    return Averaging(choice)


@final
class Average:
    """The average of one training's parameters so far, which goes on from `mean` if that is given."""

    def __init__(self, rule: Averaging, epochs: int, mean: tuple[Arrays, Arrays] | None = None) -> None:
        self._decay, self._first, self._mean = rule.decay, rule.begins(epochs), mean

    @property
    def mean(self) -> tuple[Arrays, Arrays] | None:
        """The averages of weights and biases, or None before the first epoch that counts."""
        return self._mean

    def see(
        self, number: int, weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]]
    ) -> tuple[Arrays, Arrays]:
        """Record the parameters after epoch `number`, from 1; return new arrays with the average so far.

        Before the first epoch that counts, these are the parameters themselves.
        """
        latest = list(weights), list(biases)
        if number < self._first:
            return latest
        if self._mean is None:
            self._mean = latest
            return latest
        share = 1 / (1 + number - self._first) if self._decay is None else 1 - self._decay
        pairs = (zip(*arrays, strict=True) for arrays in zip(self._mean, latest, strict=True))
        mean_weights, mean_biases = ([mean + share * (new - mean) for mean, new in pair] for pair in pairs)
        self._mean = mean_weights, mean_biases
        return self._mean
