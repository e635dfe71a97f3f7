"""What this process may use of the machine: cores and memory, which are often fewer than there are."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""By which users limit the threads of libraries like this one; joblib sets them in its worker processes."""

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """Return how many threads of this process can compute at once: the least of what there are limits by.

    These are the cores that it may run on (`taskset`), the CPU time that its control groups may take (containers),
    rounded down, as a thread that waits its turn keeps others waiting, `VARIABLES`, where they are whole numbers, and
    the `inner_max_num_threads` of joblib's current backend. Files of the system are looked for under `root`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [cores, *_quotas(root), *_of_joblib()]
    for name in VARIABLES:
        # OpenMP takes a list, for loops inside loops; the first number is that of the outermost one.
        asked = os.environ.get(name, "").partition(",")[0].strip()
        if asked.isdecimal() and asked.isascii():
            limits += [int(asked)] * (int(asked) > 0)
    return max(1, int(min(limits)))


def available_memory(root: Path = ROOT) -> int | None:
    """Return the bytes of memory that this process may use in all, or None where the system doesn't tell.

    That is the machine's memory, or less where a control group (of a container) or `ulimit -v` has it so.
    """
    limits = [float(found) for found in _numbers(root, "memory", "memory.max", "memory.limit_in_bytes")]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ImportError, OSError):  # Windows has no such thing
        import resource

        limits += [limit for limit in resource.getrlimit(resource.RLIMIT_AS)[:1] if limit != resource.RLIM_INFINITY]
    return int(min(limits)) if limits else None


def _of_joblib() -> Iterator[int]:
    """Yield the threads that joblib leaves to what runs inside of it, where it is used and says so."""
    parallel = sys.modules.get("joblib.parallel")
    if parallel is not None:
        backend, *_ = parallel.get_active_backend()
        limit = getattr(backend, "inner_max_num_threads", None)
        if isinstance(limit, int) and limit > 0:
            yield limit


def _quotas(root: Path) -> Iterator[float]:
    """Yield how many cores' time each control group of this process may take, where it is limited."""
    for folder in _groups(root, "cpu"):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}".split()
        # "max", and -1, are no limits.
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
            yield int(words[0]) / int(words[1])


def _numbers(root: Path, controller: str, *names: str) -> Iterator[int]:
    for folder in _groups(root, controller):
        for name in names:
            word = _read(folder / name).strip()
            if word.isdecimal():
                yield int(word)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, from its own up to the outermost one seen."""
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
            # In a container without a view of its own, paths are those of the machine, of which it sees a part.
            inside = Path(path).relative_to(top) if Path(path).is_relative_to(top) else Path()
            folder = root / mount.lstrip("/")
            if ".." not in inside.parts:
                yield from (folder.joinpath(*inside.parts[:n]) for n in range(len(inside.parts), 0, -1))
            yield folder


def _mounts(root: Path, controller: str) -> list[tuple[int, str, str]]:
    """Return where control groups are to be seen: version, the group that is the top there, and the folder."""
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
