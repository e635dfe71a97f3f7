"""First epochs of fresh processes: timed with an empty kernel cache and with a full one, and failures are told."""

import subprocess
from typing import Any

import msgspec
import pytest

from benchmarks.schema import Contestant, Task
from benchmarks.timing import fresh
from benchmarks.timing.contestants import AbsentError
from benchmarks.timing.fresh import WARM, WARM_OF_PEER, first_epochs

TASK = Task("784-4-10", 50, images=100)
NUMPY = Contestant("numpy", "cpu", is_peer=True)


def test_a_fresh_process_trains_for_a_round() -> None:
    found = first_epochs(TASK, NUMPY)
    assert (found.task, found.contestant, found.problem) == (TASK, NUMPY, None)
    assert (len(found.cold), len(found.warm)) == (1, WARM_OF_PEER)
    assert min(*found.cold, *found.warm) > 0.05  # an interpreter starts


def test_all_processes_of_a_contestant_share_a_cache_that_was_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[set[str]] = []

    def run(_command: Any, *, env: dict[str, str], input: bytes, **_others: Any) -> Any:  # noqa: A002 - it is subprocess.run's
        assert msgspec.json.decode(input, type=tuple[Task, Contestant]) == (TASK, Contestant("epoch", "cpu"))
        folders.append({env[name] for name in fresh.CACHES})
        return subprocess.CompletedProcess([], 0, stdout=b"compiling\ntrained\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert len(first_epochs(TASK, Contestant("epoch", "cpu")).warm) == WARM
    first_epochs(TASK, Contestant("epoch", "cpu"))
    mine, its = folders[: 1 + WARM], folders[1 + WARM :]
    assert mine == [mine[0]] * (1 + WARM)
    assert len(mine[0]) == 1
    assert mine[0] != its[0]


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (b"absent: jax is not installed", AbsentError, "^jax is not installed$"),
        (b"Traceback\nValueError: no", RuntimeError, "^ValueError: no$"),
        (b"", RuntimeError, "^exit code 7$"),
    ],
)
def test_who_does_not_train_says_why(
    monkeypatch: pytest.MonkeyPatch, said: bytes, error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 7, stdout=said))
    with pytest.raises(error, match=message):
        first_epochs(TASK, NUMPY)
