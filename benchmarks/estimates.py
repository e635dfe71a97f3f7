"""What rounds say, and whether they can say it: medians with intervals, ratios by round, verdicts."""

from collections.abc import Sequence
from itertools import product
from math import comb

import numpy as np

from benchmarks.schema import Estimate, Round, Verdict

CONFIDENCE = 0.95


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of one or more values, with its interval, as `Estimate` has it."""
    ordered, n = np.sort(np.asarray(values, np.float64)), len(values)
    # Of n values, each below the true median with probability 1/2, at most `k` are below it with probability `tail`.
    k, tail, confidence = 0, 0.5**n, 1 - 2 * 0.5**n
    while (narrower := 1 - 2 * (tail + comb(n, k + 1) * 0.5**n)) >= CONFIDENCE:
        k, tail, confidence = k + 1, tail + comb(n, k + 1) * 0.5**n, narrower
    mean = float(ordered.mean())
    return Estimate(
        median=float(np.median(ordered)),
        low=float(ordered[k]),
        high=float(ordered[n - 1 - k]),
        confidence=confidence,
        variation=float(ordered.std(ddof=1)) / mean if n > 1 and mean > 0 else 0.0,
        rounds=n,
    )


def steady(rounds: Sequence[Round]) -> Estimate | None:
    """Return the estimate of the undisturbed rounds, or of all where none is undisturbed; None without any."""
    seconds = [each.seconds for each in rounds if each.disturbed is None] or [each.seconds for each in rounds]
    return estimate(seconds) if seconds else None


def ratio(ours: Sequence[Round], theirs: Sequence[Round]) -> Estimate | None:
    """Return how many times faster ours are, by the rounds in which neither was disturbed; None without any."""
    mine = {each.number: each.seconds for each in ours if each.disturbed is None}
    ratios = [each.seconds / mine[each.number] for each in theirs if each.disturbed is None and each.number in mine]
    return estimate(ratios) if ratios else None


def at_least(found: Estimate | None, bar: float) -> Verdict:
    """Return whether what was found is `bar` or more."""
    return _verdict(found, met=found is not None and found.low >= bar, missed=found is not None and found.high < bar)


def at_most(found: Estimate | None, bar: float) -> Verdict:
    """Return whether what was found is `bar` or less."""
    return _verdict(found, met=found is not None and found.high <= bar, missed=found is not None and found.low > bar)


def _verdict(found: Estimate | None, *, met: bool, missed: bool) -> Verdict:
    if found is None:
        return "no result"
    if not found.sure:
        return "undecided"
    return "met" if met else "missed" if missed else "undecided"


def p_of_more(found: Sequence[float], reference: Sequence[float]) -> float:
    """Return how likely pairs that differ by chance alone would be as far above the reference in sum.

    Exact: by all ways to give the differences signs. Pairs are of one seed each.
    """
    differences = np.subtract(found, reference)
    signs = np.array(list(product((-1, 1), repeat=len(differences))))
    return float(np.mean(signs @ np.abs(differences) >= differences.sum() - 1e-9))
