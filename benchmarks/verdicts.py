"""How the rows of a run compare with the bars: on CPUs, how many times the best peer's speed gpunn has to have."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.bars import Row

Record = dict[str, Any]


class Verdict(NamedTuple):
    """A row with a bar, and how many times the best peer's speed was found; None without a right result of both."""

    row: Row
    ratio: float | None

    @property
    def passed(self) -> bool:
        """Whether the row reaches its bar."""
        return self.ratio is not None and self.row.bar is not None and self.ratio >= self.row.bar

    def __str__(self) -> str:
        found = "no result" if self.ratio is None else f"{self.ratio:.2f} times the best peer's speed"
        return f"{'ok' if self.passed else 'BELOW'}: {self.row}: {found}, expected {self.row.bar:g}"


def verdicts(rows: Sequence[Row], records: Sequence[Record]) -> Iterator[Verdict]:
    """Yield a verdict for each of `rows` that has a bar, by the records of epochs."""
    for row in rows:
        if row.bar is None:
            continue
        mine = [
            record
            for record in records
            if record["what"] == "epoch"
            and (record["network"], record["batch_size"], record["dense"]) == (row.network, row.batch_size, row.dense)
            and record["device"] == "cpu"
            and record["problem"] is None
        ]
        yield Verdict(row, ratio_to_best_peer(mine))


def ratio_to_best_peer(records: Sequence[Record]) -> float | None:
    """Return the speed of gpunn's best engine over that of the best peer, or None where one of them is missing."""
    ours, theirs = (
        max((record["images_per_second"] for record in records if record["is_peer"] == peers), default=0.0)
        for peers in (False, True)
    )
    return ours / theirs if ours and theirs else None
