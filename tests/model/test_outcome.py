"""What became of a request, from what a gateway has in its hands."""

from __future__ import annotations

import pytest

from inferencepool.model import Outcome


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (7, 7.0),
        (0.5, 0.5),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        (10**9, 86_400.0),
        ("1000000000", 86_400.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 1000, None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
        (-1, None),
        (float("nan"), None),
        (True, None),
    ],
)
def test_a_wait_may_be_the_text_of_its_header(told: float | str | None, seconds: float | None) -> None:
    """Seconds are taken as a number and as the header has them; what says nothing that can be waited for is None."""
    outcome = Outcome.of_reason(429, retry_after=told)

    assert seconds == outcome.retry_after
