"""HPACK of the `hpack` library, with what need not be coded again each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from inferencepool.errors import MissingExtraError

try:
    import hpack
except ImportError:
    _MESSAGE = 'the gRPC server needs h2: pip install "inferencepool[epp]"'
    raise MissingExtraError(_MESSAGE) from None

__all__ = ["HeaderDecoder", "HeaderEncoder", "ReadyHeaders"]

# How many blocks of headers are remembered for a connection, and how long the longest is.
_MOST_KNOWN = 32
_LONGEST_KNOWN = 512


class ReadyHeaders:
    """
    A list of headers that is encoded once, as literals that leave the table of HPACK alone.

    Attributes:
        block: The encoded list.
    """

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._headers = tuple(headers)
        self.block: bytes = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*header) for header in self._headers])

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._headers)


class HeaderEncoder(hpack.Encoder):
    """Takes `ReadyHeaders` as they are."""

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        # After the peer changed the size of the table, the next block must say so.
        if type(headers) is ReadyHeaders and not self.table_size_changes:
            return headers.block
        changes: list[int] = self.table_size_changes
        if len(changes) > 1:
            # The smallest and the last, as RFC 7541, 4.2 asks for; the peer would refuse what lies above its last word.
            self.table_size_changes = [min(changes), changes[-1]]
        return super().encode(headers, huffman)


class HeaderDecoder(hpack.Decoder):
    """
    Remembers what blocks say that leave the table of HPACK alone.

    A proxy sends the same block with every request once the table holds its headers. That block means the same until
    the table changes, and then all that was remembered is forgotten.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[bytes, list[hpack.HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> list[hpack.HeaderTuple]:
        known = self._known.get(data) if raw else None
        if known is not None:
            return known.copy()
        table = self.header_table
        size, count, newest = table.maxsize, len(table.dynamic_entries), self._newest_entry()
        headers = list(super().decode(data, raw))
        # Entries are objects of their own and new ones come first, so no change leaves all three alike.
        if (table.maxsize, len(table.dynamic_entries)) != (size, count) or self._newest_entry() is not newest:
            self._known.clear()
        elif raw and len(data) <= _LONGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[bytes(data)] = headers.copy()
        return headers

    def _newest_entry(self) -> object:
        entries = self.header_table.dynamic_entries
        return entries[0] if entries else None
