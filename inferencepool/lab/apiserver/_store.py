"""The state of the API server: objects, one revision for all of them, and what happened to each kind of them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TypeAlias, final

import attrs

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._resources import Document, Resource

__all__ = ["Bookmark", "Change", "End", "Feed", "FeedItem", "Key", "ObjectStore", "Stored", "encode"]

#: Namespace, empty for objects without, and name.
Key: TypeAlias = tuple[str, str]


def encode(document: Document) -> bytes:
    """Give the document as JSON without spaces or line feeds, text beyond ASCII as it is."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


@attrs.frozen(eq=False)
class Stored:
    """
    One version of an object.

    Attributes:
        document: The object; never changed.
        revision: The revision that wrote it.
    """

    document: Document
    revision: int

    def at(self, revision: int) -> Document:
        """Give the object as if *revision* had written it: a watch tells of a deletion so."""
        return self.document | {"metadata": self.document["metadata"] | {"resourceVersion": str(revision)}}


@attrs.frozen(eq=False)
class Change:
    """
    One write.

    Attributes:
        revision: The revision it made.
        key: Namespace and name of the object.
        before: The object before; None where it was created.
        after: The object after; None where it was deleted.
    """

    revision: int
    key: Key
    before: Stored | None
    after: Stored | None


@attrs.frozen
class Bookmark:
    """
    A mark in a feed: everything up to *revision* came before it.

    Attributes:
        revision: The revision.
        ends_initial: Whether it ends the objects with which the watch began.
    """

    revision: int
    ends_initial: bool = False


@attrs.frozen
class End:
    """
    The end of a feed.

    Attributes:
        error: A Status that the watch tells before it ends; None for an end without one.
    """

    error: Document | None = None


FeedItem: TypeAlias = Change | Bookmark | End


@final
class Feed:
    """
    What one watch has yet to tell. The store appends from any thread; one reader takes.

    Attributes:
        items: What was not taken yet; `deque` is thread-safe.
    """

    def __init__(self, on_item: Callable[[], None]) -> None:
        """Begin empty; *on_item* is called, under the store's lock, after something was appended."""
        self.items: deque[FeedItem] = deque()
        self._on_item = on_item

    def append(self, item: FeedItem) -> None:
        """Tell *item*."""
        self.items.append(item)
        self._on_item()


@attrs.define(eq=False)
class _Table:
    """Objects of one resource; *floor* is the oldest revision from which its changes are known."""

    floor: int
    objects: dict[Key, Stored] = attrs.field(factory=dict)
    changes: deque[Change] = attrs.field(factory=deque)
    feeds: list[Feed] = attrs.field(factory=list)


@final
class ObjectStore:
    """
    Objects of all resources. One lock guards all of it; `locked` holds it over several calls.

    Revisions grow by one with every write of any resource. They begin just below a hundred, so that a client that
    compares them as texts goes wrong early.
    """

    def __init__(self, *, first_revision: int = 95, history: int = 10_000) -> None:
        """Begin empty; of every resource the latest *history* changes are remembered."""
        self._lock = RLock()
        self._revision = first_revision
        self._forgotten = first_revision
        self._history = history
        self._tables: dict[Resource, _Table] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads out for as long as the block lasts."""
        with self._lock:
            yield

    @property
    def revision(self) -> int:
        """The latest revision."""
        return self._revision

    def resources(self) -> tuple[Resource, ...]:
        """Give the resources of which there was ever anything to tell."""
        with self._lock:
            return tuple(self._tables)

    def floor(self, resource: Resource) -> int:
        """Tell the oldest revision from which the changes of *resource* are known."""
        return self._table(resource).floor

    def get(self, resource: Resource, key: Key) -> Stored | None:
        """Give an object; None where there is none."""
        with self._lock:
            return self._table(resource).objects.get(key)

    def write(self, resource: Resource, key: Key, document: Document) -> Stored:
        """Create or replace an object with *document*, which belongs to the store from here on."""
        with self._lock:
            table = self._table(resource)
            self._revision += 1
            document["metadata"]["resourceVersion"] = str(self._revision)
            after = Stored(document, self._revision)
            change = Change(self._revision, key, table.objects.get(key), after)
            table.objects[key] = after
            self._record(table, change)
            return after

    def remove(self, resource: Resource, key: Key) -> Stored:
        """Delete an object that is there; gives its last state, at the revision of the deletion."""
        with self._lock:
            table = self._table(resource)
            self._revision += 1
            before = table.objects.pop(key)
            self._record(table, Change(self._revision, key, before, None))
            return Stored(before.at(self._revision), self._revision)

    def snapshot(self, resource: Resource, revision: int | None = None) -> list[tuple[Key, Stored]]:
        """
        Give all objects of *resource*, ordered by key, as of *revision* (as of now by default).

        Raises:
            RefusedError: 410, that time is forgotten.
        """
        with self._lock:
            table = self._table(resource)
            objects = table.objects
            if revision is not None and revision < self._revision:
                objects = dict(objects)
                for change in reversed(self.changes_since(resource, revision)):
                    if change.before is None:
                        del objects[change.key]
                    else:
                        objects[change.key] = change.before
            return sorted(objects.items(), key=lambda item: item[0])

    def changes_since(self, resource: Resource, revision: int) -> list[Change]:
        """
        Give the changes of *resource* after *revision*, oldest first.

        Raises:
            RefusedError: 410, not all of them are remembered.
        """
        with self._lock:
            table = self._table(resource)
            if revision < table.floor:
                message = f"too old resource version: {revision} ({table.floor})"
                raise refusals.expired(message)
            found = []
            for change in reversed(table.changes):
                if change.revision <= revision:
                    break
                found.append(change)
            return found[::-1]

    def subscribe(self, resource: Resource, feed: Feed) -> None:
        """Tell *feed* of every change of *resource* from here on."""
        with self._lock:
            self._table(resource).feeds.append(feed)

    def unsubscribe(self, resource: Resource, feed: Feed) -> None:
        """Tell *feed* of nothing any more."""
        with self._lock:
            feeds = self._table(resource).feeds
            if feed in feeds:
                feeds.remove(feed)

    def announce(self, item: Bookmark | End, resource: Resource | None = None) -> None:
        """Append *item* to every feed, or to those of *resource*."""
        with self._lock:
            for known, table in self._tables.items():
                if resource in (None, known):
                    for feed in table.feeds:
                        feed.append(item)

    def compact(self) -> int:
        """
        Forget the past: every revision that anybody was told is too old to start from, even without writes since.

        Feeds that are open go on. Gives the revision that is the oldest from here on, as after a write elsewhere in
        the cluster.
        """
        with self._lock:
            self._revision += 1
            self._forgotten = self._revision
            for table in self._tables.values():
                table.changes.clear()
                table.floor = self._revision
            return self._revision

    def restore(self, revision: int) -> None:
        """
        Go back to *revision*, from which on revisions count anew. Feeds that are open hear nothing of it, or any more.

        Raises:
            RefusedError: 410, that time is forgotten.
        """
        with self._lock:
            restored = {resource: dict(self.snapshot(resource, revision)) for resource in self._tables}
            self._revision = self._forgotten = revision
            for resource, objects in restored.items():
                self._tables[resource] = _Table(revision, objects)

    def clear(self, resource: Resource) -> None:
        """Drop all objects of *resource* without a word, and end its feeds."""
        with self._lock:
            table = self._table(resource)
            self._revision += 1
            table.objects.clear()
            table.changes.clear()
            table.floor = self._revision
            self.announce(End(), resource)

    def _table(self, resource: Resource) -> _Table:
        with self._lock:
            table = self._tables.get(resource)
            if table is None:
                table = self._tables[resource] = _Table(self._forgotten)
            return table

    def _record(self, table: _Table, change: Change) -> None:
        table.changes.append(change)
        if len(table.changes) > self._history:
            table.floor = table.changes.popleft().revision
        for feed in table.feeds:
            feed.append(change)
