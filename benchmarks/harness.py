"""What a run of `pytest --benchmark` shares: who takes part in what, the time that is left, and what was found."""

import copy
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.options import N_IMAGES
from benchmarks.peers import PEERS, peers_on
from benchmarks.schema import Contestant, Row, Run, write
from benchmarks.timing.budget import Budget
from benchmarks.timing.contestants import IN_TURN, MANY, Seat, auto_engine
from benchmarks.timing.device import describe_machine, give_memory_back, revision
from benchmarks.timing.exactness import Problem, Trained
from benchmarks.timing.isolation import PREPARE, IsolatedSeat, in_a_process
from benchmarks.timing.rounds import RowOfRounds
from benchmarks.workloads.accuracy import GOALS, Goal
from benchmarks.workloads.epochs import SLOW_TO_CHECK, SMALL, Work, chosen, exact_device, unsuitable, work
from gpunn import Backend, devices, get_backend
from gpunn.engines import ENGINES
from gpunn.errors import ConfigurationError, OutputError
from gpunn.files import check_writable

VISITS = 2
"""How often each row is visited, so that its rounds are spread over the run; in processes of their own, once."""

ON_CPU, ON_GPU = (16,), (1, 16, 132, 1000)
"""Numbers of networks that are trained at once, unless others are asked for."""


class Harness:
    """One run: the options it follows and what it has found; raises `GpunnError` for options that can't be followed."""

    def __init__(self, options: Namespace, root: Path) -> None:
        self.options, self.started = options, time.strftime("%Y-%m-%d %H:%M:%S")
        self.backends, absent = _backends(options.devices)
        self.names = [backend.name for backend in self.backends]
        self.works = self._works()
        self._check()
        self.path: Path = (options.results or self._default_path(root)).absolute()
        check_writable(self.path)
        self.budget = Budget(60 * options.minutes) if options.minutes is not None else Budget()
        self.visits = 1 if options.isolate else VISITS
        self._rows: dict[Work, RowOfRounds] = {}
        self.machine = describe_machine(self.backends, absent)
        self.finished: str | None = None
        self.tell: Callable[[str], None] = lambda _what: None
        """Is told what is done now."""
        self.found: dict[str, list[Any]] = {
            name: []
            for name in (
                *("starts", "races", "kernels", "published", "estimator_times", "estimator_accuracies"),
                *("left_out", "failures"),
            )
        }
        """By the fields of `Run`."""

    def _check(self) -> None:
        options = self.options
        if not options.assert_speed:
            return
        if options.images != N_IMAGES:
            raise ConfigurationError("--assert-speed needs all images: the bars are for them")
        options.peers = options.peers or ["all"]
        if options.peers == ["none"]:
            raise ConfigurationError("--assert-speed needs peers: the bars are times the best one's speed")
        if all(each.bar is None and each.gpu_bar is None for each in self.works):
            raise ConfigurationError("--assert-speed needs a row that has a bar: see benchmarks/workloads/epochs.py")

    @staticmethod
    def _default_path(root: Path) -> Path:
        path = root / ".benchmarks" / f"gpunn-{time.strftime('%Y-%m-%d-%H%M%S')}.json"
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another place with --results") from error
        return path

    def _works(self) -> list[Work]:
        options, on_gpu = self.options, "cpu" not in self.names
        named = options.network or options.batch_sizes or options.recipes or options.dense or options.engines
        at_once = options.at_once or (() if named else ON_GPU if on_gpu else ON_CPU)
        works = chosen(
            options.network,
            options.batch_sizes,
            options.recipes,
            dense=options.dense,
            at_once=at_once,
            gpu_only=on_gpu,
            images=options.images,
        )
        if named or on_gpu or options.peers or options.assert_speed:
            return works
        return [each for each in works if each.task not in SLOW_TO_CHECK]

    def goals(self) -> list[Goal]:
        """Return the accuracies to be reached; their settings are for all of MNIST, as it is.

        Without peers or a network by name, only the first: the others take minutes and say little by themselves.
        """
        options = self.options
        if options.dense or options.images < N_IMAGES:
            return []
        if not (options.network or options.peers):
            return list(GOALS[:1])
        return [goal for goal in GOALS if not options.network or goal.network in options.network]

    def contestants(self, *, many: bool = False, auto: bool = False) -> list[Contestant]:
        """Return who takes part, on each device; `auto`: of gpunn's engines only the one that it chooses."""
        engines = self.options.engines or (["auto"] if auto else list(ENGINES))
        found = []
        for device in self.names:
            found += [Contestant(name, device) for name in ([MANY, IN_TURN] if many else engines)]
            kind = device.partition(":")[0]
            peers = peers_on(kind, many=many)
            if "all" not in self.options.peers:
                peers = [name for name in self.options.peers if name in PEERS and PEERS[name].many == many]
            found += [Contestant(name, device, is_peer=True) for name in peers]
        return found

    def small_task(self) -> Work:
        """Return what fresh processes train."""
        return work(SMALL, 32).fitting(self.options.images)

    def visit(self, what: Work, visit: int) -> RowOfRounds:
        """Visit a row; raises `pytest.skip.Exception` where there is no time for it."""
        row = self._rows.get(what) or self._row(what)
        present = [each.contestant for each in row.standings]
        needed = self.budget.needed(what.task, present, self.options.seconds)
        if needed > self.budget.left():
            self.skip(f"{what.task.label}: no time: needs about {needed:.0f} s of {self.budget.left():.0f} s")
        self._rows[what] = row
        row.visit(self.options.seconds / self.visits, self.visits - visit - 1)
        self.budget.note(row.row())
        return row

    def _row(self, what: Work) -> RowOfRounds:
        task, everyone = what.task, self.contestants(many=what.task.networks > 1)
        row = RowOfRounds(
            what,
            everyone,
            autos={device: auto_engine(task, device) for device in self.names},
            seats=lambda contestant: (IsolatedSeat if self.options.isolate else Seat)(task, contestant),
            exact=lambda: self._exact(what),
            tell=self.tell,
        )
        for contestant in everyone:
            reason = _misplaced(contestant) or unsuitable(task, contestant) or self.budget.too_slow(task, contestant)
            if reason:
                row.leave_out(contestant, reason)
        return row

    def _exact(self, what: Work) -> list[Trained]:
        self.tell("float64")
        device = exact_device(what.task, self.names[-1])
        found: list[Trained] = self.call(exact_networks, what.task, device, seconds=2 * PREPARE)
        return found

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """Return what a function returns, in a process of its own with a limit if that was asked for."""
        if self.options.isolate:
            # pebble takes 0 seconds for no limit.
            return in_a_process(function, *arguments, seconds=max(1.0, min(seconds, self.budget.left())))
        return function(*arguments)

    def skip(self, why: str) -> None:
        """Note what isn't timed and why, and skip the test."""
        self.found["left_out"].append(why)
        pytest.skip(why)

    def rows(self) -> list[Row]:
        """Return what was found of each row that was visited."""
        return [row.row() for row in self._rows.values()]

    def missed(self) -> list[str]:
        """Return the bars that were missed, had no result, or weren't reached, in a line each."""
        on_cpu, on_gpu = "cpu" in self.names, any(name != "cpu" for name in self.names)
        rows = self.rows()
        timed = {row.task for row in rows}
        skipped = [
            f"{each.task.label}: not timed"
            for each in self.works
            if (on_cpu and each.bar is not None) or (on_gpu and each.gpu_bar is not None)
            if each.task not in timed
        ]
        return skipped + [
            f"{row.task.label}: {target.verdict}: {comparison.ratio.median if comparison.ratio else 0:.2f} "
            f"{target.kind}, expected {target.bar:g}"
            for row in rows
            for comparison in row.comparisons
            for target in comparison.targets
            if target.verdict in {"missed", "no result"}
        ]

    def run(self) -> Run:
        """Return all that was found."""
        options = {
            name: getattr(self.options, name)
            for name in (
                *("network", "batch_sizes", "recipes", "at_once", "devices", "engines", "peers", "dense", "images"),
                *("seconds", "seeds", "isolate", "minutes", "assert_speed"),
            )
        }
        parts: dict[str, Any] = self.found
        return Run(
            started=self.started,
            finished=self.finished,
            revision=revision(),
            machine=self.machine,
            options=options,
            rows=self.rows(),
            **parts,
        )

    def save(self) -> None:
        """Write all that was found; raises `OutputError`."""
        write(self.path, self.run())

    def give_memory_back(self) -> None:
        """Free what libraries keep of the GPUs' memory."""
        for backend in self.backends:
            give_memory_back(backend)


def exact_networks(task: Any, device: str) -> list[Trained]:
    """Return the networks of a task after a round in float64."""
    return Problem(task).exact(device)


def _misplaced(contestant: Contestant) -> str | None:
    """Return why a peer can't compute on its device, or None."""
    if not contestant.is_peer:
        return None
    kinds = PEERS[contestant.name].kinds
    if contestant.device.partition(":")[0] in kinds:
        return None
    return f"{contestant.name} computes on {' and '.join(kinds)} here, and the device is {contestant.device}"


def _backends(names: str) -> tuple[list[Backend], dict[str, str]]:
    """Return the devices, and why others can't be used where none was named."""
    if names == "all":
        found = devices()
        absent = {status.name: status.reason or "can't be used" for status in found if not status.usable}
        return [get_backend(status.name) for status in found if status.usable], absent
    # By name, as cuda and cuda:0 are one device.
    return list({backend.name: backend for backend in map(get_backend, names.split(","))}.values()), {}


def keep(benchmark: Any, group: str, name: str, seconds: Sequence[float], **about: Any) -> None:
    """Give pytest-benchmark the rounds of one contestant as an entry of its own, which it saves and compares.

    `benchmark` is the fixture of a test that has several; those are copies of it.
    """
    use(benchmark)
    if not seconds:
        return
    entry = copy.copy(benchmark)
    entry.name, entry.group, entry.param = f"{group}-{name}", group, name
    entry.fullname = f"{benchmark.fullname.partition('[')[0]}[{group}-{name}]"
    entry.params, entry.extra_info = {"group": group, "contestant": name}, about
    stats = entry._make_stats(1)
    for each in seconds:
        stats.update(each)


def use(benchmark: Any) -> None:
    """Tell pytest-benchmark that its fixture was used, as it warns of tests that end without."""
    benchmark._mode = "rounds in turn"


HARNESS: pytest.StashKey[Harness] = pytest.StashKey()
"""Where pytest's configuration keeps the run."""
