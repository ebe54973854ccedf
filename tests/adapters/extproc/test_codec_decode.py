"""Reading what a proxy says over ext_proc."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from inferencepool.adapters.extproc import _decode, _entries, decode
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
from inferencepool.adapters.extproc._struct import MAX_DEPTH, MAX_VALUES
from inferencepool.errors import InvalidMessageError
from tests.adapters.extproc import oracle
from tests.strategies.extproc import messages, wire_messages, write_varint

# What xds-protos 1.85.0, which is generated from Envoy's own files, writes for a request.
ENVOY_REQUEST = bytes.fromhex(
    "12260a220a180a053a706174681a0f2f76312f636f6d706c6574696f6e730a060a01781a0179180142740a720a14656e766f"
    "792e6c622e7375627365745f68696e74125a0a580a25782d676174657761792d64657374696e6174696f6e2d656e64706f69"
    "6e742d737562736574122f322d0a0a1a0831302e302e302e310a0911000000000000f83f0a0220010a0208000a0c2a0a0a08"
    "0a016112031a01624a340a1b656e766f792e66696c746572732e687474702e6578745f70726f6312150a130a0c7265717565"
    "73742e7061746812031a012f5a0408041002"
)


def _delimited(number: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return write_varint(number << 3 | 2) + write_varint(len(content)) + content


def _headers_request(*headers: bytes) -> bytes:
    return _delimited(2, _delimited(1, *(_delimited(1, header) for header in headers)))


def _header(name: bytes, value: bytes) -> bytes:
    return _delimited(1, name) + _delimited(3, value)


def _metadata_request(*structs: bytes, namespace: bytes = b"n") -> bytes:
    entries = (_delimited(1, _delimited(1, namespace), _delimited(2, each)) for each in structs)
    return _delimited(4) + _delimited(8, *entries)


def _entry(key: bytes, *values: bytes) -> bytes:
    return _delimited(1, _delimited(1, key), *(_delimited(2, value) for value in values))


def _try_decode(data: bytes) -> Message | None:
    try:
        return decode(data)
    except InvalidMessageError as error:
        # The library skips groups; here they are refused, for no message of ext_proc can have one.
        if " is a group" in str(error):
            reject()
        return None


def _reference(data: bytes) -> Message | None:
    try:
        return oracle.to_message(oracle.parse_request(data))
    except (oracle.DecodeError, ValueError):
        return None


def _comparable(message: Message | None) -> Any:
    """Give a form in which NaN equals itself and 1.0 does not equal True."""
    return message and (type(message), json.dumps(attrs.asdict(message), sort_keys=True, default=repr))


class TestProperties:
    @given(messages())
    def test_what_the_library_writes(self, message: Message) -> None:
        """A request that protobuf writes gives the value it was written for, the first time and again."""
        data = oracle.write_request(message).SerializeToString()

        assert _comparable(message) == _comparable(decode(data))
        assert _comparable(message) == _comparable(decode(data))

    @given(wire_messages())
    @example(b"")
    def test_same_as_the_library(self, data: bytes) -> None:
        """Well-formed bytes, with unknown fields, repetitions and wrong types, mean what they mean to protobuf."""
        assert _comparable(_reference(data)) == _comparable(_try_decode(data))

    @given(
        wire_messages("HttpHeaders"), wire_messages("Metadata"), wire_messages("ProtocolConfiguration"), st.booleans()
    )
    def test_same_headers_as_the_library(self, headers: bytes, metadata: bytes, config: bytes, first: bool) -> None:
        """The same for the parts of a headers message, in either order."""
        parts = _delimited(2, headers), _delimited(8, metadata), _delimited(11, config)
        data = b"".join(parts if first else reversed(parts))

        assert _comparable(_reference(data)) == _comparable(_try_decode(data))

    @given(messages(), st.data())
    def test_unknown_fields_are_skipped(self, message: Message, data: st.DataObject) -> None:
        """Fields that later versions may add change nothing, wherever they are."""
        field = data.draw(
            st.sampled_from(
                [
                    write_varint(99 << 3) + write_varint(2**64 - 1),
                    write_varint(99 << 3 | 1) + bytes(8),
                    _delimited(2**29 - 1, b"\xff\xff"),
                    write_varint(99 << 3 | 5) + bytes(4),
                ]
            )
        )
        request = oracle.write_request(message)
        place = data.draw(st.sampled_from(list(_parts(request))))
        place.MergeFromString(field)

        assert _comparable(message) == _comparable(decode(request.SerializeToString()))

    @given(messages(), messages(), st.data())
    def test_damaged(self, message: Message, other: Message, data: st.DataObject) -> None:
        """A request that was cut, changed or joined with another is refused, or means what it means to protobuf."""
        written = bytearray(oracle.write_request(message).SerializeToString())
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, min(len(written), 400)))
            written[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        written = written[: data.draw(st.integers(0, len(written)) | st.just(len(written)))]
        if data.draw(st.booleans()):
            written += oracle.write_request(other).SerializeToString()
        found = _try_decode(bytes(written))

        assert found is None or _comparable(_reference(bytes(written))) == _comparable(found)

    @given(st.binary(max_size=60))
    def test_garbage(self, data: bytes) -> None:
        """Any bytes are refused, or mean what they mean to protobuf."""
        found = _try_decode(data)

        assert found is None or _comparable(_reference(data)) == _comparable(found)


def _parts(message: Any) -> Iterator[Any]:
    """Give a request and every message in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in value if hasattr(value, "append") else [value]:
                yield from _parts(child)


def test_envoys_bytes() -> None:
    """Field numbers are Envoy's, also where the oracle has them wrong."""
    assert decode(ENVOY_REQUEST) == RequestHeaders(
        headers={":path": "/v1/completions", "x": "y"},
        end_of_stream=True,
        request_body_mode=BodyMode.FULL_DUPLEX_STREAMED,
        response_body_mode=BodyMode.BUFFERED,
        metadata={
            "envoy.lb.subset_hint": {
                "x-gateway-destination-endpoint-subset": ["10.0.0.1", 1.5, True, None, {"a": "b"}],
            }
        },
    )


class TestHeaders:
    def test_raw_value_wins(self) -> None:
        """The raw value counts, the other one where it is absent or empty, and the last header of a name."""
        data = _headers_request(
            _delimited(1, b"A") + _delimited(2, b"text") + _delimited(3, b"raw"),
            _delimited(1, b"b") + _delimited(2, b"text"),
            _delimited(1, b"c") + _delimited(2, b"text") + _delimited(3, b""),
            _delimited(3, b"2") + _delimited(1, b"D"),
            _header(b"d", b"3"),
            _header(b"E\xc9", b"\xff\x00"),
            b"",
        )

        assert decode(data) == RequestHeaders(
            {"a": "raw", "b": "text", "c": "text", "d": "3", "e\xc9": "\xff\x00", "": ""}
        )

    @pytest.mark.parametrize("padding", [0, 200])
    def test_preferences_are_one_list(self, padding: int) -> None:
        """RFC 7240: ``prefer`` that is sent more than once means all of it, however its headers are written."""
        values = b"if-available" + b" " * padding, b"respond-async", b""
        data = _headers_request(_header(b"a", b"1"), *(_header(b"Prefer", value) for value in values))

        assert decode(data) == RequestHeaders({"a": "1", "prefer": ", ".join(value.decode() for value in values)})

    @pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 200, 16_379, 16_380, 3_000_000])
    def test_any_length(self, size: int) -> None:
        """A value of any length is read, and a name too."""
        data = _headers_request(_header(b"n" * size, b"v" * size), _header(b"x", b"y"))

        assert decode(data) == RequestHeaders({"n" * size: "v" * size, "x": "y"})

    def test_memory_is_bounded(self) -> None:
        """However many headers come, few are remembered, and no long one."""
        for number in range(3 * _entries.MAX_REMEMBERED):
            assert decode(_headers_request(_header(b"n", b"%d" % number))) == RequestHeaders({"n": str(number)})
        decode(_headers_request(_header(b"n", b"v" * _entries.MAX_REMEMBERED_SIZE)))

        assert 0 < len(_entries.remembered) <= _entries.MAX_REMEMBERED
        assert max(map(len, _entries.remembered)) <= _entries.MAX_REMEMBERED_SIZE

    @pytest.mark.parametrize("name", ["authorization", "Cookie", "x-api-key"])
    def test_secrets_are_not_remembered(self, name: str) -> None:
        """What lets a caller in is read and not kept."""
        secret = _header(name.encode(), b"secret")

        assert decode(_headers_request(secret)) == RequestHeaders({name.lower(): "secret"})
        assert secret not in _entries.remembered

    def test_threads(self) -> None:
        """Threads that fill the memory at the same time each read their own headers."""

        def read(thread: int) -> bool:
            return all(
                decode(
                    _headers_request(_header(b"n", b"%d-%d" % (thread, number)), _header(b"m", b"%d" % (number % 50)))
                )
                == RequestHeaders({"n": f"{thread}-{number}", "m": str(number % 50)})
                for number in range(2 * _entries.MAX_REMEMBERED)
            )

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(read, range(4)))
        assert len(_entries.remembered) <= _entries.MAX_REMEMBERED + 4

    def test_too_many(self) -> None:
        """More headers than any proxy forwards are refused, in every layout."""
        headers = [_header(b"%d" % number, b"") for number in range(_decode.MAX_HEADERS + 1)]

        assert len(_headers_of(decode(_headers_request(*headers[:-1])))) == _decode.MAX_HEADERS
        with pytest.raises(InvalidMessageError, match=r"request_headers.headers, byte \d+: more than 1000 headers"):
            decode(_headers_request(*headers))
        with pytest.raises(InvalidMessageError, match="more than 1000 headers"):
            decode(_delimited(2, _delimited(1, _delimited(9), *(_delimited(1, each) for each in headers))))


def _headers_of(message: Message) -> Mapping[str, str]:
    assert isinstance(message, RequestHeaders)
    return message.headers


class TestMerging:
    def test_parts_of_headers(self) -> None:
        """A message that comes twice adds to itself, whatever is between."""
        first = _delimited(2, _delimited(1, _delimited(1, _header(b"a", b"1"))), b"\x18\x01")
        second = _headers_request(_header(b"b", b"2"))

        assert decode(first + _delimited(8) + second) == RequestHeaders({"a": "1", "b": "2"}, end_of_stream=True)

    def test_last_kind_counts(self) -> None:
        """Another kind takes the place of the one before it, and of all that it held."""
        body = _delimited(5, _delimited(1, b"x"), b"\x10\x01")

        assert decode(_headers_request(_header(b"a", b"1")) + body) == ResponseBody(b"x", end_of_stream=True)
        assert decode(_delimited(3, b"\x18\x01") + body + _delimited(3)) == ResponseHeaders({})

    def test_modes(self) -> None:
        """No configuration tells nothing, an empty one the default, and a repeated one changes what it names."""
        start = _delimited(2)

        assert decode(start) == RequestHeaders({})
        assert decode(start + _delimited(11)) == RequestHeaders({}, False, BodyMode.NONE, BodyMode.NONE)
        repeated = start + _delimited(11, b"\x08\x04") + _delimited(11, b"\x10\x02")
        assert decode(repeated) == RequestHeaders({}, False, BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED)

    @pytest.mark.parametrize(("number", "shown"), [(5, "5"), (2**31, "-2147483648"), (2**64 - 1, "-1")])
    def test_unknown_mode(self, number: int, shown: str) -> None:
        """A mode that does not exist is refused with those that do, and one that was corrected is not."""
        config = _delimited(11, b"\x10" + write_varint(number))
        expected = rf"protocol_config.response_body_mode: unknown body mode {shown}; allowed: 0 \(NONE\), 1"

        with pytest.raises(InvalidMessageError, match=expected):
            decode(_delimited(2) + config)
        assert decode(_delimited(2) + config + _delimited(11, b"\x10\x01")) == RequestHeaders(
            {}, False, BodyMode.NONE, BodyMode.STREAMED
        )


class TestMetadata:
    def test_last_entry_counts(self) -> None:
        """A key that comes twice has its last value; a value that comes twice in one entry is merged."""
        once = _metadata_request(_entry(b"a", b"\x20\x01"), _entry(b"b", b"\x20\x01"))
        merged = _metadata_request(
            _entry(b"a", _delimited(5, _entry(b"x")), _delimited(5, _entry(b"y"))), namespace=b"m"
        )

        assert decode(once) == RequestBody(metadata={"n": {"b": True}})
        assert decode(once + merged) == RequestBody(metadata={"n": {"b": True}, "m": {"a": {"x": None, "y": None}}})

    @pytest.mark.parametrize("in_list", [False, True])
    def test_depth(self, in_list: bool) -> None:
        """Nesting is read up to the limit and refused above it; what is allowed the library reads as well."""

        def nested(levels: int) -> bytes:
            value = b""
            for _ in range(levels - 1):
                value = _delimited(6, _delimited(1, value)) if in_list else _delimited(5, _entry(b"k", value))
            return _metadata_request(_entry(b"k", value))

        assert _comparable(_reference(nested(MAX_DEPTH))) == _comparable(decode(nested(MAX_DEPTH)))
        for levels in (MAX_DEPTH + 1, 1_000):
            with pytest.raises(InvalidMessageError, match=r"metadata_context, byte \d+: .* deeper than 24 levels"):
                decode(nested(levels))

    @pytest.mark.parametrize("in_list", [False, True])
    def test_too_many_values(self, in_list: bool) -> None:
        """Small values in great number are refused before they fill the memory."""

        def wide(count: int) -> bytes:
            if in_list:
                return _metadata_request(_entry(b"k", _delimited(6, _delimited(1) * count)))
            return _metadata_request(*[_entry(b"k", b"\x20\x01") * count])

        # Members of an object have keys, so that a request has room for fewer of them.
        assert isinstance(decode(wide(MAX_VALUES - 2 if in_list else MAX_VALUES // 2)), RequestBody)
        with pytest.raises(
            InvalidMessageError, match="more than 10000 values" if in_list else "more than 25000 fields"
        ):
            decode(wide(MAX_VALUES + 1))

    @pytest.mark.parametrize("broken", [_entry(b"\xff"), _entry(b"k", _delimited(3, b"ab\xff"))])
    def test_text_that_is_not_utf8(self, broken: bytes) -> None:
        """A key and a text have to be UTF-8, as protobuf wants it."""
        with pytest.raises(InvalidMessageError, match=r"metadata_context, byte \d+: a text is not UTF-8"):
            decode(_metadata_request(broken))

    def test_number_that_is_not_finite(self) -> None:
        """What JSON cannot tell is still a number."""
        infinite = _metadata_request(_entry(b"k", b"\x11" + struct.pack("<d", float("inf"))))

        assert decode(infinite) == RequestBody(metadata={"n": {"k": float("inf")}})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "ProcessingRequest: holds none of request_headers, response_headers, request_body"),
        (_delimited(8), "holds none of"),
        (b"\x12", "ProcessingRequest, byte 1: the message ends inside of a varint"),
        (b"\x12\x05\x00", "ProcessingRequest, byte 0: field 2 has 5 bytes, and the message ends after 1"),
        (b"\x92", "byte 0: the message ends inside of a varint"),
        (b"\x00\x00", "byte 0: tag 0: a field number is from 1 to 536870911"),
        (b"\xff\xff\xff\xff\x7f", "a field number is from 1 to"),
        (b"\x92\x80\x80\x80\x80\x00", "byte 0: the varint has more than 5 bytes"),
        (b"\x12\x80\x80\x80\x80\x80\x00", "byte 1: the varint has more than 5 bytes"),
        (b"\x12\x00\x50" + b"\x80" * 10 + b"\x00", "byte 3: the varint has more than 10 bytes"),
        (b"\x12\x00\x50" + b"\xff" * 9 + b"\x7f", "has more than 64 bits"),
        (b"\x12\x00\x53\x54", "byte 2: field 10 is a group; allowed are varint, 64 bit, 32 bit and length-delimited"),
        (b"\x12\x00\x54", "field 10 is a group"),
        (b"\x12\x00\x51\x80", "byte 2: field 10 has 8 bytes, and the message ends after 1"),
        (b"\x12\x00\x56", "field 10 is of the unknown wire type 6"),
        (b"\x12\x00\x51" + bytes(7), "byte 2: field 10 has 8 bytes, and the message ends after 7"),
        (b"\x12\x00\x55" + bytes(3), "field 10 has 4 bytes"),
        (b"\x12\x02\x0a\x01\x00", "ProcessingRequest.request_headers, byte 2: field 1 has 1 bytes"),
        (b"\x12\x04\x0a\x02\x0a\x01\x00", r"ProcessingRequest.request_headers.headers, byte 4: field 1 has 1"),
        (b"\x12\x05\x0a\x03\x0a\x01\x0a", "request_headers.headers.headers, byte 7: the message ends inside"),
        (b"\x1a\x05\x0a\x03\x0a\x02\x0a\x01", "response_headers.headers, byte 4: field 1 has 2 bytes"),
        (b"\x22\x02\x0a\x01\x00", "request_body, byte 2: field 1 has 1 bytes"),
        (b"\x3a\x01\x0b", "response_trailers, byte 2: field 1 is a group"),
        (b"\x22\x00\x42\x02\x0a\x01\x00", "metadata_context, byte 4: field 1 has 1 bytes"),
        (b"\x22\x00\x5a\x01\x08", "protocol_config, byte 5: the message ends inside of a varint"),
    ],
)
def test_refused(data: bytes, problem: str) -> None:
    """What is cut off, too large or no part of the format is told with its place."""
    with pytest.raises(InvalidMessageError, match=problem):
        decode(data)


@given(messages(), st.data())
def test_cut_header_is_refused(message: Message, data: st.DataObject) -> None:
    """A request in one field cannot be cut without notice."""
    written = oracle.write_request(attrs.evolve(message, **_BARE[type(message)])).SerializeToString()

    with pytest.raises(InvalidMessageError):
        decode(written[: data.draw(st.integers(0, len(written) - 1))])


_BARE: dict[type, dict[str, Any]] = {
    RequestHeaders: {"request_body_mode": None, "response_body_mode": None, "metadata": {}},
    ResponseHeaders: {"metadata": {}},
    RequestBody: {"metadata": {}},
    ResponseBody: {"metadata": {}},
    RequestTrailers: {},
    ResponseTrailers: {},
}


def test_large_body_is_copied_once() -> None:
    """20 MiB come out as they went in, and no second copy is made on the way."""
    size = 20 << 20
    body = bytes(range(256)) * (size // 256)
    data = _delimited(4, _delimited(1, body), b"\x10\x01")
    tracemalloc.start()
    try:
        message = decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert message == RequestBody(body, end_of_stream=True)
    assert peak < size + (1 << 16)


@pytest.mark.parametrize(("size", "kind"), [(1 << 20, bytes), ((1 << 20) + 1, memoryview)])
@pytest.mark.parametrize(("field", "body"), [(4, RequestBody), (5, ResponseBody)])
def test_a_long_body_is_not_copied(field: int, body: type[RequestBody | ResponseBody], size: int, kind: type) -> None:
    """To copy it takes long, so its message is kept instead."""
    data = bytes(size)
    message = decode(_delimited(field, _delimited(1, data)))
    assert isinstance(message, body)
    assert kind is type(message.body)
    assert data == message.body
