"""What the connections of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, final

from inferencepool.lab.apiserver._api import Api
from inferencepool.lab.apiserver._faults import Answer, Ending, Fault
from inferencepool.lab.apiserver._injections import Injections
from inferencepool.lab.apiserver._log import LoggedRequest, RequestLog
from inferencepool.lab.apiserver._patterns import Pattern
from inferencepool.lab.apiserver._requests import ApiRequest
from inferencepool.lab.apiserver._resources import Document
from inferencepool.lab.apiserver._watching import Watch

if TYPE_CHECKING:
    from inferencepool.lab.apiserver._http import Connection

__all__ = ["ApiService"]


@final
class ApiService:
    """
    Answers the requests of all connections. Used on the server's loop.

    Attributes:
        address: ``host:port`` at which clients come in.
        bookmark_interval: Seconds between bookmarks of a watch that asked for them.
        connections: Those that are open.
    """

    def __init__(self, api: Api, log: RequestLog, injections: Injections, bookmark_interval: float) -> None:
        """Answer with *api*, note requests in *log*, and let them meet *injections*."""
        self.address = ""
        self.bookmark_interval = bookmark_interval
        self.connections: set[Connection] = set()
        self._api = api
        self._log = log
        self._injections = injections

    def connect(self) -> asyncio.Protocol:
        """Make what serves a connection."""
        from inferencepool.lab.apiserver._http import Connection  # noqa: PLC0415 - an extra

        return Connection(self)

    def begin(self, request: ApiRequest) -> tuple[LoggedRequest, Fault | None]:
        """Note a request, and tell what goes wrong with it."""
        return self._log.add(request), self._injections.find(request)

    def end(self, entry: LoggedRequest) -> None:
        """Note that a request is over."""
        self._log.end(entry)

    def answer(self, request: ApiRequest, on_item: Callable[[], None]) -> Answer | Watch:
        """Do what the request asks for."""
        return self._api.answer(request, self.address, on_item)

    def watches(self, pattern: Pattern) -> list[Watch]:
        """Give the open watches whose requests match."""
        return [connection.watch for connection in self._watching(pattern) if connection.watch is not None]

    def end_watches(self, pattern: Pattern, error: Document | None) -> int:
        """End the open watches whose requests match, with *error* if there is one; gives their number."""
        ended = self.watches(pattern)
        for watch in ended:
            watch.end(error)
        return len(ended)

    def break_watches(self, pattern: Pattern, how: Ending) -> int:
        """Break the connections of the open watches whose requests match; gives their number."""
        struck = self._watching(pattern)
        for connection in struck:
            connection.break_off(how)
        return len(struck)

    def break_all(self, how: Ending) -> None:
        """Break all connections."""
        for connection in list(self.connections):
            connection.break_off(how)

    def abort_all(self) -> None:
        """End the connections that do not end by themselves: under TLS the client has a say in that."""
        for connection in list(self.connections):
            connection.abort()

    def _watching(self, pattern: Pattern) -> list[Connection]:
        return [
            connection
            for connection in self.connections
            if connection.watch is not None and pattern.matches(connection.watch.request)
        ]
