"""Endpoints that went, and that may come back as what they were."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, final

import attrs

from inferencepool.model import Endpoint

__all__ = ["KEPT_SECONDS", "MOST_KEPT", "Away"]

#: Seconds for which a slot is kept for an endpoint; those of the binding of a session.
KEPT_SECONDS: Final = 300.0
#: Slots that are kept.
MOST_KEPT: Final = 1000


@attrs.frozen
class _Absence:
    """An endpoint that went, the slot that is kept for it, and since when."""

    endpoint: Endpoint
    slot: int
    since: float


@final
class Away:
    """
    The endpoints that are away, longest first, and the slots that are kept for them.

    A pod that is not ready for a while, or that is labelled out of the pool and in again, has still cached what it had:
    the same pod by uid, address and restarts of its containers. Only pods whose uid is known are told apart so.

    Bounded in count and time; each call takes O(1) and as much as it gives up. Not thread-safe: the registry's lock
    guards it.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._absences: OrderedDict[str, _Absence] = OrderedDict()

    def leave(self, endpoint: Endpoint, slot: int, now: float) -> list[int]:
        """Keep *slot* for *endpoint*, which may come back; gives the slots that are kept no more."""
        given_up = self.give_up(endpoint)
        if not endpoint.pod_uid:
            return [*given_up, slot]
        self._absences[endpoint.id] = _Absence(endpoint, slot, now)
        return given_up if len(self._absences) <= MOST_KEPT else [*given_up, self._pop_oldest()]

    def come_back(self, endpoint: Endpoint, now: float) -> int | None:
        """Give the slot that is kept for *endpoint*, which is kept no more; None where there is none for just it."""
        absence = self._absences.get(endpoint.id)
        if (
            absence is None
            or now - absence.since > KEPT_SECONDS
            or _process_of(absence.endpoint) != _process_of(endpoint)
        ):
            return None
        del self._absences[endpoint.id]
        return absence.slot

    def give_up(self, endpoint: Endpoint) -> list[int]:
        """Keep no slot for the id of *endpoint* any more; gives the one that was, if any."""
        absence = self._absences.pop(endpoint.id, None)
        return [] if absence is None else [absence.slot]

    def expire(self, now: float) -> list[int]:
        """Give the slots that were kept long enough."""
        slots = []
        while self._absences and now - next(iter(self._absences.values())).since > KEPT_SECONDS:
            slots.append(self._pop_oldest())
        return slots

    def _pop_oldest(self) -> int:
        return self._absences.popitem(last=False)[1].slot


def _process_of(endpoint: Endpoint) -> tuple[str, str, int]:
    """Tell what has something cached from others of the same id."""
    return endpoint.pod_uid, endpoint.destination, endpoint.restarts
