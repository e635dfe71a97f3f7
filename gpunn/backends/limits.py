"""Cores and memory available to this process, which are often fewer than the machine has."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that limit threads; joblib sets them in its worker processes."""

ROOT = Path("/")

_SHARE: ContextVar[int | None] = ContextVar("share", default=None)


@contextmanager
def at_most_cores(cores: int) -> Iterator[None]:
    """Limit `usable_cores` to `cores` in the block, for this thread and copies of its context."""
    token = _SHARE.set(cores)
    try:
        yield
    finally:
        _SHARE.reset(token)


def usable_cores(root: Path = ROOT) -> int:
    """Return the number of threads this process can run in parallel, the smallest of its limits.

    Limits are the CPU affinity (`taskset`), the CPU quota of its control groups (containers), rounded down because a
    thread that waits for CPU time delays the others, `VARIABLES` that are integers, the `inner_max_num_threads` of
    joblib's current backend, and `at_most_cores`. System files are read under `root`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [cores, *_quotas(root), *_of_joblib()]
    if (share := _SHARE.get()) is not None:
        limits.append(share)
    for name in VARIABLES:
        # OpenMP takes a list, one number per nesting level; the first is the outermost.
        asked = os.environ.get(name, "").partition(",")[0].strip()
        if asked.isdecimal() and asked.isascii():
            limits += [int(asked)] * (int(asked) > 0)
    return max(1, int(min(limits)))


def available_memory(root: Path = ROOT) -> int | None:
    """Return the total memory in bytes that this process may use, or None if unknown.

    That is the machine's memory, or less if limited by a control group (container) or `ulimit -v`.
    """
    limits = [float(found) for found in _numbers(root, "memory", "memory.max", "memory.limit_in_bytes")]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ImportError, OSError):  # missing on Windows
        import resource

        limits += [limit for limit in resource.getrlimit(resource.RLIMIT_AS)[:1] if limit != resource.RLIM_INFINITY]
    return int(min(limits)) if limits else None


def _of_joblib() -> Iterator[int]:
    """Yield joblib's limit on inner threads, if joblib runs this and sets one."""
    parallel = sys.modules.get("joblib.parallel")
    if parallel is not None:
        backend, *_ = parallel.get_active_backend()
        limit = getattr(backend, "inner_max_num_threads", None)
        if isinstance(limit, int) and limit > 0:
            yield limit


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quota, in cores, of each limited control group of this process."""
    for folder in _groups(root, "cpu"):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}".split()
        # "max" and -1 mean unlimited.
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
            yield int(words[0]) / int(words[1])


def _numbers(root: Path, controller: str, *names: str) -> Iterator[int]:
    for folder in _groups(root, controller):
        for name in names:
            word = _read(folder / name).strip()
            if word.isdecimal():
                yield int(word)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups, from the innermost to the outermost visible one."""
    mounts = _mounts(root, controller)
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version = 2 if number == "0" and not controllers else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        for kind, top, mount in mounts:
            if kind != version:
                continue
            # In a container without a cgroup namespace, paths are the host's, and only a part of them is mounted.
            inside = Path(path).relative_to(top) if Path(path).is_relative_to(top) else Path()
            folder = root / mount.lstrip("/")
            if ".." not in inside.parts:
                yield from (folder.joinpath(*inside.parts[:n]) for n in range(len(inside.parts), 0, -1))
            yield folder


def _mounts(root: Path, controller: str) -> list[tuple[int, str, str]]:
    """Return the mounted control-group hierarchies: version, group at the root of the mount, mount folder."""
    found = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        about, _, source = line.partition(" - ")
        fields, kind = about.split(), source.split()
        if len(fields) < 5 or not kind:
            continue
        if kind[0] == "cgroup2":
            found.append((2, fields[3], fields[4]))
        elif kind[0] == "cgroup" and controller in kind[-1].split(","):
            found.append((1, fields[3], fields[4]))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
