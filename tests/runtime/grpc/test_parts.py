"""Limits, messages in pieces, texts and the budget, without a network."""

from __future__ import annotations

import gzip as packing
import subprocess
import sys
from math import inf, nan
from typing import Any
from urllib.parse import unquote

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.grpc import Limits, Status
from inferencepool.runtime.grpc._flood import FrameBudget
from inferencepool.runtime.grpc._framing import MessageReader, Packed, prefix
from inferencepool.runtime.grpc._hpack import ReadyHeaders
from inferencepool.runtime.grpc._http2 import Http2
from inferencepool.runtime.grpc._status import MAX_TEXT, percent_encoded
from inferencepool.testing import ManualClock


@given(st.lists(st.binary(max_size=40)), st.data())
def test_messages_are_found_however_they_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    """Cuts do not matter."""
    wire = b"".join(prefix(message) + message for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    reader = MessageReader(40, gzip=False)
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += reader.feed(wire[start:stop])
        # What is held is what follows the last whole message.
        assert reader.held == stop - sum(5 + len(message) for message in found)

    assert messages == found
    assert reader.failure is None


@given(st.lists(st.binary(max_size=10)), st.data())
def test_failure_comes_after_the_messages_before_it(messages: list[bytes], data: st.DataObject) -> None:
    """What was good before a failure is delivered, what follows is not."""
    good = b"".join(prefix(message) + message for message in messages)
    wire = good + prefix(bytes(11)) + bytes(11) + prefix(b"lost") + b"lost"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    reader = MessageReader(10, gzip=False)
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += reader.feed(wire[start:stop])
        assert (reader.failure is not None) == (stop >= len(good) + 5)

    assert messages == found
    assert (Status.RESOURCE_EXHAUSTED, "a message of 11 bytes is larger than the limit of 10") == reader.failure
    assert 0 == reader.held


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, gzip: bool) -> None:
    """Any bytes give the same messages and the same failure, at once or one by one."""
    whole = MessageReader(50, gzip=gzip)
    expected = whole.feed(data)
    single = MessageReader(50, gzip=gzip)
    found = [message for byte in data for message in single.feed(bytes((byte,)))]

    assert expected == found
    assert whole.failure == single.failure
    assert whole.held == single.held


@given(st.lists(st.sampled_from((0, 3, 65_536, 65_537, 200_000)), max_size=4), st.data())
def test_long_messages_are_found_however_they_are_cut(sizes: list[int], data: st.DataObject) -> None:
    """Long messages are put together apart from short ones, and what follows them is read as ever."""
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    wire = b"".join(prefix(message) + message for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    reader = MessageReader(200_000, gzip=False)
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += reader.feed(wire, start, stop)
        done = sum(len(prefix(message) + message) for message in found)
        assert stop - done == reader.held

    assert messages == found
    assert 0 == reader.held


def test_what_unpacks_to_too_much_is_refused() -> None:
    """A compressed message is not unpacked beyond its own limit, which is one step of the event loop."""
    packed = packing.compress(b"x" * 101)
    reader = MessageReader(1000, gzip=True, unpacked=100)

    (message,) = reader.feed(b"\x01" + len(packed).to_bytes(4, "big") + packed)
    assert isinstance(message, Packed)
    assert reader.unpack(message) is None
    assert (
        Status.RESOURCE_EXHAUSTED,
        "a message is larger than the limit of 100 after decompression",
    ) == reader.failure


@given(st.text(max_size=50))
def test_texts_are_printable_and_come_back(text: str) -> None:
    """Texts of a status are printable ASCII on the wire and can be read back."""
    encoded = percent_encoded(text)

    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert text.encode("utf-8", "replace").decode() == unquote(encoded.decode("ascii"))


def test_long_texts_are_cut() -> None:
    """Trailers stay small, and half of a surrogate pair harms nothing."""
    assert b"x" * MAX_TEXT == percent_encoded("x" * 5000)
    assert b"?" == percent_encoded("\ud800")


def test_budget_is_given_back_by_work_and_time() -> None:
    """The budget grows with work and time, never above the burst."""
    clock = ManualClock()
    budget = FrameBudget(10, 2.0, clock)
    budget.charge(10)
    assert not budget.is_spent()
    budget.charge()
    assert budget.is_spent()
    budget.earn(1)
    assert not budget.is_spent()
    budget.charge(3)
    clock.advance(1)
    assert budget.is_spent()
    clock.advance(1)
    assert not budget.is_spent()
    # What is not owed cannot be saved.
    budget.earn(1000)
    budget.charge(11)
    assert budget.is_spent()


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, 2**60, nan, inf, True, "1"])
def test_limits_name_the_field(field: str, value: Any) -> None:
    """A limit that cannot be is named."""
    if type(value) is int and value > 0 and "second" in field:
        assert value == getattr(Limits(**{field: value}), field)
        return
    with pytest.raises(ConfigurationError, match=rf"grpc limits: {field}: "):
        Limits(**{field: value})


def test_limits_must_fit_each_other() -> None:
    """Limits that contradict each other are refused."""
    with pytest.raises(ConfigurationError, match="partial_bytes: 10 is below message_bytes, 20"):
        Limits(message_bytes=20, partial_bytes=10)
    with pytest.raises(ConfigurationError, match="connection_queued_bytes: 10 is below queued_bytes, 20"):
        Limits(queued_bytes=20, connection_queued_bytes=10)
    assert Limits(idle_seconds=None) == Limits()


def test_ready_headers_follow_a_new_table_size() -> None:
    """A block made before must not hide that the size of the table changed."""
    connection = Http2(streams=10, header_bytes=1024, stream_window=65_535, connection_window=65_535)
    ready = ReadyHeaders([(b":status", b"200"), (b"x", b"y")])
    assert ready.block == connection.encoder.encode(ready)
    connection.encoder.header_table_size = 0
    changed = connection.encoder.encode(ready)
    assert b"\x20" == changed[:1]
    assert ready.block == connection.encoder.encode(ready)


def test_missing_extra_is_named() -> None:
    """Without h2 the message says what to install."""
    code = (
        "import sys; sys.modules['h2'] = None\n"
        "from inferencepool.errors import MissingExtraError\n"
        "try:\n    import inferencepool.runtime.grpc\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert 'the gRPC server needs h2: pip install "inferencepool[epp]"\n' == result.stdout
