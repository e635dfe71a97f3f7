"""What a training is to be: its arguments, checked, and what they say of examples, engines and evaluations."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from gpunn.averaging import Averaging, averaging_for
from gpunn.backends import Backend
from gpunn.checkpoints import hashes_of, run_of
from gpunn.checks import check_number, check_whole
from gpunn.datasets.split import Dataset, Split, check_alike, check_fits
from gpunn.defaults import default_batch_size, default_learning_rate
from gpunn.distortion import Distortion, distortion_for, shape_to_distort
from gpunn.distributed import Ranks
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import PRECISIONS, Engine, Examples, Parameters, Recipe, choose_engine
from gpunn.engines.devices import Job
from gpunn.engines.distorting import Distorted
from gpunn.errors import ConfigurationError
from gpunn.evaluation import Evaluation, evaluate_on_device, inputs_on_device
from gpunn.losses import loss_for, smoothed
from gpunn.network import MLP
from gpunn.optimizers import Optimizer, optimizer_for
from gpunn.schedules import Schedule, schedule_for

TRAIN_SAMPLE = 10_000
"""Number of training examples, evenly spaced, for the training accuracy after each epoch."""


Evaluator = Callable[[Parameters], Evaluation | None]
"""Evaluates parameters on some examples; without examples it returns None."""


class Evaluators(NamedTuple):
    """Evaluators of the test examples, of a sample of the training examples, and of those held out."""

    test: Evaluator
    train: Evaluator
    held_out: Evaluator


class Division(NamedTuple):
    """The examples to train on, and those held out for early stopping."""

    split: Split
    held_out: Split | None


@dataclass(frozen=True)
class Plan:
    """How a network is to be trained, checked. `suited` is the learning rate that suits it.

    It holds no copy of the examples: see `divide`.
    """

    net: MLP
    data: Split
    """All examples, those held out included."""
    epochs: int
    recipe: Recipe
    suited: float
    test: Split | None
    engine: str
    early_stopping: EarlyStopping | None
    ranks: Ranks | None = None
    """The processes that train it together."""

    def over(self, ranks: Ranks) -> "Plan":
        """Return this plan for `ranks`; raises `ConfigurationError` if theirs differ, or have too little to do."""
        net, split = self.net, self.data
        splits = [split] if self.test is None else [split, self.test]
        arrays = ((*net.weights, *net.biases), [array for each in splits for array in (each.images, each.labels)])
        settings = (
            *(net.functions, self.epochs, self.recipe, self.early_stopping, self.test is None, self.engine),
            ranks.average_every,
        )
        ranks.check_alike(network=arrays[0], examples=arrays[1], settings=settings)
        ranks.check_enough(self.n, self.recipe.batch_size)
        if self.recipe.distort is not None and ranks.average_every is not None:
            raise ConfigurationError("distort needs ranks that share batches: choose it or average_every")
        return replace(self, ranks=ranks)

    @property
    def start(self) -> Parameters:
        """The network's parameters."""
        return Parameters(self.net.weights, self.net.biases, self.net.functions)

    def run(self, hashes: Mapping[str, str | None] | None = None) -> dict[str, Any]:
        """Return what a checkpoint, and a training that goes on from it, have in common, in JSON types.

        `hashes` are those of the examples, if they are known.
        """
        hashes = hashes or hashes_of(self.data, self.test)
        found, ranks = run_of(self.net, self.recipe, self.early_stopping, hashes), self.ranks
        if ranks is not None and ranks.average_every is not None:  # which makes another network
            found |= {"average_every": ranks.average_every, "ranks": ranks.size}
        return found

    @property
    def n(self) -> int:
        """Number of examples to train on."""
        n, rule = len(self.data), self.early_stopping
        return n if rule is None else n - rule.n_held_out(n)

    def divide(self) -> Division:
        """Return the examples to train on and those held out: with early stopping copies, otherwise all and none."""
        if self.early_stopping is None:
            return Division(self.data, None)
        return Division(*self.early_stopping.divide(self.data, self.recipe.seed))

    def examples(self, division: Division) -> Examples:
        """Return the training examples, on the host."""
        split, net = division.split, self.net
        return Examples(split.inputs(net.dtype), self.targets(split))

    def targets(self, split: Split) -> NDArray[Any]:
        """Return the targets of `split` to train on."""
        dtype, n_outputs, share = self.net.dtype, self.net.sizes[-1], self.recipe.label_smoothing
        targets = split.targets(dtype, n_outputs)
        return smoothed(targets, n_outputs, share, dtype) if share else targets

    def distorted(self, division: Division) -> Distorted | None:
        """Return how the examples to train on are distorted, or None if they aren't."""
        split, distortion = division.split, self.recipe.distort
        if distortion is None:
            return None
        return Distorted(distortion, shape_to_distort(split), distortion.ease(split), self.recipe.seed)

    def job(self, examples: Examples) -> Job:
        """Return what the choice of a device needs to know."""
        return Job(self.start, examples, self.recipe, self.engine, self.epochs)

    def evaluators(self, backend: Backend, engine: type[Engine], division: Division) -> Evaluators:
        """Return the evaluations after each epoch of `engine`, with their examples on the device of `backend`."""
        split, held_out = division
        sample = None if self.test is None else _sample(split)
        with backend.activate():
            # Only compiled engines for CPUs have threads of their own.
            evaluator = partial(
                _evaluator, backend, self.net, loss=self.recipe.loss, compiled=engine.own_threads, ranks=self.ranks
            )
            return Evaluators(*map(evaluator, (self.test, sample, held_out)))

    def engine_on(self, backend: Backend, examples: Examples, preferred: str | None = None) -> type[Engine]:
        """Return the engine that trains this on `backend`: for "auto" the `preferred` one, if it can be used.

        Raises the errors of `choose_engine`.
        """
        choose = choose_engine if self.ranks is None else self.ranks.choose_engine
        with backend.activate():
            if self.engine == "auto" and preferred is not None:
                with suppress(ConfigurationError):
                    return choose(preferred, backend, self.start, self.recipe, examples)
            return choose(self.engine, backend, self.start, self.recipe, examples)


def plan_for(
    net: MLP,
    data: Split | Dataset,
    *,
    epochs: int,
    batch_size: int | None,
    learning_rate: float | None,
    test: Split | None,
    engine: str,
    precision: str,
    loss: str | None,
    optimizer: str | Optimizer,
    l2: float,
    schedule: str | Schedule,
    dropout: float,
    early_stopping: EarlyStopping | None,
    seed: int,
    distort: str | Distortion | None = None,
    label_smoothing: float = 0.0,
    average: float | Averaging | None = None,
    max_norm: float = 0.0,
) -> Plan:
    """Return the plan for the arguments of `train`; raises `ConfigurationError` and `DataError` as that does."""
    if not isinstance(net, MLP):
        raise ConfigurationError(f"net must be an MLP, got {type(net).__name__}")
    net.check()
    if isinstance(data, Dataset):
        split, test = data.train, data.test if test is None else test
    else:
        split = data
    check_fits(split, net.sizes)
    if test is not None:
        check_fits(test, net.sizes)
        check_alike(split, test)
    check_whole("epochs", epochs, 1)
    check_whole("seed", seed, 0)
    n = len(split)
    if dropout and len(net.sizes) == 2:
        raise ConfigurationError("dropout needs at least one hidden layer")
    if max_norm and len(net.sizes) == 2:
        raise ConfigurationError("max_norm needs at least one hidden layer")
    if early_stopping is not None:
        if not isinstance(early_stopping, EarlyStopping):
            raise ConfigurationError(f"early_stopping must be a gpunn.EarlyStopping, got {early_stopping!r}")
        n -= early_stopping.n_held_out(n)
    if label_smoothing and not split.labeled:
        raise ConfigurationError("label_smoothing needs labels that are classes, got rows of targets")
    distortion = distortion_for(distort)
    if distortion is not None:
        shape_to_distort(split)
        distortion.ease(split)
    optimizer, loss = optimizer_for(optimizer), loss_for(net.functions[-1], loss)
    suited = default_learning_rate(net.sizes, net.functions, loss, optimizer)
    recipe = _checked_recipe(
        Recipe(
            default_batch_size(n) if batch_size is None else batch_size,
            suited if learning_rate is None else learning_rate,
            precision,
            loss,
            optimizer,
            l2=l2,
            dropout=dropout,
            seed=seed,
            schedule=schedule_for(schedule),
            distort=distortion,
            label_smoothing=label_smoothing,
            average=averaging_for(average),
            max_norm=max_norm,
        ),
        n,
    )
    return Plan(net, split, epochs, recipe, suited, test, engine, early_stopping)


def _sample(split: Split) -> Split:
    """Return `TRAIN_SAMPLE` of the examples, or all if there are fewer."""
    return split[:: -(-len(split) // TRAIN_SAMPLE)]


def _evaluator(
    backend: Backend, net: MLP, split: Split | None, *, loss: str, compiled: bool, ranks: Ranks | None
) -> Evaluator:
    """Return a function that evaluates parameters on `split`, kept on the device; it returns None without a split.

    Of `ranks`, each keeps a part of the labeled examples, and all get the result of the whole.
    """
    if split is None:
        return lambda _: None
    if ranks is not None and split.labeled and ranks.size <= len(split):
        part = split[ranks.own(slice(0, len(split)))]
        own = _evaluator(backend, net, part, loss=loss, compiled=compiled, ranks=None)
        return ranks.evaluator(own, len(part), len(split))
    images = inputs_on_device(backend, split.inputs(net.dtype), compiled=compiled)
    labels = backend.asarray(split.targets(net.dtype, net.sizes[-1]))
    found = split.classes
    classes = None if found is None else backend.asarray(found)
    return lambda parameters: evaluate_on_device(backend, parameters, images, labels, loss, classes=classes)


def _checked_recipe(recipe: Recipe, n_images: int) -> Recipe:
    if recipe.batch_size > n_images:
        raise ConfigurationError(
            f"batch_size must be at most {n_images}, the number of training examples, got {recipe.batch_size}"
        )
    check_number("learning_rate", recipe.learning_rate, above=0)
    check_number("l2", recipe.l2, least=0)
    check_number("dropout", recipe.dropout, least=0, below=1)
    check_number("max_norm", recipe.max_norm, least=0)
    if recipe.max_norm and not 1e-15 <= recipe.max_norm <= 1e15:  # its square has to be a float32
        raise ConfigurationError(f"max_norm must be 0, or from 1e-15 to 1e15, got {recipe.max_norm}")
    check_number("label_smoothing", recipe.label_smoothing, least=0, below=1)
    if recipe.precision not in PRECISIONS:
        raise ConfigurationError(f"precision must be {' or '.join(PRECISIONS)}, got {recipe.precision!r}")
    # A NumPy scalar would promote float32 arrays to float64.
    return replace(
        recipe,
        batch_size=int(recipe.batch_size),
        learning_rate=float(recipe.learning_rate),
        l2=float(recipe.l2),
        dropout=float(recipe.dropout),
        label_smoothing=float(recipe.label_smoothing),
        max_norm=float(recipe.max_norm),
        seed=int(recipe.seed),
    )
