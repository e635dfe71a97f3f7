"""The file that a run of `pytest --benchmark` leaves."""

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Harness
from benchmarks.machine import CPU_LIBRARIES, GPU_LIBRARIES, describe_machine
from gpunn.backends.limits import usable_cores
from gpunn.errors import OutputError
from gpunn.files import write_whole


def write_results(harness: Harness) -> Path:
    """Write all that was found, and return where; raises `OutputError` where that can't be done."""
    path = harness.choices.results
    if path is None:
        path = harness.root / ".benchmarks" / f"gpunn-{harness.started.translate({32: '-', 58: None})}.json"
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another place with --results") from error
    write_whole(path, json.dumps(document(harness), indent=1, allow_nan=False).encode())
    return path


def document(harness: Harness) -> dict[str, Any]:
    """Return the run as JSON's types; times are in seconds."""
    machine = describe_machine(list(dict.fromkeys((*CPU_LIBRARIES, *GPU_LIBRARIES, "pytest-benchmark"))))
    return {
        "gpunn benchmarks": 1,
        "started": harness.started,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
        "revision": machine.pop("gpunn"),
        "machine": machine,
        "devices": {backend.name: backend.describe() for backend in harness.choices.backends},
        "threads": {"usable cores": usable_cores(), "libraries": _thread_pools()},
        "options": harness.choices.to_dict(),
        "rows": harness.records,
        "skipped": harness.skipped,
    }


def _thread_pools() -> list[dict[str, Any]]:
    """Return the libraries that have threads of their own, and how many."""
    from threadpoolctl import threadpool_info

    known = ("user_api", "internal_api", "version", "num_threads")
    return [{name: pool[name] for name in known} for pool in threadpool_info()]
