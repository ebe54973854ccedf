"""What became of a request at its endpoint, as far as it says how the endpoint is."""

from __future__ import annotations

from enum import StrEnum
from math import inf
from typing import Final

import attrs

from inferencepool.errors import ConfigurationError

__all__ = ["Outcome", "OutcomeKind"]

# The longest wait that is told; whoever reacts has a bound of its own.
_LONGEST_WAIT: Final = 86_400.0
_SHOWN = 100


class OutcomeKind(StrEnum):
    """
    What an outcome says of the endpoint. Envoy's outlier detection tells the first four apart in the same way.

    Attributes:
        SUCCESS: It answered.
        GATEWAY_FAILURE: It could not be reached, broke off, or took too long; 502 and 504.
        UNAVAILABLE: It has no room, or does not serve at all; 503. A gateway failure as well.
        SERVER_ERROR: It failed in any other way; every other 5xx.
        BUSY: It has no room; 429.
        MODEL_NOT_FOUND: 404: it does not have the model, where the request names one, or whatever else was asked for.
        CLIENT_ERROR: The request is wrong, by its word; every other 4xx.
    """

    SUCCESS = "success"
    GATEWAY_FAILURE = "gateway-failure"
    UNAVAILABLE = "unavailable"
    SERVER_ERROR = "server-error"
    BUSY = "busy"
    MODEL_NOT_FOUND = "model-not-found"
    CLIENT_ERROR = "client-error"


_KINDS = {
    429: OutcomeKind.BUSY,
    404: OutcomeKind.MODEL_NOT_FOUND,
    502: OutcomeKind.GATEWAY_FAILURE,
    503: OutcomeKind.UNAVAILABLE,
    504: OutcomeKind.GATEWAY_FAILURE,
}

# By number, as in google.rpc.Code. Those that are not here are the client's.
_GRPC_KINDS = {
    0: OutcomeKind.SUCCESS,
    2: OutcomeKind.SERVER_ERROR,  # UNKNOWN
    4: OutcomeKind.GATEWAY_FAILURE,  # DEADLINE_EXCEEDED
    5: OutcomeKind.MODEL_NOT_FOUND,  # NOT_FOUND
    8: OutcomeKind.BUSY,  # RESOURCE_EXHAUSTED
    13: OutcomeKind.SERVER_ERROR,  # INTERNAL
    14: OutcomeKind.UNAVAILABLE,  # UNAVAILABLE
    15: OutcomeKind.SERVER_ERROR,  # DATA_LOSS
}
_FIRST_SUCCESS, _FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR, _LAST_STATUS = 200, 400, 500, 599
_LAST_CODE = 16


@attrs.frozen
class Outcome:
    """
    What became of a request at its endpoint.

    Attributes:
        kind: What it says of the endpoint.
        retry_after: Seconds for which the endpoint wants to be left alone; None where it did not say.
        detail: A few words on it, for people; never the request's or the response's own text.
    """

    kind: OutcomeKind = OutcomeKind.SUCCESS
    retry_after: float | None = None
    detail: str = ""

    @classmethod
    def of_status(cls, status: int, *, retry_after: float | str | None = None) -> Outcome | None:
        """Judge by an HTTP status; None where it is none, or is not the last word (1xx)."""
        if type(status) is not int or not _FIRST_SUCCESS <= status <= _LAST_STATUS:
            return None
        if status < _FIRST_CLIENT_ERROR:
            return SUCCESS
        other = OutcomeKind.CLIENT_ERROR if status < _FIRST_SERVER_ERROR else OutcomeKind.SERVER_ERROR
        return cls(_KINDS.get(status, other), to_wait(retry_after), f"status {status}")

    @classmethod
    def of_grpc_status(cls, code: int) -> Outcome | None:
        """Judge by a gRPC status (``google.rpc.Code``); None where it is none, or CANCELLED, which is the client's."""
        if type(code) is not int or not 0 <= code <= _LAST_CODE or code == 1:
            return None
        kind = _GRPC_KINDS.get(code, OutcomeKind.CLIENT_ERROR)
        return SUCCESS if kind is OutcomeKind.SUCCESS else cls(kind, None, f"gRPC status {code}")

    @classmethod
    def of_reason(cls, reason: object, *, retry_after: float | str | None = None) -> Outcome:
        """
        Judge by what a gateway says went wrong.

        Args:
            reason: The status of the response from 400 to 599; or why there is none, in a few words, such as
                ``connect-failure``, ``reset`` or ``timeout``: that is a gateway failure.
            retry_after: Seconds that the response asks to wait, or the text of its header ``Retry-After``.

        Raises:
            ConfigurationError: *reason* is neither.
        """
        if isinstance(reason, str):
            return cls(OutcomeKind.GATEWAY_FAILURE, to_wait(retry_after), reason[:_SHOWN])
        if isinstance(reason, int) and not isinstance(reason, bool) and _FIRST_CLIENT_ERROR <= reason <= _LAST_STATUS:
            outcome = cls.of_status(int(reason), retry_after=retry_after)
            if outcome is not None:
                return outcome
        message = f"failed: reason: {reason!r:.{_SHOWN}} is neither a text nor an HTTP status from 400 to 599"
        raise ConfigurationError(message)


SUCCESS: Final = Outcome()
"""The endpoint answered."""


def to_wait(wait: float | str | None) -> float | None:
    """
    Tell for how many seconds to wait; None where *wait* does not say.

    Args:
        wait: Seconds; or the text of a header ``Retry-After``, which says nothing where it is a date.
    """
    if isinstance(wait, str):
        digits = wait.strip()
        wait = float(digits) if digits.isascii() and digits.isdigit() else None
    if type(wait) not in (int, float) or wait is None or not 0 <= wait < inf:
        return None
    return float(min(wait, _LONGEST_WAIT))
