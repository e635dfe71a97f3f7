"""The speed table as text."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bars import Row
from benchmarks.contest import Contest
from benchmarks.standings import TOO_SLOW, WORTH_SAVING, Standing, best_of

LEGEND = f"""\
milliseconds an epoch, median of the rounds, for each peer with its best number of threads (in brackets);
* 1 round: more than {TOO_SLOW} times slower than the best peer and {WORTH_SAVING:g} s, left out of the others;
- absent; FAILED: wrong result;
ratio: the best peer's median to that of the first engine, and the quartiles of each round's ratio"""


@dataclass(frozen=True)
class Table:
    """A column for each of `peers` and `engines`, whether present in a row or not."""

    peers: Sequence[str]
    engines: Sequence[str]
    kind: str = "images"
    """What tells rows of one network and batch size apart."""

    def header(self) -> str:
        """Return the names of the columns."""
        contestants = "".join(f"{name:>14}" for name in self.peers) + "".join(
            f"{name:>{_width(name)}}" for name in self.engines
        )
        return f"{'network':<16}{'batch':>6} {self.kind:<6}{contestants}  {'best peer':<14}{'ratio':>21}{'bar':>6}"

    def line(self, row: Row, contest: Contest, found: Standing | None, judged: str, kind: str | None = None) -> str:
        """Return the line of `row`, with how gpunn stands and what that is `judged`; `kind`: if not the images'."""
        contestants = "".join(f"{_cell(contest, name, is_peer=True):>14}" for name in self.peers)
        contestants += "".join(f"{_cell(contest, name, is_peer=False):>{_width(name)}}" for name in self.engines)
        best = found.best_peer.name if found else "-"
        ratio = f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})" if found else "-"
        bar = f"{row.bar:g}" if judged and row.bar is not None else ""
        kind = kind or ("dense" if row.dense else "sparse")
        start = f"{row.network:<16}{row.batch_size:>6} {kind:<6}"
        return f"{start}{contestants}  {best:<14}{ratio:>21}{bar:>6} {judged}".rstrip()


def _width(engine: str) -> int:
    """Return the width of an engine's column."""
    return max(10, len(engine) + 2)


def _cell(contest: Contest, name: str, *, is_peer: bool) -> str:
    own = [result for result in contest.results if result.name == name and result.is_peer == is_peer]
    if any(result.problem is not None for result in own):
        return "FAILED"
    best = best_of(own)
    if best is None:
        return "-"
    milliseconds = best.median * 1e3
    digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    number = f"{milliseconds:.{digits}f}{'' if best.seconds else '*'}"
    return f"{number} ({best.threads})" if best.threads else number
