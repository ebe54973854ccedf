"""Watches: what happens to the objects of a list, one line of JSON for each event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

import attrs

from inferencepool.errors import Issue
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._forms import Form
from inferencepool.lab.apiserver._listing import parse_revision
from inferencepool.lab.apiserver._refusals import RefusedError
from inferencepool.lab.apiserver._requests import ApiRequest
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.lab.apiserver._selectors import Scope
from inferencepool.lab.apiserver._store import Bookmark, Change, End, Feed, FeedItem, ObjectStore, encode

__all__ = ["Watch", "WatchRules", "open_watch"]

_INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


@attrs.frozen(kw_only=True)
class WatchRules:
    """
    How a server treats watches.

    Attributes:
        expired: A watch from a forgotten revision is refused with the ``status`` 410, or begins and then tells of it
            in an ``event``, as servers with a watch cache do.
        streaming_lists: Whether ``sendInitialEvents`` is allowed.
    """

    expired: str
    streaming_lists: bool


@final
class Watch:
    """
    One watch, from its first line to its last. One reader takes its lines.

    Attributes:
        resource: What it watches.
        scope: The objects it is about.
        request: The request that began it.
        after: It tells of no change up to this revision, which may be one that is yet to come.
    """

    def __init__(
        self,
        store: ObjectStore,
        resource: Resource,
        scope: Scope,
        request: ApiRequest,
        form: Form,
        on_item: Callable[[], None],
    ) -> None:
        """Begin without a word; `open_watch` decides what it tells first."""
        self._form = form
        self._titled = True
        self._seconds = request.whole("timeoutSeconds")
        self.after = 0
        self.resource = resource
        self.scope = scope
        self.request = request
        self.feed = Feed(on_item)
        self._store = store
        self._bookmarks = request.flag("allowWatchBookmarks")
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether its last line was taken."""
        return self._ended

    def take(self) -> Iterator[bytes]:
        """Give the lines that are there, each with its line feed."""
        while self.feed.items and not self._ended:
            line = self._line(self.feed.items.popleft())
            if line is not None:
                yield encode(line) + b"\n"

    @property
    def timeout(self) -> float | None:
        """Seconds after which the client wants it to end; None for no such wish."""
        return float(self._seconds) if self._seconds > 0 else None

    def mark(self) -> None:
        """Tell how far it has come, if the client asked for such marks."""
        with self._store.locked():
            self.feed.append(Bookmark(self._store.revision))

    def end(self, error: Document | None = None) -> None:
        """End it after what it has yet to tell, and with *error* if there is one."""
        self.feed.append(End(error))

    def close(self) -> None:
        """Forget it: nothing more is collected for it."""
        self._store.unsubscribe(self.resource, self.feed)

    def _line(self, item: FeedItem) -> Document | None:
        match item:
            case Change(revision):
                return self._event(item) if revision > self.after else None
            case Bookmark():
                return self._bookmark(item) if self._bookmarks else None
            case End(error):
                self._ended = True
                return {"type": "ERROR", "object": error} if error is not None else None

    def _event(self, change: Change) -> Document | None:
        """Tell a change as it looks through the selectors: what leaves their set is deleted, what enters is added."""
        before, after = change.before, change.after
        was_in = before is not None and self.scope.covers(before.document)
        if after is not None and self.scope.covers(after.document):
            return {"type": "MODIFIED" if was_in else "ADDED", "object": self._show(after.document)}
        if was_in and before is not None:
            return {"type": "DELETED", "object": self._show(before.at(change.revision))}
        return None

    def _show(self, document: Document) -> Document:
        titled, self._titled = self._titled, False
        return self._form.render(document, titled=titled)

    def _bookmark(self, mark: Bookmark) -> Document:
        """Give a typed object with nothing in it but a version: decoders that require fields stumble over this one."""
        metadata: Document = {"resourceVersion": str(max(mark.revision, self.after))}
        if not self.resource.custom:
            metadata["creationTimestamp"] = None
        if mark.ends_initial:
            metadata["annotations"] = dict(_INITIAL_EVENTS_END)
        named = {"kind": self.resource.kind, "apiVersion": self.resource.api_version, "metadata": metadata}
        return {"type": "BOOKMARK", "object": self._form.bookmark(named | self.resource.bookmark)}


def open_watch(
    store: ObjectStore,
    resource: Resource,
    scope: Scope,
    request: ApiRequest,
    *,
    rules: WatchRules,
    form: Form,
    on_item: Callable[[], None],
) -> Watch:
    """
    Begin the watch that *request* asks for; *on_item* is called, from any thread, when it has something to tell.

    One from a revision that is not there yet is silent until it is.

    Raises:
        RefusedError: 400 or 422 for options that do not go together, 410 for a revision that is too old (if the rules
            say so).
    """
    initial = _read_initial(request, rules)
    revision = parse_revision(request.query.get("resourceVersion", ""))
    watch = Watch(store, resource, scope, request, form, on_item)
    with store.locked():
        if revision > store.revision:
            watch.after = revision
        elif initial or (initial is None and not revision):
            for _, stored in store.snapshot(resource):
                watch.feed.append(Change(stored.revision, ("", ""), None, stored))
            if initial:
                watch.feed.append(Bookmark(store.revision, ends_initial=True))
        elif revision:
            try:
                changes = store.changes_since(resource, revision)
            except RefusedError as refusal:
                if rules.expired == "status":
                    raise
                watch.end(refusal.document)
                return watch
            for change in changes:
                watch.feed.append(change)
        store.subscribe(resource, watch.feed)
    return watch


def _read_initial(request: ApiRequest, rules: WatchRules) -> bool | None:
    """Read whether the watch shall begin with all objects and say where they end; None where it is left open."""
    given = "sendInitialEvents" in request.query
    match = request.query.get("resourceVersionMatch", "")
    wrong: tuple[str, str] | None = None
    if given and not rules.streaming_lists:
        option = "sendInitialEvents"
        wrong = (option, f"Forbidden: {option} is forbidden for watch unless the WatchList feature gate is enabled")
    elif given and not match:
        what = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        wrong = ("resourceVersionMatch", f"Forbidden: {what}")
    elif given and match != "NotOlderThan":
        wrong = ("resourceVersionMatch", f'Unsupported value: "{match}": supported values: "NotOlderThan"')
    elif match and not given:
        what = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        wrong = ("resourceVersionMatch", f"Forbidden: {what}")
    if wrong:
        raise refusals.invalid(None, "", [Issue(*wrong)])
    return request.flag("sendInitialEvents") if given else None
