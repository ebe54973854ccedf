"""From the bytes of a ``ProcessingRequest`` to a `Message`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from inferencepool.adapters.extproc._entries import (
    KEY,
    MAX_REMEMBERED,
    MAX_REMEMBERED_SIZE,
    RAW_VALUE,
    TEXT_VALUE,
    remember,
    remembered,
    usual_header,
)
from inferencepool.adapters.extproc._messages import (
    BodyMode,
    Message,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from inferencepool.adapters.extproc._struct import MetadataReader
from inferencepool.adapters.extproc._wire import fields_left, read_fields, refusal
from inferencepool.errors import InvalidMessageError

__all__ = [
    "MAX_HEADERS",
    "MAX_REMEMBERED",
    "MAX_REMEMBERED_METADATA",
    "MAX_REMEMBERED_SIZE",
    "decode",
    "is_remembered_metadata",
]

MAX_HEADERS: Final = 1_000
"""How many different headers a message may have, so that few bytes cannot become many objects."""

MAX_REMEMBERED_METADATA: Final = 512
"""Bytes of the longest metadata that is remembered."""

# ProcessingRequest; the first six are a oneof
_REQUEST_HEADERS: Final = 0x12
_RESPONSE_HEADERS: Final = 0x1A
_REQUEST_BODY: Final = 0x22
_RESPONSE_BODY: Final = 0x2A
_REQUEST_TRAILERS: Final = 0x32
_RESPONSE_TRAILERS: Final = 0x3A
_METADATA_CONTEXT: Final = 0x42
_ATTRIBUTES: Final = 0x4A
_PROTOCOL_CONFIG: Final = 0x5A
_KINDS: Final = {
    _REQUEST_HEADERS: "request_headers",
    _RESPONSE_HEADERS: "response_headers",
    _REQUEST_BODY: "request_body",
    _RESPONSE_BODY: "response_body",
    _REQUEST_TRAILERS: "request_trailers",
    _RESPONSE_TRAILERS: "response_trailers",
}
_HEADERS_KINDS: Final = frozenset({_REQUEST_HEADERS, _RESPONSE_HEADERS})
_BODY_KINDS: Final = frozenset({_REQUEST_BODY, _RESPONSE_BODY})
# HttpHeaders
_HEADER_MAP: Final = 0x0A
_HEADERS_END_OF_STREAM: Final = 0x18
# HttpTrailers
_TRAILER_MAP: Final = 0x0A
# HeaderMap { repeated HeaderValue headers = 1; }
_HEADER: Final = 0x0A
# HttpBody
_BODY: Final = 0x0A
_BODY_END_OF_STREAM: Final = 0x10
# ProtocolConfiguration
_REQUEST_BODY_MODE: Final = 0x08
_RESPONSE_BODY_MODE: Final = 0x10

_CONTINUES: Final = 0x80
# A body that is longer is not copied, as that would be a long step: its message is kept instead.
_LONG_BODY: Final = 1 << 20
# What it costs to go into a header, beside its own fields.
_FIELDS_OF_A_HEADER: Final = 5
# More than gateways let in by default. Even if each of these bytes were a header, that would be few.
_USUAL_HEADER_BYTES: Final = 1 << 16

# Every ``ProtocolConfiguration`` as it is usually written: fields in order, and none for a mode of 0.
_USUAL_MODES: Final[Mapping[bytes, tuple[int, int]]] = {
    b"".join(
        bytes((tag, mode)) for tag, mode in ((_REQUEST_BODY_MODE, request), (_RESPONSE_BODY_MODE, response)) if mode
    ): (
        request,
        response,
    )
    for request in BodyMode
    for response in BodyMode
}

# Sent more than once it is one list (RFC 7240 section 2). The others that count here have one value.
_LIST: Final = "prefer"

# Metadata as it came, with what it holds: what comes with a request's later messages came with its first, or names one
# of few endpoints. Any thread may use it, as header entries that are remembered.
_remembered_metadata: dict[bytes, dict[str, dict[str, Any]]] = {}

# The same for attributes: what became of a request at its endpoint is told in few ways.
_remembered_attributes: dict[bytes, dict[str, dict[str, Any]]] = {}


def decode(data: bytes) -> Message:
    """
    Read a ``ProcessingRequest``.

    Of a header that comes more than once the last value counts, but those of ``prefer`` are joined to a list.

    What is not part of `Message` is skipped: fields that are unknown, or whose wire type is not the one declared. What
    comes more than once counts as protobuf says: of values, kinds of message and entries of a map the last; a message
    that comes again adds to itself. Header names and values may hold any byte; texts of the metadata have to be UTF-8.

    Args:
        data: The message, without the five bytes that gRPC puts before it. What is read out of it is copied, but for
            a body above 1 MiB, which is a view of it.

    Raises:
        InvalidMessageError: The bytes are no such message, hold none of the known kinds, name an unknown body mode, or
            go beyond a limit (`MAX_HEADERS`, `MAX_FIELDS`, and those of the metadata). The error names the field and
            the byte.
    """
    return _Reader(data).read()


def is_remembered_metadata(metadata: bytes) -> bool:
    """Tell whether *metadata* was read before, so that nothing can be wrong with it."""
    return metadata in _remembered_metadata


class _Reader:
    """Reads one request, field by field. One thread uses it, once."""

    __slots__ = (
        "_attributes",
        "_attributes_reader",
        "_body",
        "_data",
        "_end_of_stream",
        "_header_bytes",
        "_headers",
        "_is_remembered",
        "_kind",
        "_left",
        "_metadata",
        "_metadata_reader",
        "_modes",
    )

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = fields_left(data)
        self._header_bytes = 0
        self._kind = 0
        self._headers: dict[str, str] = {}
        self._body: bytes | memoryview = b""
        self._end_of_stream = False
        self._metadata: dict[str, dict[str, Any]] = {}
        self._is_remembered = False
        self._metadata_reader: MetadataReader | None = None
        self._attributes: dict[str, dict[str, Any]] = {}
        self._attributes_reader: MetadataReader | None = None
        self._modes: tuple[int, int] | None = None

    def read(self) -> Message:
        data = self._data
        for tag, start, stop in read_fields(data, 0, len(data), "", self._left):
            if tag in _KINDS:
                self._read_kind(tag, start, stop)
            elif tag == _METADATA_CONTEXT:
                self._read_metadata(start, stop)
            elif tag == _PROTOCOL_CONFIG:
                self._read_modes(start, stop)
            elif tag == _ATTRIBUTES:
                self._read_attributes(start, stop)
        return self._message()

    def _message(self) -> Message:
        kind = self._kind
        if kind == _REQUEST_HEADERS:
            return self._request_headers()
        if kind == _RESPONSE_HEADERS:
            return ResponseHeaders(self._headers, self._end_of_stream, self._metadata, self._attributes)
        if kind == _REQUEST_BODY:
            return RequestBody(self._body, self._end_of_stream, self._metadata)
        if kind == _RESPONSE_BODY:
            return ResponseBody(self._body, self._end_of_stream, self._metadata)
        if kind:
            return RequestTrailers() if kind == _REQUEST_TRAILERS else ResponseTrailers(self._headers)
        message = f"ProcessingRequest: holds none of {', '.join(_KINDS.values())}"
        raise InvalidMessageError(message)

    def _request_headers(self) -> RequestHeaders:
        if self._modes is None:
            return RequestHeaders(self._headers, self._end_of_stream, None, None, self._metadata)
        request = _to_mode(self._modes[0], "request_body_mode")
        response = _to_mode(self._modes[1], "response_body_mode")
        return RequestHeaders(self._headers, self._end_of_stream, request, response, self._metadata)

    def _read_kind(self, kind: int, at: int, end: int) -> None:
        if kind != self._kind:
            # Of a oneof the last member counts, and another one before it leaves nothing behind.
            self._kind = kind
            self._headers = {}
            self._body = b""
            self._end_of_stream = False
        where = _KINDS[kind]
        if kind in _HEADERS_KINDS:
            self._read_headers(at, end, where)
        elif kind in _BODY_KINDS:
            self._read_body(at, end, where)
        elif kind == _RESPONSE_TRAILERS:
            for tag, start, stop in read_fields(self._data, at, end, where, self._left):
                if tag == _TRAILER_MAP:
                    self._read_header_map(start, stop, f"{where}.trailers")
        else:
            for _ in read_fields(self._data, at, end, where, self._left):
                pass

    def _read_headers(self, at: int, end: int, where: str) -> None:
        for tag, start, stop in read_fields(self._data, at, end, where, self._left):
            if tag == _HEADER_MAP:
                self._read_header_map(start, stop, f"{where}.headers")
            elif tag == _HEADERS_END_OF_STREAM:
                self._end_of_stream = start != 0

    def _read_header_map(self, at: int, end: int, where: str) -> None:
        data = self._data
        headers, begin = self._headers, at
        known = remembered.get
        self._header_bytes += end - at
        # The usual layout in place: headers only, none of 16 KiB or more. What is different is left to the general
        # form below, which goes on where this stops, counts and finds what is wrong.
        usual = self._header_bytes <= _USUAL_HEADER_BYTES
        while usual and at < end - 2 and data[at] == _HEADER:
            start = at + 2
            length = data[at + 1]
            if length >= _CONTINUES:
                more = data[start]
                if more >= _CONTINUES:
                    break
                length += (more << 7) - _CONTINUES
                start += 1
            stop = start + length
            if stop > end:
                break
            entry = data[start:stop]
            header = known(entry)
            if header is None:
                header = usual_header(entry) or self._read_header(start, stop, where)
                remember(entry, header)
                self._check_number(start, where)
            headers[header[0]] = header[1]
            at = stop
        if at < end:
            self._read_unusual_header_map(at, end, where)
        if _LIST in headers:
            headers[_LIST] = ", ".join(self._values_of(_LIST, begin, end, where))

    def _values_of(self, name: str, at: int, end: int, where: str) -> Iterator[str]:
        """Read the headers again that were read between *at* and *end*, and give each value of one name."""
        for tag, start, stop in read_fields(self._data, at, end, where, None):
            if tag == _HEADER:
                found, value = self._read_header(start, stop, where)
                if found == name:
                    yield value

    def _read_unusual_header_map(self, at: int, end: int, where: str) -> None:
        for tag, start, stop in read_fields(self._data, at, end, where, self._left):
            if tag == _HEADER:
                if self._left is not None:
                    self._left[0] -= _FIELDS_OF_A_HEADER
                name, value = self._read_header(start, stop, where)
                self._check_number(start, where)
                self._headers[name] = value

    def _check_number(self, at: int, where: str) -> None:
        if len(self._headers) >= MAX_HEADERS:
            raise refusal(where, at, f"more than {MAX_HEADERS} headers")

    def _read_header(self, at: int, end: int, where: str) -> tuple[str, str]:
        data = self._data
        name = text_value = raw_value = b""
        for tag, start, stop in read_fields(data, at, end, f"{where}.headers", self._left):
            if tag == KEY:
                name = data[start:stop]
            elif tag == RAW_VALUE:
                raw_value = data[start:stop]
            elif tag == TEXT_VALUE:
                text_value = data[start:stop]
        return name.lower().decode("latin-1"), (raw_value or text_value).decode("latin-1")

    def _read_body(self, at: int, end: int, where: str) -> None:
        for tag, start, stop in read_fields(self._data, at, end, where, self._left):
            if tag == _BODY:
                self._body = (
                    self._data[start:stop] if stop - start <= _LONG_BODY else memoryview(self._data)[start:stop]
                )
            elif tag == _BODY_END_OF_STREAM:
                self._end_of_stream = start != 0

    def _read_metadata(self, at: int, end: int) -> None:
        if at == end:
            return
        first = not self._metadata and self._metadata_reader is None
        entry = self._data[at:end] if first and end - at <= MAX_REMEMBERED_METADATA else b""
        known = _remembered_metadata.get(entry)
        if known is not None:
            self._metadata, self._is_remembered = known, True
            return
        if self._metadata_reader is None:
            self._metadata_reader = MetadataReader(self._data, self._left, "metadata_context")
        # What is remembered belongs to others too, so more of it goes into a copy.
        if self._is_remembered:
            self._metadata = {namespace: dict(values) for namespace, values in self._metadata.items()}
        found = self._metadata
        self._metadata_reader.read_metadata(at, end, found)
        self._is_remembered = bool(entry)
        if entry:
            if len(_remembered_metadata) >= MAX_REMEMBERED:
                _remembered_metadata.clear()
            _remembered_metadata[entry] = found

    def _read_attributes(self, at: int, end: int) -> None:
        """Read one entry of the map of attributes."""
        first = not self._attributes and self._attributes_reader is None
        entry = self._data[at:end] if first and end - at <= MAX_REMEMBERED_METADATA else b""
        known = _remembered_attributes.get(entry)
        if known is not None:
            self._attributes = known
            return
        if self._attributes_reader is None:
            # What is remembered belongs to others too, so more goes into a copy.
            self._attributes = dict(self._attributes)
            self._attributes_reader = MetadataReader(self._data, self._left, "attributes")
        self._attributes_reader.read_namespace(at, end, self._attributes)
        if entry:
            if len(_remembered_attributes) >= MAX_REMEMBERED:
                _remembered_attributes.clear()
            _remembered_attributes[entry] = dict(self._attributes)

    def _read_modes(self, at: int, end: int) -> None:
        numbers = _USUAL_MODES.get(self._data[at:end])
        if numbers is not None and self._modes is None:
            self._modes = numbers
            return
        request, response = self._modes or (BodyMode.NONE, BodyMode.NONE)
        for tag, start, _ in read_fields(self._data, at, end, "protocol_config", self._left):
            if tag == _REQUEST_BODY_MODE:
                request = start
            elif tag == _RESPONSE_BODY_MODE:
                response = start
        self._modes = (request, response)


def _to_mode(number: int, field: str) -> BodyMode:
    if isinstance(number, BodyMode):
        return number
    # Protobuf keeps the lower 32 bits of an enum's number, with their sign.
    number &= 0xFFFFFFFF
    number -= (number & 0x80000000) << 1
    try:
        return BodyMode(number)
    except ValueError:
        allowed = ", ".join(f"{mode.value} ({mode.name})" for mode in BodyMode)
        message = f"ProcessingRequest.protocol_config.{field}: unknown body mode {number}; allowed: {allowed}"
        raise InvalidMessageError(message) from None
