"""Header entries, and those of them that are remembered."""

from __future__ import annotations

from typing import Final

__all__ = [
    "KEY",
    "MAX_REMEMBERED",
    "MAX_REMEMBERED_SIZE",
    "RAW_VALUE",
    "TEXT_VALUE",
    "remember",
    "remembered",
    "usual_header",
]

MAX_REMEMBERED: Final = 1024
"""How many header entries are remembered. When there are more, all are forgotten."""

MAX_REMEMBERED_SIZE: Final = 128
"""Bytes of the longest header entry that is remembered."""

# HeaderValue
KEY: Final = 0x0A
TEXT_VALUE: Final = 0x12
RAW_VALUE: Final = 0x1A

_CONTINUES: Final = 0x80
# A tag and a length for each of key and value.
_SMALLEST_USUAL: Final = 4

# What callers send along to be let in is not kept longer than their request.
_SECRETS: Final = frozenset({"api-key", "authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"})

# Header entries as they came, with the header that each holds: a proxy sends the same ones with nearly every request.
# Any thread may use it: each access is one operation of the dict, an entry means the same whenever it is read, and
# threads that pass the limit at the same time add one entry too many each.
remembered: dict[bytes, tuple[str, str]] = {}


def usual_header(entry: bytes) -> tuple[str, str] | None:
    """Read a ``HeaderValue`` that is a key and a raw value, both below 128 bytes; give None for any other."""
    size = len(entry)
    if size < _SMALLEST_USUAL or entry[0] != KEY or entry[1] >= _CONTINUES:
        return None
    value = entry[1] + _SMALLEST_USUAL
    if value > size or entry[value - 2] != RAW_VALUE:
        return None
    length = entry[value - 1]
    if length >= _CONTINUES or value + length != size:
        return None
    return entry[2 : value - 2].lower().decode("latin-1"), entry[value:].decode("latin-1")


def remember(entry: bytes, header: tuple[str, str]) -> None:
    """Keep *header* for *entry*, unless that is long or a secret."""
    if len(entry) <= MAX_REMEMBERED_SIZE and header[0] not in _SECRETS:
        if len(remembered) >= MAX_REMEMBERED:
            remembered.clear()
        remembered[entry] = header
