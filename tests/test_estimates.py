"""What rounds say follows from the times that were measured, and they don't say more than they can."""

import numpy as np
import pytest

from benchmarks.estimates import at_least, at_most, estimate, p_of_more, ratio, steady
from benchmarks.schema import Round


def rounds(*seconds: float, disturbed: tuple[int, ...] = ()) -> list[Round]:
    return [Round(n, each, "others" if n in disturbed else None) for n, each in enumerate(seconds)]


@pytest.mark.parametrize(
    ("n", "low", "high", "confidence"),
    [(1, 0, 0, 0.0), (5, 0, 4, 0.9375), (6, 0, 5, 0.96875), (8, 0, 7, 0.9921875), (9, 1, 7, 0.9609375)],
)
def test_the_interval_is_that_of_order_statistics(n: int, low: int, high: int, confidence: float) -> None:
    found = estimate([float(each) for each in range(n)])
    assert (found.low, found.high, found.rounds) == (low, high, n)
    assert found.confidence == pytest.approx(confidence)
    assert found.sure == (n >= 6)


def test_intervals_hold_the_true_median_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for n in (6, 9, 15):
        drawn = [estimate(rng.lognormal(size=n).tolist()) for _ in range(600)]
        held = np.mean([each.low <= 1 <= each.high for each in drawn])
        assert held >= drawn[0].confidence - 0.03


def test_disturbed_rounds_do_not_count() -> None:
    found = steady(rounds(1.0, 9.0, 1.2, disturbed=(1,)))
    assert found is not None
    assert (found.median, found.rounds) == (1.1, 2)
    assert steady([]) is None
    times = ratio(rounds(1.0, 1.0, 1.0, 1.0, disturbed=(0,)), rounds(9.0, 2.0, 9.0, 4.0, disturbed=(2,)))
    assert times is not None
    assert (times.low, times.median, times.high) == (2.0, 3.0, 4.0)
    assert ratio(rounds(1.0, disturbed=(0,)), rounds(1.0)) is None


def test_ratios_are_of_equal_rounds() -> None:
    found = ratio(rounds(1.0, 2.0, 4.0), rounds(3.0, 6.0, 12.0))
    assert found is not None
    assert (found.low, found.high, found.variation) == (3.0, 3.0, 0.0)


def test_a_bar_is_met_missed_or_undecided() -> None:
    found = estimate([2.0, 2.1, 2.2, 2.3, 2.4, 2.5])
    assert [at_least(found, bar) for bar in (1.9, 2.0, 2.2, 2.6)] == ["met", "met", "undecided", "missed"]
    assert [at_most(found, bar) for bar in (1.9, 2.2, 2.5, 2.6)] == ["missed", "undecided", "met", "met"]
    assert at_least(estimate([9.0] * 5), 2.0) == "undecided"  # too few to tell
    assert at_least(None, 2.0) == "no result"


def test_more_epochs_than_by_chance_are_told() -> None:
    assert p_of_more([5, 5, 5], [5, 5, 5]) == 1
    assert p_of_more([6, 7, 8, 9, 10], [5, 5, 5, 5, 5]) == pytest.approx(1 / 32)
    assert p_of_more([4, 4, 4, 4, 4], [5, 5, 5, 5, 5]) == 1
    assert 0.3 < p_of_more([6, 4, 6, 5, 5], [5, 5, 5, 5, 5]) < 1
