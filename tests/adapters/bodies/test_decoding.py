"""One verdict on JSON, whichever decoder is installed."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import Loads, decode_object, loads_json
from inferencepool.errors import InvalidRequestError
from tests.strategies.bodies import objects

DECODERS: dict[str, Loads] = {"orjson": orjson.loads, "msgspec": msgspec.json.decode, "json": loads_json}


def verdict(loads: Loads, body: bytes) -> Any:
    """Give what *body* is read as, or why it is refused."""
    try:
        return decode_object(loads, body, "error unmarshaling request bodyMap")
    except InvalidRequestError as error:
        return f"refused: {error}"


@given(objects())
def test_objects_are_read_alike(body: bytes) -> None:
    """Any object is read as the same value by all decoders, half of a surrogate pair included."""
    expected = loads_json(body)

    assert all(expected == verdict(loads, body) for loads in DECODERS.values())


@given(st.binary(max_size=30) | st.text(alphabet='{}[]",:\\u0d8a1 eE.-', max_size=20).map(str.encode))
def test_anything_is_read_or_refused_alike(body: bytes) -> None:
    """Of any bytes all decoders give the same object, or refuse them in the same words."""
    expected = verdict(loads_json, body)

    assert all(expected == verdict(loads, body) for loads in DECODERS.values())


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"{} x", "Extra data: line 1 column 4 (char 3)"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8 at byte 7"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"a": 1}', "begins with a byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8 at byte 0"),
        (b'{"a": "\n"}', "Invalid control character at: line 1 column 8 (char 7)"),
        (b"[]", "must be an object, not an array"),
        (b'"a"', "must be an object, not a string"),
        (b"1", "must be an object, not a number"),
        (b"1.5", "must be an object, not a number"),
        (b"true", "must be an object, not a boolean"),
        (b"null", "must be an object, not null"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[" * 5_000_000, "nested too deep"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_refused(decoder: str, body: bytes, reason: str) -> None:
    """What is refused is refused for the same reason whichever decoder reads it."""
    with pytest.raises(InvalidRequestError) as caught:
        decode_object(DECODERS[decoder], body, "error unmarshaling request bodyMap")

    assert f"error unmarshaling request bodyMap: {reason}" == str(caught.value)
    assert caught.value.http_status == 400


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b' \r\n{"a" : "\\ud83d\\ude00"}\t', {"a": "\U0001f600"}),
        (b'{"a": "\\ud800"}', {"a": "\ud800"}),
        (b'{"a": 1e999}', {"a": math.inf}),
        (b'{"a": 18446744073709551615}', {"a": 2**64 - 1}),
        (b'{"a": ' + b"9" * 10_000 + b"}", {"a": math.inf}),
        (b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_taken(decoder: str, body: bytes, expected: Any) -> None:
    """Duplicate keys, halves of pairs and numbers out of range are taken by all."""
    found = decode_object(DECODERS[decoder], body, "")

    assert found == (json.loads(body) if expected is None else expected)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("depth", [900, 1_000, 1_023, 1_100, 3_000])
def test_depth_never_ends_in_another_error(decoder: str, depth: int) -> None:
    """Where decoders differ in the depth that they take, each gives the object or the error of requests."""
    body = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"

    with contextlib.suppress(InvalidRequestError):
        assert list(decode_object(DECODERS[decoder], body, "")) == ["a"]


@pytest.mark.parametrize(("digits", "count"), [(4_299, 240), (300, 1_000), (5_000, 1)])
def test_long_integers_are_not_made(digits: int, count: int) -> None:
    """They would take time by the square of their digits; all others are integers as ever."""
    data = b'{"a":[7,1%b],"b":[%b]}' % (b"0" * 39, b",".join([b"9" * digits] * count))
    short, long = loads_json(data).values()

    assert [7, 10**39] == short
    assert [int, int] == [*map(type, short)]
    assert count == len(long)
    assert {float} == {*map(type, long)}
