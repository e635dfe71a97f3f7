"""What a GPU day has found so far: written after every step, and told in short at the end."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contest import Contest
from benchmarks.exactness import TOLERANCES
from benchmarks.gpu_rows import ON_CPU, Task
from benchmarks.job import exact_on
from benchmarks.peers import peers_on
from benchmarks.record import row_record
from benchmarks.standings import best_of, standing, verdict
from benchmarks.table import Table
from gpunn.engines import ENGINES
from gpunn.errors import OutputError
from gpunn.files import write_whole

LEGEND = f"""\
milliseconds an epoch, median of the rounds; auto: the engine that gpunn chooses, by its name among the others;
* 1 round: too slow for more; - absent, see below; FAILED: see below; {ON_CPU}: gpunn on the processor beside the GPU;
f32, tf32: how all of the row multiply matrices; all are compared with float64 after the first epoch: the loss and what
each array changed by are at most {TOLERANCES["float32"]:g} off ({TOLERANCES["tf32"]:g} in TF32);
ratio: the best peer's median to that of auto, and the quartiles of each round's ratio"""


@dataclass
class Report:
    """The document, what went wrong, what wasn't done, and which targets were missed."""

    device: str
    path: Path | None
    document: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    not_done: dict[str, list[str]] = field(default_factory=dict)
    """What and why, and in which rows."""
    missed: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    table: Table = field(default_factory=lambda: Table(peers_on("cuda"), ["auto", *ENGINES, ON_CPU], "in"))

    def write(self, **parts: Any) -> None:
        """Add `parts` to the document, and write all of it."""
        self.document |= parts
        lists = {"failures": self.failures, "not done": self.not_done, "targets": self.targets}
        if self.path is not None:
            try:
                write_whole(self.path, json.dumps(self.document | lists, indent=1).encode())
            except OutputError as error:  # what is still to be measured is told all the same
                if str(error) not in self.failures:
                    self.failures.append(str(error))

    def add_row(self, task: Task, contest: Contest, seconds: float) -> str:
        """Take in a row that took `seconds`; return its line of the table."""
        found = standing(contest.results, "auto")
        judged = verdict(found, task.row.bar)
        line = self.table.line(task.row, contest, found, judged, kind="tf32" if task.precision == "tf32" else "f32")
        self.lines.append(line)
        for name, reason in contest.absent.items():
            self.leave_out(f"{name}: {reason}", task)
        # `auto` repeats what is said of the engine that it stands for.
        for result in contest.results:
            if result.problem is not None and result.name != "auto":
                self.failures.append(f"{task}: {result.name}, {result.problem}")
        ours = best_of([result for result in contest.results if result.name == "auto"])
        if task.row.bar is not None:
            ratio = f"{found.ratio:.2f}" if found else "no"
            self._judge(f"{task}: {ratio} times the best peer's speed, at least {task.row.bar:g}", judged == "ok")
        if task.at_most is not None:
            taken = f"{ours.median * 1e3:.2f}" if ours else "no"
            reached = ours is not None and ours.median <= task.at_most
            self._judge(f"{task}: {taken} ms an epoch, at most {task.at_most * 1e3:g}", reached)
        record = row_record(task.row, contest, found, judged) | {
            "precision": task.precision,
            "at_most": task.at_most,
            "auto": contest.auto,
            "exact_on": exact_on(task.row.network, self.device),
            # JSON has no infinity.
            "deviations": {name: off if math.isfinite(off) else None for name, off in contest.deviations.items()},
            "tracebacks": contest.tracebacks,
            "took": seconds,
        }
        self.write(rows=[*self.document.get("rows", []), record])
        return line

    def leave_out(self, what: str, task: Task | None = None) -> None:
        """Note that something wasn't done: a whole part, or a contestant of `task`."""
        rows = self.not_done.setdefault(what, [])
        if task is not None:
            rows.append(str(task))

    def fail(self, what: str, trace: str = "") -> None:
        """Note that something went wrong, with the traceback there is of it."""
        self.failures.append(what)
        if trace:
            self.document.setdefault("tracebacks", {})[what] = trace
        self.write()

    def _judge(self, what: str, reached: bool) -> None:
        self.targets.append(f"{what}: {'ok' if reached else 'BELOW'}")
        if not reached:
            self.missed.append(what)

    def summary(self) -> str:
        """Return the end of the output: the table, the targets, and what couldn't be done or went wrong."""
        not_done = []
        for what, rows in self.not_done.items():
            where = "; ".join(rows) if len(rows) < 3 else f"in {len(rows)} rows"
            not_done.append(f"{what} ({where})" if rows else what)
        parts = {
            "milliseconds an epoch": [self.table.header(), *self.lines, LEGEND] if self.lines else [],
            "targets": self.targets,
            "not done": not_done,
            "FAILED": self.failures,
        }
        return "\n\n".join("\n".join([f"{title}:", *told]) for title, told in parts.items() if told)
