"""A process that measures and can be given up: a kernel that never ends, or ruins its device, takes nothing with it."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from benchmarks.contest import DeviceLostError, Watch
from benchmarks.words import in_a_line

PATIENCE = {"start": 120.0, "prepare": 90.0, "train": 30.0}
"""Seconds without a word, in each of the acts a worker tells of, after which it is given up."""

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class GivenUpError(Exception):
    """The worker didn't come to an end: `name` had its turn, if anyone had. What went wrong is in `reason`."""

    def __init__(self, name: str | None, reason: str, trace: str = "") -> None:
        super().__init__(name, reason, trace)
        self.name, self.reason, self.trace = name, reason, trace


class Worker(Generic[Job, Answer]):
    """Does jobs by `do` in another process, which is started when it is needed, and again after it was given up."""

    def __init__(
        self,
        do: Callable[[Job, Watch], Answer],
        patience: Callable[[Job], Mapping[str, float]] = lambda _job: PATIENCE,
    ) -> None:
        """`patience` gives the seconds of each act in a job, as `PATIENCE` has them."""
        self._do = do
        self._patience = patience
        self._process: Any = None
        self._connection: Connection | None = None

    def ask(self, job: Job, seconds: float) -> Answer:
        """Return the answer to `job`; raises `GivenUpError` where it doesn't end, at the latest after `seconds`."""
        deadline, patience = time.monotonic() + seconds, self._patience(job)
        connection = self._connection or self._start()
        name, act = None, "start"
        try:
            connection.send(job)
            while True:
                left = deadline - time.monotonic()
                if not connection.poll(max(0.0, min(left, patience[act]))):
                    if left < patience[act]:
                        raise GivenUpError(None, f"the time was up while {name or 'the worker'} was to {act}")
                    raise GivenUpError(name, f"did not {act} within {patience[act]:g} s, and was stopped")
                kind, *content = connection.recv()
                if kind == "turn":
                    name, act = content
                elif kind == "done":
                    answer: Answer = content[0]
                    return answer
                else:
                    raise GivenUpError(*content)
        except (EOFError, OSError) as error:
            self._process.join(5)
            reason = f"the process ended with code {self._process.exitcode} when it was to {act}"
            self.stop()
            raise GivenUpError(name, reason) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join(10)
            self._connection = self._process = None

    def _start(self) -> Connection:
        # Forked, the child would share what CUDA can't share.
        context = multiprocessing.get_context("spawn")
        self._connection, its_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(its_end, self._do), daemon=True)
        self._process.start()
        its_end.close()
        return self._connection


def _serve(connection: Connection, do: Callable[[Any, Watch], Any]) -> None:
    """Do the jobs that arrive until there are no more; end after an error, since the device may be lost."""
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        turn: list[str | None] = [None]

        def watch(name: str, act: str, turn: list[str | None] = turn) -> None:
            turn[0] = name
            connection.send(("turn", name, act))

        try:
            answer = do(job, watch)
        except DeviceLostError as lost:
            connection.send(("given up", lost.name, f"the device was lost: {lost.reason}", lost.trace))
            return
        except Exception as error:
            reason = in_a_line(error)
            connection.send(("given up", turn[0], reason, traceback.format_exc()))
            return
        connection.send(("done", answer))
