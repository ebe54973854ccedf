"""Durations as Go programs spell them."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.cli._durations import duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("1h2m3s4ms", 3723.004),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("100us", 1e-4),
        ("100\u00b5s", 1e-4),
        ("5ns", 5e-9),
        ("0", 0),
        ("0s", 0),
        ("30", 30),
        ("0.25", 0.25),
    ],
)
def test_allowed(text: str, expected: float) -> None:
    """Numbers with units add up; a plain number is seconds."""
    assert expected == pytest.approx(duration(text))


@pytest.mark.parametrize(
    "text", ["", "s", "30 s", "-1s", "1d", "1e3", "inf", "nan", "1s1", "\u0663s", "99999999h", "."]
)
def test_refused(text: str) -> None:
    """What is no duration is named, with examples of what is."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration such as 30s"):
        duration(text)


@given(st.text(st.sampled_from("0123456789.hmsnu-+e ")))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else than seconds or a refusal comes out."""
    try:
        seconds = duration(text)
    except argparse.ArgumentTypeError:
        return

    assert seconds >= 0
