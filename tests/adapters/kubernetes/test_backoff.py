"""How long to wait after failures."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.kubernetes import Failure, ReflectorOptions
from inferencepool.adapters.kubernetes._backoff import Backoff
from inferencepool.errors import ApiServerError, ConfigurationError

FAILURE = Failure("no")
OPTIONS = ReflectorOptions(retry_first=1, retry_most=8, retry_refused=60, retry_after_most=100)


@given(seed=st.integers(), failures=st.integers(1, 2000))
def test_doubles_up_to_a_limit(seed: int, failures: int) -> None:
    """Each failure doubles the time up to the limit; what is waited is between half of that and all."""
    backoff = Backoff(OPTIONS, Random(seed))
    for number in range(failures):
        wanted = min(2**number, 8)
        assert wanted / 2 <= backoff.after(FAILURE) <= wanted
    backoff.reset()

    assert backoff.after(FAILURE) <= 1


@given(seed=st.integers(), asked=st.floats(-1, 1e12), failures=st.integers(1, 10))
def test_the_server_may_ask_for_more(seed: int, asked: float, failures: int) -> None:
    """What the server asks for is what is waited, within reason, and it is no failure."""
    backoff = Backoff(OPTIONS, Random(seed))
    waited = [backoff.after(Failure("later", 429, asked)) for _ in range(failures)]

    assert [min(max(asked, 0), 100)] * failures == waited
    assert 0 == backoff.failures


def test_the_server_may_not_ask_without_end() -> None:
    """After ten times in a row the usual time counts too, so that a server that asks for none is not asked at once."""
    backoff = Backoff(OPTIONS, Random(0))
    waited = [backoff.after(Failure("later", 429, 0.0)) for _ in range(14)]
    assert [0.0] * 10 == waited[:10]
    assert all(2**number / 2 <= each <= 2**number for number, each in enumerate(waited[10:]))
    assert 9 == backoff.after(Failure("later", 429, 9.0))
    backoff.reset()

    assert 0 == backoff.after(Failure("later", 429, 0.0))


@pytest.mark.parametrize("status", [404, 405])
def test_refused(status: int) -> None:
    """What is not there is asked for seldom from the first time on."""
    backoff = Backoff(OPTIONS, Random(0))

    assert all(30 <= backoff.after(Failure("no", status)) <= 60 for _ in range(3))
    assert backoff.refused


def test_forbidden() -> None:
    """A server that has just started forbids for a moment: that is waited for as usual, and refused where it lasts."""
    backoff = Backoff(OPTIONS, Random(0))
    for number in range(4):
        assert 2**number / 2 <= backoff.after(Failure("no", 403)) <= 2**number
        assert not backoff.refused
    backoff.after(Failure("no", 403))
    assert backoff.refused
    backoff.after(Failure("lost"))

    assert not backoff.refused


def test_short_turns() -> None:
    """The first turn that ends early costs nothing; those after it do, and so does one after a failure."""
    backoff = Backoff(OPTIONS, Random(0))
    first, second, third = (backoff.after_short_turn("early") for _ in range(3))
    assert first is None
    assert second is not None
    assert third is not None
    assert 1 <= second <= 2 <= third <= 4
    backoff.reset()
    backoff.after(FAILURE)

    assert backoff.after_short_turn("early") is not None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ApiServerError("no", status=503, retry_after=3.0), Failure("no", 503, 3.0)),
        (LookupError("no"), Failure("LookupError: no")),
        (TimeoutError(), Failure("TimeoutError")),
    ],
)
def test_failures_of_errors(error: Exception, expected: Failure) -> None:
    """What any client raises is told, with the status where it has one."""
    assert expected == Failure.of(error)


def test_failures_of_foreign_clients() -> None:
    """A status that is a number is that of HTTP; anything else of that name is none."""

    class ForeignError(Exception):
        status: object = 403

    assert 403 == Failure.of(ForeignError("no")).status
    ForeignError.status = "403"
    assert Failure.of(ForeignError("no")).status is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"page_size": 0}, "reflector: page_size: 0 is not a whole number of 1 or more"),
        ({"page_size": True}, "reflector: page_size: True is not"),
        ({"max_line": 1.5}, "reflector: max_line: 1.5 is not"),
        ({"retry_first": 0}, "reflector: retry_first: 0 is not a finite number of seconds above 0"),
        ({"grace": float("inf")}, "reflector: grace: inf is not"),
        ({"watch_timeout": "1"}, "reflector: watch_timeout: '1' is not"),
        ({"healthy_after": True}, "reflector: healthy_after: True is not"),
    ],
)
def test_options(options: dict[str, Any], expected: str) -> None:
    """Options that make no sense are named."""
    with pytest.raises(ConfigurationError) as caught:
        ReflectorOptions(**options)

    assert str(caught.value).startswith(expected)
