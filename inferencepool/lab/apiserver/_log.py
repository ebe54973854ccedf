"""What was asked of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Condition
from typing import Unpack, final

import attrs

from inferencepool.lab.apiserver._patterns import Match, Pattern
from inferencepool.lab.apiserver._requests import ApiRequest

__all__ = ["LoggedRequest", "RequestLog"]


@final
@attrs.define(eq=False)
class LoggedRequest:
    """
    A request and what became of it. The server's thread writes; others read.

    Attributes:
        request: The request.
        status: Status of the response; None before it began, and where a fault kept it from beginning.
        ended: Whether it is over: answered as a whole, or broken off by either side.
    """

    request: ApiRequest
    status: int | None = None
    ended: bool = False


@final
class RequestLog:
    """
    All requests since the start or the latest `clear`, in the order of their arrival. Thread-safe.

    Requests are chosen by what `Match` names: ``server.requests.count(verb="list", resource="pods")``.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._changed = Condition()
        self._entries: list[LoggedRequest] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LoggedRequest]:
        with self._changed:
            return iter(self._entries.copy())

    def matching(self, **match: Unpack[Match]) -> list[LoggedRequest]:
        """Give those that match."""
        pattern = Pattern(**match)
        return [entry for entry in self if pattern.matches(entry.request)]

    def count(self, **match: Unpack[Match]) -> int:
        """Count those that match."""
        return len(self.matching(**match))

    def wait(self, count: int = 1, *, timeout: float = 30.0, **match: Unpack[Match]) -> list[LoggedRequest]:
        """
        Wait until *count* requests that match have arrived, and give them.

        Raises:
            TimeoutError: There were not as many within *timeout* seconds.
        """
        found: list[LoggedRequest] = []

        def are_there() -> bool:
            found[:] = self.matching(**match)
            return len(found) >= count

        with self._changed:
            if not self._changed.wait_for(are_there, timeout):
                message = f"{len(found)} of {count} requests came in {timeout:g} s: {Pattern(**match)}"
                raise TimeoutError(message)
        return found

    def wait_until(self, condition: Callable[[], bool], *, timeout: float = 30.0) -> None:
        """
        Wait until *condition* is true; it is looked at again whenever a request comes or ends.

        Raises:
            TimeoutError: It did not become so within *timeout* seconds.
        """
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                message = f"it did not become true in {timeout:g} s, over {len(self)} requests"
                raise TimeoutError(message)

    def clear(self) -> None:
        """Forget all of them."""
        with self._changed:
            self._entries.clear()

    def add(self, request: ApiRequest) -> LoggedRequest:
        """Note a request that arrived."""
        entry = LoggedRequest(request)
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()
        return entry

    def end(self, entry: LoggedRequest) -> None:
        """Note that a request is over."""
        with self._changed:
            entry.ended = True
            self._changed.notify_all()

    def __repr__(self) -> str:
        return f"<RequestLog of {len(self)}>"
