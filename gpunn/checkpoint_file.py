"""The file format of checkpoints: safetensors, with a description of the training in the metadata.

A file holds, for the last finished epoch:

    weights.0, biases.0, ...            the parameters, as in a model file
    moments.0.0, moments.0.1, ...       the optimiser's moments: of each, one array a parameter, see `OptimizerState`
    average.weights.0, ...              with averaging, the averages, from the first epoch on that counts
    best.weights.0, best.biases.0, ...  with early stopping, the best parameters, unless they are the last ones
    epochs                              float64 (n, 3): loss, seconds and images per second of each epoch
    test.losses, test.confusion         evaluations after each epoch, float64 (n,) and integers (n, classes, classes);
                                        likewise of `train`, and of those held out, `held_out`

and in its metadata, under "gpunn", a JSON object:

    checkpoint  format version, 1
    run         what is trained, on what, and how: a training that goes on has the same, see `gpunn.checkpoints`
    planned     number of epochs that were asked for
    where       device, engine, and what else rounding depends on
    epochs      number of finished epochs, from which the schedule and dropout go on
    steps       number of the optimiser's steps
    order       state of the generator of the examples' order, NumPy's PCG64
    best        with early stopping, the lowest loss, and the number of epochs since
    warnings    the history's
"""

import json
import math
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpunn.averaging import Arrays
from gpunn.early_stopping import Watched
from gpunn.engines.base import Parameters, Recipe
from gpunn.errors import ConfigurationError, ModelFileError
from gpunn.evaluation import Evaluation
from gpunn.files import open_file
from gpunn.history import Epoch, History
from gpunn.network import MLP
from gpunn.optimizers import OptimizerState
from gpunn.printing import printable

if TYPE_CHECKING:
    from safetensors import safe_open

FORMAT = 1
LONGEST = 400_000
"""Maximum length of the description in characters."""

EVALUATIONS = ("test", "held_out", "train")
"""Evaluations after an epoch, in the order of `Epoch`."""

COUNTS = (np.uint8, np.uint16, np.uint32)
"""Types of counts in confusion matrices: a file has the smallest that suffices."""

DTYPES = {"float32": "F32", "float64": "F64", "uint8": "U8", "uint16": "U16", "uint32": "U32"}
"""Names of dtypes in safetensors."""


class State(NamedTuple):
    """What the rest of a training depends on after a finished epoch; all arrays are on the host."""

    start: Parameters
    """The parameters, with the optimiser's state and the number of epochs."""
    order: Mapping[str, Any]
    """State of the generator of the examples' order."""
    watched: Watched | None
    """With early stopping, what it remembers."""
    mean: tuple[Arrays, Arrays] | None
    """With averaging, the averages of weights and biases, from the first epoch on that counts."""

    @property
    def latest(self) -> tuple[Arrays, Arrays]:
        """The weights and biases that were evaluated last: the averages, if there are any."""
        return (list(self.start.weights), list(self.start.biases)) if self.mean is None else self.mean


class Resumed(NamedTuple):
    """A training to go on with."""

    name: str
    """The file, for messages."""
    state: State
    epochs: list[Epoch]
    warnings: list[str]
    planned: int
    where: Mapping[str, str]

    @property
    def kept(self) -> tuple[Arrays, Arrays]:
        """The weights and biases that the network has now: the latest, or with early stopping the best."""
        watched = self.state.watched
        return self.state.latest if watched is None else watched.kept

    def changes(self, where: Mapping[str, str]) -> str:
        """Return how it goes on elsewhere than where it was begun, `where` being the same; "" if nothing changes."""
        changed = [what for what in where if where[what] != self.where.get(what)]
        before, now = (", ".join(each.get(what, "none") for what in changed) for each in (self.where, where))
        return f"was begun with {before}, and goes on with {now}" if changed else ""


def is_replaceable(path: str | bytes | os.PathLike[str]) -> bool:
    """Whether there is nothing at `path`, an empty file, or a checkpoint."""
    there = Path(os.fsdecode(path))
    return not there.exists() or there.stat().st_size == 0 or is_checkpoint(path)


def is_checkpoint(path: str | bytes | os.PathLike[str]) -> bool:
    """Whether there is a checkpoint at `path`, of whatever training and version."""
    from safetensors import SafetensorError, safe_open

    try:
        with open_file(path):  # checks that it is a readable file
            pass
        with safe_open(os.fsdecode(path), framework="numpy") as file:
            _description(printable(path), file)
    except (OSError, SafetensorError, ModelFileError):
        return False
    return True


def content(state: State, history: History, run: Mapping[str, Any], planned: int, where: Mapping[str, str]) -> bytes:
    """Return the content of a checkpoint."""
    from safetensors.numpy import save

    start, memory, watched = state.start, state.start.memory, state.watched
    assert memory is not None
    # The history may be an epoch ahead if a signal came in between.
    epochs = history.epochs[: start.epochs]
    arrays = _named("", start.weights, start.biases)
    for which, moments in enumerate(memory.moments):
        arrays |= {f"moments.{which}.{number}": moment for number, moment in enumerate(moments)}
    if state.mean is not None:
        arrays |= _named("average.", *state.mean)
    if watched is not None and watched.since:
        arrays |= _named("best.", *watched.kept)
    arrays["epochs"] = np.array([(epoch.loss, epoch.seconds, epoch.images_per_second) for epoch in epochs])
    for what in EVALUATIONS:
        arrays |= _evaluations(what, [getattr(epoch, what) for epoch in epochs])
    about = {
        "checkpoint": FORMAT,
        "run": run,
        "planned": planned,
        "where": where,
        "epochs": start.epochs,
        "steps": memory.steps,
        "order": state.order,
        "best": None if watched is None else {"loss": watched.best, "since": watched.since},
        "warnings": history.warnings,
    }
    # safetensors writes wrong data for arrays that aren't C-contiguous.
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"gpunn": json.dumps(about)})


def _named(prefix: str, weights: Any, biases: Any) -> dict[str, NDArray[Any]]:
    """Return parameters by the names of their arrays."""
    found = {f"{prefix}weights.{layer}": array for layer, array in enumerate(weights)}
    return found | {f"{prefix}biases.{layer}": array for layer, array in enumerate(biases)}


def _evaluations(what: str, found: list[Evaluation | None]) -> dict[str, NDArray[Any]]:
    """Return the evaluations after each epoch as arrays; none if there are none."""
    evaluations = [each for each in found if each is not None]
    if not evaluations:
        return {}
    confusion = np.stack([each.confusion for each in evaluations])
    dtype = next(
        dtype for dtype in COUNTS if confusion.max(initial=0) <= np.iinfo(dtype).max
    )  # examples fit into memory
    losses = np.array([each.loss for each in evaluations])
    return {f"{what}.losses": losses, f"{what}.confusion": confusion.astype(dtype)}


def read_checkpoint(
    path: str | bytes | os.PathLike[str], run: Mapping[str, Any], net: MLP, recipe: Recipe
) -> Resumed | None:
    """Return the training in the checkpoint at `path`, or None if there is no such file.

    `run` is what `run_of` returns for the training that is to go on, of the network `net` by `recipe`. Raises
    `ModelFileError` if the file is damaged, or no checkpoint, and `ConfigurationError` if it is of another training.
    """
    from safetensors import SafetensorError, safe_open

    name = printable(path)
    try:
        with open_file(path):  # checks that it is a readable file
            pass
        with safe_open(os.fsdecode(path), framework="numpy") as file:
            about = _description(name, file)
            _check_run(name, about.get("run"), run)
            return _Reader(name, file, about, net, recipe).read()
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        reason = printable(str(error)[:200])
        raise ModelFileError(f"{name} is not a whole safetensors file ({reason}): begin without it") from error
    except OSError as error:
        raise ModelFileError(f"cannot read {name}: {error.strerror or error}") from error


def _description(name: str, file: "safe_open") -> dict[str, Any]:
    """Return the description of a checkpoint; only its version is checked."""
    text = (file.metadata() or {}).get("gpunn", "")
    try:
        about = json.loads(text) if len(text) <= LONGEST else None
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or type(version := about.get("checkpoint")) is not int or version < 1:
        raise ModelFileError(f"{name} is not a checkpoint: use one that `gpunn train --checkpoint` has written")
    if version > FORMAT:
        raise ModelFileError(
            f"{name} is a checkpoint of version {reprlib.repr(version)}, this gpunn reads versions up to {FORMAT}: "
            "install a newer gpunn"
        )
    return about


def _check_run(name: str, found: object, run: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` unless `found` is the same run."""
    if not isinstance(found, dict):
        raise _damaged(name, "run", found)
    for what in [*run, *(key for key in found if key not in run)]:
        before, now = found.get(what), run.get(what)
        if before != now:
            was = f"was begun with {_short(what)} {_short(before)}, not {_short(now)}"
            raise ConfigurationError(f"{name} {was}: give what it was begun with, or begin without it")


def _short(value: object) -> str:
    return printable(value if isinstance(value, str) and len(value) < 50 else reprlib.repr(value))


def _damaged(name: str, what: str, found: object) -> ModelFileError:
    return ModelFileError(f"{name} is damaged, it has {reprlib.repr(found)} for its {what}: begin without it")


@final
class _Reader:
    """Reads and checks what is in a checkpoint of a training of `net`."""

    def __init__(self, name: str, file: "safe_open", about: Mapping[str, Any], net: MLP, recipe: Recipe) -> None:
        self._name, self._file, self._about, self._net = name, file, about, net
        self._recipe = recipe
        self._left = set(file.keys())

    def read(self) -> Resumed:
        """Return the training; raises `ModelFileError` if anything is missing, left over, or not as expected."""
        n_epochs, steps = (self._whole(what, self._about.get(what)) for what in ("epochs", "steps"))
        planned, best = self._whole("planned", self._about.get("planned")), self._about.get("best")
        weights, biases = self._parameters("")
        moments = tuple(
            [self._like(f"moments.{which}.{number}", array) for number, array in enumerate((*weights, *biases))]
            for which in range(self._recipe.optimizer.n_moments)
        )
        start = Parameters(weights, biases, self._net.functions, OptimizerState(steps, moments), epochs=n_epochs)
        average = self._recipe.average
        averaged = average is not None and n_epochs >= average.begins(planned)
        state = State(start, self._order(), None, self._parameters("average.") if averaged else None)
        if best is not None:
            state = state._replace(watched=self._watched(best, n_epochs, state.latest))
        epochs = self._epochs(n_epochs)
        if self._left:
            raise _damaged(self._name, "arrays", sorted(self._left))
        return Resumed(self._name, state, epochs, self._texts("warnings", list), planned, self._texts("where", dict))

    def _whole(self, what: str, found: object, most: int = 2**62, least: int = 1) -> int:
        if type(found) is not int or not least <= found <= most:
            raise _damaged(self._name, what, found)
        return found

    def _texts(self, what: str, kind: type) -> Any:
        found = self._about.get(what)
        if isinstance(found, kind) and isinstance(found, list | dict):
            values = found.values() if isinstance(found, dict) else found
            if all(isinstance(each, str) and each.isprintable() for each in values):
                return found
        raise _damaged(self._name, what, found)

    def _order(self) -> dict[str, Any]:
        """Return the state of the generator."""
        found = self._about.get("order")
        inner = found.get("state") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(inner, dict) or found.get("bit_generator") != "PCG64":
            raise _damaged(self._name, "order", found)
        state = {key: self._whole("order", inner.get(key), 2**128 - 1, 0) for key in ("state", "inc")}
        rest = {"has_uint32": 1, "uinteger": 2**32 - 1}
        own = {key: self._whole("order", found.get(key), most, 0) for key, most in rest.items()}
        return {"bit_generator": "PCG64", "state": state} | own

    def _watched(self, best: object, n_epochs: int, latest: tuple[Arrays, Arrays]) -> Watched:
        """Return what early stopping remembers."""
        loss = best.get("loss") if isinstance(best, dict) else None
        if not isinstance(best, dict) or not isinstance(loss, float) or not math.isfinite(loss):
            raise _damaged(self._name, "best", best)
        since = self._whole("best", best.get("since"), n_epochs - 1, 0)
        return Watched(loss, since, self._parameters("best.") if since else latest)

    def _parameters(self, prefix: str) -> tuple[Arrays, Arrays]:
        """Return weights and biases."""
        expected = _named(prefix, self._net.weights, self._net.biases)
        found = [self._like(name, array) for name, array in expected.items()]
        return found[: len(self._net.weights)], found[len(self._net.weights) :]

    def _epochs(self, n: int) -> list[Epoch]:
        figures = self._array("epochs", (n, 3), np.float64)
        found = [self._evaluations(what, n) for what in EVALUATIONS]
        return [
            Epoch(number, *row, *evaluations)
            for number, (row, *evaluations) in enumerate(zip(figures.tolist(), *found, strict=True), 1)
        ]

    def _evaluations(self, what: str, n: int) -> list[Evaluation | None]:
        if f"{what}.losses" not in self._left:
            return [None] * n
        losses, name = self._array(f"{what}.losses", (n,), np.float64), f"{what}.confusion"
        shape = (n, max(2, self._net.n_outputs), max(2, self._net.n_outputs))
        if name in self._left and 0 in self._file.get_slice(name).get_shape():
            shape = (n, 0, 0)  # rows of targets that encode no classes
        counts = self._array(name, shape, *COUNTS).astype(np.int64)
        if counts.size and not counts.sum(axis=(1, 2)).all():
            raise _damaged(self._name, name, "no examples")
        return [Evaluation(loss, matrix) for loss, matrix in zip(losses.tolist(), counts, strict=True)]

    def _like(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        return self._array(name, array.shape, array.dtype)

    def _array(self, name: str, shape: tuple[int, ...], *dtypes: DTypeLike) -> NDArray[Any]:
        """Return an array of this shape, of one of the dtypes, and finite."""
        if name not in self._left:
            raise ModelFileError(f"{self._name} is damaged, it lacks {name}: begin without it")
        self._left.remove(name)
        there = self._file.get_slice(name)
        if tuple(there.get_shape()) != shape:
            raise _damaged(self._name, f"shape of {name}", tuple(there.get_shape()))
        if there.get_dtype() not in [DTYPES[np.dtype(dtype).name] for dtype in dtypes]:
            raise _damaged(self._name, f"dtype of {name}", there.get_dtype())
        array: NDArray[Any] = self._file.get_tensor(name)
        if not np.isfinite(array).all():
            raise ModelFileError(f"{self._name}: {name} holds values that aren't finite: begin without it")
        return array
