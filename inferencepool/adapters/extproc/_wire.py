"""
The protobuf wire format, as far as ext_proc needs it: what fields a message has, and how one is written.

A message is a run of fields. Each begins with a tag, the field's number and its wire type in one varint. Nothing is
copied here: fields are told as positions in the bytes of the whole message, so that an error can say where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from inferencepool.errors import InvalidMessageError

__all__ = [
    "DELIMITED",
    "FIXED64",
    "MAX_FIELDS",
    "VARINT",
    "Field",
    "delimited",
    "fields_left",
    "head",
    "read_fields",
    "refusal",
    "to_varint",
]

Field = tuple[int, int, int]
"""A field's tag; where its content begins, or its value if it is a varint; where it ends."""

MAX_FIELDS: Final = 25_000
"""How many fields a request may have, those of messages inside of it counted, so that few bytes cannot take long."""

# A field has two bytes of its own at least, and counts for six at most, that of a header.
_UNCOUNTED: Final = 2 * MAX_FIELDS // 6

VARINT: Final = 0
FIXED64: Final = 1
DELIMITED: Final = 2
_START_GROUP: Final = 3
_END_GROUP: Final = 4
_FIXED32: Final = 5

# Protobuf keeps tags and lengths in 32 bits and any other varint in 64.
_SHORT_VARINT: Final = 5
_LONG_VARINT: Final = 10
_CONTINUES: Final = 0x80
_END_OF_TAGS: Final = 1 << 32
_END_OF_VARINTS: Final = 1 << 64
_FIRST_TAG: Final = 1 << 3


def refusal(where: str, at: int, problem: str) -> InvalidMessageError:
    """
    Make the error for a request that cannot be read.

    Args:
        where: Path of the message that holds the problem, such as ``request_headers.headers``; empty for the outermost.
        at: The byte it was found at, counted from the beginning of the request.
        problem: What is wrong, and what is allowed.
    """
    path = f"ProcessingRequest.{where}" if where else "ProcessingRequest"
    return InvalidMessageError(f"{path}, byte {at}: {problem}")


def fields_left(data: bytes) -> list[int] | None:
    """Begin to count the fields of the request *data*; None where they cannot be too many for its size."""
    return None if len(data) <= _UNCOUNTED else [MAX_FIELDS]


def read_fields(data: bytes, at: int, end: int, where: str, left: list[int] | None) -> Iterator[Field]:
    """
    Go through the fields of the message that lies in ``data[at:end]``.

    Args:
        data: The bytes of the whole request.
        at: Where the message begins.
        end: Where it ends.
        where: Its path, for errors.
        left: One number: how many fields the whole request may still have, as `fields_left` gives it.

    Raises:
        InvalidMessageError: There are too many fields, a field is cut off, a number is too large, or a field is a
            group, which ext_proc has none of and new messages cannot have.
    """
    while at < end:
        begin = at
        tag = data[at]
        at += 1
        if tag >= _CONTINUES:
            tag, at = _read_varint(data, begin, end, where, _SHORT_VARINT)
        if not _FIRST_TAG <= tag < _END_OF_TAGS:
            raise refusal(where, begin, f"tag {tag}: a field number is from 1 to {(_END_OF_TAGS >> 3) - 1}")
        wire_type = tag & 7
        if wire_type == DELIMITED:
            if at < end and (length := data[at]) < _CONTINUES:
                content = at + 1
            else:
                length, content = _read_varint(data, at, end, where, _SHORT_VARINT)
            stop = content + length
        elif wire_type == VARINT:
            if at < end and (content := data[at]) < _CONTINUES:
                stop = at + 1
            else:
                content, stop = _read_varint(data, at, end, where, _LONG_VARINT)
        else:
            content, stop = at, at + _fixed_size(tag, begin, where)
        if stop > end:
            problem = f"field {tag >> 3} has {stop - content} bytes, and the message ends after {end - content}"
            raise refusal(where, begin, problem)
        if left is not None:
            _count_field(left, where, begin)
        yield tag, content, stop
        at = stop


def _count_field(left: list[int], where: str, at: int) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise refusal(where, at, f"more than {MAX_FIELDS} fields in the request")


def _fixed_size(tag: int, at: int, where: str) -> int:
    wire_type = tag & 7
    if wire_type == FIXED64:
        return 8
    if wire_type == _FIXED32:
        return 4
    kind = "a group" if wire_type in {_START_GROUP, _END_GROUP} else f"of the unknown wire type {wire_type}"
    raise refusal(where, at, f"field {tag >> 3} is {kind}; allowed are varint, 64 bit, 32 bit and length-delimited")


def _read_varint(data: bytes, at: int, end: int, where: str, longest: int) -> tuple[int, int]:
    """Read an unsigned number of at most *longest* bytes; give it and where it ends."""
    if at < end - 1 and data[at + 1] < _CONTINUES <= data[at]:
        return data[at] - _CONTINUES + (data[at + 1] << 7), at + 2
    begin = at
    number = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        if byte < _CONTINUES:
            number += byte << shift
            if number >= _END_OF_VARINTS:
                raise refusal(where, begin, f"the varint {number} has more than 64 bits")
            return number, at
        number += (byte - _CONTINUES) << shift
        shift += 7
        if at - begin == longest:
            raise refusal(where, begin, f"the varint has more than {longest} bytes")
    raise refusal(where, begin, "the message ends inside of a varint")


def to_varint(number: int) -> bytes:
    """Write a number of 0 or more."""
    written = bytearray()
    while number >= _CONTINUES:
        written.append(number & 0x7F | _CONTINUES)
        number >>= 7
    written.append(number)
    return bytes(written)


def head(tag: int, length: int) -> bytes:
    """
    Write what stands before the content of a length-delimited field: a text, bytes, or a message.

    Args:
        tag: The tag, below 128: the field number times eight, plus two.
        length: The bytes of the content.
    """
    return bytes((tag, length)) if length < _CONTINUES else bytes((tag,)) + to_varint(length)


def delimited(tag: int, *parts: bytes) -> bytes:
    """Write a length-delimited field, of a tag below 128; its content may come in parts."""
    content = b"".join(parts)
    return head(tag, len(content)) + content
