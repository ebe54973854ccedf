"""What the head of a response says of the endpoint that was asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from inferencepool.adapters.extproc._messages import Metadata, ResponseHeaders
from inferencepool.model import Outcome, OutcomeKind
from inferencepool.model._outcome import SUCCESS
from inferencepool.scheduling import PickResult

__all__ = ["follow", "judge", "judge_trailers"]

# As Envoy calls them, and its filter.
_FILTER: Final = "envoy.filters.http.ext_proc"
_DETAILS: Final = "response.code_details"
_ATTEMPTS: Final = "upstream.request_attempt_count"

_BY_ENDPOINT: Final = "via_upstream"
_RESET: Final = "upstream_reset_before_response_started{"
# Why Envoy gave a request up before the endpoint could do anything about it.
_OWN_RESETS: Final = ("overflow", "local_reset", "overload")
_NONE_LEFT: Final = "no_healthy_upstream"
_TIMEOUTS: Final = frozenset(
    {
        "response_timeout",
        "upstream_response_timeout",
        "upstream_per_try_timeout",
        "upstream_per_try_idle_timeout",
        "upstream_max_stream_duration_reached",
    }
)
# Envoy says 504 to them where the request was whole, so that it waited for the endpoint, and else 408.
_OVERALL_TIMEOUTS: Final = frozenset({"stream_idle_timeout", "duration_timeout", "max_duration_timeout"})
_GATEWAY_TIMEOUT: Final = 504
_SWITCHING_PROTOCOLS: Final = 101

_SECONDS: Final = re.compile("[0-9]{1,9}")
_CODE: Final = re.compile("[0-9]{1,2}")
_LONGEST_DATE: Final = 64
_SHOWN: Final = 60


def judge(message: ResponseHeaders, status: int) -> Outcome | None:
    """
    Tell what a response that begins says of the endpoint; None for nothing.

    Where the proxy tells ``response.code_details``, its own replies are told apart from the endpoint's: a connection
    that failed or broke, and a wait that was too long, are the endpoint's failures; all others say nothing of it. A
    proxy that does not tell is taken for one that hands on what the endpoint said.

    Args:
        message: Its headers.
        status: Its HTTP status; 0 while unknown.
    """
    attributes = message.attributes
    details = _attributes_of(attributes).get(_DETAILS) if attributes else None
    if isinstance(details, str) and details != _BY_ENDPOINT:
        return _judge_reply(details, status, attributes)
    headers = message.headers
    code = headers.get("grpc-status")
    if code is not None:
        return _judge_code(code)
    if status == _SWITCHING_PROTOCOLS:
        return SUCCESS
    wait = headers.get("retry-after")
    return Outcome.of_status(status, retry_after=None if wait is None else _to_seconds(wait, headers))


def judge_trailers(trailers: Mapping[str, str], before: Outcome | None) -> Outcome | None:
    """Tell what a response says of the endpoint by its *trailers*, where its headers said *before*."""
    code = trailers.get("grpc-status")
    return before if code is None else _judge_code(code)


def _attempts_of(attributes: Metadata) -> int:
    """Tell how many times the proxy sent the request to an endpoint; 0 where it does not tell."""
    attempts = _attributes_of(attributes).get(_ATTEMPTS)
    return int(attempts) if isinstance(attempts, float) and 0 < attempts < 1 << 31 else 0


def follow(result: PickResult, destination: str, served: str, attributes: Metadata) -> None:
    """
    Let *result* be that of the endpoint that served, where it is not the first of *destination*.

    The proxy tried those that are listed before it; where it sent the request fewer times than that, it left some of
    them out, and it is unknown which. Where it does not tell how many times, and one served that is not listed, it may
    have asked none of them.
    """
    listed = destination.split(",")
    is_listed = served in listed
    place = listed.index(served) if is_listed else len(listed)
    attempts = _attempts_of(attributes)
    if place:
        were_tried = attempts > place or (is_listed and not attempts)
        result.passed_on(place if were_tried else 0, place - 1 if is_listed else None)


def _attributes_of(attributes: Metadata) -> Mapping[str, Any]:
    """Give what a proxy was asked to tell; others than Envoy name their filter as they like, and have one."""
    return attributes.get(_FILTER) or next(iter(attributes.values()), {})


def _judge_reply(details: str, status: int, attributes: Metadata) -> Outcome | None:
    """Judge by a reply of the proxy's own."""
    if details.startswith(_RESET):
        is_failure = not details.startswith(_OWN_RESETS, len(_RESET))
    elif details == _NONE_LEFT:
        # Said of the last attempt: that an earlier one was made means that it failed.
        is_failure = _attempts_of(attributes) > 1
    else:
        is_failure = details in _TIMEOUTS or (details in _OVERALL_TIMEOUTS and status == _GATEWAY_TIMEOUT)
    return Outcome(OutcomeKind.GATEWAY_FAILURE, None, details[:_SHOWN]) if is_failure else None


def _judge_code(text: str) -> Outcome | None:
    return Outcome.of_grpc_status(int(text)) if _CODE.fullmatch(text) else None


def _to_seconds(text: str, headers: Mapping[str, str]) -> float | None:
    """Read ``retry-after`` (RFC 9110 section 10.2.3); a date counts from the response's own, whatever time it is."""
    if _SECONDS.fullmatch(text):
        return float(text)
    begin, end = _to_time(headers.get("date", "")), _to_time(text)
    return None if begin is None or end is None else max(0.0, end - begin)


def _to_time(text: str) -> float | None:
    if not 0 < len(text) <= _LONGEST_DATE:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
