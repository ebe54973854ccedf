"""Keeping up with the objects of one kind: list, watch, and what to do when either fails."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Generic, TypeVar, final

from inferencepool.adapters.bodies import Loads, loads_json
from inferencepool.adapters.kubernetes._asked import Asked
from inferencepool.adapters.kubernetes._backoff import Backoff
from inferencepool.adapters.kubernetes._deltas import Delta, Foreign, Listed, Upserted
from inferencepool.adapters.kubernetes._feed import Failure, Step, Stream, Wait
from inferencepool.adapters.kubernetes._lines import EventLines
from inferencepool.adapters.kubernetes._listing import (
    KnownObjects,
    Listing,
    bound,
    check_version,
    failure_of,
    metadata_of,
    read_one,
    version_of,
)
from inferencepool.adapters.kubernetes._options import ReflectorOptions
from inferencepool.adapters.kubernetes._pages import Pages
from inferencepool.adapters.kubernetes._position import Position, is_another_server
from inferencepool.adapters.kubernetes._resources import ApiResource

__all__ = ["Reflector"]

_T = TypeVar("_T")

_GONE = 410
_BAD_REQUEST = 400
# Answers to a request for a list as a stream that mean: this server has none.
_NOT_OFFERED = (400, 422, 501)
_INITIAL_END = "k8s.io/initial-events-end"
_MALFORMED = (AttributeError, KeyError, RecursionError, TypeError, ValueError)


class _Phase(enum.Enum):
    LIST = enum.auto()
    INITIAL = enum.auto()
    WATCH = enum.auto()
    CHECK = enum.auto()


@final
class Reflector(Generic[_T]):
    """
    Tells what exists of one kind of object, and what changes, as a `Feed` of `Delta` values.

    It lists all objects, in pages or as a stream, and watches from there on. After a watch that ended in order it goes
    on where that was. After one whose resource version the server no longer knows, and after several that failed, it
    lists again, which tells what went in between. After any other that failed it asks first how far the server is, with
    a list of one object, and lists again where that is less far than it was, as after a restore from a backup.

    What was told stays true to the best of its knowledge as long as the server does not answer; `age` says for how long
    it has not. Not thread-safe.

    Attributes:
        resource: The kind of object.
        namespace: Where.
        problem: Why it is not up to date; None when it is, as far as it knows.
        synced: Whether all objects were told once.
    """

    def __init__(
        self,
        resource: ApiResource,
        namespace: str,
        read: Callable[[Mapping[str, Any]], _T],
        *,
        label_selector: str = "",
        name: str = "",
        options: ReflectorOptions | None = None,
        loads: Loads = loads_json,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        """
        Begin with nothing known.

        Args:
            resource: The kind of object.
            namespace: Where.
            read: Reads one object; raises `InvalidDocumentError` where it cannot.
            label_selector: Which objects, by labels, in the syntax of ``kubectl -l``; empty for all.
            name: Which object; empty for all. Whatever the server makes of the selector: others are left out, as are
                objects of other kinds and other namespaces.
            options: How patient to be.
            loads: Reads the JSON of pages and events. It may leave out what *read* does not look at.
            clock: Seconds; a clock that steps changes what counts as a short watch and `age`, nothing else.
            rng: Source of the randomness in waiting times.
        """
        self.resource = resource
        self.namespace = namespace
        self.problem: Failure | None = None
        self.synced = False
        self._asked = Asked(resource, namespace, name, label_selector)
        self._read = read
        self._options = options if options is not None else ReflectorOptions()
        self._clock = clock
        self._rng = rng if rng is not None else Random()
        self._backoff = Backoff(self._options, self._rng)
        self._streams = self._options.streaming_lists
        self._by_pages = False
        self._limited = True
        self._phase = _Phase.LIST
        self._listening = self._answered = False
        self._wait: float | None = None
        self._position = Position()
        self._events = EventLines(loads, self._options.max_line)
        self._watch_seconds = 0
        self._began = self._heard = clock()
        self._pages = Pages(resource, self._options, loads)
        self._listing = Listing(read)
        self._known = KnownObjects(self._options.max_objects)
        self._foreign_told = False

    @property
    def subject(self) -> str:
        """The kind of object."""
        return str(self.resource)

    @property
    def refused(self) -> bool:
        """Whether the server says that the resource is not there, or lastingly that it is not for us."""
        return self.problem is not None and self._backoff.refused

    @property
    def age(self) -> float:
        """Seconds since the server was last heard; a server with nothing to say is heard about once a minute."""
        return max(0.0, self._clock() - self._heard)

    @property
    def patience(self) -> float:
        """Seconds that the present page may take, or the next piece of a stream."""
        match self._phase:
            case _Phase.LIST | _Phase.CHECK:
                return self._options.page_timeout
            case _Phase.INITIAL:
                return self._options.grace
            case _Phase.WATCH:
                return self._watch_seconds + self._options.grace

    @property
    def listening(self) -> bool:
        """Whether the present stream is of any more use."""
        return self._listening

    def next_step(self) -> Step:
        """Give what to do next; a waiting time is given once."""
        if self._wait is not None:
            wait, self._wait = self._wait, None
            return Wait(wait)
        if self._position.version is not None:
            if self._position.doubtful:
                self._phase = _Phase.CHECK
                return self._asked.page(1)
            return self._begin(_Phase.WATCH, {"resourceVersion": self._position.version})
        if self._streams and not self._by_pages:
            self._begin_list()
            return self._begin(_Phase.INITIAL, {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"})
        self._phase = _Phase.LIST
        return self._asked.page(self._options.page_size if self._limited else None, self._pages.token)

    @property
    def unread(self) -> bool:
        """Whether something of what was handed over last is not read yet."""
        return self._pages.unread or self._events.unread

    def read(self) -> list[Delta[_T]]:
        """Read on in what was handed over last, a slice."""
        return self._read_page() if self._pages.unread else self._read_events()

    def receive_page(self, body: bytes) -> list[Delta[_T]]:
        """Take a page of the list; the last one gives what exists."""
        try:
            self._pages.take(body)
        except _MALFORMED as error:
            self._refuse_page(error)
            return []
        return self._read_page()

    def _read_page(self) -> list[Delta[_T]]:
        deltas: list[Delta[_T]] = []
        try:
            if self._phase is _Phase.CHECK:
                return self._check()
            for item in self._pages.read():
                foreign = self._asked.why_not(item)
                if foreign:
                    deltas += self._tell_foreign(foreign)
                else:
                    self._listing.add(item)
            bound("it", len(self._listing), self._options.max_objects, "objects")
            if self._pages.unread:
                return deltas
            if not self._pages.turn():
                deltas.append(self._complete(self._pages.version))
            self._hear()
        except _MALFORMED as error:
            self._refuse_page(error)
        return deltas

    def _check(self) -> list[Delta[_T]]:
        """Read how far the server is; an object that it tells along with it is no news."""
        self._pages.read()
        if not self._pages.unread:
            version = check_version(self._pages.version)
            self._pages.begin()
            self._position.confirm(version)
        return []

    def _refuse_page(self, error: Exception) -> None:
        self._begin_list()
        self.fail(Failure(f"the list cannot be read: {type(error).__name__}: {error}"))

    def receive_data(self, data: bytes) -> list[Delta[_T]]:
        """
        Take a piece of a watch, cut anywhere.

        A piece that is empty tells that the server has begun to answer.
        """
        try:
            self._events.feed(data)
        except ValueError as error:
            self._refuse_watch(error)
            return []
        if not data:
            self._hear()
        return self._read_events()

    def _read_events(self) -> list[Delta[_T]]:
        deltas: list[Delta[_T]] = []
        told = False
        try:
            for kind, document in self._events.read() if self._listening else ():
                told = True
                deltas += self._take(kind, document)
                if not self._listening:
                    break
        except _MALFORMED as error:
            self._refuse_watch(error)
            return deltas
        if not self._listening:
            self._events.drop()
            return deltas
        if told:
            # Part of an event is no news: a server may let it drip.
            self._hear()
        self._end_late()
        return deltas

    def _refuse_watch(self, error: Exception) -> None:
        self._position.version = None
        self.fail(Failure(f"the watch cannot be read: {type(error).__name__}: {error}"))

    def _end_late(self) -> None:
        """End a stream that goes on after the time at which the server was to end it."""
        seconds = self._clock() - self._began
        if self._phase is _Phase.INITIAL and seconds > self._options.page_timeout:
            self.fail(Failure("the list as a stream took too long"))
        elif self._phase is _Phase.WATCH and seconds > self._watch_seconds + self._options.grace:
            if self._events.pending:
                self.fail(Failure("an event of the watch took too long"))
            else:
                self.end_stream()

    def end_stream(self) -> None:
        """Hear that the server ended a stream in order; a watch goes on where it was."""
        if self._phase is _Phase.INITIAL:
            self.fail(Failure("the list as a stream ended before it was complete"))
            return
        self._listening, self._answered = False, True
        self._events.drop()
        self._forgive()
        if self._clock() - self._began < self._options.healthy_after:
            self._wait = self._backoff.after_short_turn("the watch ended early")

    def fail(self, failure: Failure) -> list[Delta[_T]]:
        """Hear that the present step failed, in whatever way; what was told stays as it is."""
        self._listening = False
        self._pages.drop()
        self._events.drop()
        expired = failure.status == _GONE
        if self._phase is _Phase.WATCH:
            self._forgive()
        failures = self._backoff.failures + 1
        match self._phase:
            case _Phase.INITIAL:
                self._by_pages = True
                self._begin_list()
                if failure.status in _NOT_OFFERED:
                    self._streams = False
                    return []
            case _Phase.LIST:
                if expired:
                    # The rest of the pages is gone. In one piece the list cannot expire.
                    self._begin_list()
                    self._limited = False
                elif failure.status == _BAD_REQUEST or is_another_server(failures):
                    # The server may not know the token any more, and say so in another way.
                    self._begin_list()
            case _Phase.WATCH | _Phase.CHECK:
                self._position.doubt(failure.status, failures)
        if expired:
            self._wait = self._backoff.after_short_turn(failure.reason)
            self.problem = failure if self._wait is not None else self.problem
        else:
            self.problem = failure
            self._wait = self._backoff.after(failure)
        return []

    def _begin(self, phase: _Phase, params: Mapping[str, str]) -> Stream:
        shortest = self._options.watch_timeout
        self._watch_seconds = max(1, round(self._rng.uniform(shortest, 2 * shortest)))
        self._phase = phase
        self._events.begin()
        self._listening, self._answered = True, False
        self._foreign_told = False
        self._began = self._clock()
        return self._asked.watch(self._watch_seconds, params)

    def _begin_list(self) -> None:
        self._pages.begin()
        self._foreign_told = False
        self._listing = Listing(self._read)

    def _complete(self, version: object) -> Listed[_T]:
        self._position.begin(check_version(version))
        listed = self._listing.finish()
        self._known.replace(self._listing.uids)
        self._begin_list()
        self._by_pages, self._limited = False, True
        self.synced = True
        return listed

    def _take(self, kind: object, document: Mapping[str, Any]) -> list[Delta[_T]]:
        """Take an event."""
        if kind == "ERROR":
            self.fail(failure_of(document))
            return []
        metadata = metadata_of(document)
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            foreign = self._asked.why_not(document)
            if foreign:
                self._advance(metadata)
                return self._tell_foreign(foreign)
        if self._phase is _Phase.INITIAL:
            return self._take_initial(kind, document, metadata)
        delta: Delta[_T] | None = None
        if kind in ("ADDED", "MODIFIED"):
            delta = read_one(self._read, document, metadata.get("name"))
            if isinstance(delta, Upserted):
                self._known.add(metadata)
        elif kind == "DELETED":
            delta = self._known.remove(metadata)
        self._advance(metadata)
        return [delta] if delta is not None else []

    def _advance(self, metadata: Mapping[str, Any]) -> None:
        if self._phase is _Phase.WATCH:
            self._position.version = version_of(metadata) or self._position.version

    def _take_initial(self, kind: object, document: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[Delta[_T]]:
        """Take an event of a list as a stream, whose end a bookmark tells."""
        if kind in ("ADDED", "MODIFIED"):
            self._listing.add(document)
            bound("it", len(self._listing), self._options.max_objects, "objects")
        elif kind == "DELETED":
            self._listing.remove(metadata["name"])
        elif kind == "BOOKMARK" and (metadata.get("annotations") or {}).get(_INITIAL_END) == "true":
            listed = self._complete(metadata["resourceVersion"])
            self._phase = _Phase.WATCH
            return [listed]
        return []

    def _tell_foreign(self, reason: str) -> list[Delta[_T]]:
        if self._foreign_told:
            return []
        self._foreign_told = True
        return [Foreign(reason)]

    def _hear(self) -> None:
        self._heard, self._answered = self._clock(), True
        self.problem = None

    def _forgive(self) -> None:
        if self._answered and self._clock() - self._began >= self._options.healthy_after:
            self._backoff.reset()

    def __repr__(self) -> str:
        return f"<Reflector of {self.resource} in {self.namespace}>"
