"""One row of a GPU day: the contest of its contestants, and which of gpunn's engines `auto` stands for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from benchmarks.contest import SETTLE, Conditions, Contest, Watch, hold, recipe_of
from benchmarks.gpu_rows import SMALL, WIDE, Task
from benchmarks.memory import free_memory, give_memory_back
from benchmarks.worker import PATIENCE
from gpunn import MLP, Split, get_backend, load_mnist
from gpunn.engines import Parameters, choose_engine
from gpunn.errors import ConfigurationError

MNIST = 60_000
"""Images of the training set."""

A_STEP = 1e-3
"""Seconds that a step of an epoch may take: two to four times what the slowest engines are reckoned to need."""


MUCH = 0.1
"""The part of a GPU's memory that a process may still hold after a row; one that holds more is replaced."""


@dataclass(frozen=True)
class Job:
    """A task on a device, with the first `images` of MNIST; `left_out` are contestants, and why."""

    task: Task
    device: str
    images: int | None
    rounds: int
    seconds: float
    left_out: Mapping[str, str]


def patience_for(job: Job) -> dict[str, float]:
    """Return the seconds that each act may take.

    At batch size 1 an epoch is 60,000 steps, and some libraries run one to prepare. Who is slow isn't broken: if a row
    before has shown how slow, `Schedule.too_slow` leaves it out; if none has, it is given the time.
    """
    steps = -(-(job.images or MNIST) // job.task.row.batch_size)
    return PATIENCE | {act: PATIENCE[act] + A_STEP * steps for act in ("prepare", "train")}


def exact_on(network: str, device: str) -> str:
    """Return the device of the float64 network that all are compared with.

    An epoch of 784-2048-2048-10 is 2e12 operations, and at small batches `plain` passes over its weights five times a
    step: minutes on a CPU. Its reference is therefore computed on the GPU, where the other networks, compared with the
    CPU's, show whether `plain` is right.
    """
    return "cpu" if network in (SMALL, WIDE) else device


def do_job(job: Job, watch: Watch) -> Contest:
    """Hold the contest of `job`; the result of `auto` is that of the engine it stands for, under its name."""
    task, row = job.task, job.task.row
    # Threads of BLAS and XLA are in each other's way on a CPU, not on a GPU; in a rehearsal it doesn't matter.
    settle = SETTLE if job.device == "cpu" and job.images is None else 0.0
    conditions = Conditions(
        job.device,
        task.precision,
        exact_on(row.network, job.device),
        settle=settle,
        seconds=job.seconds,
        stop_on_error=False,
    )
    engines = [name for name in task.engines if name not in job.left_out]
    peers = [name for name in task.peers if name not in job.left_out]
    backend = get_backend(job.device)
    before = free_memory(backend)
    contest = hold(row, _images(job.images), engines, peers, job.rounds, conditions=conditions, watch=watch)
    contest.absent |= job.left_out
    _add_auto(contest, task, job.device)
    give_memory_back(backend)
    contest.keeps_memory = free_memory(backend) < before - MUCH
    return contest


def _add_auto(contest: Contest, task: Task, device: str) -> None:
    """Give `auto` the results of the engine that it stands for: to run it twice would show nothing new."""
    net, backend = MLP(task.row.sizes), get_backend(device)
    recipe = recipe_of(task.row, task.precision)
    try:
        with backend.activate():
            chosen = choose_engine("auto", backend, Parameters(net.weights, net.biases), recipe).name
    except ConfigurationError as error:
        contest.absent["auto"] = str(error)
        return
    if chosen in contest.absent:
        contest.absent["auto"] = f"stands for {chosen}, which is absent: {contest.absent[chosen]}"
    for result in list(contest.results):
        if result.name == chosen and not result.is_peer:
            contest.results.append(replace(result, name="auto"))
    contest.auto = chosen


@cache
def _images(number: int | None) -> Split:
    return load_mnist().train[:number]
