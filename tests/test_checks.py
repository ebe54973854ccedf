"""Rules for values: what they accept, what they say of the others, and where that is kept for programs."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import attrs
import pytest

from inferencepool import _checks as checks
from inferencepool.errors import ConfigurationError


def made(check: checks.Validator, value: Any) -> Any:
    """Give *value* to a class whose one field has the rule."""
    return attrs.make_class("Options", {"size": attrs.field(validator=check)})(value)


@pytest.mark.parametrize(
    ("check", "good", "bad", "rule"),
    [
        (
            checks.checked_whole_number("o", 1, 9),
            [1, 9],
            [0, 10, True, 1.0, "1", None],
            "is not a whole number from 1 to 9",
        ),
        (checks.checked_whole_number("o", 1, None), [1, 10**30], [0], "is not a whole number of 1 or more"),
        (
            checks.checked_whole_number("o", 1, None, unit="bytes"),
            [1],
            [0],
            "is not a whole number of bytes, 1 or more",
        ),
        (checks.checked_port("o", 0), [0, 65535], [-1, 65536], "is not a port from 0 to 65535"),
        (checks.checked_number("o"), [0, 0.5], [-0.1, inf, nan, True, "1"], "is not a finite number of 0 or more"),
        (
            checks.checked_number("o", above=True, unit="seconds"),
            [0.1],
            [0],
            "is not a finite number of seconds above 0",
        ),
        (checks.checked_number("o", 0, 1), [0, 1], [1.1, nan], "is not a number from 0 to 1"),
        (checks.checked_number("o", 0, 1, above=True), [0.1, 1], [0], "is not a number above 0, up to 1"),
        (
            checks.checked_number("o", infinite=True),
            [inf],
            [nan],
            "is not a number of 0 or more, or infinite for never",
        ),
        (checks.checked_choice("o", "a", "b"), ["a"], ["c", None], "is none of 'a', 'b'"),
        (checks.checked_text("o"), ["a"], ["", 1], "is not a string of one or more characters"),
        (checks.checked_flag("o"), [True, False], [0, None], "is neither true nor false"),
        (checks.checked_method("o", "append", "list"), [[]], [list, ()], "is no list with a method append"),
        (checks.optional(checks.checked_flag("o")), [None, True], [0], "is neither true nor false"),
    ],
)
def test_rules(check: checks.Validator, good: list[Any], bad: list[Any], rule: str) -> None:
    """What is good is taken; of what is not, owner, field, value and rule are told in the text and beside it."""
    for value in good:
        assert made(check, value).size is value
    for value in bad:
        with pytest.raises(ConfigurationError) as caught:
            made(check, value)

        error = caught.value
        assert f"o: size: {value!r} {rule}" == str(error)
        assert ("o", "size", f"{value!r} {rule}") == (error.owner, error.field, error.reason)
        assert error.value is value


def test_an_error_of_no_single_field() -> None:
    """Its text is all there is."""
    error = ConfigurationError("there is no cluster")

    assert ("there is no cluster", "", "", "there is no cluster", None) == (
        str(error),
        error.owner,
        error.field,
        error.reason,
        error.value,
    )
