"""Values of ext_proc: what a proxy may say, what it may be answered, and bytes that look like the former."""

from __future__ import annotations

import struct
from typing import Any, Final

from hypothesis import strategies as st

from inferencepool.adapters.extproc._messages import (
    Answer,
    BodyMode,
    ImmediateResponse,
    Message,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
    RequestHeadersAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseBody,
    ResponseBodyAnswer,
    ResponseHeaders,
    ResponseHeadersAnswer,
    ResponseTrailers,
    ResponseTrailersAnswer,
    Routing,
    StreamedRequestBody,
    StreamedResponseBody,
)
from tests.adapters.extproc.oracle import SCHEMA

NAMES = st.sampled_from([":path", ":status", "content-type", "x-request-id", "authorization"]) | st.from_regex(
    r":?[a-z0-9!#$%&'*+.^_`|~-]{1,8}", fullmatch=True
)
VALUES = st.sampled_from(["", "\t", "application/json", "\xff\x80", "a" * 127, "a" * 128, "a" * 20_000]) | st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=12
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
NUMBERS = st.floats(allow_nan=False)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=8,
)
METADATA = st.dictionaries(
    TEXTS | st.just("envoy.lb.subset_hint"), st.dictionaries(TEXTS, JSON, max_size=3), max_size=2
)
BODIES = st.binary(max_size=8) | st.sampled_from([b"\x00" * size for size in (127, 128, 16_384, 70_000)])
_HEADERS = st.dictionaries(NAMES, VALUES, max_size=6)


def messages() -> st.SearchStrategy[Message]:
    """Make what a proxy may say."""
    modes = st.tuples(st.sampled_from(BodyMode), st.sampled_from(BodyMode)) | st.just((None, None))
    headers = modes.flatmap(
        lambda drawn: st.builds(RequestHeaders, _HEADERS, st.booleans(), st.just(drawn[0]), st.just(drawn[1]), METADATA)
    )
    return (
        headers
        | st.builds(ResponseHeaders, _HEADERS, st.booleans(), METADATA, METADATA)
        | st.builds(RequestBody, BODIES, st.booleans(), METADATA)
        | st.builds(ResponseBody, BODIES, st.booleans(), METADATA)
        | st.just(RequestTrailers())
        | st.builds(ResponseTrailers, _HEADERS)
    )


def routings() -> st.SearchStrategy[Routing]:
    """Make changes to a request, with a destination or without one."""
    addresses = st.sampled_from(["10.0.0.1:8000", "[fd00::1]:8000", "10.0.0.1:8000,10.0.0.2:8000"])
    return st.builds(
        Routing,
        destination=st.just("") | addresses | st.just(",".join(["10.0.0.1:8000"] * 40)),
        set_headers=_set_headers(),
        remove_headers=st.lists(NAMES, max_size=2).map(tuple),
        scores=st.none() | st.dictionaries(addresses | TEXTS, st.floats(allow_nan=False, allow_infinity=False)),
    )


def _set_headers() -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    return st.lists(st.tuples(NAMES, VALUES), max_size=3).map(tuple)


def answers() -> st.SearchStrategy[Answer]:
    """Make what a proxy may be answered."""
    chunks: st.SearchStrategy[bytes | memoryview] = BODIES | BODIES.map(_to_view)
    return (
        st.builds(RequestHeadersAnswer, routings())
        | st.builds(RequestBodyAnswer, routings(), st.none() | BODIES)
        | st.builds(StreamedRequestBody, chunks, st.booleans())
        | st.builds(StreamedResponseBody, chunks, st.booleans())
        | st.builds(ResponseHeadersAnswer, _set_headers())
        | st.builds(ImmediateResponse, st.integers(200, 599), BODIES, _set_headers(), TEXTS)
        | st.sampled_from([ResponseBodyAnswer(), RequestTrailersAnswer(), ResponseTrailersAnswer()])
    )


def _to_view(body: bytes) -> memoryview:
    return memoryview(body)


_VARINTS: Final = {"bool", "int32", "uint32"}
_LAST_LEVEL: Final = 9


def write_varint(number: int, padding: int = 0) -> bytes:
    """Write a varint, with as many bytes more than it needs as *padding* tells."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F)
    groups += [0] * padding
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


@st.composite
def wire_messages(draw: st.DrawFn, name: str = "ProcessingRequest", level: int = 0) -> bytes:
    """
    Make bytes that are well-formed protobuf and mostly fit the message that *name* stands for in the oracle's schema.

    Fields come in any order and again, unknown ones lie between them, some have another wire type than declared, and
    numbers may be longer than they need to be. There are no groups.
    """
    declared = [line.split() for line in SCHEMA[name]]
    written = b""
    for _ in range(draw(st.integers(0, 4))):
        if declared and level < _LAST_LEVEL and draw(st.integers(0, 5)):
            number, _, kind = draw(st.sampled_from(declared))
            written += draw(_known_field(int(number), kind.lstrip("*|"), level))
        else:
            written += draw(_any_field())
    return written


@st.composite
def _known_field(draw: st.DrawFn, number: int, kind: str, level: int) -> bytes:
    if kind in _VARINTS:
        values = st.sampled_from([0, 1, 2, 4, 2**32 + 3, 2**64 - 1]) | st.integers(0, 2**64 - 1)
        return write_varint(number << 3) + write_varint(
            draw(values if not draw(st.integers(0, 3)) else st.integers(0, 4))
        )
    if kind == "double":
        return write_varint(number << 3 | 1) + struct.pack("<d", draw(st.floats()))
    if kind.startswith("{}"):
        key = draw(_known_field(1, "string", level)) if draw(st.booleans()) else b""
        content = key + b"".join(draw(st.lists(_known_field(2, kind[2:], level + 1) | _any_field(), max_size=2)))
    elif kind == "string":
        content = draw(TEXTS).encode() if draw(st.integers(0, 9)) else draw(st.binary(max_size=4))
    elif kind == "bytes":
        content = draw(st.sampled_from([b"A", b"a", b":path", b"x" * 130]) | st.binary(max_size=4))
    else:
        content = draw(wire_messages(kind, level + 1))
    return _delimited(number, content, draw(st.sampled_from([0, 0, 0, 0, 1, 2])))


@st.composite
def _any_field(draw: st.DrawFn) -> bytes:
    number = draw(st.integers(1, 20) | st.integers(1, 2**29 - 1))
    wire_type = draw(st.sampled_from([0, 1, 2, 5]))
    if wire_type == 2:
        return _delimited(number, draw(st.binary(max_size=4)), 0)
    content = (
        write_varint(draw(st.integers(0, 2**64 - 1))) if not wire_type else draw(st.binary(min_size=8, max_size=8))
    )
    return write_varint(number << 3 | wire_type) + (content[:4] if wire_type == 5 else content)


def _delimited(number: int, content: bytes, padding: int) -> bytes:
    return write_varint(number << 3 | 2, padding if number < 16 else 0) + write_varint(len(content), padding) + content
