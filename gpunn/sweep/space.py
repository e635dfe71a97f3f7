"""What a sweep tries: values and ranges of each setting, in every combination or drawn at random."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Self, final

import numpy as np

from gpunn.activations import HIDDEN
from gpunn.checks import check_number, check_whole
from gpunn.errors import ConfigurationError
from gpunn.optimizers import OPTIMIZERS

MOST = 10_000
"""Maximum number of networks in a sweep."""

LINEAR = ("dropout", "seed")
"""Settings whose ranges are drawn from uniformly; the others are drawn so that their logarithm is uniform."""

DRAWN = 3
"""Second seed component of the generator of samples; held-out examples have 1, dropout has 2."""

LEAST = {"hidden": 1, "batch_size": 1, "seed": 0}
"""Settings that are integers, and the smallest one of each."""

WITH_DEFAULT = ("learning_rate", "batch_size")
"""Settings of which None is the default."""

IN_VAIN = 1000
"""Draws in a row that may repeat earlier ones before there count as no others."""

DIGITS = 3
"""Significant digits of drawn numbers that aren't integers: fit to be typed again."""


@final
@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included: integers if both are.

    Raises `ConfigurationError` unless `low` is at most `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        for end in (self.low, self.high):
            check_number("an end of a range", end)
        if self.low > self.high:
            raise ConfigurationError(f"a range must go up, such as {self.high}..{self.low}, got {self}")

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"

    @property
    def is_whole(self) -> bool:
        """Whether it consists of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, rng: np.random.Generator, *, linear: bool) -> float:
        """Return a number of the range, drawn uniformly, or with a uniform logarithm."""
        if linear and self.is_whole:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        share = rng.random()
        if linear:
            found = self.low + share * (self.high - self.low)
        else:
            # Integers get half a step more at both ends, so that these are as likely as their neighbours.
            reach = 0.5 if self.is_whole else 0.0
            low, high = math.log(self.low - reach), math.log(self.high + reach)
            found = math.exp(low + share * (high - low))
        found = round(found) if self.is_whole else float(f"{found:.{DIGITS}g}")
        return min(max(found, self.low), self.high)


@final
@dataclass(frozen=True)
class Configuration:
    """The settings of one network of a sweep.

    `activation` is empty if there is no hidden layer. Equal configurations make equal networks.
    """

    hidden: tuple[int, ...]
    activation: str
    optimizer: str
    learning_rate: float
    batch_size: int
    l2: float
    dropout: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON types."""
        return asdict(self) | {"hidden": list(self.hidden)}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Self:
        """Return the configuration from the output of `to_dict`, or of more than that; raises `KeyError`."""
        values = {field.name: found[field.name] for field in fields(cls)}
        return cls(**values | {"hidden": tuple(values["hidden"])})


class Choice(NamedTuple):
    """Settings as a space offers them: a learning rate or a batch size that is None is the default one."""

    hidden: tuple[int, ...]
    activation: str
    optimizer: str
    learning_rate: float | None
    batch_size: int | None
    l2: float
    dropout: float
    seed: int


Complete = Callable[[Choice], Configuration]
"""Replaces defaults by what they are for the network, and what makes no difference by one value."""


@final
@dataclass(frozen=True)
class Space:
    """The values of each setting that a sweep tries, and the ranges that it draws from.

    `hidden` has the sizes of the hidden layers of each kind of network; a `Range` in place of a size is drawn from.
    The other settings are those of `gpunn.MLP` and `gpunn.train`; None is the default learning rate or batch size.
    Lists may be NumPy's; all are stored as tuples.

    Raises `ConfigurationError` for a setting without values, and for invalid ones.
    """

    hidden: Sequence[Sequence[int | Range]] = ((16,),)
    activation: Sequence[str] = ("sigmoid",)
    optimizer: Sequence[str] = ("sgd",)
    learning_rate: Sequence[float | Range | None] = (None,)
    batch_size: Sequence[int | Range | None] = (None,)
    l2: Sequence[float | Range] = (0.0,)
    dropout: Sequence[float | Range] = (0.0,)
    seed: Sequence[int | Range] = (0,)

    def __post_init__(self) -> None:
        for name, values in self._axes():
            object.__setattr__(self, name, _listed(name, values, inside=name == "hidden"))
        for name, values in self._axes():
            if not values:
                raise ConfigurationError(f"{name} must have at least one value, got none")
        for name, known in (("activation", HIDDEN), ("optimizer", tuple(OPTIMIZERS))):
            for value in getattr(self, name):
                if value not in known:
                    raise ConfigurationError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for name, values in self._axes():
            for value in itertools.chain(*values) if name == "hidden" else values:
                _check(name, value)

    def _axes(self) -> Iterator[tuple[str, Sequence[Any]]]:
        for field in fields(self):
            yield field.name, getattr(self, field.name)

    def to_dict(self) -> dict[str, list[str]]:
        """Return the space as JSON types, as the command line spells it."""
        return {name: [_spelled(value) for value in values] for name, values in self._axes()}

    def configurations(self, complete: Complete, *, sample: int | None = None, seed: int = 0) -> list[Configuration]:
        """Return every combination, or at most `sample` of them drawn with `seed`, each once.

        Raises `ConfigurationError` if there would be more than `MOST`, or if there are ranges (other than of seeds)
        and no sample is asked for.
        """
        if sample is not None:
            check_whole("sample", sample, 1)
            if sample > MOST:
                raise ConfigurationError(f"a sample must be of at most {MOST:,} networks, got {sample:,}")
            if self._range() is not None or self.n_combinations > sample:
                return self._sample(complete, sample, seed)
        elif (found := self._range()) is not None:
            raise ConfigurationError(f"{found} is a range: give values, or the number of networks to draw (--sample N)")
        elif self.n_combinations > MOST:
            raise ConfigurationError(
                f"{self.n_combinations:,} combinations are more than {MOST:,}: give fewer values, or the number of "
                "networks to draw (--sample N)"
            )
        return list(dict.fromkeys(map(complete, self._grid())))

    @property
    def n_combinations(self) -> int:
        """Number of combinations of all values, those of ranges of seeds included, and other ranges counted as one."""
        seeds = sum(1 + int(max(_ends(seed)) - min(_ends(seed))) for seed in self.seed)
        return seeds * math.prod(len(values) for name, values in self._axes() if name != "seed")

    def _range(self) -> str | None:
        """Return the first range that isn't one of seeds, with the setting's name, or None."""
        for name, values in self._axes():
            for value in values if name != "seed" else ():
                if any(isinstance(part, Range) for part in (value if name == "hidden" else (value,))):
                    return f"{name} {_spelled(value)}"
        return None

    def _grid(self) -> Iterator[Choice]:
        lists = {name: list(values) for name, values in self._axes()}
        lists["seed"] = [seed for each in self.seed for seed in range(int(min(_ends(each))), int(max(_ends(each))) + 1)]
        return itertools.starmap(Choice, itertools.product(*lists.values()))

    def _sample(self, complete: Complete, sample: int, seed: int) -> list[Configuration]:
        rng = np.random.default_rng((seed, DRAWN))
        found: dict[Configuration, None] = {}
        in_vain = 0
        while len(found) < sample and in_vain < IN_VAIN:
            before = len(found)
            found[complete(self._draw(rng))] = None
            in_vain = in_vain + 1 if len(found) == before else 0
        return list(found)

    def _draw(self, rng: np.random.Generator) -> Choice:
        drawn: dict[str, Any] = {}
        for name, values in self._axes():
            value = values[int(rng.integers(len(values)))]
            parts = [
                part.draw(rng, linear=name in LINEAR) if isinstance(part, Range) else part
                for part in (value if name == "hidden" else (value,))
            ]
            drawn[name] = tuple(parts) if name == "hidden" else parts[0]
        return Choice(**drawn)


def _listed(name: str, values: Any, *, inside: bool) -> tuple[Any, ...]:
    """Return the values of a setting as a tuple, of tuples if `inside`, with Python's own numbers, as JSON needs them.

    Raises `ConfigurationError` for what isn't a list.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        example = "a list of lists, such as [[16], [100, 50]]" if name == "hidden" else "a list of values"
        raise ConfigurationError(f"{name} must be {example}, got {values!r}")
    if inside:
        return tuple(_listed(name, each, inside=False) for each in values)
    return tuple(each.item() if isinstance(each, np.generic) else each for each in values)


def _check(name: str, value: Any) -> None:
    """Raise `ConfigurationError` unless a setting's number, or both ends of its range, are valid."""
    if value is None and name in WITH_DEFAULT:
        return
    for end in _ends(value):
        if name in LEAST:
            check_whole("layer size" if name == "hidden" else name, end, LEAST[name])
        elif name == "dropout":
            check_number(name, end, least=0, below=1)
        elif name == "learning_rate":
            check_number(name, end, above=0)
        elif name == "l2" and isinstance(value, Range):  # whose logarithm is drawn
            check_number("an end of a range of l2", end, above=0)
        elif name == "l2":
            check_number(name, end, least=0)


def _ends(value: float | Range) -> tuple[float, ...]:
    """Return the ends of a range, or the number itself."""
    return (value.low, value.high) if isinstance(value, Range) else (value,)


def _spelled(value: Any) -> str:
    """Return a value as the command line spells it."""
    if value is None:
        return "default"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)
