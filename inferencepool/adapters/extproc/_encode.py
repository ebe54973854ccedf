"""From an `Answer` to the bytes of a ``ProcessingResponse``."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Final, assert_never

from inferencepool.adapters.extproc._messages import (
    UNCHANGED,
    Answer,
    ImmediateResponse,
    RequestBodyAnswer,
    RequestHeadersAnswer,
    RequestTrailersAnswer,
    ResponseBodyAnswer,
    ResponseHeadersAnswer,
    ResponseTrailersAnswer,
    Routing,
    StreamedRequestBody,
    StreamedResponseBody,
)
from inferencepool.adapters.extproc._struct import number_value, string_value, struct_of, struct_value
from inferencepool.adapters.extproc._wire import delimited, head, to_varint
from inferencepool.errors import InvalidMessageError
from inferencepool.model._protocol import DESTINATION, LB_NAMESPACE, SCORES

__all__ = ["chunk_heads", "encode"]

_SCORES: Final = SCORES.encode()
_NAMESPACE: Final = LB_NAMESPACE.encode()

# ProcessingResponse
_REQUEST_HEADERS: Final = 0x0A
_RESPONSE_HEADERS: Final = 0x12
_REQUEST_BODY: Final = 0x1A
_RESPONSE_BODY: Final = 0x22
_REQUEST_TRAILERS: Final = 0x2A
_RESPONSE_TRAILERS: Final = 0x32
_IMMEDIATE_RESPONSE: Final = 0x3A
_DYNAMIC_METADATA: Final = 0x42
# HeadersResponse and BodyResponse
_COMMON_RESPONSE: Final = 0x0A
# CommonResponse
_HEADER_MUTATION: Final = 0x12
_BODY_MUTATION: Final = 0x1A
_CLEAR_ROUTE_CACHE: Final = b"\x28\x01"
# HeaderMutation
_SET_HEADERS: Final = 0x0A
_REMOVE_HEADERS: Final = 0x12
# HeaderValueOption; append_action is OVERWRITE_IF_EXISTS_OR_ADD, its default would append
_HEADER: Final = 0x0A
_OVERWRITE: Final = b"\x18\x02"
# HeaderValue
_KEY: Final = 0x0A
_RAW_VALUE: Final = 0x1A
# BodyMutation
_REPLACEMENT: Final = 0x0A
_STREAMED_RESPONSE: Final = 0x1A
# StreamedBodyResponse
_CHUNK: Final = 0x0A
_END_OF_STREAM: Final = b"\x10\x01"
# ImmediateResponse
_STATUS: Final = 0x0A
_STATUS_CODE: Final = b"\x08"
_IMMEDIATE_HEADERS: Final = 0x12
_IMMEDIATE_BODY: Final = 0x1A
_DETAILS: Final = 0x2A

_LOWEST_STATUS: Final = 200
_HIGHEST_STATUS: Final = 599

# A header's name is a token of RFC 9110, which may have the colon of a pseudo header before it.
_NAME: Final = re.compile(r":?[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Envoy takes no control character in a value but the tab, and answers 500 for a mutation that has one.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_LONGEST_CACHED: Final = 256
_CACHED: Final = 4096


def encode(answer: Answer) -> bytes:
    """
    Write a ``ProcessingResponse``.

    Headers are set as ``raw_value``, the only value that Envoy reads, and overwrite those that are there.

    Returns:
        The message, without the five bytes that gRPC puts before it. Equal answers give equal bytes.

    Raises:
        InvalidMessageError: The proxy would refuse the answer: a header's name is no HTTP token or its value has a
            control character or is not Latin-1, a destination is not ASCII, a score is not finite, or a status is
            not from 200 to 599. Nothing is written then.
    """
    match answer:
        case RequestHeadersAnswer():
            encoded = _encode_routing(_REQUEST_HEADERS, answer.routing)
        case StreamedRequestBody():
            encoded = _encode_chunk(_REQUEST_BODY, answer.body, answer.end_of_stream)
        case StreamedResponseBody():
            encoded = _encode_chunk(_RESPONSE_BODY, answer.body, answer.end_of_stream)
        case ResponseHeadersAnswer():
            encoded = _encode_response_headers(answer)
        case RequestBodyAnswer():
            encoded = _encode_routing(_REQUEST_BODY, answer.routing, answer.replacement)
        case ResponseBodyAnswer():
            encoded = (
                _RESPONSE_BODY_UNCHANGED
                if answer.replacement is None
                else _encode_changes(_RESPONSE_BODY, UNCHANGED, answer.replacement)
            )
        case RequestTrailersAnswer():
            encoded = _REQUEST_TRAILERS_UNCHANGED
        case ResponseTrailersAnswer():
            encoded = _RESPONSE_TRAILERS_UNCHANGED
        case ImmediateResponse():
            encoded = _encode_immediate_response(answer)
        case _:
            assert_never(answer)
    return encoded


_RESPONSE_HEADERS_UNCHANGED: Final = delimited(_RESPONSE_HEADERS, b"")
_RESPONSE_BODY_UNCHANGED: Final = delimited(_RESPONSE_BODY, b"")
_REQUEST_TRAILERS_UNCHANGED: Final = delimited(_REQUEST_TRAILERS, b"")
_RESPONSE_TRAILERS_UNCHANGED: Final = delimited(_RESPONSE_TRAILERS, b"")


def _encode_routing(tag: int, routing: Routing, replacement: bytes | None = None) -> bytes:
    """
    Write the answer to a request's headers or body.

    Args:
        tag: Of the answer, in ``ProcessingResponse``.
        routing: What changes.
        replacement: The body to send instead; None to leave it.
    """
    if replacement is None and _tells_only_destination(routing):
        return _destination_only(tag, routing.destination)
    return _encode_changes(tag, routing, replacement)


def _tells_only_destination(routing: Routing) -> bool:
    """Tell whether nothing but a destination, or not even that, is told, and it is short enough to be remembered."""
    return (
        not routing.set_headers
        and not routing.remove_headers
        and routing.scores is None
        and len(routing.destination) <= _LONGEST_CACHED
    )


@functools.lru_cache(maxsize=_CACHED)
def _destination_only(tag: int, destination: str) -> bytes:
    return _encode_changes(tag, Routing(destination), None) if destination else delimited(tag)


def _encode_changes(tag: int, routing: Routing, replacement: bytes | None) -> bytes:
    destination = routing.destination
    headers = _set_headers(routing.set_headers)
    metadata = b""
    if destination:
        # The last one that sets a header wins, and metadata and header have to agree.
        header, metadata = _destination_parts(destination)
        headers.append(header)
    if routing.scores is not None:
        metadata = _encode_metadata(destination, routing.scores)
    headers += (delimited(_REMOVE_HEADERS, _to_name(name)) for name in routing.remove_headers)
    parts = [delimited(_HEADER_MUTATION, *headers)] if headers else []
    if replacement is not None:
        inner = head(_REPLACEMENT, len(replacement))
        parts += (head(_BODY_MUTATION, len(inner) + len(replacement)), inner, replacement)
    if destination:
        parts.append(_CLEAR_ROUTE_CACHE)
    # A body may be large, so that everything is joined once, at the end.
    size = sum(map(len, parts))
    common = head(_COMMON_RESPONSE, size)
    return b"".join((head(tag, len(common) + size), common, *parts, metadata))


def _destination_parts(destination: str) -> tuple[bytes, bytes]:
    """Give the header that tells *destination* and the metadata that does, each as a field."""
    if len(destination) <= _LONGEST_CACHED:
        return _cached_destination_parts(destination)
    return _encode_destination(destination)


def _encode_destination(destination: str) -> tuple[bytes, bytes]:
    if not destination.isascii():
        message = f"destination {destination!r}: holds a character that is not ASCII"
        raise InvalidMessageError(message)
    return _set_header(DESTINATION, destination), _encode_metadata(destination, None)


def _encode_metadata(destination: str, scores: Mapping[str, float] | None) -> bytes:
    fields = {}
    if destination:
        fields[DESTINATION.encode()] = string_value(destination)
    if scores is not None:
        numbers = {_to_utf8(address): number_value(address, score) for address, score in scores.items()}
        fields[_SCORES] = struct_value(numbers)
    return delimited(_DYNAMIC_METADATA, struct_of({_NAMESPACE: struct_value(fields)}))


_cached_destination_parts = functools.lru_cache(maxsize=_CACHED)(_encode_destination)


def _encode_response_headers(answer: ResponseHeadersAnswer) -> bytes:
    if not answer.set_headers and not answer.remove_headers:
        return _RESPONSE_HEADERS_UNCHANGED
    removed = (delimited(_REMOVE_HEADERS, _to_name(name)) for name in answer.remove_headers)
    mutation = delimited(_HEADER_MUTATION, *_set_headers(answer.set_headers), *removed)
    return delimited(_RESPONSE_HEADERS, delimited(_COMMON_RESPONSE, mutation))


def _encode_immediate_response(answer: ImmediateResponse) -> bytes:
    status = answer.status
    if not _LOWEST_STATUS <= status <= _HIGHEST_STATUS:
        message = f"immediate response: status {status!r} is not from {_LOWEST_STATUS} to {_HIGHEST_STATUS}"
        raise InvalidMessageError(message)
    parts = [delimited(_STATUS, _STATUS_CODE + to_varint(status))]
    if answer.set_headers:
        parts.append(delimited(_IMMEDIATE_HEADERS, *_set_headers(answer.set_headers)))
    if answer.body:
        parts.append(delimited(_IMMEDIATE_BODY, answer.body))
    if answer.details:
        parts.append(delimited(_DETAILS, _to_utf8(answer.details)))
    return delimited(_IMMEDIATE_RESPONSE, *parts)


def _encode_chunk(tag: int, body: bytes | memoryview, end_of_stream: bool) -> bytes:
    """Write a chunk of a body; the chunk is copied once."""
    size = body.nbytes if isinstance(body, memoryview) else len(body)
    before, after = _chunk_frame(tag, size, end_of_stream)
    return b"".join((before, body, after))


@functools.lru_cache(maxsize=_CACHED)
def _chunk_frame(tag: int, size: int, end_of_stream: bool) -> tuple[bytes, bytes]:
    """Give what stands before and after a chunk of so many bytes: the heads of all messages, and the end's mark."""
    after = _END_OF_STREAM if end_of_stream else b""
    before = head(_CHUNK, size) if size else b""
    return chunk_heads(tag, len(before) + size + len(after)) + before, after


@functools.lru_cache(maxsize=_CACHED)
def chunk_heads(tag: int, size: int) -> bytes:
    """
    Write what stands before the *size* bytes of a ``StreamedBodyResponse``: the heads of the four messages around it.

    Args:
        tag: Of the answer, in ``ProcessingResponse``.
        size: The bytes of what follows.
    """
    heads = b""
    for outer in (_STREAMED_RESPONSE, _BODY_MUTATION, _COMMON_RESPONSE, tag):
        heads = head(outer, len(heads) + size) + heads
    return heads


def _set_headers(headers: Iterable[tuple[str, str]]) -> list[bytes]:
    return [_set_header(name, value) for name, value in headers]


def _set_header(name: str, value: str) -> bytes:
    header = delimited(_KEY, _to_name(name)) + delimited(_RAW_VALUE, _to_value(name, value))
    return delimited(_SET_HEADERS, delimited(_HEADER, header), _OVERWRITE)


def _to_name(name: str) -> bytes:
    if not _NAME.fullmatch(name):
        message = f"header name {name!r}: is no HTTP token"
        raise InvalidMessageError(message)
    return name.encode("ascii")


def _to_value(name: str, value: str) -> bytes:
    # Text without control characters is the usual case, and told in one look.
    if not value.isprintable() and (found := _CONTROL.search(value)) is not None:
        message = f"header {name}: the value {value!r} holds the control character {found.group()!r}"
        raise InvalidMessageError(message)
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError as error:
        message = f"header {name}: the value {value!r} holds {value[error.start]!r}, which is not Latin-1"
        raise InvalidMessageError(message) from None


def _to_utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        message = f"text {text!r} holds {text[error.start]!r}, which has no UTF-8 form"
        raise InvalidMessageError(message) from None
