"""Those who are told about changes of a registry."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TypeAlias, final

from inferencepool._lock import tolerant_lock
from inferencepool.registry._changes import MembershipChange

__all__ = ["Listener", "Listeners"]

Listener: TypeAlias = Callable[[MembershipChange], object]

_log = logging.getLogger("inferencepool.registry")


@final
class Listeners:
    """
    Those who are told about changes, and what they are not told yet.

    The registry's lock guards `add`, `remove` and `post`; `deliver` is called without it, in any thread.
    """

    def __init__(self) -> None:
        """Begin with nobody."""
        self._entries: tuple[tuple[Listener], ...] = ()
        self._outbox: deque[MembershipChange] = deque()
        self._delivering = tolerant_lock()

    def add(self, listener: Listener) -> tuple[Listener]:
        """Give an entry for *listener*: one of its own each time, so that removing it removes no other."""
        entry = (listener,)
        self._entries = (*self._entries, entry)
        return entry

    def remove(self, entry: tuple[Listener]) -> None:
        """Take back an entry."""
        self._entries = tuple(item for item in self._entries if item is not entry)

    def post(self, change: MembershipChange) -> None:
        """Note a change that was made."""
        self._outbox.append(change)

    def deliver(self) -> None:
        """Tell what was noted, one thread at a time, so that listeners see changes in the order they were made."""
        while self._outbox and self._delivering.acquire(False):
            try:
                while self._outbox:
                    change = self._outbox.popleft()
                    for (listener,) in self._entries:
                        try:
                            listener(change)
                        except Exception:  # noqa: BLE001  # whatever it is, it is the listener's, not the writer's
                            _log.exception("listener %r failed on %r", listener, change)
            finally:
                self._delivering.release()
