"""Endpoints that are ready, and ill by what came back from them."""

from __future__ import annotations

from enum import StrEnum

import attrs

__all__ = ["Ejection", "EjectionReason"]


class EjectionReason(StrEnum):
    """
    Why an endpoint is ejected; the first three as in Envoy's outlier detection.

    Attributes:
        CONSECUTIVE_GATEWAY_FAILURE: So many requests in a row could not be served by it: not reached, broken off,
            502, 503, 504.
        CONSECUTIVE_5XX: So many requests in a row failed there, in these or other ways.
        SUCCESS_RATE: Over a window, far fewer of its requests succeeded than of the others'.
        STALLED: It holds requests and gives nothing back for a time that others do not take, and its metrics stand
            still.
        BUSY: It said so, with 429 or 503.
        CLIENT_ERRORS: It calls far more requests wrong than the others do.
        MODEL_NOT_FOUND: It does not have a model that it was asked for; it is ejected for that model alone.
    """

    CONSECUTIVE_GATEWAY_FAILURE = "consecutive-gateway-failure"
    CONSECUTIVE_5XX = "consecutive-5xx"
    SUCCESS_RATE = "success-rate"
    STALLED = "stalled"
    BUSY = "busy"
    CLIENT_ERRORS = "client-errors"
    MODEL_NOT_FOUND = "model-not-found"


@attrs.frozen
class Ejection:
    """
    One endpoint is avoided: it gets requests only where no other is left, and from time to time one that probes it.

    Attributes:
        reason: Why.
        since: When that began, in seconds of the registry's clock.
        until: When the next request probes it.
        detail: What was seen last, in a few words.
        model: The model for which alone it is ejected; empty for all.
    """

    reason: EjectionReason
    since: float
    until: float
    detail: str = ""
    model: str = ""

    def __str__(self) -> str:
        for_model = f" for model {self.model}" if self.model else ""
        return f"{self.reason}{for_model}" + (f" ({self.detail})" if self.detail else "")
