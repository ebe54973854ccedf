"""What a session knows of its request, and what is told of it at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

from inferencepool.adapters.extproc._arrival import Arrival
from inferencepool.adapters.extproc._decision import Decision
from inferencepool.adapters.extproc._exchange import Exchange, RequestTraits
from inferencepool.adapters.extproc._messages import RequestHeaders
from inferencepool.adapters.extproc._response import ResponsePhaseState
from inferencepool.model import _protocol as names

if TYPE_CHECKING:
    from inferencepool.adapters.extproc._processor import ExternalProcessor

__all__ = ["Account"]

_NO_HEAD = RequestHeaders({})
_UNKNOWN = RequestTraits()


@final
@attrs.define(eq=False)
class Account:
    """
    What a session knows of its request. Its session guards it.

    Attributes:
        head: The request's headers.
        began: When they came; None before that.
        request_id: Value of ``x-request-id``.
        traits: By what metrics tell the request apart.
        decision: Where it goes; None before that is decided.
        answered: When that was decided.
        error: Why it was refused, or failed.
    """

    head: RequestHeaders = _NO_HEAD
    began: float | None = None
    request_id: str = ""
    traits: RequestTraits = _UNKNOWN
    decision: Decision | None = None
    answered: float | None = None
    error: BaseException | None = None

    def close(
        self, processor: ExternalProcessor, body: Arrival, response: ResponsePhaseState, *, finished: bool
    ) -> None:
        """Take back what the request reserved, or leave it to *processor* to do so later; tell who wants to know."""
        decision, answered = self.decision, self.answered
        if decision is None or answered is None:
            processor.leave()
        elif finished or response.is_complete:
            decision.result.ended(response.last_outcome)
            ended = response.ended if response.ended is not None else processor.clock()
            processor.leave(took=ended - answered)
        else:
            processor.leave(decision.result, since=answered)
        if processor.observer is not None and self.began is not None:
            processor.observer.finished(self._exchange(self.began, processor.clock(), body, response, finished))

    def _exchange(
        self, began: float, now: float, body: Arrival, response: ResponsePhaseState, finished: bool
    ) -> Exchange:
        headers = self.head.headers
        return Exchange(
            request_id=self.request_id or headers.get(names.REQUEST_ID, ""),
            path=headers.get(":path", ""),
            traits=self.traits,
            destination=self.decision.routing.destination if self.decision else "",
            served=response.served,
            status=response.status,
            error=self.error,
            complete=response.is_complete or finished,
            usage=response.usage,
            streaming=response.is_streaming,
            request_bytes=body.size,
            response_bytes=response.size,
            answered_after=None if self.answered is None else self.answered - began,
            first_byte_after=None if response.first_byte is None else response.first_byte - began,
            seconds=now - began,
        )
