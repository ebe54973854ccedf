"""The rule by which intervals are chosen."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.runtime.scraping import Rhythm, ScrapingOptions

COUNTS = st.integers(0, 10_000)


@given(COUNTS, COUNTS, st.integers(1, 20_000))
def test_within_bounds(failures: int, calm: int, endpoints: int) -> None:
    """Every pause lies between the interval and the longest pause of its kind, within a tenth."""
    rhythm = Rhythm(ScrapingOptions(idle_interval=0.5), Random(failures))
    interval = rhythm.interval(endpoints)
    longest = max(interval, 1.0 if failures else 0.5)

    assert 0.05 <= interval == max(0.05, endpoints / 4000)
    assert 0.9 * interval <= rhythm.next(endpoints, failures=failures, calm=calm) <= 1.1 * longest
    assert 0 <= rhythm.first(endpoints) <= interval


@pytest.mark.parametrize(
    ("failures", "calm", "idle_interval", "expected"),
    [
        (0, 0, None, 0.05),
        (0, 9, None, 0.05),
        (1, 0, None, 0.1),
        (3, 9, 0.5, 0.4),
        (9, 0, None, 1.0),
        (0, 0, 0.5, 0.05),
        (0, 1, 0.5, 0.1),
        (0, 3, 0.5, 0.4),
        (0, 4, 0.5, 0.5),
    ],
)
def test_growth(failures: int, calm: int, idle_interval: float | None, expected: float) -> None:
    """Pauses double with failures, and where intervals adapt with scrapes that found nothing to do."""
    rhythm = Rhythm(ScrapingOptions(idle_interval=idle_interval), Random(1))
    pauses = [rhythm.next(10, failures=failures, calm=calm) for _ in range(200)]

    assert expected == pytest.approx(sum(pauses) / len(pauses), rel=0.03)
    assert len(set(pauses)) > 100


def test_long_intervals_do_not_shrink() -> None:
    """An interval that is longer than the longest pause after a failure stays."""
    rhythm = Rhythm(ScrapingOptions(interval=5.0), Random(1))

    assert rhythm.next(1, failures=7, calm=0) >= 4.5
    assert not rhythm.adapts
