"""Training of a sweep's networks by the workers of a Dask cluster.

Every worker has one group of networks in training, and another one waiting. Groups are small, and become smaller
towards the end, so that no worker is idle for long and little is lost with one. What is lost is handed out again.
"""

import asyncio
import logging
import queue
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from math import ceil
from types import TracebackType
from typing import Any, NamedTuple, Self, final

from gpunn.datasets.split import Split
from gpunn.engines.stopping import check_stopped
from gpunn.errors import ClusterError, ConfigurationError
from gpunn.network import MLP
from gpunn.printing import printable
from gpunn.sweep.runs import Numbered, Run, Shared
from gpunn.sweep.worker import Bar, Common, Results, train_on_worker

logger = logging.getLogger(__name__)

CONNECTING = 10.0
"""Maximum number of seconds until the scheduler answers."""

WATCHING = 1.0
"""Number of seconds until new workers are noticed."""

ROUNDS = 4
"""Maximum number of networks in a group, in multiples of those that a worker trains at the same time."""

AHEAD = 2
"""Number of groups that a worker has, the waiting ones included."""

LOSSES = 5
"""Number of times that a network must be lost with its worker to count as the cause."""


def _greet(address: str) -> None:
    """Make sure that a scheduler answers at `address`: a client that finds none hinders the end of the process.

    Raises `OSError` or `ValueError`.
    """
    from distributed import Security, rpc
    from distributed.utils import LoopRunner

    async def greet() -> None:
        options = Security().get_connection_args("client")
        async with asyncio.timeout(CONNECTING), rpc(address, timeout=CONNECTING, connection_args=options) as found:
            kind = (await found.identity())["type"]
        if kind != "Scheduler":
            raise ValueError(f"this is the address of a {kind}")

    try:
        LoopRunner().run_sync(greet)
    except MemoryError as error:  # for what is read as the length of the answer
        raise ValueError("what answers isn't Dask") from error


@final
class Cluster:
    """A connection to the Dask cluster whose scheduler is at `address`, such as "tcp://10.0.0.1:8786".

    It is closed by `close`, or at the end of a `with` block. Raises `ConfigurationError` if distributed isn't
    installed, and `ClusterError` if the scheduler can't be reached.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ConfigurationError(
                f"a Dask cluster needs the package distributed ({error}): pip install 'gpunn[dask]'"
            ) from error
        self.address = address
        try:
            _greet(address)
            self._client: Any = Client(address, timeout=CONNECTING, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler can be reached at {printable(address)!r} ({str(error) or 'no answer'}): give the "
                "address that dask scheduler prints, such as tcp://10.0.0.1:8786"
            ) from error

    def workers(self) -> dict[str, int]:
        """Return the number of threads of each worker by its address; raises `ClusterError`."""
        with self._connected():
            found: dict[str, int] = self._client.nthreads()
        return found

    def train(
        self,
        numbered: Sequence[Numbered],
        shared: Shared,
        train: Split,
        held_out: Split,
        *,
        device: str = "auto",
        bar: Callable[[], Bar],
        on_end: Callable[[Run, MLP | None], None],
    ) -> None:
        """Train networks as `gpunn.sweep.runs.train_group` does, on the workers, each on its own `device`.

        `on_end` is called with each result and, if it reaches the `bar` of when its group was handed out, the network.
        Workers may come and go; while there are none, this waits for some.

        Raises the errors of `train_group`, and `ClusterError` if the scheduler is lost, or if a network is lost
        `LOSSES` times. After these and Ctrl-C, workers end what they are doing.
        """
        _Handout(self, numbered, Common(shared, train, held_out, device), bar, on_end).run()

    def scatter(self, value: object) -> Any:
        """Return the future of a value that a worker is sent, and others get from each other as soon as they need it.

        It is None if there are no workers, or the one that was to have it was lost meanwhile.
        """
        with self._connected():
            try:
                return self._client.scatter([value], hash=False, timeout=CONNECTING)[0]
            except (OSError, KeyError):
                self._client.nthreads()  # which fails if it isn't a worker that was lost
                return None

    def submit(self, worker: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the future of a call on `worker`, or on another one if that is busy or gone."""
        with self._connected():
            return self._client.submit(function, *arguments, workers=[worker], allow_other_workers=True, pure=False)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Raise `ClusterError` for what the client raises if it has lost the scheduler."""
        from distributed.client import ClosedClientError

        try:
            yield
        except (OSError, ClosedClientError, AttributeError) as error:  # the last one comes of a client that is closed
            raise ClusterError(f"lost the Dask scheduler at {printable(self.address)} ({error})") from error

    def close(self) -> None:
        """Close the connection; the cluster goes on."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Task(NamedTuple):
    """A group of networks, and the worker that it was meant for."""

    group: list[Numbered]
    worker: str


@final
class _Handout:
    """Hands out networks in groups, and takes the results."""

    def __init__(
        self,
        cluster: Cluster,
        numbered: Sequence[Numbered],
        common: Common,
        bar: Callable[[], Bar],
        on_end: Callable[[Run, MLP | None], None],
    ) -> None:
        self._cluster, self._common, self._bar, self._on_end = cluster, common, bar, on_end
        # The largest ones first, so that the last groups are done soon; it also keeps shapes together, for GPUs.
        self._left = deque(sorted(numbered, key=lambda each: -common.shared.n_parameters(each[1])))
        self._tasks: dict[Any, _Task] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sent: Any = None
        """The future of what is in common."""
        self._at_once: dict[str, int] = {}
        self._losses: Counter[int] = Counter()
        self._has_waited = False

    def run(self) -> None:
        try:
            while self._left or self._tasks:
                check_stopped()
                self._hand_out()
                try:
                    future = self._ended.get(timeout=WATCHING)
                except queue.Empty:
                    continue
                self._take(future)
        finally:
            # Nobody wants the futures any more, so that the scheduler cancels them.
            for future in self._tasks:
                future.release()

    def _hand_out(self) -> None:
        """Give every worker something to do."""
        workers = self._cluster.workers()
        if not workers and not self._has_waited:
            self._has_waited = True
            logger.warning("the Dask cluster has no workers: waiting for some")
        if workers and (self._sent is None or self._sent.status != "finished"):
            self._sent = self._cluster.scatter(self._common)
        if self._sent is None:
            return
        at_once = {worker: self._at_once.get(worker, threads) for worker, threads in workers.items()}
        busy = Counter(task.worker for task in self._tasks.values())
        for _ in range(AHEAD):
            for worker in workers:
                if self._left and busy[worker] < AHEAD:
                    busy[worker] += 1
                    self._submit(worker, self._next(at_once[worker], sum(at_once.values())))

    def _next(self, at_once: int, of_all: int) -> list[Numbered]:
        """Take the next group for a worker that trains so many networks at the same time."""
        share = ceil(len(self._left) * at_once / of_all / AHEAD)
        size = min(len(self._left), max(at_once, min(share, ROUNDS * at_once)))
        return [self._left.popleft() for _ in range(size)]

    def _submit(self, worker: str, group: list[Numbered]) -> None:
        future = self._cluster.submit(worker, train_on_worker, group, self._sent, self._bar())
        self._tasks[future] = _Task(group, worker)
        future.add_done_callback(self._ended.put)

    def _take(self, future: Any) -> None:
        """Take the results of a group, or put it back if it was lost."""
        from distributed import KilledWorker

        task = self._tasks.pop(future)
        try:
            results: Results = future.result()
        except CancelledError:  # with the last worker, or by a restart of the cluster
            self._put_back(task, 1)
            return
        except KilledWorker as error:
            self._put_back(task, error.allowed_failures + 1)
            return
        except (ImportError, AttributeError) as error:
            raise ClusterError(
                f"a worker has no gpunn, or another one than this ({error}): install the same one everywhere"
            ) from error
        self._at_once[results.worker] = results.at_once
        for run, net in results.trained:
            self._on_end(run, net)

    def _put_back(self, task: _Task, losses: int) -> None:
        """Put a group that was lost so many times back among what is left."""
        for number, configuration in task.group:
            self._losses[number] += losses
            if self._losses[number] >= LOSSES:
                raise ClusterError(
                    f"network {number} was lost {self._losses[number]} times with the worker that had it, the last one "
                    f"at {task.worker} (layers {'-'.join(map(str, self._common.shared.sizes(configuration)))}): see "
                    "what these workers say; they may need more memory"
                )
        self._left.extendleft(reversed(task.group))
