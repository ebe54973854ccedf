"""Filter metadata and ``google.protobuf.Struct``: JSON in protobuf."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final

from inferencepool.adapters.extproc._wire import delimited, read_fields, refusal
from inferencepool.errors import InvalidMessageError

__all__ = ["MAX_DEPTH", "MAX_VALUES", "MetadataReader", "number_value", "string_value", "struct_of", "struct_value"]

MAX_DEPTH: Final = 24
"""How deep objects and lists may lie in each other. Protobuf's own limit of 100 messages allows a few more."""

MAX_VALUES: Final = 10_000
"""How many values the metadata of one request may hold in all, so that few bytes cannot become many objects."""

# Metadata { map<string, Struct> filter_metadata = 1; }  Struct { map<string, Value> fields = 1; }
_ENTRY: Final = 0x0A
# A map is a list of messages { key = 1; value = 2; }.
_KEY: Final = 0x0A
_VALUE: Final = 0x12
# ListValue { repeated Value values = 1; }
_ELEMENT: Final = 0x0A
# Value, a oneof
_NULL: Final = 0x08
_NUMBER: Final = 0x11
_STRING: Final = 0x1A
_BOOL: Final = 0x20
_STRUCT: Final = 0x2A
_LIST: Final = 0x32

_DOUBLE: Final = struct.Struct("<d")


class MetadataReader:
    """
    Reads the metadata of one request, or its attributes. One thread uses it, for one call of `decode`.

    As everywhere in protobuf, of a map's entries with one key the last counts, and a message that comes twice is
    merged. Text that is not UTF-8 is refused, as protobuf does.
    """

    def __init__(self, data: bytes, fields: list[int] | None, where: str) -> None:
        self._data = data
        self._fields = fields
        self._where = where
        self._left = MAX_VALUES

    def read_metadata(self, at: int, end: int, into: dict[str, dict[str, Any]]) -> None:
        """
        Read ``config.core.v3.Metadata`` from ``data[at:end]``.

        Args:
            at: Where it begins.
            end: Where it ends.
            into: Takes the values by namespace and key.

        Raises:
            InvalidMessageError: It cannot be read, is nested deeper than `MAX_DEPTH` or has more than `MAX_VALUES`.
        """
        for tag, start, stop in read_fields(self._data, at, end, self._where, self._fields):
            if tag == _ENTRY:
                self.read_namespace(start, stop, into)

    def read_namespace(self, at: int, end: int, into: dict[str, dict[str, Any]]) -> None:
        """Read one entry of a map of ``Struct`` from ``data[at:end]``, as `read_metadata` does."""
        key, values = self._read_entry(at, end)
        namespace: dict[str, Any] = {}
        for begin, close in values:
            self._read_struct(begin, close, namespace, 1)
        into[key] = namespace

    def _read_entry(self, at: int, end: int) -> tuple[str, list[tuple[int, int]]]:
        """Give the key of a map's entry, and where the parts of its value are."""
        self._left -= 1
        if self._left < 0:
            raise refusal(self._where, at, f"more than {MAX_VALUES} values")
        key = ""
        values = []
        for tag, start, stop in read_fields(self._data, at, end, self._where, self._fields):
            if tag == _KEY:
                key = self._read_text(start, stop)
            elif tag == _VALUE:
                values.append((start, stop))
        return key, values

    def _read_struct(self, at: int, end: int, into: dict[str, Any], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise refusal(self._where, at, f"objects and lists lie in each other deeper than {MAX_DEPTH} levels")
        for tag, start, stop in read_fields(self._data, at, end, self._where, self._fields):
            if tag == _ENTRY:
                key, values = self._read_entry(start, stop)
                value = None
                for begin, close in values:
                    value = self._read_value(begin, close, value, depth)
                into[key] = value

    def _read_list(self, at: int, end: int, into: list[Any], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise refusal(self._where, at, f"objects and lists lie in each other deeper than {MAX_DEPTH} levels")
        for tag, start, stop in read_fields(self._data, at, end, self._where, self._fields):
            if tag == _ELEMENT:
                self._left -= 1
                if self._left < 0:
                    raise refusal(self._where, start, f"more than {MAX_VALUES} values")
                into.append(self._read_value(start, stop, None, depth))

    def _read_value(self, at: int, end: int, value: Any, depth: int) -> Any:
        """Read a value, or more of the one that began as *value*; one that is not set is null."""
        for tag, start, stop in read_fields(self._data, at, end, self._where, self._fields):
            if tag == _STRING:
                value = self._read_text(start, stop)
            elif tag == _NUMBER:
                value = _DOUBLE.unpack_from(self._data, start)[0]
            elif tag == _BOOL:
                value = start != 0
            elif tag == _NULL:
                value = None
            elif tag == _STRUCT:
                value = value if isinstance(value, dict) else {}
                self._read_struct(start, stop, value, depth + 1)
            elif tag == _LIST:
                value = value if isinstance(value, list) else []
                self._read_list(start, stop, value, depth + 1)
        return value

    def _read_text(self, at: int, end: int) -> str:
        try:
            return self._data[at:end].decode()
        except UnicodeDecodeError as error:
            raise refusal(self._where, at + error.start, "a text is not UTF-8") from None


def string_value(text: str) -> bytes:
    """Write a ``Value`` that is *text*, which has to be ASCII."""
    return delimited(_STRING, text.encode("ascii"))


def number_value(key: str, number: float) -> bytes:
    """
    Write a ``Value`` that is a number; a negative zero is written as 0.

    Args:
        key: Whose number it is, for the error.
        number: The number.

    Raises:
        InvalidMessageError: It is NaN or infinite, which JSON cannot tell.
    """
    if not math.isfinite(number):
        message = f"score of {key!r}: {number!r} is not a finite number"
        raise InvalidMessageError(message)
    return bytes((_NUMBER,)) + _DOUBLE.pack(number + 0.0)


def struct_of(fields: Mapping[bytes, bytes]) -> bytes:
    """Write the content of a ``Struct``: each value, written already, under its key."""
    return b"".join(delimited(_ENTRY, delimited(_KEY, key), delimited(_VALUE, value)) for key, value in fields.items())


def struct_value(fields: Mapping[bytes, bytes]) -> bytes:
    """Write a ``Value`` that is a ``Struct``, of `struct_of`."""
    return delimited(_STRUCT, struct_of(fields))
