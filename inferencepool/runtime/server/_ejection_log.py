"""Lines about endpoints that are ejected, and back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, final

import attrs

from inferencepool.registry import EjectionChange
from inferencepool.runtime.logs import log_event

__all__ = ["EJECTION_EVENTS", "EjectionLog"]

_LOG = logging.getLogger(__name__)
_EJECTED = "endpoint ejected"
_BACK = "endpoint back"

#: The events that many endpoints can cause at once.
EJECTION_EVENTS = (_EJECTED, _BACK)

# Ejections of one endpoint that are told in so many seconds, and endpoints of which that is remembered.
_MOST_TOLD: Final = 6
_WINDOW: Final = 60.0
_MOST_ENDPOINTS: Final = 10_000


@attrs.define
class _Told:
    """What was told of an endpoint: how often since when, for which models it was not told to be back, and the rest."""

    since: float
    ejections: int = 0
    open: set[str] = attrs.field(factory=set)
    left_out: int = 0


@final
class EjectionLog:
    """
    Logs a line for each ejection that begins, with the reason, and one when the endpoint is back.

    Of an endpoint that flaps, 6 ejections are told per minute, each with its end; the last of them tells for how long
    none follows (``quiet_seconds``), and the next one how many were left out. What is remembered is bounded: that of
    10,000 endpoints.

    Give it to `EndpointHealth.subscribe`, which calls it once at a time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Tell times by *clock*, that of the registry."""
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def __call__(self, change: EjectionChange) -> None:
        """Hear of a change."""
        now, ejection, endpoint = self._clock(), change.ejection, change.endpoint
        told = self._of(endpoint.id, now)
        fields: dict[str, Any] = {
            "endpoint": endpoint.id,
            "destination": endpoint.destination,
            "reason": str(ejection.reason),
            "model": ejection.model or None,
            "detail": ejection.detail or None,
        }
        if not change.began:
            if ejection.model in told.open:
                told.open.discard(ejection.model)
                log_event(_LOG, logging.INFO, _BACK, **fields, seconds=round(max(0.0, now - ejection.since), 3))
            return
        if told.ejections >= _MOST_TOLD:
            told.left_out += 1
            return
        told.ejections += 1
        told.open.add(ejection.model)
        if told.ejections == _MOST_TOLD:
            fields["quiet_seconds"] = round(told.since + _WINDOW - now, 3)
        if told.left_out:
            fields["left_out"], told.left_out = told.left_out, 0
        log_event(_LOG, logging.WARNING, _EJECTED, **fields, probe_in_seconds=round(max(0.0, ejection.until - now), 3))

    def _of(self, endpoint_id: str, now: float) -> _Told:
        """Give what was told of an endpoint; that of the one that nothing happened to for the longest time goes."""
        told = self._told.pop(endpoint_id, None) or _Told(now)
        if not 0 <= now - told.since < _WINDOW:
            told.since, told.ejections = now, 0
        self._told[endpoint_id] = told
        if len(self._told) > _MOST_ENDPOINTS:
            del self._told[next(iter(self._told))]
        return told
