"""Telling what happens to a cluster that is followed, each thing once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, final

from inferencepool.adapters.kubernetes import Deleted, Failure, Feed, Foreign, Listed, Unreadable, Upserted
from inferencepool.runtime.logs import log_event

__all__ = ["Notices"]

_LOG = logging.getLogger("inferencepool.runtime.kubernetes")
# Names that are remembered so that they are not told again.
_REMEMBERED: Final = 1000
_FORBIDDEN: Final = 403
_HINTS: Final = {
    401: "the credentials are not accepted",
    _FORBIDDEN: "the role needs the verbs get, list and watch for this resource in this namespace",
    404: "the server has no such resource: is its definition (CRD) installed?",
}


@final
class Notices:
    """Logs failures, recoveries, and objects that cannot be read. One task group at a time may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing told; *clock* gives seconds."""
        self._clock = clock
        self._lost: dict[Feed[Any], float] = {}
        self._unread: dict[tuple[str, str], str] = {}
        self._foreign: set[tuple[str, str]] = set()

    def failed(self, feed: Feed[Any], failure: Failure, seconds: float) -> None:
        """Tell that *feed* is not up to date, and when it will be tried again."""
        lost = self._lost.setdefault(feed, self._clock())
        fields: dict[str, Any] = {"resource": feed.subject, "status": failure.status, "reason": failure.reason}
        # A server that has just started knows no roles: a right is missing where that lasts.
        if failure.status in _HINTS and (failure.status != _FORBIDDEN or feed.refused):
            fields["hint"] = _HINTS[failure.status]
        log_event(
            _LOG,
            logging.WARNING,
            "cluster not followed",
            **fields,
            retry_in=round(seconds, 3),
            away=round(self._clock() - lost, 3),
        )

    def heard(self, feed: Feed[Any]) -> bool:
        """Tell that *feed* is up to date again, if it was not; whether that is so."""
        lost = self._lost.pop(feed, None)
        if lost is not None:
            away = round(self._clock() - lost, 3)
            log_event(_LOG, logging.INFO, "cluster followed again", resource=feed.subject, away=away)
        return lost is not None

    def forget(self, feed: Feed[Any]) -> None:
        """Forget *feed*."""
        self._lost.pop(feed, None)

    def objects(self, feed: Feed[Any], deltas: Iterable[Any]) -> None:
        """Tell of objects that cannot be read, once until they can or something else is wrong."""
        for delta in deltas:
            match delta:
                case Foreign(reason):
                    self._tell_foreign(feed.subject, reason)
                case Unreadable():
                    self._tell_unread(feed.subject, delta)
                case Listed():
                    names = {each.name for each in delta.unreadable}
                    for subject, name in [*self._unread]:
                        if subject == feed.subject and name not in names:
                            del self._unread[subject, name]
                    for each in delta.unreadable:
                        self._tell_unread(feed.subject, each)
                case Deleted(name) if self._unread:
                    self._unread.pop((feed.subject, name), None)
                case Upserted(read) if self._unread:
                    name = read.metadata.name if hasattr(read, "metadata") else read.name
                    self._unread.pop((feed.subject, name), None)

    def _tell_foreign(self, subject: str, reason: str) -> None:
        if (subject, reason) not in self._foreign and len(self._foreign) < _REMEMBERED:
            self._foreign.add((subject, reason))
            log_event(_LOG, logging.WARNING, "object not asked for", resource=subject, reason=reason)

    def _tell_unread(self, subject: str, unread: Unreadable) -> None:
        key = (subject, unread.name)
        if self._unread.get(key) == unread.reason:
            return
        if len(self._unread) >= _REMEMBERED and key not in self._unread:
            # Whoever has so many that cannot be read has been told so often.
            return
        self._unread[key] = unread.reason
        log_event(_LOG, logging.ERROR, "object not read", resource=subject, name=unread.name, reason=unread.reason)
