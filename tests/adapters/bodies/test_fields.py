"""Fields are read as the engines read them: with pydantic, which forgives much."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from inferencepool.adapters.bodies._fields import read_count, read_flag

FLAG = TypeAdapter(bool)
NUMBER = TypeAdapter(int)
GREATEST = 2**63 - 1
VALUES = (
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(0, 99).map(round).map(float)
    | st.text("0159+-_. \n", max_size=6)
    | st.text(max_size=4)
    | st.sampled_from(["true", "TRUE", "on", "Off", "yes", "Y", "t", "F", "no", " true", "\u017f"])
)


def read_by_pydantic(adapter: TypeAdapter[Any], value: Any) -> Any:
    """Give what pydantic makes of *value*; None where it refuses it."""
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None


@given(VALUES)
@example("yes")
@example(1.0)
@example("YE\u017f")
def test_flags(value: Any) -> None:
    """A flag is true where pydantic takes it for true."""
    assert (read_by_pydantic(FLAG, value) is True) == read_flag(value)


@given(VALUES)
@example("5")
@example(" 5 ")
@example("5.0")
@example("1_000")
@example("+5")
@example(5.0)
@example(True)
@example("-0")
@example("0__5")
@example("\u0665")
@example(2.0**63)
def test_counts(value: Any) -> None:
    """A number of tokens is what pydantic makes of it, if that is from 0 to 2^63 - 1."""
    expected = read_by_pydantic(NUMBER, value)
    assert (expected if expected is not None and 0 <= expected <= GREATEST else None) == read_count(value)


@pytest.mark.parametrize("value", [None, [], {}, "9" * 5_000])
def test_what_says_nothing(value: Any) -> None:
    """What is of another kind, or longer than any number, is no number and not true."""
    assert (None, False) == (read_count(value), read_flag(value))
