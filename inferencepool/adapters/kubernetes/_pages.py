"""The pages of a list: reading one bit by bit, and where the list goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, final

from inferencepool.adapters.bodies import Loads
from inferencepool.adapters.kubernetes._listing import bound
from inferencepool.adapters.kubernetes._options import ReflectorOptions
from inferencepool.adapters.kubernetes._page_slices import PageSlices
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
        self._slices: PageSlices | None = None
        self._items: Iterator[Any] = iter([])
        self._metadata: Mapping[str, Any] = {}

    @property
    def unread(self) -> bool:
        """Whether something of the present page is not read yet."""
        return self._slices is not None

    def take(self, body: bytes) -> None:
        """Take the next page."""
        bound("it", len(body), self._options.max_page, "bytes")
        self._slices = PageSlices(body, self._loads, self._options.max_line)

    def read(self) -> list[Any]:
        """Read on in the present page, and give some of its items, or none."""
        assert self._slices is not None  # noqa: S101 - asked before
        if not self._left():
            self._decode(self._slices)
        items = list(islice(self._items, _SLICE))
        if self._slices.ended and not self._left():
            self._slices = None
        return items

    def _left(self) -> bool:
        return self._items.__length_hint__() > 0  # type: ignore[attr-defined,no-any-return]  # of a list

    def _decode(self, slices: PageSlices) -> None:
        page = slices.read()
        if page is None:
            return
        kind = page.get("kind", self._kinds[0])
        if kind not in self._kinds:
            message = f"it is of kind {str(kind)[:_SHOWN]!r}"
            raise ValueError(message)
        # An absent list is no empty one: that would mean that everything is gone.
        self._items = iter(_items_of(page["items"]))
        if slices.ended:
            self._metadata = page["metadata"]

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
