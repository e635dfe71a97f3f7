"""What is written of a row."""

from dataclasses import asdict
from typing import Any

from benchmarks.bars import Row
from benchmarks.contest import Contest
from benchmarks.standings import Standing


def row_record(row: Row, contest: Contest, found: Standing | None, judged: str) -> dict[str, Any]:
    """Return all that is known of a row; times are in seconds."""
    return {
        **asdict(row),
        "learning_rate": row.learning_rate,
        "best_peer": found and found.best_peer.name,
        "ratio": found and {"medians": found.ratio, "low": found.low, "high": found.high},
        "verdict": judged,
        "contestants": [asdict(result) for result in contest.results],
        "absent": contest.absent,
    }
