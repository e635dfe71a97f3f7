"""Training of a group of a sweep's networks by a worker of a Dask cluster, and what is sent to it and back."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, final

from gpunn.backends import get_backend, usable_gpu
from gpunn.backends.cuda import may_be_usable
from gpunn.backends.limits import at_most_cores, usable_cores
from gpunn.datasets.split import Split
from gpunn.engines.cpu.sharing import Shelf, sharing
from gpunn.engines.cuda.epoch import group_size
from gpunn.errors import GpunnError
from gpunn.network import MLP
from gpunn.sweep.runs import Numbered, Run, Shared, groups, ranked, train_group

_TRAINING = threading.Lock()
"""Held by the one group that this process trains: it has all cores, or the GPU."""


@final
class Common:
    """What all groups of a sweep have in common, the device of workers included; sent to each worker once.

    On a worker it keeps the sparse forms of the images, which groups share.
    """

    def __init__(self, shared: Shared, train: Split, held_out: Split, device: str) -> None:
        self.shared, self.train, self.held_out, self.device = shared, train, held_out, device
        self.shelf = Shelf([train.images, held_out.images])

    def __reduce__(self) -> tuple[Any, ...]:
        return Common, (self.shared, self.train, self.held_out, self.device)


class Bar(NamedTuple):
    """Which networks are sent back: the `keep` best of those that are better than `order`, see `Run.order`, if any."""

    keep: int
    order: tuple[float, float, int] | None = None


class Results(NamedTuple):
    """The results of a group, with networks that reached the bar; the worker, and how many it trains at a time."""

    trained: list[tuple[Run, MLP | None]]
    worker: str
    at_once: int


class _CalledOff(Exception):  # noqa: N818 - not an error
    """Nobody waits for this group any more."""


def train_on_worker(group: Sequence[Numbered], common: Common, bar: Bar) -> Results:
    """Train the networks of a group and return the results; raises the errors of `train_group`, with the worker's name.

    The worker's number of threads is the number of cores that it uses.
    """
    from distributed import get_worker

    worker = get_worker()
    check = _check_wanted(worker, worker.get_current_task())
    nets: dict[int, MLP] = {}
    runs: list[Run] = []

    def end(run: Run, net: MLP) -> None:
        runs.append(run)
        nets[run.number] = net
        sent = {run.number for run in _reaching(runs, bar)}
        for number in nets.keys() - sent:
            del nets[number]

    with (
        _naming(worker.address),
        _TRAINING,
        at_most_cores(worker.state.nthreads),
        sharing(common.shelf),
    ):
        for part in groups(group, common.shared):
            check()
            train_group(
                part,
                common.shared,
                common.train,
                common.held_out,
                device=common.device,
                on_epoch=lambda _: check(),
                on_end=end,
            )
        at_once = _at_once(common.device)
    return Results([(run, nets.get(run.number)) for run in runs], worker.address, at_once)


@contextmanager
def _naming(worker: str) -> Iterator[None]:
    """Let errors say which worker they are of."""
    try:
        yield
    except GpunnError as error:
        error.add_note(f"on the worker at {worker}")
        raise


def _reaching(runs: Sequence[Run], bar: Bar) -> list[Run]:
    """Return the runs that reach the bar."""
    best = [run for run in ranked(runs) if run.failure is None][: bar.keep]
    return [run for run in best if bar.order is None or run.order < bar.order]


def _check_wanted(worker: Any, key: Any) -> Callable[[], None]:
    """Return what raises an error, and so ends the training, once the task `key` has been cancelled."""

    def check() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise _CalledOff

    return check


def _at_once(device: str) -> int:
    """Return how many networks are trained at the same time: on a GPU if there is one and `device` allows it."""
    backend = get_backend(device) if device != "auto" else usable_gpu() if may_be_usable() else None
    if backend is None or backend.name == "cpu":
        return usable_cores()
    with backend.activate():
        return group_size()
