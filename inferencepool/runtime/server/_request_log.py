"""Lines about requests."""

from __future__ import annotations

import logging
from typing import final

from inferencepool._showing import without_query
from inferencepool.adapters.extproc import Exchange
from inferencepool.errors import InferencePoolError
from inferencepool.runtime.logs import log_event

__all__ = ["LIMITED_EVENTS", "RequestLog"]

_LOG = logging.getLogger(__name__)
_REFUSED = "request refused"
_FAILED = "request failed"

#: The events that clients can cause at will: those of requests, and what the gRPC server says of a failed call.
LIMITED_EVENTS = (_REFUSED, _FAILED, "a call failed")


@final
class RequestLog:
    """
    Logs a line for each request that was refused or failed, with the reason, and for all others if wanted.

    Give it to an `ExternalProcessor` as its observer. It has no state.
    """

    def __init__(self, *, successful: bool = False) -> None:
        """Log *successful* requests as well, or only those that are not."""
        self._successful = successful

    def finished(self, exchange: Exchange) -> None:
        """Hear of a request that is over."""
        error = exchange.error
        request = {"request_id": exchange.request_id, "path": without_query(exchange.path), "model": exchange.model}
        if exchange.refused:
            dropped = error.dropped_reason if isinstance(error, InferencePoolError) else None
            fields = request | {"status": exchange.status, "reason": str(error), "dropped_reason": dropped}
            log_event(_LOG, logging.WARNING, _REFUSED, **fields)
        elif error is not None:
            reason = f"{type(error).__name__}: {error}"
            log_event(_LOG, logging.ERROR, _FAILED, **request, reason=reason)
        elif self._successful and exchange.destination:
            log_event(
                _LOG,
                logging.INFO,
                "request picked",
                **request,
                target_model=exchange.target_model,
                destination=exchange.destination,
                served=exchange.served or None,
                status=exchange.status or None,
                complete=exchange.complete,
                seconds=round(exchange.seconds, 6),
            )
