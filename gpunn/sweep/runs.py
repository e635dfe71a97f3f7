"""Training of a sweep's networks, group by group: what they have in common, and what is kept of each."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Self, final

from gpunn.activations import checked_functions
from gpunn.backends.limits import available_memory
from gpunn.checks import check_whole
from gpunn.datasets.split import Split
from gpunn.defaults import EPOCHS, default_batch_size, default_learning_rate
from gpunn.errors import ConfigurationError
from gpunn.evaluation import or_none
from gpunn.history import History
from gpunn.initialization import DIVISORS
from gpunn.losses import loss_for
from gpunn.many import train_many
from gpunn.network import MLP
from gpunn.optimizers import optimizer_for
from gpunn.schedules import schedule_for
from gpunn.sweep.space import Choice, Configuration

TOGETHER = 256
"""Maximum number of networks in a group."""

SHARE_OF_MEMORY = 1 / 16
"""Share of the memory that the parameters of a group may take; training takes a few times as much."""


@final
@dataclass(frozen=True)
class Shared:
    """What the networks of a sweep have in common: inputs, outputs, and settings of `gpunn.MLP` and `gpunn.train`.

    Raises `ConfigurationError` for invalid values.
    """

    n_inputs: int
    n_outputs: int
    epochs: int = EPOCHS
    output: str = "sigmoid"
    loss: str | None = None
    init: str = "scaled"
    schedule: str = "constant"

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 1)
        if self.init not in DIVISORS:
            raise ConfigurationError(f"init must be one of {', '.join(DIVISORS)}, got {self.init!r}")
        schedule_for(self.schedule)
        checked_functions((), self.output, 1)
        loss_for(self.output, self.loss)

    def sizes(self, configuration: Configuration | Choice) -> tuple[int, ...]:
        """Return the layer sizes of a configuration's network."""
        return (self.n_inputs, *configuration.hidden, self.n_outputs)

    def n_parameters(self, configuration: Configuration) -> int:
        """Return the number of weights and biases of a configuration's network."""
        sizes = self.sizes(configuration)
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))

    def network(self, configuration: Configuration) -> MLP:
        """Return a configuration's network, untrained."""
        sizes, hidden = self.sizes(configuration), [configuration.activation] * len(configuration.hidden)
        return MLP(sizes, hidden=hidden, output=self.output, init=self.init, seed=configuration.seed)

    def complete(self, choice: Choice, n_examples: int) -> Configuration:
        """Return the configuration of `choice`, to be trained on `n_examples`: see `gpunn.sweep.space.Complete`."""
        functions = [*[choice.activation] * len(choice.hidden), self.output]
        batch_size, rate = choice.batch_size, choice.learning_rate
        if batch_size is None:
            batch_size = default_batch_size(n_examples)
        elif batch_size > n_examples:
            raise ConfigurationError(
                f"batch_size must be at most {n_examples}, the number of training examples, got {batch_size}"
            )
        if rate is None:
            loss = loss_for(self.output, self.loss)
            rate = default_learning_rate(self.sizes(choice), functions, loss, optimizer_for(choice.optimizer))
        return Configuration(
            choice.hidden,
            choice.activation if choice.hidden else "",
            choice.optimizer,
            float(rate),
            batch_size,
            float(choice.l2),
            float(choice.dropout) if choice.hidden else 0.0,
            choice.seed,
        )


@final
@dataclass(frozen=True)
class Run:
    """The result of training one network: `number` counts the sweep's configurations from 1.

    Loss and accuracy are those of the last epoch, on the held-out examples and on (a sample of) the training examples;
    an accuracy is None where targets are no classes. `seconds` is the time of training without evaluation. `failure`
    says why a network has no figures: it diverged, after `epochs` epochs.
    """

    number: int
    configuration: Configuration
    n_parameters: int
    epochs: int
    held_out_accuracy: float | None
    held_out_loss: float | None
    train_accuracy: float | None
    train_loss: float | None
    seconds: float
    device: str
    engine: str
    failure: str | None = None

    @classmethod
    def of(cls, number: int, configuration: Configuration, net: MLP, history: History) -> Self:
        """Return the result of the training that `history` is of."""
        last = history.epochs[-1] if history.epochs and history.failure is None else None
        held_out, train = (None, None) if last is None else (last.test, last.train)
        return cls(
            number,
            configuration,
            net.n_parameters,
            len(history.epochs),
            None if held_out is None else or_none(held_out.accuracy),
            None if held_out is None else held_out.loss,
            None if train is None else or_none(train.accuracy),
            None if last is None else last.loss,
            sum(epoch.seconds for epoch in history.epochs),
            history.device,
            history.engine,
            history.failure,
        )

    @property
    def order(self) -> tuple[float, float, int]:
        """What runs are ranked by: held-out accuracy, then held-out loss, then their number; failed ones come last."""
        if self.held_out_loss is None:
            return math.inf, math.inf, self.number
        return -(self.held_out_accuracy or 0.0), self.held_out_loss, self.number

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON types."""
        names = [field.name for field in fields(self) if field.name not in {"number", "configuration"}]
        return {"number": self.number} | self.configuration.to_dict() | {name: getattr(self, name) for name in names}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Self:
        """Return the run from the output of `to_dict`; raises `KeyError` and `TypeError`."""
        kinds = {field.name: field.type for field in fields(cls) if field.name != "configuration"}
        for name, kind in kinds.items():
            if not isinstance(found[name], kind):  # type: ignore[arg-type]
                raise TypeError(f"found the {name} {found[name]!r}, expected {kind}")
        return cls(configuration=Configuration.from_dict(found), **{name: found[name] for name in kinds})


def ranked(runs: Sequence[Run]) -> list[Run]:
    """Return the runs, the best one first; see `Run.order`."""
    return sorted(runs, key=lambda run: run.order)


Numbered = tuple[int, Configuration]
"""A configuration with its number in the sweep."""


def groups(numbered: Sequence[Numbered], shared: Shared) -> Iterator[list[Numbered]]:
    """Yield the configurations in groups of as many as may be trained together, by number and memory."""
    most = int((available_memory() or 2**32) * SHARE_OF_MEMORY) // 4
    group: list[Numbered] = []
    parameters = 0
    for number, configuration in numbered:
        count = shared.n_parameters(configuration)
        if group and (len(group) == TOGETHER or parameters + count > most):
            yield group
            group, parameters = [], 0
        group.append((number, configuration))
        parameters += count
    if group:
        yield group


def train_group(
    group: Sequence[Numbered],
    shared: Shared,
    train: Split,
    held_out: Split,
    *,
    device: str = "auto",
    on_epoch: Callable[[int], None],
    on_end: Callable[[Run, MLP], None],
) -> None:
    """Train the networks of a group on `train`, and evaluate them on `held_out`.

    `on_epoch` is called with a network's number after each of its epochs, `on_end` with its result and the trained
    network; both one at a time, maybe from other threads. Raises the errors of `train_many`.
    """
    configurations = [configuration for _, configuration in group]
    nets = [shared.network(configuration) for configuration in configurations]

    def end(index: int, history: History) -> None:
        # An interrupted training has neither all its epochs nor a failure.
        if history.failure is not None or len(history.epochs) == shared.epochs:
            number, configuration = group[index]
            on_end(Run.of(number, configuration, nets[index], history), nets[index])

    train_many(
        nets,
        train,
        epochs=shared.epochs,
        batch_size=[configuration.batch_size for configuration in configurations],
        learning_rate=[configuration.learning_rate for configuration in configurations],
        optimizer=[configuration.optimizer for configuration in configurations],
        l2=[configuration.l2 for configuration in configurations],
        dropout=[configuration.dropout for configuration in configurations],
        seed=[configuration.seed for configuration in configurations],
        loss=shared.loss,
        schedule=shared.schedule,
        test=held_out,
        device=device,
        on_epoch=lambda index, _: on_epoch(group[index][0]),
        on_end=end,
    )
