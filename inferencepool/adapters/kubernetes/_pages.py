"""The pages of a list: what is not read yet of the present one, and where the list goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, final

from inferencepool.adapters.bodies import Loads
from inferencepool.adapters.kubernetes._listing import bound
from inferencepool.adapters.kubernetes._options import ReflectorOptions
from inferencepool.adapters.kubernetes._resources import ApiResource

__all__ = ["Pages"]

# Objects that are read before others have their turn.
_SLICE: Final = 200
# Characters of what goes into queries.
_MAX_TOKEN: Final = 8192
_SHOWN: Final = 100


@final
class Pages:
    """
    The pages of a list, one after the other, each read in slices. Not thread-safe.

    Whatever a server says that is no page, or goes on without an end, is a `ValueError`, or one of the errors of
    looking into a document of another shape.

    Attributes:
        token: Where the list goes on; empty for its beginning.
        unread: Whether something of the present page is not read yet.
    """

    def __init__(self, resource: ApiResource, options: ReflectorOptions, loads: Loads) -> None:
        """Begin with none; *loads* reads the JSON of one."""
        self._kinds = (f"{resource.kind}List", "List")
        self._options = options
        self._loads = loads
        self.begin()

    def begin(self) -> None:
        """Begin anew with the first page."""
        self.token = ""
        self._count = 0
        self.drop()

    def drop(self) -> None:
        """Leave aside what is not read yet."""
        self.unread = False
        self._items: Iterator[Any] = iter(())
        self._metadata: Mapping[str, Any] = {}

    def take(self, body: bytes) -> None:
        """Take the next page."""
        bound("it", len(body), self._options.max_page, "bytes")
        page = self._loads(body)
        kind = page.get("kind", self._kinds[0])
        if kind not in self._kinds:
            message = f"it is of kind {str(kind)[:_SHOWN]!r}"
            raise ValueError(message)
        # An absent list is no empty one: that would mean that everything is gone.
        self._items = iter(_items_of(page["items"]))
        self._metadata = page["metadata"]
        self.unread = True

    def read(self) -> list[Any]:
        """Read on in the present page, and give some of its items, or none."""
        items = list(islice(self._items, _SLICE))
        self.unread = self._items.__length_hint__() > 0  # type: ignore[attr-defined]  # of a list
        return items

    def turn(self) -> bool:
        """Go on after a page that was read; False where it was the last one."""
        token = self._metadata.get("continue")
        if not token:
            return False
        if not isinstance(token, str) or len(token) > _MAX_TOKEN:
            message = f"it goes on at a token that is no text of at most {_MAX_TOKEN} characters"
            raise ValueError(message)
        if token == self.token:
            message = "it goes on where it was"
            raise ValueError(message)
        self._count += 1
        bound("it", self._count + 1, self._options.max_pages, "pages")
        self.token = token
        return True

    @property
    def version(self) -> object:
        """The resource version of the page that was read."""
        return self._metadata["resourceVersion"]


def _items_of(items: object) -> list[Any]:
    if items is None:
        return []
    if not isinstance(items, list):
        message = "its items are no list"
        raise TypeError(message)
    return items
