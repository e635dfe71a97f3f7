"""`Sweep`: trains all configurations of a space, and ranks them by examples held out."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import final

from gpunn.backends.limits import available_memory
from gpunn.checks import check_whole
from gpunn.datasets.split import Dataset, Split, hold_out
from gpunn.defaults import EPOCHS
from gpunn.engines.cpu.sharing import Shelf, sharing
from gpunn.errors import ConfigurationError, DataError, GpunnError
from gpunn.network import MLP
from gpunn.printing import printable
from gpunn.sweep.cluster import Cluster
from gpunn.sweep.record import Record
from gpunn.sweep.runs import Numbered, Run, Shared, groups, ranked, train_group
from gpunn.sweep.space import Configuration, Space
from gpunn.sweep.worker import Bar

logger = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.1
"""Share of the training examples that rank the networks."""


@final
class Sweep:
    """Training of a network for each combination of a space's values, or for `sample` random ones, and their ranking.

    `data` are the examples, of which a tenth is held out: all networks are trained on the same others, and ranked by
    these. Of a `Dataset` only the training split is used, so that its test split can measure the best network, once.
    `output`, `loss`, `init`, `schedule` and `epochs` are the same for all networks, as in `gpunn.MLP` and
    `gpunn.train`; `n_outputs` is the number of classes by default. `seed` draws the sample and the examples held out.

    - `configurations` are the networks' settings, each once; a run's `number` counts them from 1;
    - `train` and `held_out` are the two splits;
    - `runs` are the finished ones, in the order in which they finished, also after an interruption.

    Raises `ConfigurationError` for invalid settings and for more networks than `gpunn.sweep.space.MOST`, and
    `DataError` for `data` of another type.
    """

    def __init__(
        self,
        space: Space,
        data: Split | Dataset,
        *,
        n_outputs: int | None = None,
        epochs: int = EPOCHS,
        output: str = "sigmoid",
        loss: str | None = None,
        init: str = "scaled",
        schedule: str = "constant",
        sample: int | None = None,
        seed: int = 0,
    ) -> None:
        check_whole("the sweep's seed", seed, 0)
        split = data.train if isinstance(data, Dataset) else data
        if not isinstance(split, Split):
            raise DataError(
                f"found a {type(split).__name__}, expected a Split or a Dataset, such as gpunn.load_mnist()"
            )
        self.train, self.held_out = hold_out(split, HELD_OUT_SHARE, seed)
        self.shared = Shared(split.images.shape[1], n_outputs or data.n_classes, epochs, output, loss, init, schedule)
        n_examples = len(self.train)
        self.configurations: list[Configuration] = space.configurations(
            lambda choice: self.shared.complete(choice, n_examples), sample=sample, seed=seed
        )
        self._check_memory()
        self.runs: list[Run] = []
        self._about = {
            "options": {
                **space.to_dict(),
                "epochs": epochs,
                "output activation": output,
                "loss": loss,
                "init": init,
                "schedule": schedule,
                "sample": sample,
                "sweep seed": seed,
                "outputs": self.shared.n_outputs,
            },
            "data": {"training images": _fingerprint(split)},
        }

    def _check_memory(self) -> None:
        largest = max(self.configurations, key=self.shared.n_parameters)
        needed, memory = 4 * self.shared.n_parameters(largest), available_memory()
        if memory is not None and needed > memory:
            raise ConfigurationError(
                f"layer sizes {list(self.shared.sizes(largest))} need {needed / 2**30:,.0f} GiB of memory for the "
                "weights alone; choose smaller ones"
            )

    def record(self, path: str | os.PathLike[str], *, resume: bool = False, replace: bool = False) -> Record:
        """Return the record of this sweep at `path`, to be given to `run`; see `Record` for what it raises."""
        return Record(path, self._about, self.configurations, resume=resume, replace=replace)

    def run(
        self,
        record: Record | None = None,
        *,
        keep: int = 1,
        device: str = "auto",
        cluster: Cluster | None = None,
        on_epoch: Callable[[int], None] | None = None,
        on_run: Callable[[Run], None] | None = None,
    ) -> list[MLP]:
        """Train all networks that `record` doesn't have; return the `keep` best ones, the best one first.

        `on_run` is called with each run that finishes, and `on_epoch` with a network's number after each of its epochs;
        both are called one at a time, maybe from other threads. After `KeyboardInterrupt` and errors,
        `runs` and `record` have what was finished. The best networks of a record are trained again, which makes the
        same ones on the same kind of machine: there are fewer than `keep` if not as many could be trained.

        With `cluster` its workers train all of them, each on its own `device`. Only networks that may be among the best
        are sent back. `on_epoch` is never called then, and `on_run` when a group of networks has finished.

        Raises the errors of `gpunn.train` other than `DivergenceError`, `OutputError` if the record can't be written,
        and those of `Cluster.train`.
        """
        check_whole("keep", keep, 1)
        on_epoch, on_run = on_epoch or _nothing, on_run or _nothing
        self.runs = [] if record is None else list(record.runs)
        best = ranked(self.runs)[:keep]
        nets: dict[int, MLP] = {}

        def end(run: Run, net: MLP | None) -> None:
            if record is not None:
                record.append(run)
            self.runs.append(run)
            best[:] = ranked([*best, run])[:keep]
            if net is not None:
                nets[run.number] = net
            for number in nets.keys() - {run.number for run in best}:
                del nets[number]
            on_run(run)

        def bar() -> Bar:
            return Bar(keep, best[-1].order if len(best) == keep else None)

        train = partial(self._train, device=device, cluster=cluster)
        done = {run.number for run in self.runs}
        left = [numbered for numbered in enumerate(self.configurations, 1) if numbered[0] not in done]
        try:
            train(left, bar, on_epoch, end)
            best[:] = [run for run in best if run.failure is None]
            self._train_again([run for run in best if run.number not in nets], train, nets)
        except GpunnError as error:
            if record is not None and record.runs:
                error.add_note(f"{printable(record.path)} has what was finished, and --resume goes on")
            raise
        return [nets[run.number] for run in best]

    def _train(
        self,
        numbered: Sequence[Numbered],
        bar: Callable[[], Bar],
        on_epoch: Callable[[int], None],
        on_end: Callable[[Run, MLP | None], None],
        *,
        device: str,
        cluster: Cluster | None,
    ) -> None:
        """Train networks here, or on the cluster, which sends back those that reach the bar."""
        if cluster is not None:
            cluster.train(numbered, self.shared, self.train, self.held_out, device=device, bar=bar, on_end=on_end)
            return
        with sharing(Shelf([self.train.images, self.held_out.images])):
            for group in groups(numbered, self.shared):
                train_group(
                    group, self.shared, self.train, self.held_out, device=device, on_epoch=on_epoch, on_end=on_end
                )

    def _train_again(self, runs: Sequence[Run], train: Callable[..., None], nets: dict[int, MLP]) -> None:
        """Train networks again, of which there is only a record, and put them into `nets`."""
        before = {run.number: run for run in runs}

        def end(run: Run, net: MLP | None) -> None:
            if net is not None:
                nets[run.number] = net
            found, recorded = run.held_out_accuracy, before[run.number].held_out_accuracy
            if found != recorded:
                logger.warning(
                    "network %d, trained again, has a held-out accuracy of %s instead of %s: it was recorded with "
                    "another machine or version",
                    run.number,
                    found,
                    recorded,
                )

        train([(run.number, run.configuration) for run in runs], lambda: Bar(len(runs)), _nothing, end)


def _nothing(_: object) -> None:
    """Do nothing: the default of what is called back."""


def _fingerprint(split: Split) -> str:
    """Return what tells these examples from others."""
    found = hashlib.sha256()
    for array in (split.images, split.labels):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.data)
    return f"{len(split)} with the hash {found.hexdigest()[:16]}"
