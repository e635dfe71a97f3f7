"""Checkpoints of a training: when they are written, and what a training that goes on from one has in common with it."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from gpunn.backends import Backend, get_backend
from gpunn.checkpoint_file import Resumed, State, content, is_replaceable, read_checkpoint
from gpunn.checks import check_whole
from gpunn.datasets.split import Split
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import ENGINES
from gpunn.engines.base import Recipe
from gpunn.errors import ConfigurationError, DeviceError, OutputError
from gpunn.files import check_writable, write_whole
from gpunn.history import History
from gpunn.network import MLP
from gpunn.printing import printable
from gpunn.training_record import plain

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Checkpoint:
    """Where a training writes checkpoints: to `path`, after every `every` epochs and at its end, whatever ends it."""

    path: str | bytes | os.PathLike[str]
    every: int = 1

    def __post_init__(self) -> None:
        check_whole("checkpoint every", self.every, 1)


def hashes_of(data: Split, test: Split | None) -> dict[str, str | None]:
    """Return what tells these examples from others: hashes of images and labels."""
    return {"training examples": _hash_of(data), "test examples": None if test is None else _hash_of(test)}


def run_of(
    net: MLP, recipe: Recipe, early_stopping: EarlyStopping | None, hashes: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return what a checkpoint and the training that goes on with it have in common, in JSON types."""
    about: dict[str, Any] = {"layers": list(net.sizes), "functions": list(net.functions), "dtype": str(net.dtype)}
    about |= recipe.to_dict()
    if early_stopping is not None:
        about["early_stopping"] = asdict(early_stopping)
    found: dict[str, Any] = json.loads(json.dumps(about | dict(hashes), default=plain))
    return found


def _hash_of(split: Split) -> str:
    """Return a hash of the images and labels, BLAKE2b."""
    found = hashlib.blake2b(digest_size=16)
    for array in (split.images, split.labels):
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


@final
class Saver:
    """Writes the checkpoints of one training.

    A checkpoint that can't be written doesn't end the training: it is warned of once, and the last one stays as it is.
    Raises `OutputError` if no file can be made there, or if the one that is there is no checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, run: Mapping[str, Any], planned: int) -> None:
        check_writable(checkpoint.path)
        if not is_replaceable(checkpoint.path):
            raise OutputError(f"{printable(checkpoint.path)} is not a checkpoint of gpunn: choose another place")
        self._checkpoint, self._run, self._planned = checkpoint, run, planned
        self._kept: tuple[State, History, Mapping[str, str]] | None = None
        self._warned = False

    def keep(self, state: State, history: History, where: Mapping[str, str]) -> None:
        """Remember the state after an epoch, for this checkpoint or the one at the end."""
        self._kept = state, history, where

    def write_if_due(self) -> None:
        """Write what is remembered if it is time to."""
        if self._kept is not None and not self._kept[0].start.epochs % self._checkpoint.every:
            self._write()

    def flush(self) -> None:
        """Write what is remembered and not written yet, however often Ctrl-C is pressed."""
        while self._kept is not None:
            try:
                self._write()
                return
            except KeyboardInterrupt:
                continue

    def _write(self) -> None:
        assert self._kept is not None
        state, history, where = self._kept
        try:
            write_whole(self._checkpoint.path, content(state, history, self._run, self._planned, where))
        except OutputError as error:
            if not self._warned:
                logger.warning("no checkpoint after epoch %d: %s", state.start.epochs, error)
            self._warned = True
            return
        self._kept = None


def saved(
    checkpoint: str | bytes | os.PathLike[str] | Checkpoint | None,
    resume: str | bytes | os.PathLike[str] | None,
    run: Mapping[str, Any],
    *,
    net: MLP,
    recipe: Recipe,
    epochs: int,
) -> tuple[Saver | None, Resumed | None]:
    """Return what writes checkpoints, and the training to go on with, as far as they are asked for.

    `run` is what `run_of` returns for a training of `net` by `recipe` for `epochs` epochs. Raises the errors of
    `read_checkpoint` and `Saver`, and `ConfigurationError` if other learning rates belong to so many epochs.
    """
    resumed = None if resume is None else read_checkpoint(resume, run, net, recipe)
    if resumed is not None:
        _check_planned(resumed, recipe, epochs)
        logger.info("%s: going on after epoch %d", resumed.name, len(resumed.epochs))
    elif resume is not None:
        logger.info("there is no checkpoint %s yet: beginning", printable(resume))
    if checkpoint is None:
        return None, resumed
    chosen = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    return Saver(chosen, run, epochs), resumed


def _check_planned(resumed: Resumed, recipe: Recipe, epochs: int) -> None:
    """Raise `ConfigurationError` unless the finished epochs would have been the same with `epochs` planned."""
    done, average = len(resumed.epochs), recipe.average
    before, now = (recipe.schedule.factor(np.arange(0, done, 0.25), planned) for planned in (resumed.planned, epochs))
    # Epochs that count by one number of epochs, and don't by the other.
    counts = range(0) if average is None else range(*sorted(map(average.begins, (resumed.planned, epochs))))
    if done > epochs or not np.array_equal(before, now) or (counts and done >= counts.start):
        raise ConfigurationError(
            f"{resumed.name} was begun with epochs {resumed.planned}, of which {done} are finished, not {epochs}: give "
            "what it was begun with, or begin without it"
        )


def device_of(resumed: Resumed, device: str | Backend) -> str | Backend:
    """Return the device to go on with: for "auto" that of the checkpoint, if it can be used."""
    if device != "auto":
        return device
    try:
        return get_backend(resumed.where.get("device", ""))
    except (ConfigurationError, DeviceError):
        return device


def engine_of(resumed: Resumed | None, backend: Backend) -> str | None:
    """Return the engine of the checkpoint, if it was begun on `backend`."""
    where = {} if resumed is None else resumed.where
    engine = where.get("engine", "")
    return engine if where.get("device") == backend.name and engine in ENGINES else None
