"""What became of one request."""

from __future__ import annotations

from typing import Protocol

import attrs

from inferencepool.adapters.bodies import Usage
from inferencepool.errors import InferencePoolError

__all__ = ["Exchange", "ExchangeObserver"]


@attrs.frozen(kw_only=True)
class Exchange:
    """
    What became of one request.

    Attributes:
        request_id: Value of ``x-request-id``; made here when the client sent none.
        path: The request's path with its query.
        model: The model that the client asked for; empty when unknown.
        target_model: The model that it got; the same unless rewritten.
        destination: What the picker answered, ``ip:port`` or several; empty when it picked none.
        served: The endpoint that served, as the proxy told; empty when it did not tell.
        status: HTTP status: the picker's own if it refused the request, else the response's; 0 when unknown.
        error: Why the picker refused the request or failed on it; None if it did not.
        complete: Whether the end of the response was seen.
        usage: Tokens, where usage was wanted and the response told it.
        seconds: From the request's headers to the end of what was seen.
    """

    request_id: str = ""
    path: str = ""
    model: str = ""
    target_model: str = ""
    destination: str = ""
    served: str = ""
    status: int = 0
    error: BaseException | None = None
    complete: bool = False
    usage: Usage | None = None
    seconds: float = 0.0

    @property
    def refused(self) -> bool:
        """Whether the picker refused the request: it answered the client itself."""
        return isinstance(self.error, InferencePoolError) and self.error.http_status != InferencePoolError.http_status


class ExchangeObserver(Protocol):
    """**Protocol:** is told about every request when it is over, by the thread that drives its session."""

    def finished(self, exchange: Exchange, /) -> object:
        """Hear of a request that is over, as far as the session could see."""
        ...
