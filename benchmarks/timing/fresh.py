"""The first epoch of a fresh process: with an empty kernel cache ("cold"), and with a full one ("warm").

python -m benchmarks.timing.fresh    # trains what comes as JSON on its standard input, and says "trained"
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.schema import Contestant, Start, Task
from benchmarks.timing.contestants import AbsentError, team
from benchmarks.timing.exactness import Problem

ROOT = Path(__file__).resolve().parent.parent.parent
CACHES = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "CUPY_CACHE_DIR", "CUDA_CACHE_PATH")
"""Environment variables that name the folders of compiled code."""

WARM, WARM_OF_PEER = 3, 1
"""How often it is done with a full cache."""

PATIENCE = 180.0
"""Seconds for a process."""

TRAINED, ABSENT = "trained", "absent: "


def first_epochs(task: Task, contestant: Contestant) -> Start:
    """Return the seconds of fresh processes; raises `AbsentError` where the contestant can't train there."""
    with tempfile.TemporaryDirectory() as folder:
        caches = dict.fromkeys(CACHES, folder)
        cold = _seconds(task, contestant, caches)
        warm = [_seconds(task, contestant, caches) for _ in range(WARM_OF_PEER if contestant.is_peer else WARM)]
    return Start(task, contestant, [cold], warm)


def _seconds(task: Task, contestant: Contestant, caches: dict[str, str]) -> float:
    command = (sys.executable, "-m", "benchmarks.timing.fresh")
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | caches | {"PYTHONPATH": os.pathsep.join(places)}
    started = time.perf_counter()
    done = subprocess.run(
        command,
        input=msgspec.json.encode((task, contestant)),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=PATIENCE,
    )
    seconds = time.perf_counter() - started
    said = done.stdout.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
    if said[-1].startswith(ABSENT):
        raise AbsentError(said[-1].removeprefix(ABSENT))
    if said[-1] != TRAINED:
        raise RuntimeError(said[-1])
    return seconds


def main() -> None:
    """Train for a round."""
    task, contestant = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[Task, Contestant])
    try:
        team(contestant, contestant.threads, Problem(task)).train()
    except AbsentError as absence:
        print(f"{ABSENT}{absence}")
    else:
        print(TRAINED)
    sys.stdout.flush()
    os._exit(0)  # threads of other libraries may take their time to end


if __name__ == "__main__":
    main()
