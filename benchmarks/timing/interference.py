"""What kept a process from its cores while it was timed, as far as Linux tells; elsewhere nothing is known."""

import os
import time
from contextlib import suppress
from pathlib import Path

STOLEN, OTHERS, THROTTLED = 0.02, 0.1, 0.01
"""Shares of the time above which a round is disturbed: stolen by other virtual machines, each core's; used by other
processes, of one core; throttled by the control group's quota."""

LEAST = 0.02
"""Seconds below which the kernel's clocks, in hundredths, tell nothing."""

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Watch:
    """Begins to watch when it is made."""

    def __init__(self) -> None:
        self._before = _now()

    def told(self, seconds: float) -> tuple[float, str | None]:
        """Return the cores that this process had on average, 0 if unknown, and in words what disturbed it, or None."""
        busy, stolen, throttled, heat, own = (
            after - before for after, before in zip(_now(), self._before, strict=True)
        )
        if seconds < LEAST:
            return 0.0, None
        cores = own / seconds
        if stolen > STOLEN * seconds * len(_cores()) + 1 / TICKS:
            return cores, f"other machines had {stolen / seconds:.0%} of a core"
        if busy - own > OTHERS * seconds + 2 / TICKS:
            return cores, f"other processes had {(busy - own) / seconds:.0%} of a core"
        if throttled > THROTTLED * seconds:
            return cores, f"the quota of CPU time was used up for {throttled / seconds:.0%} of the time"
        if heat > 0:
            return cores, "the processor was too hot for its clock rate"
        return cores, None


def _now() -> tuple[float, float, float, float, float]:
    """Return seconds so far: of busy cores, stolen, throttled; throttlings by heat; and seconds of this process."""
    busy = stolen = throttled = heat = 0.0
    with suppress(OSError, ValueError):
        mine = _cores()
        for line in Path("/proc/stat").read_text("ascii").splitlines():
            name, *counts = line.split()
            if name in mine:
                user, nice, system, _idle, _wait, interrupt, soft, steal, *_ = map(int, counts)
                busy += (user + nice + system + interrupt + soft) / TICKS
                stolen += steal / TICKS
    with suppress(OSError, ValueError, KeyError):
        found = dict(line.split() for line in Path("/sys/fs/cgroup/cpu.stat").read_text("ascii").splitlines())
        throttled = int(found["throttled_usec"]) / 1e6
    for core in _cores():
        place = Path(f"/sys/devices/system/cpu/{core}/thermal_throttle/core_throttle_count")
        with suppress(OSError, ValueError):
            heat += int(place.read_text("ascii"))
    return busy, stolen, throttled, heat, time.process_time()


def _cores() -> set[str]:
    """Return the names of the cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    return {f"cpu{number}" for number in os.sched_getaffinity(0)}


def usual_share(cores: float, usual: float) -> str | None:
    """Return in words that a round had far fewer cores than the contestant's usual number, or None.

    0 stands for an unknown number.
    """
    return None if cores == 0 or cores >= 0.9 * usual else f"had {cores:.2f} cores, usually {usual:.2f}"


def load() -> float | None:
    """Return the mean number of running processes in the last minute, where that is known."""
    with suppress(OSError, AttributeError):
        return os.getloadavg()[0]
    return None
