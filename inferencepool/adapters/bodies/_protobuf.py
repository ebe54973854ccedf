"""Fields of a message of protobuf, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from inferencepool.adapters.bodies._steps import Steps

__all__ = ["FIELDS_PER_STEP", "all_fields", "fields"]

_Bytes = TypeVar("_Bytes", bytes, memoryview)

# Real messages have some dozens: token ids are one field.
_MOST_FIELDS = 50_000
# Of these, values that are texts, messages or packed numbers. Views are dear to keep: the collector looks at each.
_MOST_VIEWS = 4_096
#: How many fields are read, or looked at, in one step.
FIELDS_PER_STEP = 1_024

# Wire types of protobuf.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def all_fields(messages: Iterable[memoryview]) -> Steps[list[tuple[int, int | memoryview]]]:
    """Do in steps what `fields` does, for a message that came in parts, which are merged."""
    found: list[tuple[int, int | memoryview]] = []
    views = 0
    for count, message in enumerate(messages, 1):
        for field in fields(message):
            found.append(field)
            if isinstance(field[1], memoryview):
                views += 1
                if views > _MOST_VIEWS:
                    reason = f"more than {_MOST_VIEWS} fields of bytes"
                    raise ValueError(reason)
            if not len(found) % FIELDS_PER_STEP:
                yield
        if len(found) > _MOST_FIELDS:
            reason = f"more than {_MOST_FIELDS} fields"
            raise ValueError(reason)
        if not count % FIELDS_PER_STEP:
            yield
    return found


def fields(message: _Bytes) -> Iterator[tuple[int, int | _Bytes]]:
    """
    Give number and value of each field, those of fixed length left out. Values of a view are views, nothing is copied.

    Raises:
        ValueError: The message is malformed.
    """
    at = count = 0
    while at < len(message):
        count += 1
        if count > _MOST_FIELDS:
            reason = f"more than {_MOST_FIELDS} fields"
            raise ValueError(reason)
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if not number:
            reason = "a field has the number 0"
            raise ValueError(reason)
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in {_FIXED64, _FIXED32}:
            length = 8 if wire == _FIXED64 else 4
        else:
            reason = f"field {number} has the unknown wire type {wire}"
            raise ValueError(reason)
        if at + length > len(message):
            reason = f"field {number} is longer than the message"
            raise ValueError(reason)
        # What has a fixed length is skipped: no field that is read here has one.
        if wire == _BYTES:
            yield number, message[at : at + length]
        at += length


def _varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte <= 0x7F:  # noqa: PLR2004 - no byte follows
            return value, at + index + 1
    reason = "a number does not end"
    raise ValueError(reason)
